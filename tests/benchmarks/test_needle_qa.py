"""The needle set: decided by its seed, balanced over tasks, counted right; end to end with a tiny model."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.needle_qa import items
from benchmarks.needle_qa.items import TASK_OF, TASKS, NeedleClip, Question, needle_clip, needle_clips
from benchmarks.needle_qa.run import name_of, run, table
from sttm_core.engine import VideoLLM
from sttm_core.settings import RunSettings
from tests.core.test_scoring import VERDICTS


@pytest.fixture(scope="module")
def llm(tiny_model):
    return VideoLLM.load(tiny_model)


def test_a_clip_is_decided_by_its_seed():
    first, again, other = needle_clip(3, 4), needle_clip(3, 4), needle_clip(4, 4)
    assert first == again and first.seed % 2 == 1
    assert np.array_equal(first.frames(), again.frames())
    assert not np.array_equal(first.frames(), other.frames())
    assert first.frames().shape == (4, 224, 224, 3) and first.frames().dtype == np.uint8


@pytest.mark.parametrize("per_task", [1, 7])
def test_every_task_gets_its_share(per_task):
    clips = list(needle_clips(per_task, 16))
    assert Counter(question.task for clip in clips for question in clip.questions) == dict.fromkeys(TASKS, per_task)
    assert len({clip.seed for clip in clips}) == len(clips)
    assert clips == list(needle_clips(per_task, 16)) and clips != list(needle_clips(per_task, 16, seed=2))


def test_tasks_cover_the_kinds_once():
    assert len(TASK_OF) == sum(len(kinds) for kinds in TASKS.values())
    assert set(TASKS) == {"retrieval", "ordering", "counting", "ocr", "attribute", "motion"}


@pytest.mark.parametrize(("per_task", "frames", "message"), [(0, 16, "at least 1"), (2, 3, "4 frames or more")])
def test_bad_sizes_are_refused(per_task, frames, message):
    with pytest.raises(ValueError, match=message):
        next(needle_clips(per_task, frames))


def test_through_a_codec_the_picture_stays_nearly_the_same(tmp_path):
    item = needle_clip(5, 4)
    plain, coded = item.clip().frames, item.clip(tmp_path).frames
    assert plain.shape == coded.shape and not np.array_equal(plain, coded)
    assert np.abs(plain.astype(int) - coded).mean() < 8


def test_counts_against_an_oracle(llm):
    """The true answers are replaced by what the model says from the full video, so every count is known."""
    item = needle_clip(7, 4)
    encoded = llm.encode(item.clip())
    prefix = llm.prefill(encoded)
    text = "Where is the star?"
    said = llm.answer(prefix, text).text
    asked = tuple(Question(task, text, said) for task in (*TASKS, "no code"))
    asked += (Question("ocr", text, said + " not"),)
    settings = [RunSettings.of(tau_spatial=1.5, tau_temporal=1.5), RunSettings.of(tau_spatial=-1.0, tau_temporal=0.0)]
    rows, wrong = run(llm, settings, [NeedleClip(item.seed, item.scene, asked)])
    full, nothing_merged, spatial = rows.values()
    assert full["overall"]["correct"] == len(TASKS) and full["overall"]["total"] == len(TASKS) + 1
    assert full["tasks"]["ocr"]["accuracy"] == 0.5 and full["retention"] == 1 and full["changed_answers"] == 0
    assert full["tasks"]["no code"]["correct"] == full["tasks"]["no code"]["total"] == 1
    assert nothing_merged["retention"] == 1 and nothing_merged["changed_answers"] == 0
    assert spatial["retention"] == 16 / 64  # 8 x 8 tokens with root level 1: 4 x 4 nodes a frame
    missed = {"clip": item.name, "setting": "full", "answered": said} | vars(asked[-1])
    assert wrong[0] == missed and [row["setting"] for row in wrong].count("full") == 1
    lines = table(rows).splitlines()
    assert len(lines) == 5 and "| 50.0 (" in lines[2] and "| 25.0% |" in lines[4]


def test_every_method_is_asked_at_its_budget(llm):
    """What is said is what the engine says from the method's own plan."""
    item = needle_clip(7, 4)
    settings = [RunSettings.of(name, retention=0.3, budget="kv_bytes") for name in ("tome", "pooling", "random")]
    rows, wrong = run(llm, settings, [item])
    encoded = llm.encode(item.clip())
    for setting in settings:
        prefix = llm.prefill(encoded, encoded.plan(setting))
        row = rows[name_of(setting)]
        assert (row["retention"], row["kv_share"]) == (prefix.shares["kept"], prefix.shares["kv_bytes"])
        assert row["kv_share"] <= 0.3 and row["settings"]["method"] == setting.name
        said = [llm.answer(prefix, question.text).text for question in item.questions]
        missed = [line["answered"] for line in wrong if line["setting"] == name_of(setting)]
        assert missed == [text for text, q in zip(said, item.questions, strict=True) if text != q.answer]


def test_answers_are_judged_as_everywhere():
    """A model that answers with the question's text."""
    asked = [Question("ocr", said, truth) for said, truth, _ in VERDICTS]
    item = SimpleNamespace(name="all", questions=asked, clip=lambda folder: None)
    shares = dict.fromkeys(("kept", "layer_average", "kv_bytes"), 1.0)
    llm = SimpleNamespace(
        default_merge_layer=0,
        encode=lambda clip, merge_layer: None,
        timed_prefill=lambda *given, **more: SimpleNamespace(shares=shares),
        answer=lambda prefix, text: SimpleNamespace(text=text),
    )
    rows, wrong = run(llm, [], [item])
    assert [(row["answered"], row["answer"], False) for row in wrong] == [v for v in VERDICTS if not v[2]]
    assert rows["full"]["tasks"]["ocr"]["correct"] == sum(right for *_, right in VERDICTS)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (RunSettings.of(tau_spatial=0.95, tau_temporal=0.9), "tau 0.95/0.9"),
        (RunSettings.of(retention=0.3, rules="as_released"), "budget 30% balanced as_released"),
        (RunSettings.of(retention=0.3, prefer="temporal"), "budget 30% temporal"),
        (RunSettings.of("pooling", retention=0.15), "pooling budget 15%"),
        (RunSettings.of("tome", retention=0.3, budget="kv_bytes", rules="as_released"),
         "tome as_released budget 30% kv_bytes"),
    ],
)
def test_names(settings, name):
    assert name_of(settings) == name


def test_the_set_is_drawn_at_the_size_of_the_shipped_model():
    model = Path(__file__).resolve().parents[2] / "assets" / "demo_model"
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    assert config["vision_config"]["image_size"] == items.SIDE
