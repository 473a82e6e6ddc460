"""What a person takes home: one HTML file, an MP4 of the overlay, a link."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from sttm_core.video import write_mp4

from ..inspector import export_html
from ..overlay import GhostOverlay, Mixed, QuadtreeOverlay, render_video
from ..studio import Studio, VideoRef
from .compare import Compare
from .controls import Controls, settings_from
from .errors import plain_errors
from .explore import BROWSER_ONLY, INSPECTOR_ID, OPENING, Explore
from .history import HISTORY, history_row
from .link import link_js

VIDEO_FPS = 4


@dataclass(frozen=True)
class TakeAway:
    """Buttons of the header and the hidden ones that the browser saves through."""

    page: gr.Button
    film: gr.Button
    share: gr.Button
    link: gr.Textbox
    page_file: gr.DownloadButton
    film_file: gr.DownloadButton


class Exporter:
    """The handlers."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def page(self, ref: VideoRef, history: list[dict], *values) -> str:
        """The inspector with its video, sliders and the visit's runs as one HTML file."""
        settings = settings_from(*values)
        data = self.studio.inspector_data(ref, settings)
        plan = settings.plan(data)
        chosen = {"tauSpatial": plan.tau_spatial, "tauTemporal": plan.tau_temporal, "rules": settings.rules}
        runs = [dict(zip(HISTORY, history_row(run), strict=True)) for run in history]
        return _write(f"{_stem(ref)}-inspector.html", export_html(data, chosen, runs))

    def film(self, ref: VideoRef, *values, progress=gr.Progress()) -> str:
        """The frames with partition and merged area drawn on them, as MP4."""
        settings = settings_from(*values)
        encoded = self.studio.encoded(ref, settings)
        plan = settings.plan(encoded)
        frames, times = encoded.clip.frames[encoded.step_frames], encoded.clip.times[encoded.step_frames]
        drawn = render_video(frames, plan, Mixed([GhostOverlay(), QuadtreeOverlay()]), times=times)
        pictures = progress.tqdm(drawn, total=len(frames), desc="drawing")
        path = Path(tempfile.mkdtemp(prefix="sttm-film-")) / f"{_stem(ref)}-merged.mp4"
        return str(write_mp4(pictures, path, VIDEO_FPS))


def build_take_away() -> TakeAway:
    """Header buttons, and the link where the clipboard can't take it."""
    with gr.Row(elem_id="take-away"):
        page = gr.Button("Export HTML", size="sm", min_width=100, elem_id="export-html")
        film = gr.Button("Export MP4", size="sm", min_width=100, elem_id="export-mp4")
        share = gr.Button("Copy link", size="sm", min_width=90, elem_id="copy-link")
    link = gr.Textbox(label="Link", visible=False, interactive=False, elem_id="link", max_lines=2, render=False)
    page_file = gr.DownloadButton(visible="hidden", elem_id="page-file")
    film_file = gr.DownloadButton(visible="hidden", elem_id="film-file")
    return TakeAway(page, film, share, link, page_file, film_file)


def wire_take_away(studio: Studio, controls: Controls, explore: Explore, compare: Compare, take: TakeAway) -> None:
    """Make a file on the server, then let the browser save it; write the link into address bar and clipboard."""
    exporter, c = Exporter(studio), controls
    shown = {"show_progress_on": explore.view, **OPENING}
    page = take.page.click(
        plain_errors(exporter.page), [explore.ref, compare.runs, *c.settings], take.page_file, **shown
    )
    page.success(js=_save_js("page-file"), **BROWSER_ONLY)
    film = take.film.click(plain_errors(exporter.film), [explore.ref, *c.settings], take.film_file, **shown)
    film.success(js=_save_js("film-file"), **BROWSER_ONLY)
    linked = [c.sample, c.frames, *c.settings, compare.question]
    take.share.click(inputs=linked, outputs=take.link, js=_copy_js(), **BROWSER_ONLY)
    moves = [component.change for component in (c.sample, c.frames, c.mode, c.rules, c.position_rule, c.merge_layer)]
    moves += [slider.release for slider in (c.tau_s, c.tau_t, c.budget)]
    moves += [explore.view.change, explore.view.select, compare.question.blur]
    gr.on(moves, inputs=linked, js=link_js(INSPECTOR_ID), **BROWSER_ONLY)


def _copy_js() -> str:
    """Copy the link; where the browser does not let us, only show it."""
    return f"""async (...values) => {{
      const link = ({link_js(INSPECTOR_ID)})(...values);
      let label = "Copied";
      try {{ await navigator.clipboard.writeText(link); }} catch {{ label = "Copy this link"; }}
      if (!values[0]) label += " (settings only: your own video stays with you)";
      return {{__type__: "update", visible: true, value: link, label}};
    }}"""


def _save_js(element: str) -> str:
    found = f'document.querySelector("#{element} a, a#{element}, #{element}")'
    return f"() => {{ setTimeout(() => {found}?.click(), 60); }}"


def _write(name: str, text: str) -> str:
    path = Path(tempfile.mkdtemp(prefix="sttm-page-")) / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def _stem(ref: VideoRef) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", Path(ref.name).stem).strip("-") or "video"
