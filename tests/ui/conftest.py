"""A browser for the tests of what people see: Debian's Chromium, or Playwright's own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, Page, expect, sync_playwright

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
WAIT_MS = 20_000  # two busy cores take their time; playwright's `expect` would wait 5 s
expect.set_options(timeout=WAIT_MS)
ARTIFACTS = Path(__file__).parents[2] / "test-results"  # screenshots, not under version control


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One browser a session. Without any: skipped, or failed where STTM_REQUIRE_BROWSER=1."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        except Error as error:
            message = f"no Chromium could be started: {str(error).splitlines()[0]}"
            if os.environ.get("STTM_REQUIRE_BROWSER") == "1":
                pytest.fail(message)
            pytest.skip(message)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """``open_page(url, width=1440, height=900, dark=False, script="", **context)``: a page of its own, without errors.

    ``script`` runs in the page before anything else does.
    """
    contexts, errors = [], []

    def open_(
        url: str, *, width: int = 1440, height: int = 900, dark: bool = False, script: str = "", **options: object
    ) -> Page:
        scheme = "dark" if dark else "light"
        context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: errors.append(str(error)))
        if script:
            page.add_init_script(script)
        page.goto(url)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not errors, f"the page raised: {errors[0]}"


@pytest.fixture
def keep_picture(request: pytest.FixtureRequest) -> Callable[[Page, str], None]:
    """``keep_picture(page, name)``: a screenshot in test-results, for people to look at."""

    def keep(page: Page, name: str) -> None:
        page.screenshot(path=ARTIFACTS / f"{request.node.module.__name__.split('.')[-1]}-{name}.png")

    return keep
