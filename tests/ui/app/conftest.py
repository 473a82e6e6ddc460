"""One application for all its browser tests: the shipped model and samples on a free port."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page

from sttm_core.advice import SHIPPED_MODEL, advice_for
from sttm_core.engine import VideoLLM
from tests.ui.app.visit import alive
from viz.precomputed import Precomputed
from viz.samples import load_samples
from viz.studio import Studio
from viz.tabs import build_app, launch_options

SAMPLES = ("code-short", "two-shapes")


@pytest.fixture(scope="session")
def studio() -> Studio:
    """Two samples only, so that the needle check stays short."""
    llm = VideoLLM.load(str(SHIPPED_MODEL), device="cpu")
    samples = {name: sample for name, sample in load_samples().items() if name in SAMPLES}
    defaults = advice_for(SHIPPED_MODEL)
    return Studio(llm, defaults, max_frames=32, samples=samples, precomputed=Precomputed(llm))


@pytest.fixture(scope="session")
def address(studio: Studio) -> Iterator[str]:
    app = build_app(studio)
    options = launch_options()
    _, url, _ = app.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **options)
    yield url
    app.close()


@pytest.fixture
def visit(open_page: Callable[..., Page], address: str) -> Callable[..., Page]:
    """``visit("frames=4&sample=code-short", width=390, ...)``: a page of its own, alive."""
    return lambda query="", **options: alive(open_page(f"{address}?{query}" if query else address, **options))
