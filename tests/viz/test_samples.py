"""The shipped clips, and where their needles lie in frames and patches."""

from __future__ import annotations

import pytest

from viz.samples import Needle, load_samples

TIMES = [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "needle, found",
    [
        (Needle(1.0, 2.0, (0.0, 0.0, 1.0, 1.0)), {"label": "x", "frames": [1, 2], "box": [0, 0, 4, 8]}),
        (Needle(0.5, 1.5, (0.3, 0.3, 0.6, 0.55)), {"label": "x", "frames": [1, 1], "box": [1, 2, 3, 5]}),
        (Needle(2.2, 2.9, (0.0, 0.0, 1.0, 1.0)), None),
        (Needle(0.0, 9.0, (0.99, 0.99, 0.99, 0.99)), {"label": "x", "frames": [0, 3], "box": [3, 7, 4, 8]}),
    ],
)
def test_needles_in_patches(needle, found):
    assert needle.in_patches("x", TIMES, 4, 8) == found


def test_every_shipped_sample_is_complete():
    samples = load_samples()
    assert len(samples) >= 8
    for name, sample in samples.items():
        assert sample.path.is_file() and sample.title and sample.description and sample.attribution, name
        assert sample.questions and sample.num_frames >= 4
    assert any(question.needle for sample in samples.values() for question in sample.questions)


def test_truth_is_found_by_the_question():
    sample = load_samples()["code-short"]
    question = sample.questions[0]
    assert sample.truth(f"  {question.text.upper()} ") == question.answer
    assert sample.truth("Why?") is None


def test_a_missing_list_is_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="sample clips are missing"):
        load_samples(tmp_path)
