"""Budgets: what is found is compared with real plans at every pair of thresholds the path could offer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sttm_core import Quadtree, SimilarityTables, retention_surface, similarity_tables, thresholds_for_retention
from sttm_core.advice import SHIPPED_MODEL
from sttm_core.engine import VideoLLM
from sttm_core.methods.sttm.budget import ANY_LINK, EXPONENTS, count_tokens
from sttm_core.video import VideoClip
from tests.core import naive
from tests.core.videos import smooth_video

BUDGETS = (0.05, 0.1, 0.15, 0.3, 0.5, 0.75, 0.95)


def tables_of(seed: int, frames: int = 24, height: int = 14, width: int = 14) -> SimilarityTables:
    return similarity_tables(torch.from_numpy(smooth_video(seed, frames, height, width)))


@pytest.fixture(scope="module")
def tables() -> SimilarityTables:
    return tables_of(0)


@pytest.mark.parametrize("rules", naive.RULES)
@pytest.mark.parametrize("prefer", EXPONENTS)
def test_budgets_are_met_within_half_a_point_and_never_exceeded(tables, prefer, rules):
    for budget in BUDGETS:
        found = thresholds_for_retention(tables, budget, prefer=prefer, rules=rules)
        assert found.reachable and budget - 0.005 <= found.retention <= budget
        assert found.retention == tables.plan(found.tau_spatial, found.tau_temporal, rules).retention


@pytest.mark.parametrize("rules", naive.RULES)
@pytest.mark.parametrize("prefer", EXPONENTS)
def test_smaller_budgets_never_keep_more(prefer, rules):
    rough = tables_of(3, frames=6, height=9, width=11)
    budgets = np.linspace(0.005, 1, 60)
    kept = [thresholds_for_retention(rough, budget, prefer=prefer, rules=rules).retention for budget in budgets]
    assert all(low <= high for low, high in zip(kept[:-1], kept[1:], strict=True))
    assert kept[-1] == 1


def with_ties(tables: SimilarityTables, share: float, kind: str) -> SimilarityTables:
    """Tables in which this share of one kind of similarities is exactly 1, as in a still or a flat picture."""
    values = getattr(tables, kind)
    tied = torch.where(torch.rand(values.shape, generator=torch.Generator().manual_seed(0)) < share, 1.0, values)
    return replace(tables, **{kind: tied})


@pytest.mark.parametrize("prefer", EXPONENTS)
@pytest.mark.parametrize("kind", ["child_min", "pair_cosines"])
def test_a_jump_of_the_path_is_walked_one_threshold_at_a_time(tables, kind, prefer):
    still, budgets = with_ties(tables, 0.6, kind), np.linspace(0.05, 0.95, 19)
    found = [thresholds_for_retention(still, budget, prefer=prefer) for budget in budgets]
    kept = [thresholds.retention for thresholds in found]
    assert kept == sorted(kept)
    for budget, thresholds in zip(budgets, found, strict=True):
        assert budget - 0.005 <= thresholds.retention <= budget
        assert thresholds.retention == still.plan(thresholds.tau_spatial, thresholds.tau_temporal).retention


def test_thresholds_are_similarities_of_the_video_and_repeatable(tables):
    first, again = (thresholds_for_retention(tables, 0.3) for _ in range(2))
    assert first == again
    assert np.float32(first.tau_spatial) in tables.child_min.numpy()
    assert np.float32(first.tau_temporal) in tables.pair_cosines.numpy()


def test_a_retention_that_was_reached_is_reached_again(tables):
    reached = thresholds_for_retention(tables, 0.4).retention
    assert thresholds_for_retention(tables, reached).retention == reached


def test_preferences_move_their_own_threshold_further(tables):
    by = {prefer: thresholds_for_retention(tables, 0.3, prefer=prefer) for prefer in EXPONENTS}
    assert by["spatial"].tau_spatial < by["balanced"].tau_spatial < by["temporal"].tau_spatial
    assert by["spatial"].tau_temporal > by["balanced"].tau_temporal > by["temporal"].tau_temporal


@pytest.mark.parametrize("rules", naive.RULES)
@pytest.mark.parametrize("prefer", EXPONENTS)
def test_both_stages_are_at_work_on_every_path(tables, prefer, rules):
    for budget in np.linspace(0.05, 0.95, 19):
        found = thresholds_for_retention(tables, budget, prefer=prefer, rules=rules)
        plan = tables.plan(found.tau_spatial, found.tau_temporal, rules)
        assert len(plan.node_ids) < plan.num_patches and len(plan.links)
        assert found.idle_stage == plan.idle_stage == ""
        assert found.nodes == len(plan.node_ids) / plan.num_patches


@pytest.fixture(scope="module")
def samples() -> dict[str, SimilarityTables]:
    """Those that ship for the sample clips: 16 frames, the shipped model, its merge layer."""
    llm = VideoLLM.load(str(SHIPPED_MODEL), device="cpu", dtype="float32")
    clips = SHIPPED_MODEL.parent / "clips"
    return {name: llm.encode(VideoClip.open(clips / f"{name}.mp4", 16)).tables for name in ("code-short", "bunny")}


@pytest.mark.parametrize("prefer", EXPONENTS)
def test_sample_clips_merge_in_space_and_time_at_any_budget(samples, prefer):
    for tables in samples.values():
        for budget in np.linspace(0.05, 0.95, 19):
            found = thresholds_for_retention(tables, budget, prefer=prefer)
            assert found.idle_stage == "" and budget - 0.005 <= found.retention <= budget
            assert 1 - found.nodes > 0.01 and found.nodes - found.retention > 0.0025  # not by a node or two


@pytest.mark.parametrize(
    "case, idle", [("one frame", "temporal"), ("no two patches alike", "spatial"), ("everything", "")]
)
def test_a_stage_that_has_nothing_to_merge_is_named(tables, case, idle):
    some = tables_of(0, frames=1) if case == "one frame" else tables
    if case == "no two patches alike":
        some = replace(tables, child_min=torch.full_like(tables.child_min, -1.0))
    found = thresholds_for_retention(some, 1.0 if case == "everything" else 0.5)
    plan = some.plan(found.tau_spatial, found.tau_temporal)
    assert found.idle_stage == plan.idle_stage == idle
    assert (idle == "spatial") == (len(plan.node_ids) == plan.num_patches and plan.retention < 1)


def test_the_lowest_floor_is_one_token_a_cell(tables):
    floor = len(tables.tree.cells.patches) / tables.num_patches
    found = thresholds_for_retention(tables, floor / 2)
    assert not found.reachable and found.retention == found.floor == floor
    assert "below the floor" in repr(found)


def test_the_floor_is_said_of_every_budget(tables):
    found = thresholds_for_retention(tables, 0.5)
    assert found.floor == len(tables.tree.cells.patches) / tables.num_patches < found.retention


def test_negative_cosines_raise_the_floor():
    tree = Quadtree(4, 4)
    flips = torch.ones(5, 4, 4, 3) * torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0])[:, None, None, None]
    found = thresholds_for_retention(similarity_tables(flips, tree), 0.01)
    assert not found.reachable and found.floor == found.retention == len(tree.cells.patches) / tree.num_patches


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 14, 14), (3, 2, 2), (1, 1, 1), (2, 1, 9)])
def test_videos_with_nothing_of_one_kind_to_merge(frames, height, width):
    small = tables_of(1, frames, height, width)
    found = thresholds_for_retention(small, 0.6)
    assert found.retention == small.plan(found.tau_spatial, found.tau_temporal).retention
    assert found.reachable or found.retention == found.floor


@pytest.mark.parametrize("rules", naive.RULES)
@pytest.mark.parametrize("seed", range(4))
def test_counting_agrees_with_plans(seed, rules):
    some = tables_of(seed, 5, *[(14, 14), (9, 13), (16, 6), (5, 5)][seed])
    for tau_s, tau_t in np.random.default_rng(seed).uniform(0.3, 1, size=(25, 2)):
        assert count_tokens(some, tau_s, tau_t, rules) == some.plan(tau_s, tau_t, rules).num_tokens


@pytest.mark.parametrize("rules", naive.RULES)
def test_the_surface_is_that_of_the_plans(tables, rules):
    own = np.quantile(tables.child_min.numpy(), [0.1, 0.5]).astype(np.float32)
    taus_s, taus_t = [-1, *own, 0.9, 1.01], [-0.5, 0, ANY_LINK, 0.8, float(tables.pair_cosines[3, 100]), 0.99, 1.01]
    expected = [[tables.plan(s, t, rules).retention for t in taus_t] for s in taus_s]
    np.testing.assert_array_equal(retention_surface(tables, taus_s, taus_t, rules=rules), expected)


def test_the_surface_of_one_frame_has_no_links():
    one = tables_of(2, frames=1)
    surface = retention_surface(one, [0.8, 2], [0.0, 0.5])
    assert surface[0, 0] == surface[0, 1] == one.plan(0.8, 0).retention and (surface[1] == 1).all()


@pytest.mark.parametrize("retention", [0, -0.1, 1.01, float("nan"), float("inf"), "half", None])
def test_budgets_outside_0_to_1_are_refused(tables, retention):
    with pytest.raises(ValueError, match="retention must be above 0 and at most 1"):
        thresholds_for_retention(tables, retention)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: thresholds_for_retention(t, 0.3, prefer="time"), "prefer must be one of"),
        (lambda t: thresholds_for_retention(t, 0.3, rules="mine"), "rules must be one of"),
        (lambda t: retention_surface(t, [0.5], [0.5], rules="mine"), "rules must be one of"),
        (lambda t: retention_surface(t, [float("nan")], [0.5]), "taus_spatial must be a finite number"),
        (lambda t: retention_surface(t, [0.5], ["x"]), "taus_temporal must be a finite number"),
    ],
)
def test_bad_options_are_refused(tables, call, message):
    with pytest.raises(ValueError, match=message):
        call(tables)
