"""What a run says of itself, against the libraries' own words."""

from __future__ import annotations

import importlib
import json
import platform
from pathlib import Path

import pytest
import torch

from sttm_core.provenance import environment, rendered_prompt, run_truth, versions
from sttm_core.version import VERSION
from tests.core.tiny import TINY, clip, tiny

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("model_type", TINY)
def test_the_prompt_is_what_plain_transformers_renders(model_type: str) -> None:
    llm, question = tiny(model_type), "What colour is the <second> block, & where?"
    messages = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": question}]}]
    rendered = llm.processor.apply_chat_template(messages, add_generation_prompt=True)
    assert rendered_prompt(llm, f"  {question}\n") == rendered


def test_an_empty_question_has_no_prompt() -> None:
    with pytest.raises(ValueError, match="the question is empty"):
        rendered_prompt(tiny("llava_onevision"), " ")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_environment_is_the_model_as_loaded(attention: str) -> None:
    llm = tiny("qwen2_vl", attention)
    said = environment(llm)
    assert (said["model"], said["family"]) == ("tiny qwen2_vl", "Qwen2-VL")
    assert (said["dtype"], said["attention"], said["quantization"]) == ("float32", attention, None)
    assert said["frame_tokens"] == 768 and said["rope"]["mrope_section"] == [2, 1, 1]
    assert platform.system() in said["system"]


def test_versions_are_those_of_the_modules() -> None:
    said = versions()
    modules = {"torch": "torch", "transformers": "transformers", "numpy": "numpy", "av": "av", "pillow": "PIL"}
    for package, module in modules.items():
        assert importlib.import_module(module).__version__.startswith(said[package])
    assert said["python"] == platform.python_version() and said["cuda"] == torch.version.cuda


def test_the_package_has_one_version() -> None:
    project = pytest.importorskip("tomllib").loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "sttm_core.version.VERSION"}
    assert versions()["sttm-studio"] == VERSION


def test_all_of_it_is_json() -> None:
    llm, shown = tiny("qwen3_vl"), clip()
    said = json.loads(json.dumps(run_truth(llm, shown, "What?"), allow_nan=False))
    assert said["frames"] == shown.frames_dict() and said["frames"]["indices"] == [0, 1, 2, 3, 4]
    assert set(said) == {"frames", "prompt", "environment"}
