"""The application's service, with a model that only counts what it is asked."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sttm_core import Quadtree, similarity_tables
from sttm_core.advice import Advice
from sttm_core.engine import OutOfMemoryError
from sttm_core.settings import RunSettings
from sttm_core.store import Store
from sttm_core.timing import Timings
from sttm_core.video import VideoError, write_mp4
from tests.core.tiny import clip as blocks
from tests.viz.columns import answer
from tests.viz.small_studio import VALUES, small_studio
from viz.samples import Needle, Question, Sample
from viz.studio import Studio
from viz.tabs.needle import NeedleCheck
from viz.tabs.sweep import Sweeper

SETTINGS = RunSettings.of(tau_spatial=0.9, tau_temporal=0.9)
FRAMES, SIDE = 4, 6


class FakeEncoded:
    """An encoded video of random tokens."""

    def __init__(self, clip, merge_layer: int) -> None:
        self.clip, self.merge_layer = clip, merge_layer
        tokens = torch.randn(FRAMES, SIDE, SIDE, 8, generator=torch.Generator().manual_seed(0)) + 2
        self.tables = similarity_tables(tokens, Quadtree(SIDE, SIDE, 1))
        self.layout = SimpleNamespace(shape=(FRAMES, SIDE, SIDE), num_patches=FRAMES * SIDE * SIDE)
        self.step_frames = np.arange(FRAMES)

    def plan(self, settings: RunSettings):
        return settings.plan(None, self.tables)


class FakeModel:
    """Counts calls; ``fails`` names columns whose prefill runs out of memory."""

    name, num_parameters, default_merge_layer, num_layers = "fake", 12_800_000, 2, 6
    default_position_rule, merge_layers = "reassigned", range(6)
    device = torch.device("cpu")

    def __init__(self, *fails: str) -> None:
        self.fails, self.calls = fails, []

    def check_prompt(self, question: str, num_frames: int, size, *, max_new_tokens: int | None) -> None:
        if not question.strip():
            raise ValueError("the question is empty.")

    def encode(self, clip, *, merge_layer: int, allowance) -> FakeEncoded:
        self.calls.append("encode")
        return FakeEncoded(clip, merge_layer)

    def timed_prefill(self, encoded, method, question, *, position_rule, allowance):
        column, plan = ("baseline", None) if method is None else ("merged", method.plan(None, encoded.tables))
        self.calls.append(column)
        if column in self.fails:
            raise OutOfMemoryError(f"The GPU's memory did not suffice for the {column}.")
        return SimpleNamespace(encoded=encoded, plan=plan, column=column, shares={"kept": 1.0})

    def answering(self, prefix, question, *, max_new_tokens, allowance):
        self.calls.append(f"answer {prefix.column}")
        yield answer(f"{question} {prefix.column}", Timings(prefill=1.0 if prefix.plan is None else 0.5))


@pytest.fixture
def clip_path(tmp_path):
    frames = [np.full((32, 48, 3), 40 * t, dtype=np.uint8) for t in range(FRAMES)]
    return write_mp4(frames, tmp_path / "clip.mp4", 2)


def make(clip_path, *fails: str, **options) -> Studio:
    needle = Needle(0.0, 1.0, (0.0, 0.5, 0.5, 1.0))
    questions = (Question("What?", "this", needle), Question("Where?"))
    sample = Sample("one", clip_path, "One", "About it.", FRAMES, questions, "me")
    return Studio(FakeModel(*fails), Advice(0.9, 0.9), max_frames=8, samples={"one": sample}, **options)


def last(studio: Studio, ref, question: str = "What?", settings: RunSettings = SETTINGS):
    *_, columns = studio.ask(ref, question, settings)
    return columns


def test_a_video_is_encoded_once_and_prefixes_are_reused(clip_path):
    studio = make(clip_path)
    ref = studio.open(clip_path, FRAMES)
    first, again = last(studio, ref), last(studio, ref, "And now?")
    assert studio.llm.calls == [
        "encode", "baseline", "answer baseline", "merged", "answer merged", "answer baseline", "answer merged",
    ]  # fmt: skip
    assert [column.cached for column in first] == [False, False]
    assert [column.cached for column in again] == [True, True]
    assert again[1].answer.text == "And now? merged"


@pytest.mark.parametrize(
    "changed", [{"tau_spatial": 0.5}, {"tau_temporal": 0.5}, {"rules": "as_released"}, {"position_rule": "merged"}]
)
def test_other_settings_need_a_new_merged_prefix_only(clip_path, changed):
    studio = make(clip_path)
    ref = studio.open(clip_path, FRAMES)
    last(studio, ref)
    baseline, merged = last(studio, ref, settings=SETTINGS.but(**changed))
    assert (baseline.cached, merged.cached) == (True, False)
    assert studio.llm.calls.count("encode") == 1


def test_the_models_own_rule_is_that_rule_by_its_name(clip_path):
    """Nothing that is left open is a setting of its own: neither a rule, nor a layer, nor thresholds of all tokens."""
    studio = make(clip_path)
    ref = studio.open(clip_path, FRAMES)
    last(studio, ref)
    named = replace(SETTINGS, position_rule="reassigned", merge_layer=2)
    assert [column.cached for column in last(studio, ref, settings=named)] == [True, True]
    assert studio.llm.calls.count("merged") == studio.llm.calls.count("encode") == 1


def test_one_question_holds_one_encoding_however_small_the_store(clip_path):
    studio = small_studio(clip_path.parent, store_bytes=1)
    encoded, encode = [], studio.llm.encode
    studio.llm = SimpleNamespace(**{name: getattr(studio.llm, name) for name in dir(studio.llm) if name[0] != "_"})
    studio.llm.encode = lambda *a, **k: encoded.append(encode(*a, **k)) or encoded[-1]
    ref = studio.open_sample("blocks")
    *_, columns = studio.ask(ref, "What?", SETTINGS, 2)
    *_, columns = studio.measure(columns, "What?", SETTINGS, 2)
    assert [column.prefix.encoded for column in columns] == encoded * 2 and len(encoded) == 1
    assert len(studio.store) == 0
    list(Sweeper(studio).ladder(ref, "What?", 2, **VALUES, progress=lambda *a, **k: None))
    assert len(encoded) == 2
    list(NeedleCheck(studio).run(2, **VALUES, progress=lambda *a, **k: None))
    assert len(encoded) == 3


def test_a_video_comes_back_with_its_prefixes_or_not_at_all(tmp_path):
    """Asked in turn, where there is room for one and a half: everything is made again, and nothing is held twice."""
    whole = small_studio(tmp_path)
    last(whole, whole.open_sample("blocks"))
    studio = small_studio(tmp_path, store_bytes=whole.store.held.host * 3 // 2)
    paths = [write_mp4(blocks(FRAMES, seed=seed).frames, tmp_path / f"{seed}.mp4", 2) for seed in (1, 2)]
    for path in (*paths, *paths):
        columns = last(studio, studio.open(path, FRAMES))
        assert [column.cached for column in columns] == [False, False] and len(studio.store) == 1
        assert [column.cached for column in last(studio, studio.open(path, FRAMES))] == [True, True]


def test_the_bound_holds_and_is_what_is_held(tmp_path):
    """Against Python's own books: tensors that the garbage collector knows, and arrays as tracemalloc sees them."""
    paths = [write_mp4(blocks(8, (256, 256), seed).frames, tmp_path / f"{seed}.mp4", 2) for seed in range(5)]
    bound = 5 * 2**20
    studio = small_studio(tmp_path, store_bytes=bound)
    last(studio, studio.open(paths[0], 8))  # what is made once for all videos is made now
    studio.store = Store(studio.store.bound)
    before, arrays = live_tensors(), live_arrays()
    for path in paths:
        ref = studio.open(path, 8)
        for taus in ({}, {"tau_spatial": 0.5}, {"position_rule": "merged"}):
            last(studio, ref, settings=SETTINGS.but(**taus))
            assert studio.store.held.fits(studio.store.bound)
    assert 1 < len(studio.store) < len(paths)
    del ref
    tensors = sum(size for key, size in live_tensors().items() if key not in before)
    frames = live_arrays() - arrays
    assert tensors + frames == pytest.approx(studio.store.held.host, rel=0.02)
    assert tensors + frames <= 1.02 * bound


