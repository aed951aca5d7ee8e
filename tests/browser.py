"""A headless chromium for the tests of pages.

Needs chromium and chromedriver, as `.ci/run` installs them; UNCLIP_BROWSER=required makes their
lack a failure.
"""

import base64
import contextlib
import os
import shutil
import time

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
DESKTOP, PHONE = (1280, 900), (390, 844)


@contextlib.contextmanager
def chromium():
    """Yields a driver whose logs tell requests and errors."""
    if BROWSER is None or DRIVER is None:
        if os.environ.get("UNCLIP_BROWSER") == "required":
            pytest.fail("chromium or chromedriver is missing")
        pytest.skip("chromium or chromedriver is missing: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for name in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "no-first-run"):
        options.add_argument(f"--{name}")
    for name in ("disable-background-networking", "disable-component-update"):
        options.add_argument(f"--{name}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def shoot(driver, path, size):
    """Writes a screenshot of the whole page at a window's size; returns how wide the page is."""
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    time.sleep(1.0)  # it is laid out anew
    wide = driver.execute_script("return document.documentElement.scrollWidth")
    shot = {"captureBeyondViewport": True, "format": "webp"}
    data = driver.execute_cdp_cmd("Page.captureScreenshot", shot)["data"]
    path.write_bytes(base64.b64decode(data))
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    return wide
