"""What tests of the application do again and again: arrive, look, ask."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Locator, Page, expect

PICTURES = Path(__file__).parents[3] / "artifacts" / "ui"  # for people to look at, not under version control
VIEW = 'window.sttmInspector.get("main")'
ALIVE = f"window.sttmInspector && {VIEW} && {VIEW}.video"
ANSWERED_MS = 90_000


def alive(page: Page) -> Page:
    """Wait until the inspector shows a video: the linked one, where the address names one."""
    page.wait_for_function(f"{ALIVE} && {VIEW}.refs.message.hidden")
    return page


def shows(page: Page, **expected: object) -> None:
    """Wait until the inspector's video has so many frames, or its settings are as given."""
    for name, value in expected.items():
        source = f"{VIEW}.video.frames" if name == "frames" else f"{VIEW}.settings().{name}"
        page.wait_for_function(f"value => {source} === value", arg=value, timeout=ANSWERED_MS)


def stats(page: Page) -> dict:
    return page.evaluate(f"({VIEW}.flush(), {{...{VIEW}.settings(), ...{VIEW}.stats()}})")


def ask(page: Page, question: str) -> None:
    """Type a question, press Ask and wait until both columns are answered and timed."""
    page.locator("#question textarea").fill(question)
    page.locator("#ask").click()
    expect(page.locator("#ask")).to_have_text("Asking…")
    expect(page.locator("#ask")).to_have_text("Ask", timeout=ANSWERED_MS)


def card(page: Page, column: str) -> Locator:
    """The ``"baseline"`` or the ``"merged"`` column."""
    return page.locator(f"#answer-{column} .answer")


def number(page: Page, slider: str) -> Locator:
    return page.locator(f"#{slider} input[type=number]")


def upload(page: Page, path: Path) -> None:
    page.locator("#panel input[type=file]").first.set_input_files(path)


def toast(page: Page) -> Locator:
    return page.locator(".toast-body, [data-testid=toast-body]").first


def keep(page: Page, name: str, whole: bool = False) -> None:
    """A screenshot in ``artifacts/ui``."""
    page.screenshot(path=PICTURES / f"{name}.png", full_page=whole)
