"""Qwen2.5-VL: Qwen2-VL whose M-RoPE counts true seconds."""

from __future__ import annotations

import numpy as np
import torch

from .base import metadata
from .qwen2_vl import Qwen2VL


class Qwen25VL(Qwen2VL):
    model_type = "qwen2_5_vl"
    title = "Qwen2.5-VL"
    hub_ids = ("Qwen/Qwen2.5-VL-3B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen2.5-VL-72B-Instruct")

    def video_options(self, processor, frames: torch.Tensor, times: np.ndarray, frame_tokens: int | None) -> dict:
        options = super().video_options(processor, frames, times, frame_tokens)
        return options | {"video_metadata": [metadata(times)]}
