"""Qwen3-VL, dense and mixture of experts: timestamps as text between frames, deepstack features in the early layers."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize

from .qwen2_5_vl import Qwen25VL
from .qwen2_vl import token_pixels

TEMPORAL_PATCH = 2  # frames joined to one step


class Qwen3VL(Qwen25VL):
    """Merging happens after the last layer that deepstack features are added behind: before that, every patch is there.

    (The alternative, merging those features by the same plan, would need the model's own forward pass changed.)
    """

    model_type = "qwen3_vl"
    title = "Qwen3-VL"
    hub_ids = ("Qwen/Qwen3-VL-2B-Instruct", "Qwen/Qwen3-VL-4B-Instruct", "Qwen/Qwen3-VL-8B-Instruct")

    def first_merge_layer(self, model: nn.Module) -> int:
        return len(model.config.vision_config.deepstack_visual_indexes)  # added to what layers 0, 1, 2... give out

    def pixel_range(self, video_processor, num_frames: int, frame_tokens: int) -> tuple[int, int]:
        """This processor counts the pixels of all frames together."""
        lowest = video_processor.size["shortest_edge"]
        return lowest, max(lowest, frame_tokens * token_pixels(video_processor) ** 2 * num_frames)

    def inputs(
        self, processor, text: str, frames: torch.Tensor, times: np.ndarray, frame_tokens: int | None = None
    ) -> dict[str, torch.Tensor]:
        if len(frames) < TEMPORAL_PATCH:  # this processor refuses a single frame, the others repeat it
            frames = frames.expand(TEMPORAL_PATCH, -1, -1, -1)
        return super().inputs(processor, text, frames, times, frame_tokens)

    def resized(self, num_frames: int, size: tuple[int, int], factor: int, pixels: tuple[int, int]) -> tuple[int, int]:
        frames = max(num_frames, TEMPORAL_PATCH)
        return smart_resize(frames, *size, factor=factor, min_pixels=pixels[0], max_pixels=pixels[1])


class Qwen3VLMoe(Qwen3VL):
    model_type = "qwen3_vl_moe"
    title = "Qwen3-VL MoE"
    hub_ids = ("Qwen/Qwen3-VL-30B-A3B-Instruct",)
