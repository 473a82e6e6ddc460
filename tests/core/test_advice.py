"""Where thresholds start: the model's own advice, the paper's without any, a sentence when the advice is broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sttm_core.advice import ADVICE_FILE, SHIPPED_MODEL, Advice, advice_for


def advise(folder: Path, text: str) -> Path:
    (folder / ADVICE_FILE).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("missing", ["llava-hf/llava-onevision-qwen2-7b-ov-hf", "no/such/folder", ""])
def test_without_advice_they_are_the_papers(missing: str) -> None:
    assert advice_for(missing) == Advice(0.85, 0.65, "")


def test_a_folder_without_advice_has_the_papers_too(tmp_path: Path) -> None:
    assert advice_for(tmp_path) == Advice(0.85, 0.65, "")


@pytest.mark.parametrize(
    ("advice", "expected"),
    [
        ({"tau_spatial": 0.9, "tau_temporal": 0.7, "about": "clips"}, Advice(0.9, 0.7, "clips")),
        ({"tau_spatial": 1, "tau_temporal": 0}, Advice(1.0, 0.0, "")),
        ({"tau_spatial": 0.5, "tau_temporal": 0.25, "else": []}, Advice(0.5, 0.25, "")),
        ({"tau_spatial": 0.9, "tau_temporal": 0.8, "prefer": "spatial"}, Advice(0.9, 0.8, "", "spatial")),
    ],
)
def test_advice_is_followed(tmp_path: Path, advice: dict, expected: Advice) -> None:
    assert advice_for(advise(tmp_path, json.dumps(advice))) == expected
    assert advice_for(str(tmp_path)) == expected


BROKEN = (
    "", "{", "[]", "3", "{}", "null", '{"tau_spatial": 0.9}', '{"tau_spatial": "high", "tau_temporal": 0.7}',
    '{"tau_spatial": 0.9, "tau_temporal": 0.7, "prefer": "time"}', '{"tau_spatial": 1, "tau_temporal": 1, "prefer": 3}',
)  # fmt: skip


@pytest.mark.parametrize("text", BROKEN)
def test_broken_advice_is_one_sentence_that_names_the_model(tmp_path: Path, text: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^{ADVICE_FILE} of the model {tmp_path.name} is broken; delete or mend it\.$"
    ):
        advice_for(advise(tmp_path, text))


def test_the_shipped_model_says_what_it_is_for() -> None:
    advice = advice_for(SHIPPED_MODEL)
    assert 0 < advice.tau_spatial <= 1 and 0 < advice.tau_temporal <= 1
    assert advice.about.endswith(".")
