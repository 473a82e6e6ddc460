"""SmolVLM2: one small square grid a frame, with the time as text before each. Its processor needs num2words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers.image_utils import SizeDict

from .base import Family, frames_as_images, metadata, resized_by
from .plain_text import PromptParts

OUTRO = "\n\n"  # that the processor puts behind a video: it is tokenised together with the question


class SmolVLM(Family):
    model_type = "smolvlm"
    title = "SmolVLM2"
    features_by = "get_image_features"
    hub_ids = ("HuggingFaceTB/SmolVLM2-500M-Video-Instruct", "HuggingFaceTB/SmolVLM2-2.2B-Instruct")

    def vision(self, model: nn.Module) -> nn.Module:
        return model.model.vision_model

    def decoder(self, model: nn.Module) -> nn.Module:
        return model.model.text_model

    def video_options(self, processor, frames: torch.Tensor, times: np.ndarray, frame_tokens: int | None) -> dict:
        return {"videos": [[frames]], "do_sample_frames": False, "video_metadata": [metadata(times)]}

    def parts(self, processor) -> PromptParts:
        parts = super().parts(processor)
        return replace(parts, before=OUTRO + parts.before)

    def inputs(
        self, processor, text: str, frames: torch.Tensor, times: np.ndarray, frame_tokens: int | None = None
    ) -> dict[str, torch.Tensor]:
        made = super().inputs(processor, text, frames, times, frame_tokens)
        end = processor.tokenizer.convert_tokens_to_ids(processor.fake_image_token)
        length = int((made["input_ids"][0] == end).nonzero().max()) + 1
        cut = {name: made[name][:, :length] for name in ("input_ids", "attention_mask")}
        return made | cut

    def smaller(
        self, model: nn.Module, processor, frames: torch.Tensor, grid: tuple[int, int]
    ) -> tuple[Any, torch.Tensor]:
        side = grid[0] * token_pixels(model)
        made = resized_by(processor, size=SizeDict(longest_edge=side), max_image_size={"longest_edge": side})
        made.image_seq_len = grid[0] * grid[0]
        return made, frames

    def side(self, model: nn.Module, pixels: int | None = None) -> int:
        return math.isqrt(model.model.image_seq_len) if pixels is None else pixels // token_pixels(model)

    def patch_token(self, model: nn.Module) -> int:
        return model.config.image_token_id

    def clips(
        self, model: nn.Module, inputs: Mapping[str, Any], places: list[torch.Tensor]
    ) -> list[list[torch.Tensor]]:
        """A video is images to this model: all those of a row are one clip."""
        return [frames_as_images(row, self.frame_side(model, inputs)) for row in places]


def token_pixels(model: nn.Module) -> int:
    """Pixels along a side of a token: patches of 14 or 16, joined by the connector."""
    return model.config.vision_config.patch_size * model.config.scale_factor
