"""Many questions after one video in one sequence: each slot sees the video and itself only.

    <|im_start|>user  VIDEO \\n | question 1 <|im_end|>...answer 1 <|im_end|> | question 2 ... | padding

The part up to the newline is the prefix, with plain causal attention. The slots follow; every slot counts its positions
from the end of the prefix, as if it stood there alone, so that one video pays for all answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer

from demo_model.questions import KINDS, Slot
from demo_model.tokenizer import BEFORE_ANSWER, END

IGNORED = -100


@dataclass(frozen=True)
class PackedSlots:
    """Questions and answers of B clips, S tokens each.

    Attributes:
        ids: [B, S] token ids, 0 where padded.
        slot: [B, S] number of the slot that a token belongs to, -1 where padded.
        offset: [B, S] place of the token in its slot.
        labels: [B, S] the token that follows, ``IGNORED`` but where the answer is to be predicted.
        kind: [B, N] kind of each slot as an index of ``KINDS``, -1 where there is none.
    """

    ids: torch.Tensor
    slot: torch.Tensor
    offset: torch.Tensor
    labels: torch.Tensor
    kind: torch.Tensor

    def to(self, device: torch.device | str) -> PackedSlots:
        """The same on another device."""
        return PackedSlots(**{name: value.to(device, non_blocking=True) for name, value in vars(self).items()})


def pack_slots(clips: Sequence[Sequence[Slot]], tokenizer: Tokenizer, length: int, most: int) -> PackedSlots:
    """Write the slots of each clip one after the other; slots that do not fit are left out.

    Args:
        clips: the questions of each clip.
        tokenizer: of the model.
        length: tokens a clip, S.
        most: slots a clip, N.
    """
    shape = (len(clips), length)
    ids, slot = torch.zeros(shape, dtype=torch.int64), torch.full(shape, -1)
    offset, labels = torch.zeros(shape, dtype=torch.int64), torch.full(shape, IGNORED)
    kind = torch.full((len(clips), most), -1)
    for b, slots in enumerate(clips):
        at = number = 0
        for entry in slots[:most]:
            question, answer = slot_ids(entry, tokenizer)
            tokens = question + answer
            end = at + len(tokens)
            if end > length:
                continue
            ids[b, at:end] = torch.tensor(tokens)
            slot[b, at:end] = number
            offset[b, at:end] = torch.arange(len(tokens))
            labels[b, at + len(question) - 1 : end - 1] = torch.tensor(answer)
            kind[b, number] = KINDS.index(entry.kind)
            at, number = end, number + 1
    return PackedSlots(ids, slot, offset, labels, kind)


def slot_ids(slot: Slot, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Token ids of a slot: what is given, and what the model has to say, closed by the end of the turn."""
    given = tokenizer.encode(slot.question + BEFORE_ANSWER, add_special_tokens=False).ids
    return given, tokenizer.encode(slot.answer + END, add_special_tokens=False).ids


def slot_mask(slot: torch.Tensor, prefix: int, lengths: torch.Tensor) -> torch.Tensor:
    """What the tokens of the slots may look at.

    Args:
        slot: [B, S] of ``PackedSlots``.
        prefix: tokens of the prefix, P, with padding.
        lengths: [B] tokens of each prefix without padding.

    Returns:
        [B, 1, S, P + S] bool; padded tokens see themselves alone, so that no row is empty.
    """
    size = slot.shape[1]
    video = torch.arange(prefix, device=slot.device) < lengths[:, None]  # [B, P]
    video = (slot[:, :, None] >= 0) & video[:, None, :]  # [B, S, P]
    same = (slot[:, :, None] == slot[:, None, :]) & (slot[:, :, None] >= 0)  # [B, S, S]
    before = torch.ones(size, size, dtype=torch.bool, device=slot.device).tril()
    itself = torch.eye(size, dtype=torch.bool, device=slot.device)
    return torch.cat([video, same & before | itself], dim=-1)[:, None]
