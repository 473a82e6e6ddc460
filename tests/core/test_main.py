"""`python -m sttm_core ask` as a person at a shell uses it: the shipped model, a small clip, bad input."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sttm_core.__main__ import duration, main
from sttm_core.advice import SHIPPED_MODEL, advice_for
from sttm_core.command_line import INTERRUPTED, memory_limits, open_video, published, run_settings
from sttm_core.engine import OutOfMemoryError, VideoLLM
from sttm_core.settings import RunSettings
from sttm_core.video import VideoClip, write_mp4

QUESTION = "What colour is shown?"
ANSWER = {
    "text": str,
    "ttft_s": float,
    "timings_s": dict,
    "prompt_tokens": int,
    "new_tokens": int,
    "kv_bytes": int,
    "peak_bytes": (int, type(None)),
    "stopped": str,
}
SHAPE = {
    "video": str,
    "model": str,
    "question": str,
    "settings": dict,
    "retention": float,
    "tokens": dict,
    "chains": dict,
    "runs": int,
    "baseline": (dict, type(None)),
    "merged": dict,
}
STAGES = {"decode", "vision", "merge", "prefill", "first_token"}


@pytest.fixture(scope="module")
def llm() -> VideoLLM:
    return VideoLLM.load(str(SHIPPED_MODEL), device="cpu")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four frames: a red square on grey that jumps once."""
    frames = np.full((4, 64, 64, 3), 90, np.uint8)
    frames[:2, 8:40, 8:40] = frames[2:, 24:56, 24:56] = (220, 30, 30)
    return write_mp4(frames, tmp_path_factory.mktemp("clips") / "square.mp4", fps=2)


