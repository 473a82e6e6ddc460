"""Named endpoints without a server: what they answer, and one sentence for bad input."""

from __future__ import annotations

import json

import pytest

from sttm_core import limits
from sttm_core.settings import RunSettings
from sttm_core.video import VideoError
from tests.core.video.test_stamps import make_sound
from tests.viz.small_studio import FRAMES, GRID, QUESTION, small_studio, without_memory_for
from viz.plan_files import plan_dict
from viz.tabs.api import Endpoints
from viz.tabs.arguments import MOST_RUNS

NAN = float("nan")
TAUS = {"tau_spatial": 0.9, "tau_temporal": 0.8, "merge_layer": 2}
SAMPLE = {"sample": "blocks", "num_frames": FRAMES} | TAUS


@pytest.fixture
def studio(tmp_path):
    return small_studio(tmp_path)


@pytest.mark.parametrize(
    "changed",
    [{}, {"rules": "as_released"}, {"merge_layer": 0}, {"retention": 0.3}, {"tau_spatial": 0.5}, {"num_frames": 2}],
)
def test_a_plan_is_the_cores(studio, changed):
    given = SAMPLE | changed
    found = Endpoints(studio).plan(**given)
    settings = RunSettings.of(**{name: value for name, value in given.items() if name not in ("sample", "num_frames")})
    encoded = studio.encoded(studio.open_sample("blocks", given["num_frames"]), settings)
    assert found == plan_dict(encoded.plan(settings))
    assert encoded.merge_layer == given["merge_layer"]
    assert found["tokens"]["kept"] < found["tokens"]["all"] == given["num_frames"] * GRID * GRID
    assert found["retention"] <= given.get("retention", 1)


def test_a_file_is_taken_before_a_sample(studio):
    path = str(studio.samples["blocks"].path)
    found = Endpoints(studio).inspect(video=path, **SAMPLE | {"sample": "none", "num_frames": 2})
    assert (found["title"], len(found["times"])) == ("blocks.mp4", 2)
    assert found["ranges"]["start"] == {"tauSpatial": 0.9, "tauTemporal": 0.8}


@pytest.mark.parametrize("runs", [1, 3])
def test_answers_are_the_engines_and_timings_those_of_all_runs(studio, monkeypatch, runs):
    measured = []
    measure = studio.measure
    monkeypatch.setattr(studio, "measure", lambda *a: measured.append(a[-1]) or measure(*a))
    found = json.loads(json.dumps(Endpoints(studio).ask(question=QUESTION, runs=runs, **SAMPLE), allow_nan=False))
    assert measured == ([] if runs == 1 else [runs]) and found["runs"] == runs and "error" not in found
    llm, encoded = studio.llm, studio.encoded(studio.open_sample("blocks"), RunSettings.of())
    plan = encoded.tables.plan(0.9, 0.8)
    for column, prefix in (("baseline", llm.prefill(encoded)), ("merged", llm.prefill(encoded, plan))):
        assert found[column]["text"] == llm.answer(prefix, QUESTION).text
        assert found[column]["ttft_s"] == pytest.approx(sum(found[column]["timings_s"].values()))
    assert found["settings"]["position_rule"] == "reassigned"  # what was left to the model is said


def test_no_question_holds_the_model_longer_than_stated(tmp_path, monkeypatch):
    """The last layer takes 2 s by a clock of the test's own; 16 s for a question are 8 s for each answer."""
    clock, studio = [0.0], small_studio(tmp_path, question_seconds=16)
    monkeypatch.setattr(limits, "monotonic", lambda: clock[0])
    layer = studio.llm.decoder.layers[-1]
    handle = layer.register_forward_pre_hook(lambda *_: clock.__setitem__(0, clock[0] + 2))
    try:
        found = Endpoints(studio).ask(question=QUESTION, runs=5, **SAMPLE)
    finally:
        handle.remove()
    for column in ("baseline", "merged"):  # the prefix is one pass, each token another
        assert (found[column]["stopped"], found[column]["new_tokens"]) == ("stopped after 8 s", 3)
    assert found["runs"] == 1  # 8 s; the second would end as its time does
    assert clock[0] == 2 * 16
    assert Endpoints(studio).ask(question=QUESTION, **SAMPLE)["merged"]["stopped"] == ""


def test_a_column_without_memory_is_said_beside_the_other_one(studio, monkeypatch):
    without_memory_for(studio, monkeypatch, "baseline")
    found = Endpoints(studio).ask(question=QUESTION, **SAMPLE)
    assert found["error"] == "The GPU's memory did not suffice; use fewer frames."
    assert found["baseline"] is found["ttft_ratio"] is found["same_answer"] is None and found["merged"]["text"]


def test_without_memory_for_the_merged_column_there_is_no_result(studio, monkeypatch):
    without_memory_for(studio, monkeypatch, "merged")
    with pytest.raises(ValueError, match="^The GPU's memory did not suffice; use fewer frames.$"):
        Endpoints(studio).ask(question=QUESTION, **SAMPLE)