def live_tensors() -> dict[int, int]:
    """Bytes of every tensor's memory in this process, by address; what a compiler only imagined has none."""
    gc.collect()
    found = [thing for thing in gc.get_objects() if type(thing) in (torch.Tensor, torch.nn.Parameter)]
    tensors = [tensor for tensor in found if tensor.device.type != "meta"]
    return {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}


def live_arrays() -> int:
    """Bytes of NumPy's arrays that were made since the first call."""
    gc.collect()
    if not tracemalloc.is_tracing():
        tracemalloc.start()
    taken = tracemalloc.take_snapshot().filter_traces([tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)])
    return sum(trace.size for trace in taken.traces)


@pytest.fixture(autouse=True)
def no_tracing():
    yield
    tracemalloc.stop()


def test_a_prefix_of_a_video_that_is_gone_is_made_anew(clip_path):
    studio = make(clip_path)
    ref = studio.open(clip_path, FRAMES)
    last(studio, ref)
    studio.store._entries.clear()
    columns = last(studio, ref)
    assert [column.cached for column in columns] == [False, False] and studio.llm.calls.count("encode") == 2
    assert columns[0].prefix.encoded is columns[1].prefix.encoded is studio.encoded(ref, SETTINGS)


def test_another_number_of_frames_is_another_video(clip_path):
    studio = make(clip_path)
    for frames in (2, FRAMES, 2):
        studio.encoded(studio.open(clip_path, frames), SETTINGS)
    assert studio.llm.calls == ["encode", "encode"]


