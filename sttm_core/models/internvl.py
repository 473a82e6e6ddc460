"""InternVL3: one square grid a frame, with "Frame1: " and the like between them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers.image_utils import SizeDict

from .base import Family, frames_as_images, resized_by


class InternVL(Family):
    model_type = "internvl"
    title = "InternVL3"
    features_by = "get_image_features"
    hub_ids = ("OpenGVLab/InternVL3-2B-hf", "OpenGVLab/InternVL3-8B-hf")

    def smaller(
        self, model: nn.Module, processor, frames: torch.Tensor, grid: tuple[int, int]
    ) -> tuple[Any, torch.Tensor]:
        side = grid[0] * token_pixels(model)
        made = resized_by(processor, size=SizeDict(height=side, width=side))
        made.image_seq_length = grid[0] * grid[0]
        return made, frames

    def side(self, model: nn.Module, pixels: int | None = None) -> int:
        return math.isqrt(model.config.image_seq_length) if pixels is None else pixels // token_pixels(model)

    def patch_token(self, model: nn.Module) -> int:
        return model.config.image_token_id

    def clips(
        self, model: nn.Module, inputs: Mapping[str, Any], places: list[torch.Tensor]
    ) -> list[list[torch.Tensor]]:
        """A video is images to this model: all those of a row are one clip."""
        return [frames_as_images(row, self.frame_side(model, inputs)) for row in places]


def token_pixels(model: nn.Module) -> int:
    """Pixels along a side of a token: 2x2 patches of 14."""
    return round(model.config.vision_config.patch_size[0] / model.config.downsample_ratio)
