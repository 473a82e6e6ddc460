"""Frames on their way to the device, and prompts that are not read thousands of tokens long."""

from __future__ import annotations

import numpy as np
import torch

from sttm_core.host_to_device import frames_on
from sttm_core.models.base import repeated


def test_frames_arrive_as_they_are():
    frames = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
    there = frames_on(torch.device("cpu"), frames)
    assert there.dtype == torch.uint8 and there.shape == (3, 3, 4, 5) and there.is_contiguous()
    assert np.array_equal(there.permute(0, 2, 3, 1).numpy(), frames)


def test_only_the_first_placeholder_is_repeated():
    ids = torch.tensor([[5, 9, 6, 9]])
    assert repeated(ids, 9, 3).tolist() == [[5, 9, 9, 9, 6, 9]]
    assert repeated(ids, 9, 0).tolist() == [[5, 6, 9]]
