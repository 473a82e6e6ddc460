"""`ask --json` out, `ask --from` in: the same frames, tokens and answer, or one sentence that says why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sttm_core.__main__ import main
from sttm_core.advice import SHIPPED_MODEL
from sttm_core.engine import VideoLLM
from sttm_core.video import write_mp4

QUESTION = "What colour is shown?"
OPTIONS = "--num-frames 4 --runs 1 --json --tau-spatial 0.9 --tau-temporal 0.8 --max-new-tokens 5 --merge-layer 1"


@pytest.fixture(scope="module")
def llm() -> VideoLLM:
    return VideoLLM.load(str(SHIPPED_MODEL), device="cpu")


@pytest.fixture
def ask(llm: VideoLLM, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable:
    loaded = []
    monkeypatch.setattr(VideoLLM, "load", lambda path, **options: loaded.append((path, options)) or llm)

    def call(*arguments) -> tuple[int, str, str]:
        code = main(["ask", *map(str, arguments)])
        return code, *capsys.readouterr()

    call.loaded = loaded
    return call


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Nine frames: a red square on grey that moves."""
    frames = np.full((9, 64, 64, 3), 90, np.uint8)
    for number in range(9):
        frames[number, 8:40, 2 * number : 2 * number + 32] = (220, 30, 30)
    return write_mp4(frames, tmp_path / "square.mp4", fps=2)


@pytest.fixture
def record(ask: Callable, video: Path, tmp_path: Path) -> Path:
    code, out, _ = ask(video, QUESTION, *OPTIONS.split())
    assert code == 0
    (tmp_path / "run.json").write_text(out, encoding="utf-8")
    return tmp_path / "run.json"


def test_the_json_says_what_the_model_saw(record: Path, video: Path, llm: VideoLLM) -> None:
    said = json.loads(record.read_text())
    assert said["frames"]["indices"] == [0, 3, 5, 8] and said["frames"]["times_s"] == [0, 1.5, 2.5, 4]
    assert said["frames"]["source"]["num_frames"] == 9 and said["frames"]["source"]["codec"] == "h264"
    assert QUESTION in said["prompt"] and said["prompt"].startswith("<|im_start|>")
    assert said["environment"]["model"] == llm.name and said["environment"]["dtype"] == "float32"
    assert said["typed"]["video"] == str(video)


SAME = ("frames", "prompt", "environment", "settings", "tokens", "retention", "question", "model", "runs")


@pytest.mark.parametrize("wrap", [lambda run: run, lambda run: [run], lambda run: {"plan": {}, "runs": [run]}])
def test_a_run_from_its_json_is_the_same_run(ask: Callable, record: Path, wrap: Callable) -> None:
    first = json.loads(record.read_text())
    record.write_text(json.dumps(wrap(first)))
    code, out, err = ask("--from", record, "--json")
    assert code == 0
    again = json.loads(out)
    assert {name: again[name] for name in SAME} == {name: first[name] for name in SAME}
    for column in ("baseline", "merged"):
        assert {k: again[column][k] for k in ("text", "new_tokens", "prompt_tokens", "kv_bytes")} == {
            k: first[column][k] for k in ("text", "new_tokens", "prompt_tokens", "kv_bytes")
        }
    assert again["merged"]["new_tokens"] <= 5 and again["typed"]["limits"]["max_new_tokens"] == 5
    assert "same tokens were kept and the same answer" in err


def test_a_result_that_differs_is_said(ask: Callable, record: Path) -> None:
    run = json.loads(record.read_text())
    run["merged"]["text"], run["tokens"]["kept"] = "Something else.", 1
    record.write_text(json.dumps(run))
    code, _, err = ask("--from", record)
    assert code == 0 and "Not as in the recorded run: kept tokens and answer" in err