@pytest.fixture
def ask(llm: VideoLLM, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable:
    """Run the command; the shipped model comes from memory, any other is loaded."""
    load = VideoLLM.load

    def load_once(path: str, **options) -> VideoLLM:
        return llm if path == str(SHIPPED_MODEL) else load(path, **options)

    monkeypatch.setattr(VideoLLM, "load", load_once)

    def call(*arguments) -> tuple[int, str, str]:
        code = main(["ask", *map(str, arguments)])
        return code, *capsys.readouterr()

    return call


def assert_has(found: dict, shape: dict) -> None:
    assert {key: isinstance(found.get(key, "no such key"), kind) for key, kind in shape.items()} == dict.fromkeys(
        shape, True
    )


def test_a_shell_gets_one_json_object_on_stdout_and_progress_on_stderr(video: Path) -> None:
    command = [sys.executable, "-m", "sttm_core", "ask", str(video), QUESTION, "--num-frames", "4", "--runs", "1"]
    done = subprocess.run([*command, "--json", "--device", "cpu"], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert_has(found, SHAPE)
    assert (found["video"], found["question"], found["runs"]) == ("square.mp4", QUESTION, 1)
    assert found["tokens"]["all"] == 4 * 14 * 14
    assert found["retention"] == found["tokens"]["kept"] / found["tokens"]["all"]
    advice = advice_for(SHIPPED_MODEL)
    settings = found["settings"]
    assert (settings["tau_spatial"], settings["tau_temporal"]) == (advice.tau_spatial, advice.tau_temporal)
    for name in ("baseline", "merged"):
        assert_has(found[name], ANSWER)
        assert set(found[name]["timings_s"]) == STAGES
        assert all(seconds >= 0 and math.isfinite(seconds) for seconds in found[name]["timings_s"].values())
        assert found[name]["ttft_s"] == pytest.approx(sum(found[name]["timings_s"].values()))
    dropped = found["tokens"]["all"] - found["tokens"]["kept"]
    assert found["baseline"]["prompt_tokens"] - found["merged"]["prompt_tokens"] == dropped > 0
    assert found["baseline"]["kv_bytes"] > found["merged"]["kv_bytes"] > 0
    assert done.stderr.splitlines()[0] == "encoding 4 frames"
    assert "Traceback" not in done.stderr and "Loading weights" not in done.stderr


def test_answers_are_the_engines(ask: Callable, llm: VideoLLM, video: Path) -> None:
    code, out, _ = ask(
        video, QUESTION, "--num-frames", 4, "--runs", 1, "--json", "--tau-spatial", 0.9, "--tau-temporal", 0.8
    )
    assert code == 0
    found = json.loads(out)
    encoded = llm.encode(VideoClip.open(video, 4))
    plan = encoded.plan(RunSettings.of(tau_spatial=0.9, tau_temporal=0.8))
    assert found["baseline"]["text"] == llm.answer(llm.prefill(encoded), QUESTION).text
    assert found["merged"]["text"] == llm.answer(llm.prefill(encoded, plan), QUESTION).text
    assert found["tokens"] == {"all": plan.num_patches, "kept": plan.num_tokens}
    assert found["chains"] == {"count": plan.num_chains, "longest": plan.longest_chain}


def test_a_budget_is_met_and_the_baseline_can_be_left_out(ask: Callable, video: Path) -> None:
    options = "--num-frames 3 --runs 1 --json --no-baseline --retention 0.3 --max-new-tokens 1 --merge-layer 1"
    code, out, _ = ask(video, QUESTION, *options.split(), "--rules", "as_released", "--position-rule", "survived")
    assert code == 0
    found = json.loads(out)
    assert found["baseline"] is None and found["ttft_ratio"] is None and found["same_answer"] is None
    assert 0 < found["retention"] <= 0.3
    assert found["merged"]["new_tokens"] == 1
    settings = {"rules": "as_released", "merge_layer": 1, "position_rule": "survived", "retention": 0.3}
    assert settings.items() <= found["settings"].items()
    assert found["settings"]["num_frames"] == 3 and found["budget_missed"] == ""


def test_layer_root_level_and_positions_reach_the_engine(
    ask: Callable, llm: VideoLLM, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules, prefill, timed = [], llm.prefill, llm.timed_prefill
    monkeypatch.setattr(llm, "prefill", lambda *a, position_rule, **k: rules.append(position_rule) or prefill(*a))
    monkeypatch.setattr(llm, "timed_prefill", lambda *a, position_rule, **k: rules.append(position_rule) or timed(*a))
    options = "--num-frames 2 --runs 1 --json --max-new-tokens 1 --tau-spatial -1 --tau-temporal 0 --merge-layer 3"
    code, out, _ = ask(video, QUESTION, *options.split(), "--root-level", 2, "--position-rule", "merged")
    assert code == 0
    found, encoded = json.loads(out), llm.encode(VideoClip.open(video, 2), merge_layer=3)
    assert found["tokens"]["kept"] == 2 * 7 * 7  # the grids of 14x14 are 7x7, 4x4, 2x2
    assert rules == ["merged"] * 4  # both columns, once to answer and once to be timed
    later = encoded.layout.num_patches - 2 * 7 * 7
    a_token = found["baseline"]["kv_bytes"] / (found["baseline"]["prompt_tokens"] * llm.num_layers)
    assert found["baseline"]["kv_bytes"] - found["merged"]["kv_bytes"] == later * (llm.num_layers - 3) * a_token


def test_a_budget_that_no_threshold_reaches_is_said(ask: Callable, video: Path) -> None:
    options = ("--num-frames", 2, "--runs", 1, "--json", "--no-baseline", "--retention", 0.001)
    code, out, err = ask(video, QUESTION, *options)
    assert code == 0
    found = json.loads(out)
    assert found["retention"] > 0.001
    assert "can't be reached" in found["budget_missed"] and found["budget_missed"] in err


def test_what_was_left_to_the_model_is_in_the_json(ask: Callable, llm: VideoLLM, video: Path) -> None:
    code, out, _ = ask(video, QUESTION, "--num-frames", 2, "--runs", 1, "--json", "--no-baseline")
    assert code == 0
    used = json.loads(out)["settings"]
    assert (used["merge_layer"], used["position_rule"]) == (llm.default_merge_layer, llm.default_position_rule)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (0.85, 0.55, "as_released", 2, "reassigned")),
        ({"tau_spatial": 0.7}, (0.7, 0.55, "as_released", 2, "reassigned")),
        ({"rules": "paper", "merge_layer": 5}, (0.85, 0.55, "paper", 5, "reassigned")),
        ({"position_rule": "survived"}, (0.85, 0.55, "as_released", 2, "survived")),
    ],
)
def test_a_preset_fills_what_was_not_given(given: dict, expected: tuple) -> None:
    model = "lmms-lab/LLaVA-Video-7B-Qwen2"
    left_open = dict.fromkeys(("tau_spatial", "tau_temporal", "retention", "rules", "merge_layer", "position_rule"))
    found = run_settings(model, published("videomme-50", model), **(left_open | given)).as_dict()
    assert tuple(found[name] for name in left_open if name != "retention") == expected


