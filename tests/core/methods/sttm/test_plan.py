"""Decisions made from the tables: kept nodes, links, chains, against the oracle and what must always hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sttm_core import Quadtree, similarity_tables
from tests.core import naive
from tests.core.methods.sttm.cases import CASES, Case, expected_of, thresholds_of, video_of
from tests.core.videos import smooth_video


def tables_of(case: Case):
    tree = Quadtree(case.height, case.width, root_level=case.root_level)
    return similarity_tables(torch.from_numpy(video_of(case)), tree, weighting=case.weighting)


def plan_of(case: Case):
    return tables_of(case).plan(*thresholds_of(case), rules=case.rules)


def rows(values) -> list:
    return np.asarray(values).tolist()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_plans_agree_with_the_oracle(case):
    plan, expected = plan_of(case), expected_of(case)
    assert rows(plan.node_frames) == [frame for frame, _ in expected.kept]
    assert rows(plan.node_ids) == [node.number for _, node in expected.kept]
    assert rows(plan.node_tokens) == expected.token_of_kept
    assert plan.num_tokens == len(expected.boxes) and plan.num_frames == case.frames
    assert rows(plan.boxes) == expected.boxes.tolist()
    assert rows(plan.patch_counts) == expected.patch_counts.tolist()
    assert rows(plan.member_of) == expected.member_of.tolist()
    assert plan.retention == pytest.approx(len(expected.boxes) / (case.frames * case.height * case.width))
    assert rows(plan.tokens_per_frame) == np.bincount(expected.boxes[:, 0], minlength=case.frames).tolist()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_links_agree_with_the_oracle(case):
    plan, expected = plan_of(case), expected_of(case).links
    found = {tuple(link): cosine for link, cosine in zip(rows(plan.links), rows(plan.link_cosines), strict=True)}
    assert len(found) == len(plan.links)
    assert found.keys() == expected.keys()
    for link, cosine in found.items():
        assert cosine == pytest.approx(expected[link], abs=3e-6)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_chains_agree_with_the_oracle(case):
    plan, expected = plan_of(case), expected_of(case)
    nodes = [[] for _ in expected.boxes]
    for (frame, node), token in zip(expected.kept, expected.token_of_kept, strict=True):
        nodes[token].append([frame, *node.box])
    spans = [members[-1][0] - members[0][0] + 1 for members in nodes]
    assert rows(plan.member_counts) == [len(members) for members in nodes]
    assert rows(plan.frame_spans) == spans and plan.longest_chain == max(spans)
    assert plan.num_chains == sum(len(members) > 1 for members in nodes)
    for token in {0, len(nodes) // 2, int(np.argmax(spans))}:
        assert rows(plan.members(token)) == nodes[token]


def test_the_table_as_a_whole_has_something_to_decide():
    """Were nothing merged, or everything, the comparisons above could not fail."""
    by_case = {case: expected_of(case) for case in CASES}
    kept = [(case, node) for case, expected in by_case.items() for _, node in expected.kept]
    roots = {case: len(naive.quadtree(case.height, case.width, case.root_level)) - 1 for case in CASES}
    assert {node.level for _, node in kept} >= {0, 1, 2, 3}
    assert sum(0 < node.level < roots[case] for case, node in kept) > 100
    links = [(e.kept[a][1], e.kept[b][1]) for e in by_case.values() for a, b in e.links]
    assert sum(a.area < b.area for a, b in links) > 100 and sum(a.area > b.area for a, b in links) > 100
    chains = [np.bincount(expected.token_of_kept) for expected in by_case.values()]
    assert sum((sizes > 3).sum() for sizes in chains) > 100
    assert sum((sizes == 2).sum() for sizes in chains) > 100
    plans = [plan_of(case) for case in CASES]
    assert any(plan.longest_chain != plan.member_counts.max() for plan in plans)
    differing = [
        len(expected.boxes) != len(by_case[case._replace(rules="as_released")].boxes)
        for case, expected in by_case.items()
        if case.rules == "paper"
    ]
    assert any(differing) and not all(differing)


# What must hold for every input and every pair of thresholds.

ANY_GRID = st.tuples(st.integers(1, 5), st.integers(1, 15), st.integers(1, 15), st.integers(0, 3))
TAU = st.integers(-8, 44).map(lambda steps: steps / 40)
POSITIVE_TAU = st.integers(1, 88).map(lambda steps: steps / 80)
NO_TAU = st.integers(-80, 0).map(lambda steps: steps / 40)
COMMON = {"deadline": None, "derandomize": True, "max_examples": 40}


def some_tables(grid: tuple[int, int, int, int], seed: int):
    frames, height, width, root_level = grid
    tokens = torch.from_numpy(smooth_video(seed, frames, height, width, channels=6))
    return similarity_tables(tokens, Quadtree(height, width, root_level=root_level))


@settings(**COMMON)
@given(ANY_GRID, st.integers(0, 99), TAU, TAU, st.sampled_from(naive.RULES))
def test_every_patch_is_in_exactly_one_token(grid, seed, tau_spatial, tau_temporal, rules):
    frames, height, width, _ = grid
    plan = some_tables(grid, seed).plan(tau_spatial, tau_temporal, rules=rules)
    members = np.asarray(plan.member_of)
    assert members.shape == (frames, height, width)
    assert members.min() == 0 and members.max() == plan.num_tokens - 1
    assert np.bincount(members.ravel()).tolist() == rows(plan.patch_counts)
    assert int(plan.patch_counts.sum()) == frames * height * width
    for token, (t, y0, x0, y1, x1) in enumerate(rows(plan.boxes)):
        assert (members[t, y0:y1, x0:x1] == token).all()
    firsts = [(t, y * width + x) for t, y, x, _, _ in rows(plan.boxes)]
    assert firsts == sorted(set(firsts))


@settings(**COMMON)
@given(ANY_GRID, st.integers(0, 99), st.tuples(TAU, TAU), TAU, st.sampled_from(naive.RULES))
def test_raising_tau_spatial_never_keeps_fewer_nodes(grid, seed, taus, tau_temporal, rules):
    tables = some_tables(grid, seed)
    low, high = (len(tables.plan(tau, tau_temporal, rules=rules).node_ids) for tau in sorted(taus))
    assert low <= high


@settings(**COMMON)
@given(ANY_GRID, st.integers(0, 99), TAU, st.tuples(POSITIVE_TAU, POSITIVE_TAU))
def test_raising_tau_temporal_never_leaves_fewer_tokens(grid, seed, tau_spatial, taus):
    tables = some_tables(grid, seed)
    low, high = (tables.plan(tau_spatial, tau).num_tokens for tau in sorted(taus))
    assert low <= high


@settings(**COMMON)
@given(ANY_GRID, st.integers(0, 99), TAU, st.tuples(TAU, TAU), st.sampled_from(naive.RULES))
def test_the_spatial_partition_does_not_depend_on_tau_temporal(grid, seed, tau_spatial, taus, rules):
    tables = some_tables(grid, seed)
    one, other = (tables.plan(tau_spatial, tau, rules=rules) for tau in taus)
    assert torch.equal(one.node_frames, other.node_frames) and torch.equal(one.node_ids, other.node_ids)


@settings(**COMMON)
@given(ANY_GRID, st.integers(0, 99), TAU, NO_TAU, st.sampled_from(naive.RULES))
def test_tau_temporal_of_zero_or_less_switches_linking_off(grid, seed, tau_spatial, tau_temporal, rules):
    plan = some_tables(grid, seed).plan(tau_spatial, tau_temporal, rules=rules)
    assert len(plan.links) == len(plan.link_cosines) == 0
    assert plan.num_tokens == len(plan.node_ids)


@pytest.mark.parametrize("tau", [float(np.nextafter(np.float32(1), np.float32(2))), 1.5])
@pytest.mark.parametrize("rules", naive.RULES)
@pytest.mark.parametrize("grid", [(3, 14, 14, 1), (3, 9, 5, 0), (2, 1, 1, 1)])
def test_thresholds_above_one_merge_nothing_even_of_equal_tokens(grid, rules, tau):
    frames, height, width, root_level = grid
    still = torch.randn(1, 1, 1, 31, generator=torch.Generator().manual_seed(0))
    tokens = still.expand(frames, height, width, 31) * torch.linspace(0.7, 1.3, width)[:, None]  # cosines of 1, rounded
    plan = similarity_tables(tokens, Quadtree(height, width, root_level)).plan(tau, tau, rules=rules)
    assert plan.num_tokens == frames * height * width and plan.retention == 1
    assert rows(plan.member_of) == np.arange(plan.num_tokens).reshape(frames, height, width).tolist()


@pytest.mark.parametrize("rules", naive.RULES)
def test_equal_tokens_merge_into_one_token_a_root_cell(rules):
    plan = similarity_tables(torch.ones(5, 14, 14, 8)).plan(0.99, 0.99, rules=rules)
    sides = [2, 4, 4, 4]  # the first row and column of the grid of 7 are paired with none
    assert rows(plan.patch_counts) == [5 * height * width for height in sides for width in sides]
    assert rows(plan.boxes[:, 0]) == [0] * 16


@pytest.mark.parametrize("rules", naive.RULES)
def test_tokens_without_length_are_like_no_other(rules):
    plan = similarity_tables(torch.zeros(3, 8, 8, 4)).plan(0.1, 0.1, rules=rules)
    assert plan.retention == 1 and plan.num_chains == 0


def test_links_stay_within_their_root_cell():
    case = next(case for case in CASES if case[:4] == (5, 14, 14, 1) and case.quantile == 0.3)
    cells = naive.quadtree(14, 14, 1)[-1]
    members = np.asarray(plan_of(case).member_of)
    boxes = [cell.box for row in cells for cell in row]
    tokens_of = [set(members[:, y0:y1, x0:x1].ravel().tolist()) for y0, x0, y1, x1 in boxes]
    assert sum(map(len, tokens_of)) == len(set.union(*tokens_of)) < members.size


def test_one_table_serves_all_thresholds():
    case = next(case for case in CASES if case[:4] == (6, 14, 14, 0) and case.weighting == "nodes")
    tables, video = tables_of(case), video_of(case)
    counts = []
    for tau_spatial, tau_temporal in [(2.0, 2.0), thresholds_of(case), (-2.0, 2.0), (2.0, 2.0)]:
        plan = tables.plan(tau_spatial, tau_temporal)
        assert rows(plan.boxes) == naive.merge(video, tau_spatial, tau_temporal, 0).boxes.tolist()
        counts.append(plan.num_tokens)
    assert counts[0] == counts[3] == video[..., 0].size and counts[2] == 6 * 4


@pytest.mark.parametrize(
    ("arguments", "rules", "said"),
    [
        ((float("nan"), 0.5), "paper", "tau_spatial.*nan|NaN"),
        ((0.5, float("nan")), "paper", "tau_temporal.*nan|NaN"),
        ((0.5, 0.5), "released", "rules.*released|released.*rules"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(arguments, rules, said):
    tables = similarity_tables(torch.ones(2, 4, 4, 3))
    with pytest.raises(ValueError, match=said) as caught:
        tables.plan(*arguments, rules=rules)
    assert "\n" not in str(caught.value) and str(caught.value).strip().endswith(".")
