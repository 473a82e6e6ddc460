"""Fewer tokens in training and in the table of methods: counts, needles, and equality with the library."""

from __future__ import annotations

import pytest
import torch

from demo_model.evaluate import (
    MEASURED_LAYER,
)
from demo_model.model import MERGE_LAYER, Reduction
from demo_model.questions import Slot
from demo_model.reduction import by_method, merged, random_tokens
from demo_model.sequence import pack_slots, slot_ids
from demo_model.train import Trainer, tiny_settings
from sttm_core import thresholds_for_retention
from sttm_core.engine import VideoLLM
from sttm_core.methods import METHODS
from sttm_core.settings import RunSettings
from sttm_core.video import VideoClip
from tests.demo_model.pictures import floats

SLOTS = [Slot("ocr", "What code is shown?", "AB7"), Slot("colour", "What color is the circle?", "red")]


@pytest.mark.parametrize(
    ("reduce", "low", "high"),
    [
        (merged(0.4), 0.05, 0.4),
        (by_method(RunSettings.of("sttm", retention=0.4, prefer="temporal")), 0.2, 0.4),
        (by_method(RunSettings.of("frames", retention=0.5)), 0.5, 0.5),
        (by_method(RunSettings.of("pooling", retention=0.25)), 0.25, 0.25),
        (by_method(RunSettings.of("random", retention=0.3)), 0.296, 0.3),
    ],
    ids=["merged", "budget", "frames", "pooled", "random"],
)
def test_reductions_keep_what_they_say(reduce, low, high):
    tokens = torch.randn(2, 4, 8, 8, 16, generator=torch.Generator().manual_seed(0)) * 0.3 + 1
    kept = reduce(tokens)
    assert low <= sum(len(clip.tokens) for clip in kept) / tokens[..., 0].numel() <= high + 1e-9
    assert all(clip.tokens.shape == (len(clip.places), 16) for clip in kept)
    assert all((clip.places.diff() > 0).all() and clip.places.max() < 4 * 8 * 8 for clip in kept)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.acts_on == "tokens"])
def test_every_method_of_the_library_reduces_a_batch_clip_by_clip(name):
    tokens = torch.randn(2, 4, 8, 8, 16, generator=torch.Generator().manual_seed(3)) * 0.3 + 1
    tokens.requires_grad_()
    settings = RunSettings.of(name, retention=0.4)
    for clip, kept in zip(tokens, by_method(settings)(tokens), strict=True):
        plan = settings.plan(clip.detach(), None)
        assert torch.equal(kept.places, plan.places)
        torch.testing.assert_close(kept.tokens, plan.apply(clip.detach()).tokens)
        kept.tokens.sum().backward(retain_graph=True)
    assert (tokens.grad != 0).flatten(1).any(dim=1).all()


def test_merging_a_batch_at_once_equals_merging_each_clip():
    from sttm_core import merge_tokens

    tokens = torch.randn(3, 4, 8, 8, 16, generator=torch.Generator().manual_seed(1)) * 0.4 + 1
    tokens[:, 0] = tokens[0, -1]  # equal frames on both sides of the border between two clips
    whole = merged(0.3)(tokens)
    low, high = 0.0, 1.0
    for _ in range(10):
        tau = (low + high) / 2
        alone = [merge_tokens(clip, tau, tau).tokens for clip in tokens]
        too_many = sum(map(len, alone)) > 0.3 * tokens[..., 0].numel()
        low, high = (low, tau) if too_many else (tau, high)
    assert [len(clip) for clip in alone] == [len(clip.tokens) for clip in whole]
    for one, two in zip(whole, alone, strict=True):
        torch.testing.assert_close(one.tokens, two)


def test_dropping_spares_the_needles():
    tokens = torch.arange(2 * 2 * 4 * 4.0).view(2, 2, 4, 4, 1)
    needles = torch.zeros(2, 2, 4, 4, dtype=torch.bool)
    needles[:, 1, 2, 3] = True
    kept = random_tokens(0.25, torch.Generator().manual_seed(0), needles)(tokens)
    for clip, rest in zip(tokens, kept, strict=True):
        assert len(rest.tokens) == 8 and clip[1, 2, 3] in rest.tokens
        assert torch.equal(clip.flatten()[rest.places], rest.tokens.flatten())
        assert rest.places.tolist() == sorted(rest.places.tolist())


def test_reducing_here_equals_merging_in_the_engine(trained, exported, frames):
    """The table of methods and the app give the same first token's logits, before layer 0 with surviving positions."""
    keep, question = 0.4, "What code is shown?"
    llm = VideoLLM.load(str(exported), dtype="float32")
    encoded = llm.encode(VideoClip.from_frames(frames))
    assert (encoded.merge_layer, llm.default_position_rule) == (MEASURED_LAYER, "survived")
    found = thresholds_for_retention(encoded.tables, keep, prefer="temporal")
    plan = encoded.tables.plan(found.tau_spatial, found.tau_temporal, "paper")
    assert 0 < plan.retention <= keep
    theirs = llm.first_token_logits(llm.prefill(encoded, plan), question)
    packed = pack_slots([[Slot("ocr", question, "A")]], trained[0].tokenizer, 64, 1)
    with torch.no_grad():
        patches = trained[0].model.see(floats(frames))
        settings = RunSettings.of(retention=keep, prefer="temporal")
        reduction = Reduction(by_method(settings), MEASURED_LAYER, survived=True)
        ours = trained[0].model.answer(patches, packed, reduction).logits[0]
    given = len(slot_ids(Slot("ocr", question, "A"), trained[0].tokenizer)[0])
    torch.testing.assert_close(ours[given - 1], theirs, atol=1e-3, rtol=0)


def test_gradients_flow_through_merging(trained, frames):
    packed = pack_slots([SLOTS], trained[0].tokenizer, 64, 2)
    outputs = trained[0].model(floats(frames), packed, Reduction(merged(0.3), layer=0))
    outputs.logits.sum().backward()
    projector = trained[0].model.model.model.multi_modal_projector.linear_1.weight
    assert projector.grad.abs().sum() > 0 and outputs.late is outputs.at_merge is None
    trained[0].model.zero_grad(set_to_none=True)


def test_reduced_steps_merge_only_where_merging_is_on():
    needles = torch.zeros(1, 4, 8, 8, dtype=torch.bool)
    for merging, expected in ((True, {"merged", "random_tokens", None}), (False, {"random_tokens", None})):
        trainer = Trainer(tiny_settings(merging=merging), log=lambda line: None)
        made, places = set(), set()
        for trainer.step in range(60):
            reduction = trainer.reduction(4, needles)
            made.add(reduction and reduction.reduce.__qualname__.split(".")[0])
            places |= {(reduction.layer, reduction.survived)} if reduction else set()
        assert made == expected and places == {(0, True), (MERGE_LAYER, False)}
        assert trainer.reduction(1, needles) is None
