"""Qwen3-VL, dense and mixture of experts: timestamps as text between frames, deepstack features in the early layers."""

from __future__ import annotations

from torch import nn

from .qwen2_5_vl import Qwen25VL


class Qwen3VL(Qwen25VL):
    """Merging happens after the last layer that deepstack features are added behind: before that, every patch is there.

    (The alternative, merging those features by the same plan, would need the model's own forward pass changed.)
    """

    model_type = "qwen3_vl"
    title = "Qwen3-VL"
    hub_ids = ("Qwen/Qwen3-VL-2B-Instruct", "Qwen/Qwen3-VL-4B-Instruct", "Qwen/Qwen3-VL-8B-Instruct")

    def first_merge_layer(self, model: nn.Module) -> int:
        return len(model.config.vision_config.deepstack_visual_indexes)  # added to what layers 0, 1, 2... give out

    def pixels(self, frame_tokens: int, num_frames: int, side: int) -> int:
        """This processor's ``longest_edge`` counts the pixels of all frames."""
        return frame_tokens * side * side * num_frames


class Qwen3VLMoe(Qwen3VL):
    model_type = "qwen3_vl_moe"
    title = "Qwen3-VL MoE"
    hub_ids = ("Qwen/Qwen3-VL-30B-A3B-Instruct",)
