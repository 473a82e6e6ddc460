"""The three position rules on sequences small enough to write down."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sttm_core import Quadtree, similarity_tables
from sttm_core.positions import POSITION_RULES, Positions, check_rule, shortened_positions
from tests.core import naive
from tests.core.by_hand import averaged
from tests.core.videos import safe_threshold, smooth_video

HEAD, GAP, TAIL = 3, 2, 4  # text before the video, between its frames, after it


def rotary(numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    angles = numbers[..., None].float() * torch.tensor([1.0, 0.3, 0.05, 0.01])
    return angles.cos()[None], angles.sin()[None]  # [1, n, 4]


def sequence(frames: int, height: int, width: int) -> tuple[np.ndarray, int]:
    """``[T, H, W]`` places with text between the frames, and the length of the whole."""
    starts = HEAD + np.arange(frames) * (height * width + GAP)
    places = starts[:, None, None] + np.arange(height * width).reshape(height, width)
    return places, int(places[-1, -1, -1]) + 1 + TAIL


def decided(frames: int, height: int, width: int):
    video = smooth_video(5, frames, height, width)
    tables = similarity_tables(torch.from_numpy(video), Quadtree(height, width, 1))
    taus = [safe_threshold(v.numpy(), 0.9) for v in (tables.split_minima("paper"), tables.pair_cosines)]
    return tables.plan(*taus), naive.merge(video, *taus)


def kept_of(places: np.ndarray, length: int, boxes) -> tuple[list[int], list[int]]:
    first = [int(places[t, y, x]) for t, y, x, _, _ in boxes]
    kept = sorted(set(range(length)) - set(places.ravel().tolist()) | set(first))
    return kept, [kept.index(place) for place in first]


@pytest.mark.parametrize("grid", [(4, 4, 4), (3, 5, 7), (2, 8, 6)])
@pytest.mark.parametrize("rule", POSITION_RULES)
def test_rules_against_the_definition(grid, rule):
    plan, expected = decided(*grid)
    assert plan.num_tokens < plan.num_patches
    places, length = sequence(*grid)
    numbers = torch.arange(length) + 10  # not 0..n-1, so that no rule is right by chance
    full = Positions(rotary(numbers), int(numbers[-1]) + 1)
    kept, at = kept_of(places, length, expected.boxes.tolist())
    found = shortened_positions(
        rule, full, torch.tensor(kept), torch.tensor(at), torch.from_numpy(places), plan, rotary
    )
    if rule == "reassigned":
        wanted, after = rotary(torch.arange(len(kept))), len(kept)
    else:
        wanted, after = rotary(numbers[kept]), length + 10
    if rule == "merged":
        for part, whole in zip(wanted, full.embeddings, strict=True):
            part[0, at] = torch.from_numpy(averaged(whole[0], places, expected)).float()
    assert found.next == after
    for a, b in zip(found.embeddings, wanted, strict=True):
        assert a.shape == b.shape and (a - b).abs().max() < 1e-6


@pytest.mark.parametrize("rule", ["survived", "merged"])
def test_the_full_embeddings_are_left_alone(rule):
    plan, expected = decided(3, 4, 4)
    places, length = sequence(3, 4, 4)
    full = Positions(rotary(torch.arange(length)), length)
    before = [part.clone() for part in full.embeddings]
    kept, at = kept_of(places, length, expected.boxes.tolist())
    shortened_positions(rule, full, torch.tensor(kept), torch.tensor(at), torch.from_numpy(places), plan, rotary)
    assert all(torch.equal(a, b) for a, b in zip(before, full.embeddings, strict=True))


@pytest.mark.parametrize("rule", ["", "Merged", "rope", None])
def test_unknown_rules_are_refused(rule):
    with pytest.raises(ValueError, match="reassigned, survived, merged"):
        check_rule(rule)