def test_the_model_is_loaded_as_then_unless_said_otherwise(ask: Callable, record: Path) -> None:
    run = json.loads(record.read_text())
    run["typed"]["loading"] |= {"attention": "eager", "rope_factor": 2.0, "device": "cpu"}
    record.write_text(json.dumps(run))
    ask("--from", record, "--dtype", "bfloat16", "--runs", 1)
    _, options = ask.loaded[-1]
    assert (options["attention"], options["rope_factor"], options["dtype"]) == ("eager", 2.0, "bfloat16")


def test_a_run_of_several_is_chosen(ask: Callable, record: Path) -> None:
    run = json.loads(record.read_text())
    record.write_text(json.dumps([run, run | {"question": "What moves?"}]))
    code, out, _ = ask("--from", record, "--run", 2, "--json", "--no-baseline")
    assert code == 0 and json.loads(out)["question"] == "What moves?" and json.loads(out)["baseline"] is None
    for arguments, words in (((), "holds 2 runs: choose one"), (("--run", 3), "there is no run 3")):
        code, out, err = ask("--from", record, *arguments)
        assert code == 2 and words in err and not out


def test_the_video_is_found_beside_the_record_or_where_it_is_said(
    ask: Callable, record: Path, video: Path, tmp_path: Path
) -> None:
    run = json.loads(record.read_text())
    del run["typed"]
    record.write_text(json.dumps(run))
    assert ask("--from", record, "--runs", 1)[0] == 0
    moved = video.rename(tmp_path / "elsewhere.mp4")
    code, _, err = ask("--from", record)
    assert code == 2 and err.startswith("square.mp4 of this run was not found here: give its path")
    assert ask("--from", record, moved, "--runs", 1)[0] == 0


def _other_bytes(record: Path, video: Path) -> None:
    write_mp4(np.zeros((9, 64, 64, 3), np.uint8), video, fps=2)


def _other_model(record: Path, video: Path) -> None:
    run = json.loads(record.read_text())
    run["environment"]["model"] = "LLaVA-Video-7B-Qwen2"
    record.write_text(json.dumps(run))


def _without(*keys: str) -> Callable[[Path, Path], None]:
    def change(record: Path, video: Path) -> None:
        run = json.loads(record.read_text())
        for key in keys:
            del run[key]
        record.write_text(json.dumps(run))

    return change


def _unknown_setting(record: Path, video: Path) -> None:
    run = json.loads(record.read_text())
    run["settings"]["colour"] = "blue"
    record.write_text(json.dumps(run))


REFUSED = {
    "another file": (_other_bytes, "square.mp4 is another file than the one of this run: give the path of square.mp4."),
    "another model": (_other_model, "This run was one of LLaVA-Video-7B-Qwen2, not of"),
    "no frames": (_without("frames"), "run.json does not hold all that a run is repeated from: give"),
    "no settings": (_without("settings"), "run.json does not hold all that a run is repeated from: give"),
    "a setting from elsewhere": (_unknown_setting, "sttm has no 'colour'; it has "),
    "no JSON": (lambda record, video: record.write_text("What?"), "run.json is not JSON: give"),
    "no file": (lambda record, video: record.unlink(), "run.json could not be read: check the path."),
    "a number": (lambda record, video: record.write_text("3"), "run.json does not hold all"),
    "no runs": (lambda record, video: record.write_text("[]"), "run.json holds 0 runs"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_not_be_repeated_is_one_sentence(ask: Callable, record: Path, video: Path, case: str) -> None:
    spoil, words = REFUSED[case]
    spoil(record, video)
    code, out, err = ask("--from", record)
    assert code == 2 and not out and err.startswith(words) and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Missing argument 'VIDEO'"),
        (("a.mp4",), "Missing argument 'QUESTION'"),
        (("a.mp4", "What?", "--from", "x.json"), "--from brings its own"),
        (("--from", "x.json", "--tau-spatial", "0.5"), "--from brings its own"),
        (("--from", "x.json", "--num-frames", "3"), "--from brings its own"),
    ],
)
def test_arguments_that_do_not_go_together(ask: Callable, arguments: tuple, words: str) -> None:
    code, out, err = ask(*arguments)
    assert code == 2 and not out and err.startswith(words)
