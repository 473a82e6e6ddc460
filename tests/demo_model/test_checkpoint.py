"""Files of a checkpoint: small, and damage is noticed."""

from __future__ import annotations

import pytest
import torch

from demo_model.checkpoint import PART_BYTES, load_checkpoint, save_checkpoint


def test_checkpoints_come_in_small_files_and_damage_is_noticed(tmp_path):
    tensor = torch.randn(6 * 2**20)
    for step in (1, 2):
        save_checkpoint(tmp_path, {"step": step, "tensor": tensor})
    parts = sorted(tmp_path.glob("step-*/part-*"))
    assert len(parts) == 2 and all(part.stat().st_size <= PART_BYTES for part in parts)
    loaded = load_checkpoint(tmp_path)
    assert loaded["step"] == 2 and torch.equal(loaded["tensor"], tensor)
    parts[0].write_bytes(b"damaged")
    with pytest.raises(ValueError, match="missing or damaged"):
        load_checkpoint(tmp_path)
