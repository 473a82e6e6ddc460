"""The application's service on a tiny model with random weights and one small clip: all of it is real, and fast."""

from __future__ import annotations

from pathlib import Path

from sttm_core.advice import Advice
from sttm_core.engine import OutOfMemoryError
from sttm_core.video import write_mp4
from tests.core.tiny import clip, tiny
from viz.samples import Needle, Question, Sample
from viz.studio import Studio
from viz.tabs.controls import MODEL_DEFAULT, NUMBERS

QUESTION, FRAMES, GRID = "What is shown?", 5, 8  # tokens along a side
NEEDLE = Needle(0.0, 1.0, (0.0, 0.5, 0.5, 1.0))
VALUES = {
    "method": "sttm", "mode": "thresholds", "tau_spatial": 0.9, "tau_temporal": 0.8, "percent": 30, **NUMBERS,
    "prefer": "balanced", "rules": "paper", "position_rule": MODEL_DEFAULT, "merge_layer": 2,
}  # of `Controls.settings`  # fmt: skip
BY_BUDGET = VALUES | {"mode": "budget"}


def small_studio(folder: Path, *questions: Question, **options: object) -> Studio:
    """One sample, ``"blocks"``, of five frames."""
    path = write_mp4(clip(FRAMES).frames, folder / "blocks.mp4", fps=2)
    asked = questions or (Question(QUESTION, "a circle", NEEDLE), Question("Where?"))
    sample = Sample("blocks", path, "Blocks", "Blocks that drift.", FRAMES, asked, "made for this test")
    options = {"max_frames": 8, "samples": {"blocks": sample}} | options
    return Studio(tiny("llava_onevision"), Advice(0.9, 0.8), **options)


def without_memory_for(studio: Studio, monkeypatch, *columns: str) -> None:
    """Let the prefill of ``"baseline"`` or ``"merged"`` run out of memory."""
    prefill = studio.llm.timed_prefill

    def fail(encoded, method=None, *question, **options):
        if ("baseline" if method is None else "merged") in columns:
            raise OutOfMemoryError("The GPU's memory did not suffice; use fewer frames.")
        return prefill(encoded, method, *question, **options)

    monkeypatch.setattr(studio.llm, "timed_prefill", fail)