@pytest.mark.parametrize(("given", "prefer"), [(None, "temporal"), ("spatial", "spatial")])
def test_a_budget_goes_as_the_model_advises(tmp_path: Path, given: str | None, prefer: str) -> None:
    advice = {"tau_spatial": 0.9, "tau_temporal": 0.8, "prefer": "temporal"}
    (tmp_path / "sttm.json").write_text(json.dumps(advice), encoding="utf-8")
    assert run_settings(str(tmp_path), retention=0.3, prefer=given).method.prefer == prefer


@pytest.mark.parametrize(
    ("frames", "name", "expected"),
    [
        (None, None, 16),
        (4, None, 4),
        (None, "videomme-50", 8),
        (4, "videomme-50", 4),
    ],
)
def test_frames_are_those_asked_for_or_as_many_as_published(
    tmp_path: Path, frames: int | None, name: str | None, expected: int
) -> None:
    eight_seconds = write_mp4(iter(np.zeros((64, 16, 16, 3), np.uint8)), tmp_path / "clip.mp4", fps=8)
    clip = open_video(str(eight_seconds), frames, published(name, "lmms-lab/LLaVA-Video-7B-Qwen2"))
    assert clip.num_frames == expected


@pytest.mark.parametrize(
    ("text", "limits"),
    [(None, None), ("0=70GiB", {0: "70GiB"}), ("0=70GiB, cpu=100GiB", {0: "70GiB", "cpu": "100GiB"})],
)
def test_memory_limits_as_accelerate_wants_them(text: str | None, limits: dict | None) -> None:
    assert memory_limits(text) == limits