@pytest.mark.parametrize(
    ("endpoint", "changed", "sentence"),
    [
        ("plan", {"sample": ""}, "Give a video file or the id of a sample."),
        ("plan", {"sample": "none"}, "There is no sample 'none'; there are blocks."),
        ("plan", {"num_frames": 9}, "num_frames must be a whole number from 1 to 8, got 9."),
        ("inspect", {"num_frames": 0}, "num_frames must be a whole number from 1 to 8, got 0."),
        ("inspect", {"num_frames": None}, "num_frames must be a whole number from 1 to 8."),
        ("plan", {"num_frames": 2.5}, "num_frames must be a whole number from 1 to 8, got 2.5."),
        ("plan", {"num_frames": NAN}, "num_frames must be a whole number from 1 to 8, got nan."),
        ("plan", {"num_frames": True}, "num_frames must be a whole number from 1 to 8, got True."),
        ("plan", {"num_frames": "abc"}, "num_frames must be a whole number from 1 to 8, got 'abc'."),
        ("plan", {"tau_spatial": 2.5}, "tau_spatial must be a number from -1 to 2, got 2.5."),
        ("plan", {"tau_spatial": NAN}, "tau_spatial must be a number from -1 to 2, got nan."),
        ("plan", {"tau_spatial": 10**400}, f"tau_spatial must be a number from -1 to 2, got 1{'0' * 39}...."),
        ("inspect", {"tau_temporal": -3}, "tau_temporal must be a number from -1 to 2, got -3."),
        ("inspect", {"tau_temporal": "0.5"}, "tau_temporal must be a number from -1 to 2, got '0.5'."),
        ("plan", {"retention": 0}, "retention must be a number above 0 and at most 1, got 0."),
        ("plan", {"retention": 1.5}, "retention must be a number above 0 and at most 1, got 1.5."),
        ("ask", {"question": "x", "retention": NAN}, "retention must be a number above 0 and at most 1, got nan."),
        ("ask", {"question": "x", "retention": -NAN}, "retention must be a number above 0 and at most 1, got nan."),
        ("ask", {"question": "x", "retention": 1e308 * 10}, "a number above 0 and at most 1, got inf."),
        ("plan", {"merge_layer": 4}, "merge_layer must be a whole number from 0 to 3, got 4."),
        ("plan", {"merge_layer": [1]}, "merge_layer must be a whole number from 0 to 3, got [1]."),
        ("inspect", {"rules": "mine"}, "rules must be one of paper, as_released, got 'mine'."),
        ("plan", {"rules": 3}, "rules must be one of paper, as_released, got 3."),
        ("plan", {"prefer": "time"}, "prefer must be one of balanced, spatial, temporal, got 'time'."),
        ("plan", {"sample": {"id": "blocks"}}, "sample must be text, got {'id': 'blocks'}."),
        ("ask", {"question": 5}, "question must be text, got 5."),
        ("ask", {"question": None}, "the question is empty"),
        ("ask", {"question": " "}, "the question is empty"),
        ("ask", {"question": "x" * 20_000}, "the question has 20000 characters, and at most 4000 are read"),
        ("ask", {"question": "x" * 3900}, "this model's context has 4096"),
        ("ask", {"question": "x", "runs": 0}, f"runs must be a whole number from 1 to {MOST_RUNS}, got 0."),
        ("ask", {"question": "x", "runs": MOST_RUNS + 1}, f"from 1 to {MOST_RUNS}, got {MOST_RUNS + 1}."),
        ("ask", {"question": "x", "runs": "many"}, f"runs must be a whole number from 1 to {MOST_RUNS}, got 'many'."),
    ],
)
def test_bad_input_is_one_sentence(studio, endpoint, changed, sentence):
    with pytest.raises(ValueError) as caught:
        getattr(Endpoints(studio), endpoint)(**SAMPLE | changed)
    assert sentence in str(caught.value) and "\n" not in str(caught.value) and str(caught.value).endswith(".")


BROKEN = {
    "empty.mp4": (lambda path, good: path.write_bytes(b""), "is empty (0 bytes)"),
    "words.mp4": (lambda path, good: path.write_text("just words"), "is not a video that can be read"),
    "song.mp4": (lambda path, good: make_sound(path), "holds sound only"),
    "cut.mp4": (lambda path, good: path.write_bytes(good[: len(good) // 2]), "is damaged or cut off"),
    "gone.mp4": (lambda path, good: None, "was not found"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_video_is_one_sentence(studio, tmp_path, name):
    spoil, sentence = BROKEN[name]
    spoil(tmp_path / name, studio.samples["blocks"].path.read_bytes())
    for endpoint, more in (("inspect", {}), ("plan", {}), ("ask", {"question": QUESTION})):
        with pytest.raises(VideoError) as caught:
            getattr(Endpoints(studio), endpoint)(video=str(tmp_path / name), num_frames=4, **TAUS, **more)
        said = str(caught.value)
        assert said.startswith(f"{name} {sentence}") and str(tmp_path) not in said and "\n" not in said
