"""Run is busy and Stop can be pressed from the click on, before the server knows, until the work ends."""

from __future__ import annotations

import json

import gradio as gr

from .explore import BROWSER_ONLY


def busy_from(starts: list, run: gr.Button, stop: gr.Button, words: str, question: gr.Textbox | None = None) -> None:
    """Busy from each of ``starts`` on, unless ``question`` is empty. To be wired before the work itself."""
    same = '{__type__: "update"}'
    guard = f"if (!String(question ?? 'none').trim()) return [{same}, {same}];"
    gr.on(
        starts, inputs=question and [question], outputs=[run, stop],
        js=f"(question) => {{ {guard} return {_buttons(words, busy=True)}; }}", **BROWSER_ONLY,
    )  # fmt: skip


def idle_after(running, run: gr.Button, stop: gr.Button, words: str, *ends) -> None:
    """As before once the event ``running`` has ended, well or not; Stop ends it, and so does each of ``ends``."""
    js = f"() => {_buttons(words, busy=False)}"
    running.then(outputs=[run, stop], js=js, **BROWSER_ONLY)
    gr.on([stop.click, *ends], outputs=[run, stop], js=js, cancels=[running], **BROWSER_ONLY)


def _buttons(words: str, busy: bool) -> str:
    """JavaScript: updates of both buttons."""
    runs = f'{{__type__: "update", value: {json.dumps(words)}, interactive: {json.dumps(not busy)}}}'
    return f'[{runs}, {{__type__: "update", interactive: {json.dumps(busy)}}}]'
