"""The paper's settings as data: model x benchmark x budget, each with its source.

preset("videomme-50", "lmms-lab/LLaVA-Video-7B-Qwen2").tau_spatial   # 0.85
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

SOURCE = "Hyun et al., ICCV 2025, arXiv 2507.07990: published thresholds, computed with the authors' released code"
BENCHMARKS = ("vnbench", "videomme", "egoschema", "nextqa", "longvideobench", "mlvu")
BUDGETS = (50, 30)  # percent of tokens that were aimed at on the benchmark as a whole
_SAME_TICK = 1e-3  # durations come as fractions rounded to a millisecond or less
# (tau_spatial, tau_temporal) at 50% / 30%, in the order of BENCHMARKS; None where nothing was published
_THRESHOLDS = {
    "LLaVA-Video-7B": (
        ((0.85, 0.65), (0.80, 0.60)), ((0.85, 0.55), (0.80, 0.50)), ((0.85, 0.55), (0.80, 0.60)),
        ((0.85, 0.65), (0.80, 0.65)), ((0.85, 0.60), (0.80, 0.55)), ((0.85, 0.55), (0.80, 0.55)),
    ),
    "LLaVA-OneVision-7B": (
        ((0.90, 0.65), (0.85, 0.65)), ((0.85, 0.65), (0.85, 0.55)), ((0.90, 0.60), (0.85, 0.60)),
        ((0.95, 0.65), (0.90, 0.60)), ((0.90, 0.60), (0.85, 0.60)), ((0.90, 0.55), (0.85, 0.60)),
    ),
    "Qwen2-VL-7B": (
        ((0.80, 0.65), (0.75, 0.50)), ((0.85, 0.60), (0.80, 0.60)), None,
        None, ((0.85, 0.65), (0.80, 0.60)), None,
    ),
    "LLaVA-Video-72B": (None, ((0.94, 0.82), (0.90, 0.90)), None, None, None, None),
}  # fmt: skip


@dataclass(frozen=True)
class Preset:
    """Settings of one published run.

    Attributes:
        name: ``"videomme-50"``: benchmark, and percent of tokens aimed at.
        model: as the paper names it.
        tau_spatial, tau_temporal: thresholds.
        merge_layer: index of the decoder layer before which tokens are merged.
        position_rule, rules: see `positions` and `plan`.
        fps, max_frames: how the video was sampled; see `sampling`.
        rope_factor: linear RoPE scaling that the input's length asks for, or None.
        source: where the numbers come from.
    """

    name: str
    model: str
    tau_spatial: float
    tau_temporal: float
    merge_layer: int
    position_rule: str
    rules: str
    fps: float
    max_frames: int
    rope_factor: float | None
    source: str = SOURCE

    @property
    def benchmark(self) -> str:
        return self.name.rpartition("-")[0]

    @property
    def budget(self) -> float:
        """Share of tokens aimed at: 0.5 or 0.3. A single video may keep far more or fewer."""
        return int(self.name.rpartition("-")[2]) / 100

    def sampling(self, duration_s: float) -> int:
        """How many frames of a video of so many seconds: one every ``1 / fps`` seconds, at most ``max_frames``.

        Shell and page ask this, and take so many frames evenly spread in time: `VideoClip.open(path, preset.sampling)`.
        """
        ticks = math.ceil(duration_s * self.fps - _SAME_TICK)
        return max(1, min(ticks, self.max_frames))


def _preset(model: str, benchmark: str, budget: int, taus: tuple[float, float]) -> Preset:
    qwen, long = model.startswith("Qwen"), benchmark == "vnbench"
    return Preset(
        name=f"{benchmark}-{budget}",
        model=model,
        tau_spatial=taus[0],
        tau_temporal=taus[1],
        merge_layer=0 if model.endswith("72B") else 2,
        position_rule="survived" if qwen else "reassigned",
        rules="as_released",
        fps=2.0 if qwen else 1.0,
        max_frames=(360 if long else 256) if qwen else (180 if long else 128),
        rope_factor=2.0 if long and not qwen else None,  # 180 frames of 196 tokens exceed 32768 positions
    )


PRESETS: tuple[Preset, ...] = tuple(
    _preset(model, benchmark, budget, taus)
    for model, row in _THRESHOLDS.items()
    for benchmark, cell in zip(BENCHMARKS, row, strict=True)
    if cell is not None
    for budget, taus in zip(BUDGETS, cell, strict=True)
)


def published_model(model: str) -> str | None:
    """The paper's name for a checkpoint's name, hub id or folder; None if nothing was published for it."""
    name = re.sub(r"[^a-z0-9]+", "-", str(model).lower())
    if "llava-video" in name or "llava-qwen" in name:
        return "LLaVA-Video-72B" if "72b" in name else "LLaVA-Video-7B"
    if "onevision" in name:
        return "LLaVA-OneVision-7B"
    return "Qwen2-VL-7B" if "qwen2-vl" in name else None


def presets_for(model: str) -> tuple[Preset, ...]:
    """All published settings for a checkpoint's name, hub id, folder or `config.model_type`."""
    return tuple(found for found in PRESETS if found.model == published_model(model))


def preset(name: str, model: str) -> Preset:
    """The published setting of this name for a model.

    Raises:
        ValueError: if there is none, naming those that exist.
    """
    offered = presets_for(model)
    if not offered:
        models = ", ".join(_THRESHOLDS)
        raise ValueError(f"nothing was published for the model {model!r}; there are presets for {models}.")
    for found in offered:
        if found.name == name:
            return found
    names = ", ".join(found.name for found in offered)
    raise ValueError(f"there is no preset {name!r} for {offered[0].model}; there are {names}.")
