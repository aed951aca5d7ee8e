"""The shipped bundle's page in a real browser: a prompt is drawn, varied and edited.

`tests/browser.py` says what it needs. Screenshots go to $UNCLIP_SCREENSHOTS, or to the test's
temporary folder.
"""

import io
import json
import os
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from selenium.common.exceptions import (
    ElementNotInteractableException,
    StaleElementReferenceException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser import DESKTOP, PHONE, chromium, shoot
from tests.demo.serve import free_port, running

PATIENCE = 180.0  # seconds for a request whose programs are compiled


@pytest.fixture(scope="module")
def browser():
    with chromium() as driver:
        yield driver


class Page:
    """The page as its visitor sees it: whatever is not displayed is not there."""

    def __init__(self, driver, address, folder):
        self.driver, self.folder = driver, folder
        driver.get(address)
        self.until(lambda: self.all("//button[normalize-space()='Generate']"))

    def all(self, path):
        return [e for e in self.driver.find_elements(By.XPATH, path) if e.is_displayed()]

    def until(self, found, patience=30.0):
        end = time.monotonic() + patience
        while not (value := self.now(found)):
            if time.monotonic() > end:
                self.shoot("timeout", DESKTOP)
                raise AssertionError(f"nothing after {patience} s; see {self.folder}")
            time.sleep(0.2)
        return value

    def now(self, found):
        """Returns what is found; None while the page is laid out anew."""
        try:
            return found()
        except (ElementNotInteractableException, StaleElementReferenceException, IndexError):
            return None

    def act(self, path, which, action):
        """Acts on one of the elements of a path, once it is there and takes it."""

        def acted():
            action(self.all(path)[which])
            return True

        self.until(acted)

    def click(self, text):
        self.act(f"//button[starts-with(normalize-space(), '{text}')]", -1, lambda e: e.click())

    def choose(self, label, value):
        """Chooses a value of the radio buttons under a label."""
        group = f"//fieldset[.//span[normalize-space()='{label}']]"
        self.act(f"{group}//label[normalize-space()='{value}']", 0, lambda e: e.click())

    def type(self, label, text):
        path = f"//label[.//span[normalize-space()='{label}']]//*[self::textarea or self::input]"
        self.act(path, 0, lambda e: e.send_keys(text))

    def status(self):
        path = "//label[.//span[normalize-space()='Status']]//*[self::textarea or self::input]"
        return self.all(path)[0].get_attribute("value")

    def told(self):
        """The errors that are shown, for ten seconds each."""
        return [e.text for e in self.all("//*[contains(@class, 'toast-body')]")]

    def generate(self, count):
        """Presses the button and waits for new images; returns their addresses.

        A request may be over before its first step is seen; previews are WebP, results PNG.
        """
        before, done = self.images(), f"{count} image"
        self.click("Generate")

        def drawn():
            found = [source for source in self.images() if source.endswith(".png")]
            is_new = len(found) == count and found != before and self.status().startswith(done)
            return self.told() or (found if is_new else None)

        found = self.until(drawn, PATIENCE)
        assert self.told() == []
        self.until(lambda: self.all("//button[normalize-space()='Generate']"))
        return found

    def images(self):
        path = "//*[contains(@class, 'grid-container')]//img"
        return [image.get_attribute("src") for image in self.all(path)]

    def frame(self):
        path = "//*[contains(@class, 'image-frame')]//img"
        return self.all(path)[-1].get_attribute("src")

    def fits(self, name):
        """Takes screenshots for a desktop and a phone; whether no page is wider than its window."""
        return all(self.shoot(name, size) <= size[0] for size in (DESKTOP, PHONE))

    def shoot(self, name, size):
        """Takes a screenshot of the whole page at a window's size; returns how wide the page is."""
        return shoot(self.driver, self.folder / f"{name}-{size[0]}.webp", size)


def hosts(driver):
    """Names the hosts of all requests so far, those that were blocked too."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    urls = [urlsplit(params["request"]["url"]) for params in sent]
    return {url.hostname for url in urls if url.scheme not in ("data", "blob", "chrome")}


def opened(url):
    with urllib.request.urlopen(url, timeout=30) as file:
        return Image.open(io.BytesIO(file.read()))


def use_nothing(page):
    """Without an image there is none to use elsewhere, and the page says so."""
    page.click("Mix")
    page.until(lambda: "there is no image yet" in str(page.told()))
    page.until(lambda: not page.told())


def draw(page):
    """An example is drawn; returns the image's address."""
    page.click("a strawberry")
    page.choose("Images", 1)
    page.click("Settings")
    page.choose("Size in pixels", 64)
    page.choose("Steps of the decoder", 10)
    page.type("Seed", "5")
    (drawn,) = page.generate(1)
    assert opened(drawn).size == (64, 64)
    assert opened(drawn).text["prompt"] == "a strawberry"
    assert opened(drawn).text["seed"] == "5"
    assert page.fits("sample")
    return drawn


def stop(page):
    """A request that is stopped gives the button back, which is off meanwhile."""
    page.choose("Steps of the decoder", 80)  # a program of its own, which takes seconds to compile
    page.click("Generate")
    page.until(lambda: page.all("//button[normalize-space()='Working…' and @disabled]"))
    page.until(lambda: page.all("//button[normalize-space()='Stop' and not(@disabled)]"))
    page.click("Stop")
    page.until(lambda: page.all("//button[normalize-space()='Generate']"))
    page.choose("Steps of the decoder", 10)


def vary(page, drawn):
    page.click("Variations")
    page.choose("Images", 1)
    page.click("Settings")
    page.choose("Size in pixels", 64)
    page.choose("Steps of the inversion", 20)
    (varied,) = page.generate(1)
    assert opened(varied).tobytes() != opened(drawn).tobytes()


def edit(page):
    """An edit's frames are walked with the slider."""
    page.click("Text edit")
    page.type("From", "a red heart")
    page.type("To", "a blue heart")
    page.choose("Frames", 4)
    page.click("Settings")
    page.choose("Size in pixels", 64)
    page.choose("Steps of the inversion", 20)
    frames = page.generate(4)
    assert len(frames) == 4 and page.frame() == frames[0]
    page.all("//input[@type='range' and @max='1']")[0].send_keys(Keys.END)
    page.until(lambda: page.frame() == frames[3])
    assert page.fits("edit")


def refuse(page):
    """A refusal is shown, and gives the button back."""
    page.click("Text to image")
    page.type("Seed", "x")
    page.click("Generate")
    page.until(lambda: "seed must be a whole number" in str(page.told()))
    page.until(lambda: page.all("//button[normalize-space()='Generate']"))


def test_a_prompt_is_drawn_varied_and_edited(browser, tmp_path):
    folder = Path(os.environ.get("UNCLIP_SCREENSHOTS", tmp_path / "shots"))
    folder.mkdir(parents=True, exist_ok=True)
    port, home = free_port(), tmp_path / "home"
    home.mkdir()
    args = ("unclip_jax", "demo", "--port", str(port), "--no-browser")
    with running(home, port, *args) as (address, _, log):
        page = Page(browser, address, folder)
        use_nothing(page)
        drawn = draw(page)
        stop(page)
        page.generate(1)  # what the next tab takes
        vary(page, drawn)
        edit(page)
        refuse(page)
        assert hosts(browser) == {"127.0.0.1"}
        assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []
        assert "Traceback" not in log.read_text()
