"""The page of suite preference in a real browser, from a file, as a rater uses it.

Screenshots go to $UNCLIP_SCREENSHOTS, or to the test's temporary folder.
"""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser import DESKTOP, PHONE, chromium, shoot
from unclip_jax.evals.preference import Drawn, make_study
from unclip_jax.evals.preference_answers import Key, read_answers
from unclip_jax.evals.preference_page import page_html

CAPTIONS = ["a red heart", "a <b>green</b> & apple"]
NAMES = {"model": "ours", "baseline": "theirs"}


@pytest.fixture(scope="module")
def browser():
    with chromium() as driver:
        yield driver


def make(folder, seed=0):
    """Writes a page of two pairs and a set, of noise; returns the study."""
    rng = np.random.default_rng(seed)
    noise = lambda *shape: rng.integers(0, 256, (*shape, 64, 64, 3), np.uint8)  # noqa: E731
    study = make_study(CAPTIONS, tuple(Drawn(noise(2), noise(1, 16)) for _ in range(2)), seed)
    (folder / "page.html").write_text(page_html(study.shown), encoding="utf-8")
    return study


class Rater:
    """Someone who sees the page."""

    def __init__(self, driver, page):
        self.driver = driver
        driver.get(page.as_uri())

    def text(self, name):
        return self.driver.find_element(By.ID, name).text

    def click(self, name):
        self.driver.find_element(By.ID, name).click()

    def press(self, key):
        ActionChains(self.driver).send_keys(key).perform()

    def chosen(self):
        """The answers marked as given to the question that is shown."""
        buttons = self.driver.find_elements(By.CSS_SELECTOR, "[aria-pressed=true]")
        return [button.get_attribute("id") for button in buttons]

    def images(self):
        """Widths of the images, which must be loaded."""
        script = "return [...document.querySelectorAll('#pair img')].map((i) => i.naturalWidth)"
        return self.driver.execute_script(script)


def saved(folder):
    end = time.monotonic() + 30
    while not (found := list(folder.glob("*.json"))):
        assert time.monotonic() < end, "no file of answers"
        time.sleep(0.1)
    return found


def test_a_rater_answers_goes_away_comes_back_and_saves(browser, tmp_path):
    shots = Path(os.environ.get("UNCLIP_SCREENSHOTS", tmp_path / "shots"))
    downloads = tmp_path / "downloads"
    for folder in (shots, downloads):
        folder.mkdir(parents=True, exist_ok=True)
    allowed = {"behavior": "allow", "downloadPath": str(downloads)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", allowed)
    study = make(tmp_path)
    rater = Rater(browser, tmp_path / "page.html")
    assert rater.text("count") == "Question 1 of 5, 0 answered"
    assert rater.text("ask") == "Which image looks more real, or better drawn?"
    assert rater.images() == [64, 64]
    rater.click("first")
    rater.press(Keys.ARROW_RIGHT)  # question 2
    assert rater.text("caption").strip("“”") in CAPTIONS
    assert all(shoot(browser, shots / f"pair-{s[0]}.webp", s) <= s[0] for s in (DESKTOP, PHONE))
    rater.press(Keys.ARROW_DOWN)  # question 3
    rater.press(Keys.ARROW_UP)
    assert rater.chosen() == ["unsure"]
    rater.click("second")  # question 3 again
    browser.refresh()
    assert rater.text("count") == "Question 4 of 5, 3 answered"
    rater.press("1")  # no key of the page
    rater.click("unsure")
    assert rater.text("ask") == "Which set of images for the caption is more diverse?"
    assert rater.images() == [4 * 64 + 3 * 4] * 2
    assert all(shoot(browser, shots / f"sets-{s[0]}.webp", s) <= s[0] for s in (DESKTOP, PHONE))
    rater.press(Keys.ARROW_LEFT)
    assert rater.text("thanks").startswith("That was the last question")
    assert shoot(browser, shots / "done-390.webp", PHONE) <= PHONE[0]
    rater.click("save-all")
    (file,) = saved(downloads)
    given = json.loads(file.read_text(encoding="utf-8"))["answers"]
    expected = ["first", "second", "second", "not sure", "first"]
    assert given == dict(zip("12345", expected, strict=True))
    kinds = {q["id"]: q["kind"] for q in study.shown["questions"]}
    first = {name: who == "model" for name, who in study.first.items()}
    key = Key(study.shown["study"], *NAMES.values(), kinds, first)
    assert len(read_answers([file], key)) == 5
    logs = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]
    sent = [
        e["params"]["request"]["url"] for e in logs if e["method"] == "Network.requestWillBeSent"
    ]
    assert {url.partition(":")[0] for url in sent} <= {"file", "data", "blob", "chrome"}
    assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []


def test_another_page_has_answers_of_its_own(browser, tmp_path):
    for seed in (1, 2):
        make(tmp_path, seed)
        rater = Rater(browser, tmp_path / "page.html")
        assert rater.text("count") == "Question 1 of 5, 0 answered"
        rater.press(Keys.ARROW_LEFT)
        assert rater.text("count") == "Question 2 of 5, 1 answered"
