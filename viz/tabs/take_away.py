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
from .compare import HISTORY, Compare, history_row
from .controls import Controls, settings_from
from .errors import plain_errors
from .explore import BROWSER_ONLY, INSPECTOR_ID, MODEL, Explore

VIDEO_FPS = 4


@dataclass(frozen=True)
class TakeAway:
    """Buttons of the header and the hidden ones that the browser saves through."""

    page: gr.Button
    film: gr.Button
    share: gr.Button
    present: gr.Button
    page_file: gr.DownloadButton
    film_file: gr.DownloadButton


class Exporter:
    """The handlers."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def page(self, ref: VideoRef | None, history: list[dict], *values) -> str:
        """The inspector with its video, sliders and the visit's runs as one HTML file."""
        settings = settings_from(*values)
        data = self.studio.inspector_data(_need(ref), settings)
        plan = settings.plan(self.studio.encoded(ref, settings))
        chosen = {"tauSpatial": plan.tau_spatial, "tauTemporal": plan.tau_temporal, "rules": settings.rules}
        runs = [dict(zip(HISTORY, history_row(run), strict=True)) for run in history]
        return _write(f"{_stem(ref)}-inspector.html", export_html(data, chosen, runs))

    def film(self, ref: VideoRef | None, *values, progress=gr.Progress()) -> str:
        """The frames with partition and merged area drawn on them, as MP4."""
        settings = settings_from(*values)
        encoded = self.studio.encoded(_need(ref), settings)
        plan = settings.plan(encoded)
        frames, times = encoded.clip.frames[encoded.step_frames], encoded.clip.times[encoded.step_frames]
        drawn = render_video(frames, plan, Mixed([GhostOverlay(), QuadtreeOverlay()]), times=times)
        pictures = progress.tqdm(drawn, total=len(frames), desc="drawing")
        path = Path(tempfile.mkdtemp(prefix="sttm-film-")) / f"{_stem(ref)}-merged.mp4"
        return str(write_mp4(pictures, path, VIDEO_FPS))


def build_take_away() -> TakeAway:
    """Header buttons."""
    with gr.Row(elem_id="take-away"):
        present = gr.Button("Present", size="sm", min_width=80, elem_id="present")
        page = gr.Button("Export HTML", size="sm", min_width=100, elem_id="export-html")
        film = gr.Button("Export MP4", size="sm", min_width=100, elem_id="export-mp4")
        share = gr.Button("Copy link", size="sm", min_width=90, elem_id="copy-link")
    page_file = gr.DownloadButton(visible="hidden", elem_id="page-file")
    film_file = gr.DownloadButton(visible="hidden", elem_id="film-file")
    return TakeAway(page, film, share, present, page_file, film_file)


def wire_take_away(studio: Studio, controls: Controls, explore: Explore, compare: Compare, take: TakeAway) -> None:
    """Make a file on the server, then let the browser save it."""
    exporter = Exporter(studio)
    page = take.page.click(
        plain_errors(exporter.page), [explore.ref, compare.runs, *controls.settings], take.page_file,
        show_progress_on=explore.view, **MODEL,
    )  # fmt: skip
    page.success(js=_save_js("page-file"), **BROWSER_ONLY)
    film = take.film.click(
        plain_errors(exporter.film),
        [explore.ref, *controls.settings],
        take.film_file,
        show_progress_on=explore.view,
        **MODEL,
    )
    film.success(js=_save_js("film-file"), **BROWSER_ONLY)
    take.share.click(js="() => { navigator.clipboard?.writeText(location.href); }", **BROWSER_ONLY).then(
        lambda: gr.Info("The link to this view is in your clipboard."), queue=False, api_visibility="private"
    )
    take.present.click(js=f'() => {{ window.sttmInspector.get("{INSPECTOR_ID}")?.present(true); }}', **BROWSER_ONLY)


def _save_js(element: str) -> str:
    found = f'document.querySelector("#{element} a, a#{element}, #{element}")'
    return f"() => {{ setTimeout(() => {found}?.click(), 60); }}"


def _write(name: str, text: str) -> str:
    path = Path(tempfile.mkdtemp(prefix="sttm-page-")) / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def _stem(ref: VideoRef) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", Path(ref.name).stem).strip("-") or "video"


def _need(ref: VideoRef | None) -> VideoRef:
    if ref is None:
        raise gr.Error("There is no video yet; choose a sample or upload one.", print_exception=False)
    return ref
