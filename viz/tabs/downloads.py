"""What a person downloads: the inspector as one HTML file, an MP4, a PDF figure, the plan as JSON, a link."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from sttm_core.methods import Sttm
from sttm_core.provenance import environment
from sttm_core.video import write_mp4

from ..files import Files
from ..inspector import export_html
from ..inspector.recorded import plan_payload
from ..overlay import GhostOverlay, Mixed, QuadtreeOverlay, render_video
from ..plan_files import write_figure, write_plan
from ..seen import seen_rows
from ..studio import Studio, VideoRef
from .compare import Compare
from .controls import Controls, settings_from, sttm_settings
from .errors import plain_errors
from .explore import BROWSER_ONLY, INSPECTOR_ID, OPENING, Explore, inspector_settings
from .history import HISTORY, history_row
from .link import link_js
from .visit import whatever_is_shown

VIDEO_FPS = 4
EXPORTS = {"html": "Export HTML", "mp4": "MP4", "pdf": "PDF", "json": "JSON"}


@dataclass(frozen=True)
class Downloads:
    """Buttons of the header by kind of file, each with the hidden one that the browser saves through."""

    exports: dict[str, tuple[gr.Button, gr.DownloadButton]]
    share: gr.Button
    link: gr.Textbox


class Exporter:
    """The handlers."""

    def __init__(self, studio: Studio, files: Files) -> None:
        self.studio, self.files = studio, files

    def page(self, ref: VideoRef, history: list[dict], **values) -> str:
        """The inspector with its video, sliders and the visit's runs as one HTML file."""
        settings = settings_from(values)
        behind = sttm_settings(values)
        data = self.studio.inspector_data(ref, behind)
        chosen = inspector_settings(data.plan(behind))
        if settings.name != Sttm.name:
            plan = self.studio.plan(ref, settings, last_question(history, ref))
            chosen |= {"method": settings.name, "plan": plan_payload(plan)}
        runs = [dict(zip(HISTORY, history_row(run), strict=True)) for run in history]
        path = self.files.new(f"{_stem(ref)}-inspector.html")
        path.write_text(export_html(data, chosen, runs, self._seen(ref, history)), encoding="utf-8")
        return str(path)

    def _seen(self, ref: VideoRef, history: list[dict]) -> list[tuple[str, str]]:
        """What the model saw in the last run of this video, or would see."""
        for run in reversed(history):
            if _same_video(run, ref):
                return seen_rows(run)
        clip = self.studio.clip(ref)
        return seen_rows({"frames": clip.frames_dict(), "environment": environment(self.studio.llm)})

    def figure(self, ref: VideoRef, history: list[dict], **values) -> str:
        """Frames, partition and chains in the paper's style, as PDF."""
        settings = settings_from(values)
        encoded, plan = self.studio.planned(ref, settings, last_question(history, ref))
        return str(write_figure(encoded, plan, self.files.new(f"{_stem(ref)}-merged.pdf")))

    def data(self, ref: VideoRef, history: list[dict], **values) -> str:
        """The plan at the present settings and the runs of the visit, as JSON."""
        settings = settings_from(values)
        plan = self.studio.plan(ref, settings, last_question(history, ref))
        return str(write_plan(plan, history, self.files.new(f"{_stem(ref)}-plan.json")))

    def film(self, ref: VideoRef, history: list[dict], *, progress=gr.Progress(), **values) -> str:
        """The frames with partition and merged area drawn on them, as MP4."""
        settings = settings_from(values)
        encoded, plan = self.studio.planned(ref, settings, last_question(history, ref))
        frames, times = encoded.clip.frames[encoded.step_frames], encoded.clip.times[encoded.step_frames]
        drawn = render_video(frames, plan, Mixed([GhostOverlay(), QuadtreeOverlay()]), times=times)
        pictures = progress.tqdm(drawn, total=len(frames), desc="drawing")
        return str(write_mp4(pictures, self.files.new(f"{_stem(ref)}-merged.mp4"), VIDEO_FPS))


def last_question(history: list[dict], ref: VideoRef) -> str:
    """What this video was asked last; empty if nothing was."""
    return next((run["question"] for run in reversed(history) if _same_video(run, ref)), "")


def _same_video(run: dict, ref: VideoRef) -> bool:
    return run["frames"]["content_hash"] == ref.content_hash and len(run["frames"]["indices"]) == ref.num_frames


def build_downloads() -> Downloads:
    """Header buttons, and the link where the clipboard can't take it."""
    with gr.Row(elem_id="downloads"):
        buttons = {
            kind: gr.Button(words, size="sm", min_width=60, elem_id=f"export-{kind}") for kind, words in EXPORTS.items()
        }
        share = gr.Button("Copy link", size="sm", min_width=80, elem_id="copy-link")
    link = gr.Textbox(label="Link", visible=False, interactive=False, elem_id="link", max_lines=2, render=False)
    files = {kind: gr.DownloadButton(visible="hidden", elem_id=f"{kind}-file") for kind in EXPORTS}
    return Downloads({kind: (buttons[kind], files[kind]) for kind in EXPORTS}, share, link)


def wire_downloads(
    studio: Studio, files: Files, controls: Controls, explore: Explore, compare: Compare, downloads: Downloads
) -> None:
    """Make a file on the server, then let the browser save it; write the link into address bar and clipboard."""
    exporter, c = Exporter(studio, files), controls
    makers = {"html": exporter.page, "mp4": exporter.film, "pdf": exporter.figure, "json": exporter.data}
    for kind, (button, file) in downloads.exports.items():
        made = button.click(
            plain_errors(whatever_is_shown(makers[kind])), [explore.visit, compare.runs], file,
            inputs_kwargs=c.settings, show_progress_on=explore.view, **OPENING,
        )  # fmt: skip
        made.success(js=_save_js(f"{kind}-file"), **BROWSER_ONLY)
    linked = [c.sample, c.frames, compare.question, *c.settings.values()]
    copy = _copy_js(link_js(INSPECTOR_ID, list(c.settings)))
    downloads.share.click(inputs=linked, outputs=downloads.link, js=copy, **BROWSER_ONLY)
    sliders = [*c.taus, c.settings["percent"]]
    chosen = [c.sample, c.frames, *(each for each in c.settings.values() if each not in sliders)]
    moves = [component.change for component in chosen] + [slider.release for slider in sliders]
    moves += [explore.view.change, explore.view.select, compare.question.blur]
    gr.on(moves, inputs=linked, js=link_js(INSPECTOR_ID, list(c.settings)), **BROWSER_ONLY)


def _copy_js(link: str) -> str:
    """Copy the link; where the browser does not let us, only show it."""
    return f"""async (...values) => {{
      const link = ({link})(...values);
      let label = "Copied";
      try {{ await navigator.clipboard.writeText(link); }} catch {{ label = "Copy this link"; }}
      if (!values[0]) label += " (settings only: your own video stays with you)";
      return {{__type__: "update", visible: true, value: link, label}};
    }}"""


def _save_js(element: str) -> str:
    found = f'document.querySelector("#{element} a, a#{element}, #{element}")'
    return f"() => {{ setTimeout(() => {found}?.click(), 60); }}"


def _stem(ref: VideoRef) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", Path(ref.name).stem).strip("-") or "video"