def test_the_frames_are_those_of_the_video_asked_for(clip_path, tmp_path):
    studio, other = make(clip_path), tmp_path / "other.mp4"
    write_mp4([np.full((32, 48, 3), 255, dtype=np.uint8)] * 3, other, 2)
    one, two = studio.open(clip_path, FRAMES), studio.open(other, 3)
    assert [studio.clip(ref).content_hash for ref in (one, two)] == [one.content_hash, two.content_hash]


def test_limits_and_positions_reach_the_model(clip_path, monkeypatch):
    studio, seen = make(clip_path), []
    answering, prefill = studio.llm.answering, studio.llm.timed_prefill
    monkeypatch.setattr(
        studio.llm, "answering", lambda *a, **limits: seen.append(limits["max_new_tokens"]) or answering(*a, **limits)
    )
    monkeypatch.setattr(
        studio.llm, "timed_prefill",
        lambda *a, **options: seen.append(options["position_rule"]) or prefill(*a, **options),
    )
    settings = SETTINGS.but(position_rule="merged")
    *_, columns = studio.ask(studio.open(clip_path, FRAMES), "What?", settings, 7)
    assert seen == ["merged", 7, "merged", 7]
    *_, _ = studio.measure(columns, "What?", settings, 1)
    assert seen[4::2] == ["merged", "merged"]


def test_more_frames_than_allowed_are_refused_of_precomputed_samples_too(clip_path):
    ready = SimpleNamespace(key=SimpleNamespace(video="hash"), source_size=(32, 48), duration_s=2.0)
    studio = make(clip_path, precomputed=SimpleNamespace(get=lambda *given: ready))
    assert studio.open_sample("one", 8).num_frames == 8
    with pytest.raises(ValueError, match="between 1 and 8, got 9"):
        studio.open_sample("one", 9)


@pytest.mark.parametrize("failing, alive", [(0, 1), (1, 0)])
def test_one_column_out_of_memory_does_not_lose_the_other(clip_path, failing, alive):
    studio = make(clip_path, ("baseline", "merged")[failing])
    ref = studio.open(clip_path, FRAMES)
    columns = last(studio, ref)
    assert "memory did not suffice" in columns[failing].error
    assert columns[failing].answer is None
    assert columns[alive].answer.finished and not columns[alive].error


def test_other_failures_are_not_swallowed(clip_path):
    studio = make(clip_path)
    studio.llm.timed_prefill = lambda *a, **k: (_ for _ in ()).throw(RuntimeError("shape mismatch"))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        last(studio, studio.open(clip_path, FRAMES))


def test_nothing_runs_for_an_empty_question(clip_path):
    studio = make(clip_path)
    with pytest.raises(ValueError, match="empty"):
        last(studio, studio.open(clip_path, FRAMES), "  ")
    assert studio.llm.calls == []


def test_measuring_leaves_a_failed_column_out(clip_path):
    studio = make(clip_path, "baseline")
    ref = studio.open(clip_path, FRAMES)
    columns = last(studio, ref)
    *_, columns = studio.measure(columns, "What?", SETTINGS, 3)
    assert [len(column.runs) for column in columns] == [0, 3]
    assert columns[1].timings.prefill == 0.5


def test_the_store_is_shared_by_content_not_by_name(clip_path, tmp_path):
    studio = make(clip_path)
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(clip_path.read_bytes())
    for path in (clip_path, copy):
        studio.encoded(studio.open(path, FRAMES), SETTINGS)
    assert studio.llm.calls == ["encode"]
    studio.encoded(studio.open(clip_path, FRAMES), RunSettings.of(tau_spatial=0.9, tau_temporal=0.9, merge_layer=1))
    assert studio.llm.calls == ["encode", "encode"]


def test_frames_out_of_range_and_broken_files_fail_before_the_model(clip_path, tmp_path):
    studio = make(clip_path)
    for frames in (0, 9):
        with pytest.raises(ValueError, match=f"between 1 and 8, got {frames}"):
            studio.open(clip_path, frames)
    with pytest.raises(ValueError, match="between 1 and 8, got 0"):
        studio.open_sample("one", 0)
    (tmp_path / "bad.mp4").write_bytes(b"bad")
    with pytest.raises(VideoError, match="bad.mp4"):
        studio.open(tmp_path / "bad.mp4", 2)
    with pytest.raises(ValueError, match="There is no sample 'two'; there are one."):
        studio.open_sample("two")
    assert studio.llm.calls == []


