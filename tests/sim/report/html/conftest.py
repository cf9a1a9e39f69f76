"""A real browser for the pages, one for all tests of a process; where there is none, its tests are skipped by name."""

import os

import pytest
from browser_start import BROWSERS, find_browser, started_browser


@pytest.fixture(scope="session")
def browser():
    """Return a headless Chromium; `.ci/run` sets MOESIM_BROWSER=required, and then its absence is an error."""
    program = find_browser()
    if program is None:
        message = f"needs a browser: none of {', '.join(BROWSERS)} is installed"
        if os.environ.get("MOESIM_BROWSER") == "required":
            pytest.fail(message)
        pytest.skip(message)
    with started_browser(program) as started:
        yield started


@pytest.fixture
def open_page(browser):
    """Return a function that opens a file in a window of its own, and what the page requested and complained about."""
    contexts = []

    def open_file(path, *, width=1280, height=900, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.said, page.requested = [], []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("request", lambda request: page.requested.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]")
        return page

    yield open_file
    for context in contexts:
        context.close()
