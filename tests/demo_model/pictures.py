"""Frames as training takes them."""

from __future__ import annotations

import numpy as np
import torch


def floats(frames: np.ndarray) -> torch.Tensor:
    return (torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255)[None]