def test_a_video_with_fewer_frames_says_how_many_it_has(clip_path):
    assert make(clip_path).open(clip_path, 8).num_frames == FRAMES


def test_inspector_data_carries_needles_title_and_ranges(clip_path):
    studio = make(clip_path)
    data = studio.inspector_data(studio.open_sample("one"), SETTINGS)
    assert data.title == "One"
    assert data.needles == ({"label": "this", "frames": [0, 2], "box": [0, 3, 3, 6]},)
    assert data.ranges["start"] == {"tauSpatial": 0.9, "tauTemporal": 0.9}
    assert studio.inspector_data(studio.open(clip_path, FRAMES), SETTINGS).title == "clip.mp4"


def test_needles_of_one_question(clip_path):
    studio = make(clip_path)
    ref = studio.open_sample("one")
    encoded = studio.encoded(ref, SETTINGS)
    assert [n["label"] for n in studio.needles_of(ref, encoded, "What?")] == ["this"]
    assert studio.needles_of(ref, encoded, "Where?") == []
    joined = SimpleNamespace(
        clip=SimpleNamespace(times=np.arange(8) / 2), step_frames=np.arange(4) * 2, layout=encoded.layout
    )
    assert studio.needles_of(ref, joined, "What?")[0]["frames"] == [0, 1]  # steps of a second


def test_the_first_sample_is_warm_after_warming_up(clip_path):
    studio = make(clip_path)
    studio.warm_up()
    columns = last(studio, studio.open_sample("one"))
    assert [column.cached for column in columns] == [True, True]
    assert studio.model_chip == "fake, 12.8 M parameters, CPU"


def test_two_questions_about_one_place_make_one_needle() -> None:
    box = Needle(1.0, 2.0, (0.0, 0.0, 0.5, 0.5))
    questions = (
        Question("What code is shown?", "K7P2", box),
        Question("Where is the star?", "left", Needle(0.0, 2.0, (0.5, 0.5, 1.0, 1.0))),
        Question("When is the text shown?", "middle", Needle(1.0, 2.0, (0.0, 0.0, 0.5, 0.5))),
    )
    sample = Sample("one", Path("one.mp4"), "One", "", 4, questions, "")
    studio, ref = SimpleNamespace(samples={"one": sample}), SimpleNamespace(sample_id="one")
    asked = Studio.needles(studio, ref, [0, 1, 2, 3], (4, 4))
    assert [(n["label"], n["frames"], n["box"]) for n in asked] == [
        ("K7P2", [1, 2], [0, 0, 2, 2]),
        ("left", [0, 2], [2, 2, 4, 4]),
    ]


@pytest.mark.parametrize("name", ["fastv", "framefusion"])
def test_a_method_that_looks_at_the_question_gets_a_prefix_for_each(tmp_path, name):
    """The second question finds the baseline's prefix, but never the other question's."""
    studio = small_studio(tmp_path)
    ref, settings = studio.open_sample("blocks"), RunSettings.of(name, retention=0.4)
    first = last(studio, ref, "What is shown?", settings)
    other = last(studio, ref, "Where does it go?", settings)
    again = last(studio, ref, " What is shown? ", settings)
    assert [[column.cached for column in columns] for columns in (first, other, again)] == [
        [False, False], [True, False], [True, True],
    ]  # fmt: skip
    assert again[1].prefix is first[1].prefix and other[1].prefix.question == "Where does it go?"
    assert again[1].answer.text == first[1].answer.text and not other[1].error
    assert first[1].plan.num_tokens == first[1].prefix.video_tokens <= 0.4 * first[1].plan.num_patches
    *_, columns = studio.measure(again, "What is shown?", settings, 2)
    assert [len(column.runs) for column in columns] == [2, 2]


def test_fewer_pixels_are_measured_from_all_of_them(tmp_path):
    studio = small_studio(tmp_path)
    ref, settings = studio.open_sample("blocks"), RunSettings.of("downsample", retention=0.4)
    columns = last(studio, ref, "What is shown?", settings)
    *_, columns = studio.measure(columns, "What is shown?", settings, 2)
    small = columns[1].prefix.encoded.layout.num_patches
    assert columns[1].plan.num_tokens == small < 0.4 * columns[1].plan.num_patches
    assert studio.prefix(studio.hold(ref, settings), settings, columns[1].method)[0] is columns[1].prefix
