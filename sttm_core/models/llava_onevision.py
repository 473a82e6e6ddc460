"""LLaVA-OneVision: frames pooled to one square grid each, one newline token at the end of the video."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers.image_utils import SizeDict

from ..vision import interpolated_positions, pooled_by_matrices
from .base import Family, repeated, resized_by, runs_of, square_frames

NEWLINES = 1  # token at the end of a video


class LlavaOnevision(Family):
    model_type = "llava_onevision"
    title = "LLaVA-OneVision"
    hub_ids = (
        "llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
        "llava-hf/llava-onevision-qwen2-7b-ov-hf",
        "llava-hf/llava-onevision-qwen2-72b-ov-hf",
    )

    features_by = "get_video_features"

    def closing_rows(self, model: nn.Module, rows: int, steps: int) -> int:
        """The newline, where the encoder puts it there; before transformers 5.20 the model did, after it.

        Frames are square grids, and no square is one more than another.
        """
        squares = rows % steps == 0 and math.isqrt(rows // steps) ** 2 == rows // steps
        return 0 if squares else NEWLINES

    def inputs(
        self, processor, text: str, frames: torch.Tensor, times: np.ndarray, frame_tokens: int | None = None
    ) -> dict[str, torch.Tensor]:
        """What the processor makes, without its text of 25000 placeholders, which takes longer than preprocessing."""
        pixels = processor.video_processor([frames], do_sample_frames=False, return_tensors="pt")
        ids = processor.tokenizer(text, return_tensors="pt").input_ids
        side = math.ceil(math.isqrt(processor.num_image_tokens) / 2)
        ids = repeated(ids, processor.video_token_id, len(frames) * side * side + NEWLINES)
        return {"input_ids": ids, **pixels}

    @contextmanager
    def fast_vision(self, model: nn.Module) -> Iterator[None]:
        with super().fast_vision(model), pooled_by_matrices(model.model):
            yield

    def any_size(self, model: nn.Module) -> AbstractContextManager[None]:
        return interpolated_positions(model.model.vision_tower)

    def smaller(
        self, model: nn.Module, processor, frames: torch.Tensor, grid: tuple[int, int]
    ) -> tuple[Any, torch.Tensor]:
        vision = model.config.vision_config
        patches = 2 * grid[0] - vision.image_size // vision.patch_size % 2  # 27 are 14, so 13 are 7
        side = patches * vision.patch_size
        made = resized_by(processor, size=SizeDict(height=side, width=side))
        made.num_image_tokens = patches * patches
        return made, frames

    def side(self, model: nn.Module, pixels: int | None = None) -> int:
        vision = model.config.vision_config
        return math.ceil((pixels or vision.image_size) // vision.patch_size / 2)  # 27x27 patches are pooled to 14x14

    def clips(
        self, model: nn.Module, inputs: Mapping[str, Any], places: list[torch.Tensor]
    ) -> list[list[torch.Tensor]]:
        """Each run of video tokens is a clip, and ends in a newline."""
        side = self.frame_side(model, inputs)
        return [[square_frames(run[:-NEWLINES], side) for run in runs_of(row)] for row in places]
