"""Merged tokens against the oracle, in every dtype; and what `apply` and `merge_tokens` refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sttm_core import Quadtree, merge_tokens, similarity_tables
from tests.core import naive
from tests.core.methods.sttm.cases import CASES, expected_of, thresholds_of, video_of
from tests.core.videos import smooth_video

# Largest error of one rounding to the dtype, relative to the largest feature.
TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-5, torch.float16: 2**-10, torch.bfloat16: 2**-7}
DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
TAU = st.integers(-8, 44).map(lambda steps: steps / 40)


def assert_features_close(found: torch.Tensor, expected: np.ndarray, tolerance: float) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.double().cpu(), expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_merged_tokens_agree_with_the_oracle(case, device):
    tokens, expected = torch.from_numpy(video_of(case)).to(device), expected_of(case)
    settings_ = {"root_level": case.root_level, "rules": case.rules, "weighting": case.weighting}
    merged = merge_tokens(tokens, *thresholds_of(case), **settings_)
    assert merged.tokens.dtype == tokens.dtype and merged.tokens.device == tokens.device
    assert merged.boxes.dtype == merged.patch_counts.dtype == torch.int64
    np.testing.assert_array_equal(merged.boxes.cpu(), expected.boxes)
    np.testing.assert_array_equal(merged.patch_counts.cpu(), expected.patch_counts)
    np.testing.assert_array_equal(merged.plan.member_of.cpu(), expected.member_of)
    assert_features_close(merged.tokens, expected.tokens, 1e-5)
    assert merged.retention == merged.plan.retention == pytest.approx(len(expected.boxes) / tokens[..., 0].numel())


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("weighting", naive.WEIGHTINGS)
@pytest.mark.parametrize("case", [case for case in CASES if case[:4] == (4, 9, 16, 1) and case.quantile == 0.3][:1])
def test_every_float_dtype_comes_back_as_it_went_in(case, weighting, dtype):
    case = case._replace(weighting=weighting)
    tokens = torch.from_numpy(video_of(case)).to(dtype)
    plan = similarity_tables(tokens, weighting=weighting).plan(0.9, 0.8)
    merged = plan.apply(tokens)
    assert merged.tokens.dtype == dtype and 0.05 < merged.retention < 0.8
    members, kept = np.asarray(plan.node_tokens), oracle_features(tokens, plan, weighting)
    areas = np.asarray(Quadtree(9, 16).boxes)[np.asarray(plan.node_ids)]
    areas = (areas[:, 2] - areas[:, 0]) * (areas[:, 3] - areas[:, 1])
    weights = areas if weighting == "patches" else np.ones(len(areas))
    expected = [np.average(kept[members == i], axis=0, weights=weights[members == i]) for i in range(plan.num_tokens)]
    assert_features_close(merged.tokens, np.array(expected), TOLERANCE[dtype])


def oracle_features(tokens: torch.Tensor, plan, weighting: str) -> np.ndarray:
    """The features of the plan's kept nodes, `[M, C]`, by the oracle's tree."""
    grids = naive.quadtree(*tokens.shape[1:3], 1)
    frames = [naive.node_features(frame, grids, weighting) for frame in tokens.double().numpy()]
    places = zip(plan.node_frames.tolist(), plan.node_ids.tolist(), strict=True)
    return np.array([frames[frame][node] for frame, node in places])


@settings(deadline=None, derandomize=True, max_examples=30)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    st.integers(0, 3),
    st.integers(0, 99),
    st.sampled_from(list(TOLERANCE)),
    st.sampled_from(naive.RULES),
    st.sampled_from(naive.WEIGHTINGS),
)
def test_thresholds_above_one_return_the_tokens_bit_for_bit(shape, root_level, seed, dtype, rules, weighting):
    tokens = torch.from_numpy(smooth_video(seed, *shape, channels=5)).to(dtype)
    if dtype == torch.float64:
        tokens = tokens + 1e-12
    merged = merge_tokens(tokens, 1.01, 1.01, root_level=root_level, rules=rules, weighting=weighting)
    assert merged.tokens.dtype == dtype
    assert torch.equal(merged.tokens, tokens.reshape(-1, 5))
    assert merged.retention == 1 and merged.patch_counts.tolist() == [1] * len(merged.tokens)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.integers(0, 99), TAU, TAU, st.sampled_from(naive.RULES))
def test_means_by_patches_keep_the_sum_of_all_features(seed, tau_spatial, tau_temporal, rules):
    tokens = torch.from_numpy(smooth_video(seed, 4, 9, 11)).double()
    merged = merge_tokens(tokens, tau_spatial, tau_temporal, rules=rules, weighting="patches")
    total = (merged.tokens * merged.patch_counts[:, None]).sum(dim=0)
    np.testing.assert_allclose(total, tokens.sum(dim=(0, 1, 2)), rtol=0, atol=1e-5 * float(tokens.abs().sum()))


def test_a_plan_can_be_applied_to_other_features_of_the_same_grid():
    tokens = torch.from_numpy(smooth_video(0, 4, 14, 14))
    plan = similarity_tables(tokens).plan(0.9, 0.95)
    y, x = torch.meshgrid(torch.arange(14.0), torch.arange(14.0), indexing="ij")
    marks = torch.stack([y, x, torch.ones_like(y)], dim=-1).expand(4, 14, 14, 3)
    merged = plan.apply(marks)
    assert plan.num_tokens < 4 * 14 * 14
    assert merged.tokens[:, 2].tolist() == pytest.approx([1.0] * plan.num_tokens, abs=1e-6)
    centre = (plan.boxes[:, 1:3] + plan.boxes[:, 3:5] - 1) / 2  # of the representative's box
    alone = np.bincount(plan.node_tokens) == 1
    assert 20 < alone.sum() < plan.num_tokens
    np.testing.assert_allclose(merged.tokens[alone, :2], centre[alone], rtol=0, atol=1e-5)
    assert torch.equal(merged.boxes, plan.boxes) and merged.plan is plan


def test_inputs_are_left_alone_and_results_repeat():
    tokens = torch.from_numpy(smooth_video(1, 4, 14, 14))
    before = tokens.clone()
    first, second = (merge_tokens(tokens, 0.9, 0.8) for _ in range(2))
    assert torch.equal(tokens, before)
    assert torch.equal(first.tokens, second.tokens) and torch.equal(first.boxes, second.boxes)


def test_scaling_the_features_scales_the_tokens_and_decides_the_same():
    tokens = torch.from_numpy(smooth_video(2, 4, 14, 14))
    small, large = merge_tokens(tokens, 0.9, 0.8), merge_tokens(tokens * 64, 0.9, 0.8)
    assert torch.equal(small.boxes, large.boxes) and torch.equal(small.tokens * 64, large.tokens)


@pytest.mark.parametrize("shape", [(3, 14, 14, 6), (4, 14, 13, 6), (4, 13, 14, 6), (4, 14, 14), (1, 4, 14, 14, 6)])
def test_tokens_of_another_shape_than_planned_are_refused(shape):
    plan = similarity_tables(torch.from_numpy(smooth_video(3, 4, 14, 14))).plan(0.9, 0.8)
    with pytest.raises(ValueError, match="14") as caught:
        plan.apply(torch.ones(shape))
    assert "\n" not in str(caught.value)


GOOD = {"tokens": torch.ones(2, 4, 4, 3), "tau_spatial": 0.9, "tau_temporal": 0.8}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tokens": torch.full((2, 4, 4, 3), float("nan"))}, "NaN"),
        ({"tokens": torch.full((2, 4, 4, 3), float("inf"))}, "[Ii]nf"),
        ({"tokens": torch.ones(4, 4, 3)}, "T, H, W, C"),
        ({"tokens": torch.ones(2, 4, 4, 3, dtype=torch.int32)}, "int32|float"),
        ({"tokens": torch.ones(2, 4, 0, 3)}, "empty|0"),
        ({"tau_spatial": float("nan")}, "tau_spatial"),
        ({"tau_temporal": float("nan")}, "tau_temporal"),
        ({"root_level": -1}, "root_level"),
        ({"rules": "exact"}, "rules.*exact|exact.*rules"),
        ({"weighting": "area"}, "weighting.*area|area.*weighting"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(changed, said):
    with pytest.raises(ValueError, match=said) as caught:
        merge_tokens(**{**GOOD, **changed})
    assert "\n" not in str(caught.value) and str(caught.value).strip().endswith(".")
