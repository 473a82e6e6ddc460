"""The whole page: header, left panel, tabs. Data flows from the panel to the tabs, never back into the engine."""

from __future__ import annotations

from html import escape
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from ..files import Files
from ..precomputed import FOLDER, ROUTE
from ..samples import CLIPS
from ..studio import Studio
from .api import build_api, by_name_only_what_is_documented
from .compare import build_compare, wire_compare
from .controls import build_controls
from .downloads import build_downloads, wire_downloads
from .explore import BROWSER_ONLY, Explorer, build_explore, wire_explore
from .needle import build_needle, wire_needle
from .sweep import build_sweep, wire_sweep

HERE = Path(__file__).parent
SHEET_JS = """() => {
  const page = document.querySelector("#page");
  const open = page.dataset.sheet !== "open";
  page.dataset.sheet = open ? "open" : "";
  if (open) document.querySelector("#inspector").scrollIntoView({block: "start"});
  return {__type__: "update", value: open ? "Done" : "Settings"};
}"""  # on a phone: the settings from below, the picture above them
UPLOADS_KEPT_S = (3600, 24 * 3600)  # look every hour, delete what is older than a day


def build_app(studio: Studio, files: Files | None = None) -> gr.Blocks:
    """The page over a `Studio`, not launched. Launch it with `launch_options`, which carry its look.

    Args:
        studio: does the work.
        files: where files for visitors are made; None for a folder of this process where Gradio keeps its own.
    """
    files = files or Files.of_process(get_upload_folder())
    first = Explorer(studio).first()
    with gr.Blocks(title="STTM Studio", fill_width=True, analytics_enabled=False, delete_cache=UPLOADS_KEPT_S) as app:
        with gr.Row(elem_id="header"):
            gr.HTML(_header(studio), elem_id="title", padding=False)
            downloads = build_downloads()
            sheet = gr.Button("Settings", size="sm", elem_id="sheet-toggle")
        if studio.defaults.about:
            gr.HTML(escape(studio.defaults.about), elem_id="about-model", padding=False)
        downloads.link.render()
        dark = gr.Checkbox(visible=False, value=False)
        with gr.Row(elem_id="page"):
            with gr.Column(scale=1, min_width=280, elem_id="panel"):
                controls = build_controls(studio, first.sliders, first.about)
            with gr.Column(scale=5, min_width=300, elem_id="main"), gr.Tabs(elem_id="tabs"):
                with gr.Tab("Explore and compare", id="explore"):
                    explore = build_explore(first)
                    compare = build_compare(first.questions)
                with gr.Tab("Sweep", id="sweep"):
                    sweep = build_sweep()
                with gr.Tab("Needles", id="needle"):
                    needle = build_needle()
        wire_explore(app, studio, files, controls, explore, compare.suggestions, compare.question)
        wire_compare(studio, files, controls, explore, compare, dark)
        wire_sweep(studio, controls, explore, sweep, compare.question, dark)
        wire_needle(studio, controls, needle)
        wire_downloads(studio, files, controls, explore, compare, downloads)
        build_api(studio)
        sheet.click(outputs=sheet, js=SHEET_JS, **BROWSER_ONLY)
        app.load(outputs=dark, js="() => document.body.classList.contains('dark')", **BROWSER_ONLY)
    by_name_only_what_is_documented(app)
    return app


def launch_options() -> dict:
    """Look and script of the page, and where it finds the samples' pictures, for `gr.Blocks.launch`."""
    options = {
        "theme": theme(),
        "css": (HERE / "page.css").read_text(encoding="utf-8"),
        "allowed_paths": [str(CLIPS)],
        "footer_links": ["api", "settings"],
    }
    if FOLDER.is_dir():
        options["app_kwargs"] = {"routes": [Mount(f"/{ROUTE}", StaticFiles(directory=FOLDER))]}
    return options


def theme() -> gr.themes.Base:
    """Calm neutral surfaces, one accent; fonts of the system, since the page must work offline."""
    sans = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    mono = ["ui-monospace", "SFMono-Regular", "Menlo", "monospace"]
    return gr.themes.Base(
        primary_hue="blue", secondary_hue="slate", neutral_hue="slate", font=sans, font_mono=mono, text_size="md",
        spacing_size="sm", radius_size="md",
    ).set(
        body_text_color_subdued="#5b6472", body_text_color_subdued_dark="#9aa4b2",
        color_accent="#2457d6", body_background_fill="#f7f8fa", body_background_fill_dark="#14171c",
        block_background_fill="#ffffff", block_background_fill_dark="#1a1e24",
        block_border_color="#e3e6ea", block_border_color_dark="#2b313a",
        button_primary_background_fill="#2457d6", button_primary_background_fill_hover="#1c46b0",
        button_primary_background_fill_dark="#2f63e6", button_primary_text_color="#ffffff",
        slider_color="#2457d6", slider_color_dark="#6e9bff", input_background_fill_dark="#11141a",
    )  # fmt: skip


def _header(studio: Studio) -> str:
    return f'<h1>STTM Studio</h1><span class="chip" title="the loaded model">{escape(studio.model_chip)}</span>'