def test_the_table_shows_what_the_json_says(ask: Callable, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    code, out, _ = ask(video, QUESTION, "--num-frames", 2, "--runs", 1, "--tau-spatial", 2, "--tau-temporal", 0)
    assert code == 0
    assert "100.0% kept: 392 of 392 video tokens, 0 chains" in out
    lines = {line[:16].strip(): line.split() for line in out.splitlines()}
    assert {"answer", "decode", "vision", "merge", "prefill", "first token", "KV cache"} <= set(lines)
    prompt, kv_cache = lines["prompt tokens"][2:], lines["KV cache"][2:]
    assert prompt[0] == prompt[1] and kv_cache[:2] == kv_cache[2:]  # nothing was merged
    assert "the same answer" in out
    assert "All tokens" in out and "TTFT, one run" in out


def test_without_the_baseline_the_table_has_one_column(ask: Callable, video: Path) -> None:
    options = ("--num-frames", 1, "--runs", 2, "--no-baseline", "--max-new-tokens", 1)
    code, out, _ = ask(video, QUESTION, *options)
    assert code == 0
    assert "Merged" in out and "TTFT, median of 2" in out
    assert "All tokens" not in out and "times as fast" not in out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.364, "1.36 s"), (0.9995, "1.00 s"), (0.9994, "999 ms"), (0.00995, "10 ms"), (0.00994, "9.9 ms"), (0, "0 ms")],
)
def test_durations_have_the_digits_that_count(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--tau-spatial", "5"], "The spatial threshold τ_S must lie between -1 and 2, got 5."),
        (["--tau-spatial", "nan"], "The spatial threshold τ_S must lie between -1 and 2, got nan."),
        (["--tau-temporal", "inf"], "The temporal threshold τ_T must lie between -1 and 2, got inf."),
        (["--tau-temporal", "high"], "Invalid value for '--tau-temporal'"),
        (["--retention", "0"], "The budget must lie above 0%"),
        (["--retention", "nan"], "The budget must lie above 0%"),
        (["--retention", "1.5"], "The budget must lie above 0% and at most 100%, got 150%."),
        (["--retention", "0.3", "--tau-spatial", "0.8"], "not both"),
        (["--num-frames", "0"], "num_frames is 0: give a whole number from 1 to 1024."),
        (["--preset", "videomme-50"], "nothing was published for the model"),
        (["--max-memory", "70GiB"], "--max-memory wants device=size pairs"),
        (["--model", "{copy}", "--max-memory", "0=70GiB"], "max_memory limits what device_map='auto' may use"),
        (["--model", "{copy}", "--load-in-4bit", "--load-in-8bit"], "in 4 bit or in 8 bit, not both"),
        (["--model", "{copy}", "--newline", "grid"], "newline tokens can't be chosen for LLaVA-OneVision"),
        (["--model", "{copy}", "--frame-tokens", "0"], "frame_tokens must be at least 1, got 0."),
        (["--newline", "everywhere"], "Invalid value for '--newline'"),
        (["--merge-layer", "99"], "the merge layer must lie between 0 and"),
        (["--rules", "mine"], "Invalid value for '--rules'"),
        (["--runs", "0"], "Invalid value for '--runs'"),
        (["--max-new-tokens", "0"], "Invalid value for '--max-new-tokens'"),
        (["--root-level", "-1"], "Invalid value for '--root-level'"),
        (["--sparkle"], "No such option"),
        (["--device", "toaster", "--model", "{copy}"], "toaster"),
        (["--model", "{folder}/none"], "There is no usable model"),
        (["--model", "{folder}"], "There is no usable model"),
    ],
)
def test_bad_options_are_one_sentence(
    ask: Callable, video: Path, tmp_path: Path, options: list[str], sentence: str
) -> None:
    copy = f"{SHIPPED_MODEL}/"  # the same folder under a name that is loaded
    code, out, err = ask(video, QUESTION, *(option.format(folder=tmp_path, copy=copy) for option in options))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert sentence in err


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"no video at all" * 40, "is not a video that can be read"),
        (b"", "is empty (0 bytes)"),
        (None, "was not found: check the path."),
    ],
)
def test_bad_videos_are_one_sentence(ask: Callable, tmp_path: Path, content: bytes | None, sentence: str) -> None:
    file = tmp_path / "broken.mp4"
    if content is not None:
        file.write_bytes(content)
    code, out, err = ask(file, QUESTION)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("broken.mp4") and sentence in err


def test_a_question_that_is_too_long_is_refused_before_the_video_is_read(ask: Callable) -> None:
    said = "the question has 20000 characters, and at most 4000 are read; shorten it.\n"
    assert ask("no-such-file.mp4", "x" * 20_000) == (2, "", said)


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question_is_one_sentence(ask: Callable, video: Path, question: str) -> None:
    assert ask(video, question) == (2, "", "the question is empty; type something to ask about the video.\n")


def test_a_missing_argument_is_one_sentence(ask: Callable, video: Path) -> None:
    code, out, err = ask(video)
    assert (code, out, err.casefold()) == (2, "", "missing argument 'question'.\n")


def test_lack_of_memory_is_one_sentence_and_other_faults_keep_their_trace(
    ask: Callable, llm: VideoLLM, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(error: Exception) -> Callable:
        def encode(*args, **kwargs):
            raise error

        return encode

    monkeypatch.setattr(llm, "encode", fail(OutOfMemoryError("The GPU's memory did not suffice; use fewer frames.")))
    code, out, err = ask(video, QUESTION)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == "The GPU's memory did not suffice; use fewer frames."
    monkeypatch.setattr(llm, "encode", fail(RuntimeError("a fault")))
    with pytest.raises(RuntimeError, match="a fault"):
        ask(video, QUESTION)


def test_an_interrupted_run_has_the_shells_exit_code(
    ask: Callable, llm: VideoLLM, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(llm, "encode", interrupt)
    code, out, err = ask(video, QUESTION)
    assert (code, out) == (INTERRUPTED, "") and INTERRUPTED == 130 and "Traceback" not in err


def test_without_arguments_it_explains_itself(capsys: pytest.CaptureFixture) -> None:
    assert main([]) == 0
    assert "ask" in capsys.readouterr().out
