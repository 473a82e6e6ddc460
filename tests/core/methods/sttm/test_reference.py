"""What the authors' released code returned, reproduced with `rules="as_released"`.

The arrays under tests/data hold an input, its thresholds, and the tokens after the spatial stage and after both.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from sttm_core import merge_tokens
from tests.core import naive

DATA = Path(__file__).parents[3] / "data"
NAMES = ["sttm_12x20", "sttm_14x14_asreleased", "sttm_16x16", "sttm_8x8_root0"]


@cache
def reference(name: str) -> dict[str, np.ndarray]:
    with np.load(DATA / f"{name}.npz") as arrays:
        return dict(arrays)


def run(name: str, rules: str, tau_temporal: float | None = None):
    arrays = reference(name)
    return merge_tokens(
        torch.from_numpy(arrays["features"]),
        tau_spatial=float(arrays["tau_spatial"]),
        tau_temporal=float(arrays["tau_temporal"]) if tau_temporal is None else tau_temporal,
        root_level=int(arrays["root_level"]),
        rules=rules,
    )


@pytest.mark.parametrize("name", NAMES)
def test_both_stages_as_released(name):
    expected, merged = reference(name), run(name, "as_released")
    np.testing.assert_array_equal(merged.boxes.numpy(), expected["merged_tyxyx"])
    np.testing.assert_array_equal(merged.patch_counts.numpy(), expected["merged_patch_count"])
    np.testing.assert_allclose(merged.tokens.numpy(), expected["merged_features"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_spatial_stage_as_released(name):
    expected, merged = reference(name), run(name, "as_released", tau_temporal=0)
    np.testing.assert_array_equal(merged.boxes.numpy(), expected["spatial_tyxyx"])
    np.testing.assert_allclose(merged.tokens.numpy(), expected["spatial_features"], rtol=0, atol=2e-6)


@pytest.mark.parametrize(("rules", "kept"), [("as_released", 1653), ("paper", 1318)])
def test_the_border_comparison_splits_nodes_on_the_grid_of_the_paper(rules, kept):
    assert len(run("sttm_14x14_asreleased", rules, tau_temporal=0).tokens) == kept


@pytest.mark.parametrize("name", ["sttm_16x16", "sttm_8x8_root0"])
def test_grids_that_halve_evenly_have_no_border_difference(name):
    paper, released = (run(name, rules, tau_temporal=0) for rules in ("paper", "as_released"))
    assert torch.equal(paper.boxes, released.boxes)


def test_true_components_merge_more_than_the_released_loop():
    paper, released = (run("sttm_16x16", rules) for rules in ("paper", "as_released"))
    assert torch.equal(paper.plan.links, released.plan.links)
    assert len(paper.tokens) < len(released.tokens)


@pytest.mark.parametrize("rules", naive.RULES)
def test_the_oracle_itself_agrees_on_a_reference_grid(rules):
    arrays = reference("sttm_8x8_root0")
    taus = float(arrays["tau_spatial"]), float(arrays["tau_temporal"])
    expected, merged = naive.merge(arrays["features"], *taus, root_level=0, rules=rules), run("sttm_8x8_root0", rules)
    np.testing.assert_array_equal(merged.boxes.numpy(), expected.boxes)
    if rules == "as_released":
        np.testing.assert_array_equal(expected.boxes, arrays["merged_tyxyx"])
        np.testing.assert_array_equal(expected.patch_counts, arrays["merged_patch_count"])
        np.testing.assert_allclose(expected.tokens, arrays["merged_features"], rtol=0, atol=2e-6)
