"""Methods at a shell: the list of them, one of them on a clip, and the sentences after bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from sttm_core.__main__ import main
from sttm_core.advice import SHIPPED_MODEL
from sttm_core.command_line import run_settings
from sttm_core.engine import VideoLLM
from sttm_core.methods import METHODS
from sttm_core.settings import RunSettings
from sttm_core.video import VideoClip, write_mp4

QUESTION = "What colour is shown?"
FRAMES = 4


@pytest.fixture(scope="module")
def llm() -> VideoLLM:
    return VideoLLM.load(str(SHIPPED_MODEL), device="cpu")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four frames: a green square on noise that jumps once."""
    frames = np.random.default_rng(0).integers(60, 90, (FRAMES, 64, 64, 3), dtype=np.uint8)
    frames[:2, 8:40, 8:40] = frames[2:, 24:56, 24:56] = (30, 200, 30)
    return write_mp4(frames, tmp_path_factory.mktemp("clips") / "square.mp4", fps=2)


@pytest.fixture
def shell(llm: VideoLLM, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable:
    """Run `python -m sttm_core` with the shipped model from memory."""
    monkeypatch.setattr(VideoLLM, "load", lambda path, **options: llm)

    def call(*arguments) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


def test_the_list_says_of_every_method_what_it_is_and_takes(shell: Callable) -> None:
    code, out, err = shell("methods", "--json")
    found = {method["name"]: method for method in json.loads(out)}
    assert (code, err) == (0, "") and list(found) == list(METHODS)
    for name, kind in METHODS.items():
        told = found[name]
        assert {"title", "paper", "acts_on", "query_aware", "merge_layer"} < set(told)
        assert told["acts_on"] == kind.acts_on and told["query_aware"] is kind.query_aware
        assert told["knobs"] == {field.name: field.default for field in fields(kind)}
        assert RunSettings.of(name, **told["knobs"]).name == name, "the defaults are taken back"


def test_the_list_for_people_names_methods_papers_and_knobs(shell: Callable) -> None:
    code, out, _ = shell("methods")
    assert code == 0
    for kind in METHODS.values():
        assert kind.title in out and kind.paper in out and all(f"{knob}=" in out for knob in kind.knobs())


def test_the_list_loads_no_model_code() -> None:
    program = (
        "import sys; from sttm_core.__main__ import main; assert main(['methods', '--json']) == 0;"
        "print(sorted(set(sys.modules) & {'transformers', 'av', 'cv2', 'matplotlib', 'sttm_core.engine'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("budget", ["kept", "layer_average", "kv_bytes"])
def test_any_method_answers_at_any_budget_and_says_all_three_shares(
    shell: Callable, llm: VideoLLM, video: Path, budget: str
) -> None:
    options = ["--num-frames", FRAMES, "--runs", 1, "--json", "--merge-layer", 1]
    code, out, _ = shell("ask", video, QUESTION, "--method", "tome", "--retention", 0.4, "--budget", budget, *options)
    found = json.loads(out)
    settings = RunSettings.of("tome", retention=0.4, budget=budget, merge_layer=1)
    encoded = llm.encode(VideoClip.open(video, FRAMES), merge_layer=1)
    prefix = llm.prefill(encoded, encoded.plan(settings))
    answer = llm.answer(prefix, QUESTION)
    merged, kv_bytes = found["merged"], answer.kv_bytes
    assert (code, merged["method"], merged["text"], merged["kv_bytes"]) == (0, "tome", answer.text, kv_bytes)
    shares = {"kept": merged["kept"], "layer_average": merged["layer_average"], "kv_bytes": merged["kv_share"]}
    assert shares == prefix.shares and shares[budget] <= 0.4 < shares[budget] + 0.02
    assert found["settings"]["budget"] == budget and found["budget_missed"] == ""
    assert len(set(shares.values())) == 3, "layer 0 sees all tokens, so the three differ"


def test_knobs_reach_the_method_and_are_told(shell: Callable, video: Path) -> None:
    given = ["--method", "dycoke", "--knob", "ratio=0.9", "--knob", "rules=as_released"]
    code, out, _ = shell("ask", video, QUESTION, "--num-frames", FRAMES, "--runs", 1, "--json", *given)
    found = json.loads(out)
    assert code == 0 and (found["settings"]["ratio"], found["settings"]["rules"]) == (0.9, "as_released")
    assert found["tokens"]["kept"] == 2 * 196 + 2 * int((1 - 0.9) * 196)
    assert found["patches_dropped"] == found["tokens"]["all"] - found["tokens"]["kept"]


def test_a_budget_out_of_reach_is_said(shell: Callable, video: Path) -> None:
    given = ["--method", "dycoke", "--retention", 0.15, "--num-frames", FRAMES, "--runs", 1, "--json"]
    code, out, err = shell("ask", video, QUESTION, *given)
    sentence = json.loads(out)["budget_missed"]
    assert code == 0 and "15.0% can't be reached: DyCoke can't go below 50.0% of the tokens" in sentence
    assert sentence in err.splitlines()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"method": "toma"}, "there is no method 'toma'; there are sttm, tome,"),
        ({"method": "tome", "tau_spatial": 0.9}, "tome has no 'tau_spatial'; it has retention, ratio, rules"),
        ({"method": "evs", "knobs": ["ratio=0.7"]}, "evs has no 'ratio'"),
        ({"method": "dycoke", "knobs": ["ratio"]}, "--knob wants NAME=VALUE, such as ratio=0.7, got 'ratio'"),
        ({"method": "dycoke", "knobs": ["ratio=7"]}, "ratio must be a share from 0 to 1, got 7"),
        ({"method": "dycoke", "knobs": ["ratio=0.7"], "retention": 0.3}, "give --retention or --knob ratio"),
        ({"method": "random", "knobs": ["seed=x"]}, "seed must be a whole number of at least 0, got 'x'"),
        ({"method": "tome", "budget": "kv_bytes"}, "give --retention with it"),
        ({"budget": "kept"}, "give --retention with it"),
        ({"method": "tome", "retention": 0.0}, "must lie above 0%"),
    ],
)  # fmt: skip
def test_bad_settings_are_one_sentence(given: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match="^[^\n]+$") as refused:
        run_settings(str(SHIPPED_MODEL), **given)
    assert sentence in str(refused.value)
