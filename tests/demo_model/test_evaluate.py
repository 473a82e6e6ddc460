"""Counting exact answers, their intervals, and the table of methods."""

from __future__ import annotations

import pytest
import torch

from demo_model.evaluate import (
    answered,
    evaluate,
    evaluate_rows,
    reductions,
    wilson,
)
from demo_model.reduction import by_method
from demo_model.sequence import IGNORED
from sttm_core.settings import RunSettings


def test_answered_needs_every_token():
    labels = torch.tensor([[IGNORED, 3, 2, IGNORED, 5, 2]])
    slot = torch.tensor([[0, 0, 0, 1, 1, 1]])
    logits = torch.nn.functional.one_hot(torch.tensor([[0, 3, 2, 0, 4, 2]]), 6).float()
    assert answered(logits, labels, slot, 3).tolist() == [[True, False, True]]


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"), [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0)]
)
def test_wilson_against_published_values(correct, total, low, high):
    assert wilson(correct, total) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("correct", "total"), [(1, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_what_is_no_share(correct, total):
    with pytest.raises(ValueError, match="not a share"):
        wilson(correct, total)


def test_evaluation_counts_questions_and_kept_tokens(trained):
    model, tokenizer = trained[0].model, trained[0].tokenizer
    half = by_method(RunSettings.of("frames", retention=0.5))
    rows = evaluate_rows(model, tokenizer, 2, 1, {"full": None, "half": half})
    assert rows["full"] == evaluate(model, tokenizer, 2, 1)
    result = rows["half"]
    assert result["kept"] == 0.5 and rows["full"]["kept"] == 1
    assert {row["total"] for row in result["tasks"].values()} == {1} and len(result["tasks"]) == result["overall"][
        "total"
    ]


def test_table_of_methods_names_every_row():
    names = list(reductions((0.3,)))
    assert names == [
        f"{name} 30%" for name in ("sttm paper", "sttm as_released", "random", "uniform frames", "spatial pooling")
    ]
