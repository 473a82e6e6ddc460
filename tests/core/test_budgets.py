"""Three budgets, by counting tokens layer by layer."""

from __future__ import annotations

import pytest

from sttm_core.budgets import BUDGETS, PrefixShape

SHAPES = [(100, 7, 2, 28), (100, 7, 0, 28), (320, 12, 1, 4), (50, 3, 3, 4)]


def counted(shape: PrefixShape, kept: float) -> dict[str, float]:
    """The shares of a run that keeps ``kept`` of its video tokens, added up in a loop."""
    seen = [shape.patches if layer < shape.merge_layer else kept * shape.patches for layer in range(shape.num_layers)]
    full = shape.patches * shape.num_layers
    text = shape.text * shape.num_layers
    cached = (sum(seen) + text) / (full + text)
    return {"kept": seen[-1] / shape.patches, "layer_average": sum(seen) / full, "kv_bytes": cached}


@pytest.mark.parametrize("kept", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("given", SHAPES)
def test_a_budget_becomes_the_share_that_meets_it(given, kept):
    shape = PrefixShape(*given)
    shares = counted(shape, kept)
    for budget in BUDGETS:
        assert shape.kept_share(shares[budget], budget) == pytest.approx(kept)
    tokens = [shape.patches if layer < shape.merge_layer else round(kept * shape.patches) for layer in range(given[3])]
    assert shape.shares(tuple(tokens)) == pytest.approx(shares)


def test_what_the_early_layers_alone_exceed_leaves_one_token():
    shape = PrefixShape(100, 7, 14, 28)
    assert shape.kept_share(0.3, "layer_average") == shape.kept_share(0.3, "kv_bytes") == 1 / 100
