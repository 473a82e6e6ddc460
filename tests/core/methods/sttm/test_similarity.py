"""Every cosine in the tables, against cosines of the nodes' features themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sttm_core import Quadtree, similarity_tables
from tests.core import naive
from tests.core.methods.sttm.cases import GRIDS
from tests.core.videos import smooth_video

GRID_NAMES = ["x".join(map(str, grid)) for grid in GRIDS]


def nested_cosines(video: np.ndarray, tree: Quadtree, weighting: str) -> np.ndarray:
    earlier, later = np.asarray(tree.pairs).T
    return naive.pair_cosines(video, tree.root_level, weighting)[:, earlier, later]


@pytest.mark.parametrize("weighting", naive.WEIGHTINGS)
@pytest.mark.parametrize("grid", GRIDS, ids=GRID_NAMES)
def test_tables_hold_the_cosines_of_the_oracle(grid, weighting):
    frames, height, width, root_level = grid
    video = smooth_video(7, frames, height, width)
    tree = Quadtree(height, width, root_level)
    tables = similarity_tables(torch.from_numpy(video), tree, weighting=weighting)
    for values, rules in ((tables.child_min, "paper"), (tables.child_min_released, "as_released")):
        assert values.dtype == torch.float32
        np.testing.assert_allclose(values, naive.child_minima(video, root_level, rules, weighting), rtol=0, atol=3e-6)
    assert tables.pair_cosines.dtype == torch.float32
    assert tables.pair_cosines.shape == (frames - 1, len(tree.pairs))
    np.testing.assert_allclose(tables.pair_cosines, nested_cosines(video, tree, weighting), rtol=0, atol=3e-6)


def test_the_tree_defaults_to_the_grid_of_the_tokens_with_root_level_one():
    tokens = torch.from_numpy(smooth_video(0, 2, 14, 14))
    tables, named = similarity_tables(tokens), similarity_tables(tokens, Quadtree(14, 14, root_level=1))
    assert tables.child_min.shape == (2, 65)
    assert torch.equal(tables.child_min, named.child_min)
    assert torch.equal(tables.pair_cosines, named.pair_cosines)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes_are_compared_in_float32(dtype):
    tokens = torch.from_numpy(smooth_video(1, 3, 9, 10)).to(dtype)
    rounded = tokens.float()
    tables, exact = similarity_tables(tokens), similarity_tables(rounded)
    assert tables.child_min.dtype == tables.pair_cosines.dtype == torch.float32
    for name in ("child_min", "child_min_released", "pair_cosines"):
        np.testing.assert_allclose(getattr(tables, name), getattr(exact, name), rtol=0, atol=3e-6)


@pytest.mark.parametrize("scale", [1e-4, 2e4])
def test_half_precision_neither_overflows_nor_vanishes(scale):
    small = torch.from_numpy(smooth_video(2, 3, 8, 8))
    small = (small / small.abs().max()).half()
    tables, scaled = similarity_tables(small), similarity_tables((small.float() * scale).half())
    np.testing.assert_allclose(scaled.child_min, tables.child_min, rtol=0, atol=2e-2)
    np.testing.assert_allclose(scaled.pair_cosines, tables.pair_cosines, rtol=0, atol=2e-2)


def test_cosines_stay_within_one():
    tokens = torch.ones(4, 14, 14, 33) * torch.rand(33, generator=torch.Generator().manual_seed(0))
    tables = similarity_tables(tokens)
    for values in (tables.child_min, tables.child_min_released, tables.pair_cosines):
        assert (values <= 1).all() and (values > 1 - 1e-6).all()


def test_a_node_with_a_single_child_has_similarity_exactly_one():
    nodes = naive.all_nodes(naive.quadtree(9, 9, 0))
    single = [len(node.children) == 1 for node in nodes if node.children]
    tokens = torch.from_numpy(smooth_video(8, 4, 9, 9))
    tokens[3] = 0
    minima = similarity_tables(tokens, Quadtree(9, 9, root_level=0)).child_min
    assert sum(single) == 3 and (minima[:, single] == 1).all() and (minima[:3, ~np.array(single)] < 1).any()


def test_zero_features_give_finite_tables():
    tokens = torch.from_numpy(smooth_video(3, 3, 8, 8))
    tokens[1] = 0
    tokens[2, :4] = 0
    tables = similarity_tables(tokens)
    for values in (tables.child_min, tables.child_min_released, tables.pair_cosines):
        assert torch.isfinite(values).all()
    assert int(tables.plan(0.9, 0.8).patch_counts.sum()) == 3 * 64


def test_long_videos_give_the_tables_of_their_pairs_of_frames():
    """80 MB of features: more than is worked on at a time, whatever that is on this device."""
    noise = torch.Generator().manual_seed(0)
    tokens = torch.randn(40, 9, 14, 4000, generator=noise) * torch.rand(40, 9, 14, 1, generator=noise) + 0.5
    whole = similarity_tables(tokens)
    assert whole.pair_cosines.shape[0] == 39
    for t in range(39):
        pair = similarity_tables(tokens[t : t + 2])
        np.testing.assert_allclose(whole.child_min[t : t + 2], pair.child_min, rtol=0, atol=3e-6)
        np.testing.assert_allclose(whole.child_min_released[t : t + 2], pair.child_min_released, rtol=0, atol=3e-6)
        np.testing.assert_allclose(whole.pair_cosines[t : t + 1], pair.pair_cosines, rtol=0, atol=3e-6)


def test_strided_views_are_read_as_they_are():
    tokens = torch.from_numpy(smooth_video(4, 4, 12, 6))
    view = tokens.permute(0, 2, 1, 3)[::2]
    ours, copied = similarity_tables(view), similarity_tables(view.contiguous())
    np.testing.assert_allclose(ours.child_min, copied.child_min, rtol=0, atol=3e-6)
    np.testing.assert_allclose(ours.pair_cosines, copied.pair_cosines, rtol=0, atol=3e-6)


BAD_TOKENS = [
    (torch.full((2, 4, 4, 8), float("nan")), "NaN"),
    (torch.full((2, 4, 4, 8), float("inf")), "[Ii]nf"),
    (torch.full((2, 4, 4, 8), -float("inf"), dtype=torch.bfloat16), "[Ii]nf"),
    (torch.ones(4, 4, 8), r"T, H, W, C|rank|dimension"),
    (torch.ones(1, 2, 4, 4, 8), r"T, H, W, C|rank|dimension"),
    (torch.ones(2, 4, 4, 8, dtype=torch.int64), "int64|float"),
    (torch.ones(2, 4, 4, 8, dtype=torch.bool), "bool|float"),
    (torch.ones(0, 4, 4, 8), "empty|0"),
    (torch.ones(2, 0, 4, 8), "empty|0"),
    (torch.ones(2, 4, 0, 8), "empty|0"),
    (torch.ones(2, 4, 4, 0), "empty|0"),
]


def one_bad_value(value: float) -> torch.Tensor:
    tokens = torch.from_numpy(smooth_video(5, 3, 6, 6))
    tokens[2, 5, 5, -1] = value
    return tokens


@pytest.mark.parametrize(
    ("tokens", "said"), [*BAD_TOKENS, (one_bad_value(float("nan")), "NaN"), (one_bad_value(float("inf")), "[Ii]nf")]
)
def test_bad_tokens_are_refused_in_one_sentence(tokens, said):
    with pytest.raises(ValueError, match=said) as caught:
        similarity_tables(tokens)
    assert "\n" not in str(caught.value) and str(caught.value).strip().endswith(".")


def test_a_tree_of_another_grid_is_refused():
    with pytest.raises(ValueError, match="(?s)6.*5|5.*6"):
        similarity_tables(torch.ones(2, 6, 6, 8), Quadtree(5, 6))


def test_an_unknown_weighting_is_refused():
    with pytest.raises(ValueError, match="weighting.*area|area.*weighting"):
        similarity_tables(torch.ones(2, 6, 6, 8), weighting="area")


@pytest.mark.parametrize(("grid", "distinct"), [((8, 8), 2), ((9, 7), 3)])
def test_their_size_counts_each_table_once(grid, distinct):
    """Both rules share the minima where no node lies at a border that the released code treats otherwise."""
    tables = similarity_tables(torch.from_numpy(smooth_video(0, 3, *grid)))
    arrays = {id(table): table for table in (tables.child_min, tables.child_min_released, tables.pair_cosines)}
    assert len(arrays) == distinct and tables.nbytes == sum(4 * table.numel() for table in arrays.values())
