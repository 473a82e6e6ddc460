"""Columns as the application fills them, without a model."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace

from sttm_core.engine import Answer
from sttm_core.methods import Sttm
from sttm_core.timing import Timings
from viz.studio import Column

PATCHES, TEXT, LAYER = 100, 3, 2  # of the video, around it, and where it is merged


class Seconds(Timings):
    """Timings that can be divided."""

    def __truediv__(self, by: float) -> Seconds:
        return Seconds(**{f.name: getattr(self, f.name) / by for f in fields(self)})


TIMES = Seconds(decode=0.2, vision=0.4, merge=0.1, prefill=1.2, first_token=0.1)
SHARES = {"kept": 0.1, "layer_average": 0.4, "kv_bytes": 0.4}


def answer(text: str, timings: Timings = TIMES) -> Answer:
    """A finished answer."""
    return Answer(text, 3, timings, 20, 1000, 2000, 0.5, True, shares=SHARES)


def column(kept: int | None, given: Answer | None) -> Column:
    """The baseline (``kept`` None), or the merged column with so many tokens left."""
    tokens = PATCHES if kept is None else kept
    plan = None if kept is None else SimpleNamespace(
        num_tokens=kept, num_patches=PATCHES, retention=kept / PATCHES, method=Sttm(0.9, 0.8)
    )  # fmt: skip
    prefix = SimpleNamespace(
        encoded=SimpleNamespace(merge_layer=LAYER), tokens_before=PATCHES + TEXT, tokens_after=tokens + TEXT
    )
    return Column(plan, prefix, given)


def seen(num_frames: int, content_hash: str = "abc") -> dict:
    """What `provenance.run_truth` says of a run, without a model."""
    source = {
        "container": "mov,mp4", "codec": "h264", "pixel_format": "yuv420p", "stored_size": [120, 160],
        "size": [213, 120], "rotation": 90, "mirrored": True, "pixel_aspect": "4:3", "colour_matrix": "bt709",
        "colour_range": "limited", "num_frames": 240, "duration_s": 9.6, "fps": 25.0, "decoder": "PyAV 18.1.0",
    }  # fmt: skip
    frames = {
        "indices": [10 * n for n in range(num_frames)], "times_s": [0.4 * n for n in range(num_frames)],
        "size": [213, 120], "content_hash": content_hash, "source": source,
    }  # fmt: skip
    environment = {
        "model": "tiny", "family": "LLaVA-OneVision", "dtype": "float32", "quantization": None, "attention": "sdpa",
        "rope": None, "frame_tokens": None, "device": "cpu", "threads": 2, "system": "Linux x86_64",
        "versions": {"torch": "2.15.0", "decord": None},
    }  # fmt: skip
    return {"frames": frames, "prompt": "<|im_start|>user\nWhat <b>?", "environment": environment}
