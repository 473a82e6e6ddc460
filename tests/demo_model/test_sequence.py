"""Masks of slots: by hand, and seen from the answers."""

from __future__ import annotations

import torch

from demo_model.questions import Slot
from demo_model.sequence import pack_slots, slot_mask
from tests.demo_model.pictures import floats

SLOTS = [Slot("ocr", "What code is shown?", "AB7"), Slot("colour", "What color is the circle?", "red")]


def test_mask_by_hand():
    slot = torch.tensor([[0, 0, 1, -1]])
    mask = slot_mask(slot, prefix=3, lengths=torch.tensor([2]))[0, 0]
    expected = ["1101000", "1101100", "1100010", "0000001"]
    assert ["".join(str(int(v)) for v in row) for row in mask] == expected


def test_no_slot_sees_another(trained, frames):
    trainer = trained[0]
    other = [Slot("shape", "What shape is blue?", "star"), SLOTS[1]]
    packed = [pack_slots([slots], trainer.tokenizer, 64, 2) for slots in (SLOTS, other)]
    with torch.no_grad():
        logits = [trainer.model(floats(frames), slots).logits[0][slots.slot[0] == 1] for slots in packed]
    torch.testing.assert_close(logits[0], logits[1], atol=1e-5, rtol=0)
