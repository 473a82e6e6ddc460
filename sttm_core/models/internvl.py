"""InternVL3: one square grid a frame, with "Frame1: " and the like between them."""

from __future__ import annotations

import math

import torch
from torch import nn

from .base import Family, VideoLayout, places_of


class InternVL(Family):
    model_type = "internvl"
    title = "InternVL3"
    hub_ids = ("OpenGVLab/InternVL3-2B-hf", "OpenGVLab/InternVL3-8B-hf")

    def side(self, model: nn.Module) -> int:
        return math.isqrt(model.config.image_seq_length)

    def layout(self, model: nn.Module, inputs: dict[str, torch.Tensor]) -> VideoLayout:
        frames, side = inputs["pixel_values"].shape[0], self.side(model)
        return places_of(inputs["input_ids"], model.config.image_token_id, (frames, side, side))
