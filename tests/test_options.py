"""Options that the three command lines share: the same everywhere, and all of them reach the loading of a model."""

from __future__ import annotations

import inspect
from dataclasses import asdict, fields
from typing import get_args, get_type_hints

import pytest
import typer
from typer.main import get_command

import app
import sttm_core.__main__
import viz.__main__
from sttm_core import command_line
from sttm_core.command_line import Loading, Merging, grouped, load_model, run
from sttm_core.engine import VideoLLM
from sttm_core.loading import LoadingOptions
from sttm_core.methods.sttm.plan import RULES
from sttm_core.models.llava_video import NEWLINES
from sttm_core.vision import REUSE

APPS = {"app": app.cli, "ask": sttm_core.__main__.app, "render": viz.__main__.app}
GIVEN = {
    "model": "some/model", "device": "cpu", "dtype": "float16", "device_map": "auto", "max_memory": "0=70GiB",
    "attention": "eager", "load_in_4bit": True, "load_in_8bit": True, "rope_factor": 2.0, "newline": "frame",
    "frame_tokens": 300, "reuse_frames": "off",
}  # fmt: skip


def options_of(name: str) -> dict[str, tuple]:
    """Flags, help and default of every option of a command."""
    command = get_command(APPS[name])
    command = command.commands[name] if name != "app" else command
    return {
        option.name: (option.opts, option.help, option.default)
        for option in command.params
        if option.param_type_name == "option"
    }


@pytest.mark.parametrize("name", APPS)
def test_every_command_line_loads_models_with_the_same_options(name) -> None:
    own, reference = options_of(name), options_of("ask")
    for field in fields(Loading):
        assert own[field.name] == reference[field.name]
    assert own["newline"][0] == ["--newline"] and own["attention"][0] == ["--attn"]


def test_both_command_lines_merge_with_the_same_options() -> None:
    ask, render = options_of("ask"), options_of("render")
    assert all(ask[field.name] == render[field.name] for field in fields(Merging))


def test_choices_are_those_of_the_library() -> None:
    def choices(group: type, name: str) -> tuple:
        return get_args(get_args(get_type_hints(group)[name])[0])

    assert choices(Loading, "newline") == NEWLINES
    assert choices(Merging, "rules") == RULES
    assert get_args(get_type_hints(Loading)["reuse_frames"]) == REUSE


def test_all_options_reach_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    monkeypatch.setattr(VideoLLM, "load", lambda path, **options: seen.update(model=path, **options))
    load_model(Loading(**GIVEN))
    assert seen == GIVEN | {"max_memory": {0: "70GiB"}}
    known = {field.name for field in fields(LoadingOptions)} | {"frame_tokens", "reuse_frames"}
    assert set(seen) - {"model"} == known - {"offload_folder"}


@pytest.mark.parametrize(("own", "preset", "used"), [(None, None, None), (None, 2.0, 2.0), (4.0, 2.0, 4.0)])
def test_a_presets_rope_factor_gives_way(own, preset, used, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    monkeypatch.setattr(VideoLLM, "load", lambda path, **options: seen.update(options))
    load_model(Loading(rope_factor=own), preset)
    assert seen["rope_factor"] == used


def test_a_command_gets_its_groups_whole() -> None:
    cli, seen = typer.Typer(), []

    @cli.command()
    @grouped
    def command(word: str, times: int = 1, *, merging: Merging, loud: bool = False, loading: Loading) -> None:
        """What it does."""
        seen.append((word, times, loud, merging, loading))

    assert run(cli, ["hello", "--loud", "--tau-spatial", "0.5", "--newline", "grid"]) == 0
    assert seen == [("hello", 1, True, Merging(tau_spatial=0.5), Loading(newline="grid"))]
    names = ["word", "times", *(f.name for f in fields(Merging)), "loud", *(f.name for f in fields(Loading))]
    assert list(inspect.signature(command).parameters) == names and command.__doc__ == "What it does."
    assert asdict(Loading())["model"] == command_line.DEFAULT_MODEL
