"""Geometry of the quadtree, against hand-written sizes and the oracle's tree of nodes."""

from __future__ import annotations

import numpy as np
import pytest

from sttm_core.methods.sttm.quadtree import Quadtree
from tests.core import naive

GRIDS = [
    (1, 1), (1, 5), (5, 1), (2, 2), (2, 7), (3, 3), (3, 8), (4, 4), (5, 6), (7, 7), (9, 16),
    (12, 20), (14, 14), (27, 13),
]  # fmt: skip

SIZES = [
    ((14, 14, 0), [(14, 14), (7, 7), (4, 4), (2, 2)]),
    ((14, 14, 1), [(14, 14), (7, 7), (4, 4)]),
    ((14, 14, 2), [(14, 14), (7, 7)]),
    ((14, 14, 3), [(14, 14)]),
    ((14, 14, 99), [(14, 14)]),
    ((27, 13, 0), [(27, 13), (14, 7), (7, 4), (4, 2)]),
    ((27, 13, 1), [(27, 13), (14, 7), (7, 4)]),
    ((12, 20, 1), [(12, 20), (6, 10), (3, 5)]),
    ((9, 16, 0), [(9, 16), (5, 8), (3, 4), (2, 2)]),
    ((3, 3, 0), [(3, 3), (2, 2)]),
    ((3, 3, 1), [(3, 3)]),
    ((3, 50, 0), [(3, 50), (2, 25)]),
    ((2, 7, 0), [(2, 7)]),
    ((1, 5, 0), [(1, 5)]),
    ((5, 1, 1), [(5, 1)]),
    ((1, 1, 0), [(1, 1)]),
]


@pytest.mark.parametrize(("arguments", "sizes"), SIZES)
def test_grids_are_halved_until_a_side_is_two(arguments, sizes):
    assert [tuple(size) for size in Quadtree(*arguments).level_sizes] == sizes


def test_the_grid_of_the_paper_has_the_known_numbers():
    tree = Quadtree(14, 14)
    assert tree.num_nodes == 261
    assert len(tree.pairs) == 1143
    assert int((np.asarray(tree.levels) > 0).sum()) == 65


def test_on_an_odd_axis_the_first_row_and_column_stay_alone():
    tree = Quadtree(3, 5, root_level=0)
    roots = np.asarray(tree.boxes)[np.asarray(tree.levels) == 1]
    expected = [(0, 0, 1, 1), (0, 1, 1, 3), (0, 3, 1, 5), (1, 0, 3, 1), (1, 1, 3, 3), (1, 3, 3, 5)]
    assert [tuple(box) for box in roots.tolist()] == expected


@pytest.mark.parametrize("root_level", range(4))
@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: "x".join(map(str, grid)))
def test_nodes_agree_with_the_oracle(grid, root_level):
    tree = Quadtree(*grid, root_level=root_level)
    nodes = naive.all_nodes(naive.quadtree(*grid, root_level))
    parents = {child.number: node.number for node in nodes for child in node.children}
    assert tree.num_nodes == len(nodes)
    assert np.asarray(tree.boxes).tolist() == [list(node.box) for node in nodes]
    assert np.asarray(tree.levels).tolist() == [node.level for node in nodes]
    assert np.asarray(tree.parents).tolist() == [parents.get(node.number, -1) for node in nodes]


@pytest.mark.parametrize("root_level", [0, 1])
@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: "x".join(map(str, grid)))
def test_candidate_pairs_are_the_nested_boxes_each_once(grid, root_level):
    pairs = [tuple(pair) for pair in np.asarray(Quadtree(*grid, root_level=root_level).pairs).tolist()]
    assert sorted(pairs) == sorted(naive.nested_pairs(*grid, root_level))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((0, 4, 1), "height must be a whole number of at least 1, got 0."),
        ((4, -1, 1), "width must be a whole number of at least 1, got -1."),
        ((4, 4, -1), "root_level must be a whole number of at least 0, got -1."),
        ((4.0, 4, 1), "height .* got 4.0."),
        ((4, True, 1), "width .* got True."),
        ((4, "4", 1), "width .* got '4'."),
    ],
)
def test_impossible_grids_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        Quadtree(*arguments)
