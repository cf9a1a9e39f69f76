"""A headless Chromium for tests and benchmarks of the page."""

import shutil
from contextlib import contextmanager

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def find_browser():
    """Return the path of an installed browser; None where there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@contextmanager
def started_browser(program):
    """Start a browser by Playwright's client, and end it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])  # tests may run as root
        try:
            yield browser
        finally:
            browser.close()
