"""The held-out set: decided by its seed, nothing of training inside, through files, counted right."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.needle_qa import __main__ as command
from benchmarks.needle_qa import held_out
from benchmarks.needle_qa.held_out import (
    HELD_OUT_TASKS,
    NO_CODE,
    NO_SHAPE,
    PACK,
    QUESTIONS_A_CLIP,
    SIDE,
    decode,
    empty_clip,
    held_out_clips,
    held_out_footage,
    needle_clip,
)
from benchmarks.needle_qa.items import TASKS
from demo_model.atlas import HELD_OUT_FONTS, load_atlas
from demo_model.footage import footage_sources, named_footage
from demo_model.vocabulary import NO_ANSWER


@pytest.fixture(scope="module")
def clips():
    return list(held_out_clips(40, 12, 16))


def test_a_clip_is_decided_by_its_number(tmp_path):
    first, again, other = needle_clip(3, 4), needle_clip(3, 4), needle_clip(4, 4)
    assert first == again and first.draw_seed % 2 == 1 and first != other
    assert needle_clip(3, 4, seed=2).draw_seed != first.draw_seed
    assert np.array_equal(first.frames(), again.frames())
    assert first.frames().shape == (4, SIDE, SIDE, 3) and first.frames().dtype == np.uint8
    assert not np.array_equal(first.frames(), other.frames())


def test_the_backgrounds_are_held_out_sources_only():
    held = {source.file for source in footage_sources() if source.split == "held-out"}
    names = {name for name, _ in named_footage(PACK)}
    assert names == held and not names & {source.file for source in footage_sources() if source.split == "train"}
    assert PACK.stat().st_size < 3e6
    assert 0 < len(held_out_footage(moving=True).length) < len(held_out_footage().length)
    assert held_out_footage(moving=True).length.min() > 1


def test_only_held_out_fonts_over_footage(clips):
    scenes = [clip.scene for clip in clips if clip.scene.things]
    fonts = {load_atlas().fonts[text.font] for scene in scenes for text in scene.texts}
    assert fonts and fonts <= set(HELD_OUT_FONTS)
    assert {scene.background for scene in scenes} == {"footage"}


def test_every_task_is_asked(clips):
    counts = Counter(question.task for clip in clips for question in clip.questions)
    assert set(counts) == set(HELD_OUT_TASKS) and counts[NO_CODE] == 2 * (12 - 1) and counts[NO_SHAPE] == 12
    assert all(1 <= len(clip.questions) <= QUESTIONS_A_CLIP for clip in clips)
    assert len({clip.name for clip in clips}) == len({clip.draw_seed for clip in clips}) == len(clips) == 52


def test_tasks_of_a_clip_are_as_different_as_possible(clips):
    for clip in clips:
        tasks = [question.task for question in clip.questions if clip.scene.things]
        assert len(set(tasks[: len(set(tasks))])) == len(set(tasks))


def test_clips_without_needles_ask_in_vain(clips):
    empty = [clip for clip in clips if not clip.scene.things]
    assert len(empty) == 12 and [clip.file for clip in empty[:3]] == ["bunny.mp4", "terminal.mp4", None]
    assert {question.answer for clip in empty for question in clip.questions} <= {NO_ANSWER, "0"}
    assert [question.task for question in empty[1].questions] == [NO_SHAPE]  # the terminal does show text


def test_a_file_is_drawn_once_and_decoded_to_nearly_the_same(tmp_path):
    item = needle_clip(1, 4)
    decoded = item.clip(tmp_path).frames
    assert decoded.shape == (4, SIDE, SIDE, 3)
    error = np.abs(decoded.astype(int) - item.frames()).mean()
    assert 0 < error < 8
    (path,) = tmp_path.iterdir()
    before = path.stat().st_mtime_ns
    item.clip(tmp_path)
    assert path.stat().st_mtime_ns == before and path.name == item.name
    assert replace(item, scene=replace(item.scene, things=())).name != item.name  # never an old picture of a new scene


def test_an_untouched_clip_comes_from_the_samples(tmp_path):
    item = empty_clip(0, 4, file="bunny.mp4")
    assert item.write(tmp_path) == held_out.SAMPLE_CLIPS / "bunny.mp4" and not list(tmp_path.iterdir())
    assert item.clip(tmp_path).num_frames == 4


def test_opencv_decodes_like_the_application(tmp_path):
    pytest.importorskip("cv2")
    path = needle_clip(1, 4).write(tmp_path)
    ours = held_out._decode_with_opencv(path, 4).frames.astype(int)
    assert np.abs(ours - decode(path, 4).frames).mean() < 3
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match="cannot be decoded"):
        held_out._decode_with_opencv(tmp_path / "broken.mp4", 4)


@pytest.mark.parametrize(
    ("sizes", "message"), [((0, 1, 16), "at least 1"), ((1, 0, 16), "at least 1"), ((1, 1, 3), "4")]
)
def test_bad_sizes_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        next(held_out_clips(*sizes))


def test_the_command_draws_then_counts(tmp_path, tiny_model):
    app = command.typer.Typer()
    app.command()(command.main)
    common = ["--set", "held-out", "--clips", "2", "--empty", "1", "--num-frames", "4", "--folder", str(tmp_path / "v")]
    drawn = CliRunner().invoke(app, [*common, "--draw-only"])
    assert drawn.exit_code == 0 and drawn.output.startswith("3 clips")
    files = sorted((tmp_path / "v").iterdir())
    asked = CliRunner().invoke(app, [*common, "--model", tiny_model, "--out", str(tmp_path / "r.json")])
    assert asked.exit_code == 0, asked.output
    report = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    items = list(held_out_clips(2, 1, 4))
    tasks = report["rows"]["full"]["tasks"]
    assert {task: row["total"] for task, row in tasks.items()} == Counter(q.task for i in items for q in i.questions)
    assert report["set"] == "held-out" and report["mp4"] and sorted((tmp_path / "v").iterdir()) == files
    assert len(report["wrong"]) == sum(row["total"] - row["correct"] for row in tasks.values())
    overall = report["rows"]["full"]["overall"]
    assert overall["total"] == sum(row["total"] for task, row in tasks.items() if task in TASKS)
    assert overall["low"] <= overall["accuracy"] <= overall["high"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "other", "--out", "x"], "there is no set"),
        (["--set", "held-out", "--draw-only"], "--folder"),
        (["--draw-only", "--folder", "x"], "--set"),
        ([], "--out"),
        (["--method", "toma", "--retention", ".3", "--out", "x"], "there is no method 'toma'"),
        (["--method", "tome", "--out", "x"], "give --retention"),
    ],
)
def test_bad_options_are_refused(options, message):
    app = command.typer.Typer()
    app.command()(command.main)
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 2 and message in " ".join(result.output.split())
