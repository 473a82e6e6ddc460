"""What the command lines share: their options, loading with settings, progress on stderr, errors as one sentence."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from .advice import SHIPPED_MODEL, advice_for

if TYPE_CHECKING:  # torch and transformers take seconds to import: --help and bad options answer without them
    from .engine import VideoLLM
    from .presets import Preset as PublishedPreset
    from .settings import RunSettings
    from .video import VideoClip

BAD_INPUT = 2
INTERRUPTED = 130
DEFAULT_FRAMES = 16
STTM = "sttm"
MERGING, MODEL = "What is merged", "Model"

# typer's click, under whatever name it brings it along
UsageError = typer.BadParameter.__base__

Video = Annotated[str, typer.Argument(help="Video file.", show_default=False)]
NumFrames = Annotated[
    int | None,
    typer.Option(help="Frames taken, evenly spaced over the video.", show_default="the preset's sampling, or 16"),
]
DEFAULT_MODEL = str(SHIPPED_MODEL)


def _merging(help: str, *flags: str, **shown) -> typer.models.OptionInfo:
    return typer.Option(*flags, help=help, rich_help_panel=MERGING, **shown)


def _loading(*flags: str, help: str | None = None, **shown) -> typer.models.OptionInfo:
    return typer.Option(*flags, help=help, rich_help_panel=MODEL, **shown)


@dataclass(frozen=True)
class Merging:
    """Options that say what is left of the tokens; None where they were not given."""

    method: Annotated[
        str | None,
        _merging("How tokens are reduced; `python -m sttm_core methods` lists the names.", show_default=STTM),
    ] = None
    tau_spatial: Annotated[
        float | None, _merging("Spatial threshold τ_S.", show_default="the model's advice, or 0.85")
    ] = None
    tau_temporal: Annotated[
        float | None,
        _merging("Temporal threshold τ_T; 0 or less links no frames.", show_default="the model's advice, or 0.65"),
    ] = None
    retention: Annotated[
        float | None, _merging("Budget, above 0 up to 1: the method finds its knobs, STTM both thresholds.")
    ] = None
    budget: Annotated[
        Literal["kept", "layer_average", "kv_bytes"] | None,
        _merging("What the budget is a share of.", show_default="kept"),
    ] = None
    preset: Annotated[
        str | None,
        _merging("Published settings by benchmark and budget, such as videomme-50; options given beside it win."),
    ] = None
    rules: Annotated[
        Literal["paper", "as_released", "bottom_up"] | None,
        _merging(
            "The method as published, as its released code does it, or STTM from the patches up.",
            show_default="the preset's, or paper",
        ),
    ] = None
    merge_layer: Annotated[
        int | None,
        _merging("Decoder layer before which tokens are merged.", show_default="the preset's, or the model's"),
    ] = None
    root_level: Annotated[
        int | None, _merging("How many of the coarsest quadtree grids are not used.", show_default="1", min=0)
    ] = None
    prefer: Annotated[
        Literal["balanced", "spatial", "temporal"] | None,
        _merging("Which threshold a budget lets fall first.", show_default="the model's advice, or balanced"),
    ] = None
    knobs: Annotated[
        list[str] | None,
        _merging("A knob of the method, such as ratio=0.7; may be repeated.", "--knob", show_default=False),
    ] = None


@dataclass(frozen=True)
class Loading:
    """Options that say which model is used and how it is loaded: see `loading.LoadingOptions`."""

    model: Annotated[str, _loading(help="Folder or hub id of a checkpoint.", show_default="the shipped model")] = (
        DEFAULT_MODEL
    )
    device: Annotated[str | None, _loading(help="cpu, cuda, cuda:1 ...", show_default="a GPU if there is one")] = None
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None, _loading(show_default="bfloat16 on a GPU, float32 on a CPU")
    ] = None
    device_map: Annotated[str | None, _loading(help="auto spreads the layers over all GPUs.")] = None
    max_memory: Annotated[
        str | None, _loading(help="With --device-map auto, what each device may hold: 0=70GiB,1=70GiB,cpu=100GiB.")
    ] = None
    attention: Annotated[
        Literal["sdpa", "flash_attention_2", "eager"], _loading("--attn", help="Attention implementation.")
    ] = "sdpa"
    load_in_4bit: Annotated[bool, _loading("--load-in-4bit", help="Quantise the decoder; needs bitsandbytes.")] = False
    load_in_8bit: Annotated[bool, _loading("--load-in-8bit", help="Quantise the decoder; needs bitsandbytes.")] = False
    rope_factor: Annotated[
        float | None, _loading(help="Divide positions by this: inputs longer than the model was trained on.")
    ] = None
    newline: Annotated[
        Literal["no_token", "one_token", "frame", "grid"] | None,
        _loading(
            help="LLaVA-Video: a newline token nowhere, after the video, each frame or each row.",
            show_default="no_token",
        ),
    ] = None
    frame_tokens: Annotated[
        int | None, _loading(help="Qwen-VL: at most so many tokens for one step in time.", show_default="768")
    ] = None
    reuse_frames: Annotated[
        Literal["exact", "off"],
        _loading(help="Encode frames that equal the one before once, which changes no feature, or encode all."),
    ] = "exact"


def grouped(command: Callable) -> Callable:
    """Let a command take whole groups of options: typer sees the fields of its parameters that are dataclasses."""
    own = inspect.signature(command, eval_str=True).parameters
    groups = {name: parameter.annotation for name, parameter in own.items() if is_dataclass(parameter.annotation)}

    @functools.wraps(command)
    def with_groups(**given):
        made = {name: group(**{f.name: given.pop(f.name) for f in fields(group)}) for name, group in groups.items()}
        return command(**given, **made)

    options: list[inspect.Parameter] = []
    for name, parameter in own.items():
        one = [parameter] if name not in groups else inspect.signature(groups[name], eval_str=True).parameters.values()
        options += [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in one]
    with_groups.__signature__ = inspect.Signature(options)
    with_groups.__annotations__ = {option.name: option.annotation for option in options}
    return with_groups


def run_settings(model: str, preset: PublishedPreset | None = None, **given) -> RunSettings:
    """Settings from options; what was not given (None) comes from the preset, or else from the model's advice.

    Raises:
        ValueError: for a value out of range, a knob that the method does not have, or a budget beside thresholds.
    """
    from .settings import RunSettings

    given = {name: value for name, value in given.items() if value is not None}
    given |= dict(map(_knob, given.pop("knobs", ())))
    if "budget" in given and "retention" not in given:
        raise ValueError(f"--budget {given['budget']} says what a budget is a share of; give --retention with it.")
    if "retention" in given and ("tau_spatial" in given or "tau_temporal" in given):
        raise ValueError("A budget finds both thresholds by itself; give --retention or thresholds, not both.")
    if given.get("method", STTM) != STTM:
        if preset is not None:
            raise ValueError(f"Published presets are thresholds of STTM; leave --preset out for {given['method']}.")
        return _of_one_budget(given)
    own = advice_for(model)
    advised = {"prefer": own.prefer} | {name: getattr(preset or own, name) for name in ("tau_spatial", "tau_temporal")}
    if preset is not None:
        advised |= {name: getattr(preset, name) for name in ("rules", "merge_layer", "position_rule")}
    return RunSettings.of(**(advised | given))


def _of_one_budget(given: dict) -> RunSettings:
    """Settings of a method other than STTM; ValueError for a budget beside a knob that stands for one."""
    from .methods import METHODS
    from .settings import RunSettings

    settings = RunSettings.of(**given)
    twice = [knob for knob in METHODS[settings.name].overrides if knob in given]
    if "retention" in given and twice:
        raise ValueError(f"{twice[0]} and a budget decide the same thing; give --retention or --knob {twice[0]}.")
    return settings


def _knob(text: str) -> tuple[str, float | int | str]:
    """``"ratio=0.7"`` as a name and a value."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not (name and equals and value):
        raise ValueError(f"--knob wants NAME=VALUE, such as ratio=0.7, got {text!r}.")
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return name, kind(value)
    return name, value


def published(name: str | None, model: str) -> PublishedPreset | None:
    """The preset of this name for a model; None without a name.

    Raises:
        ValueError: if there is none, naming those that exist.
    """
    from .presets import preset

    return None if name is None else preset(name, model)


def open_video(path: str, num_frames: int | None, preset: PublishedPreset | None) -> VideoClip:
    """The frames that were asked for; else as many as the preset takes of such a video, else 16 of them.

    Raises:
        ValueError: (`VideoError`) if the file can't be read.
    """
    from .video import VideoClip

    by_default = DEFAULT_FRAMES if preset is None else preset.sampling
    return VideoClip.open(path, by_default if num_frames is None else num_frames)


def memory_limits(text: str | None) -> dict[int | str, str] | None:
    """``"0=70GiB,cpu=100GiB"`` as accelerate wants it.

    Raises:
        ValueError: if the text is not of this form.
    """
    if text is None:
        return None
    limits = {}
    for part in text.split(","):
        device, equals, size = (piece.strip() for piece in part.partition("="))
        if not (device and equals and size):
            raise ValueError(f"--max-memory wants device=size pairs such as 0=70GiB,cpu=100GiB, got {text!r}.")
        limits[int(device) if device.isdigit() else device] = size
    return limits


def load_model(given: Loading, rope_factor: float | None = None) -> VideoLLM:
    """The model, without a word from the libraries that load it; ``rope_factor`` where the options give none.

    Raises:
        ValueError: (`ModelError`) in one sentence if it can't be loaded.
    """
    loading = asdict(given)
    model = loading.pop("model")
    loading["max_memory"] = memory_limits(given.max_memory)
    loading["rope_factor"] = given.rope_factor or rope_factor
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    from .engine import ModelError, VideoLLM

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    hub_logging.set_verbosity_error()
    try:
        return VideoLLM.load(model, **loading)
    except RuntimeError as error:  # torch, for a device it does not know or does not have
        raise ModelError(f"The model can't be put on the device {given.device!r}; give cpu or cuda.") from error


def prepare(
    progress: Progress, video: str, num_frames: int | None, merging: Merging, loading: Loading, **rest
) -> tuple[VideoClip, VideoLLM, RunSettings]:
    """Everything that both command lines do before they part: settings checked, video read, model loaded.

    Args:
        rest: settings that only one of them offers, None where they were not given.

    Raises:
        ValueError: for bad input of any kind, in one sentence.
    """
    merge = asdict(merging) | rest
    found = published(merge.pop("preset"), loading.model)
    settings = run_settings(loading.model, found, **merge)
    memory_limits(loading.max_memory)  # refused before the video is read
    from .comparison import settings_used

    progress.checking("reading the video")
    clip = open_video(video, num_frames, found)
    progress.checking("loading the model")
    llm = load_model(loading, found.rope_factor if found else None)
    used = settings_used(llm, settings)
    llm.family.check_merge_layer(llm.model, used.merge_layer)
    return clip, llm, used


class Progress:
    """Stages on stderr: a spinner in a terminal; elsewhere one line each, from the moment when the input is accepted.

    So the only line of a log after bad input is the sentence that says what is wrong.
    """

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.spinner = self.console.status("starting")

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self.spinner.start()
        return self

    def __exit__(self, *error) -> None:
        self.spinner.stop()

    def checking(self, stage: str) -> None:
        """A stage that may still find the input bad."""
        self.spinner.update(stage)

    def working(self, stage: str) -> None:
        """A stage with good input."""
        self.spinner.update(stage)
        if not self.console.is_terminal:
            print(stage, file=sys.stderr, flush=True)


def run(app: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0, 2 after bad input (one sentence on stderr), 130 when interrupted.

    Other exceptions are faults of the program and keep their traceback.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return app(arguments, standalone_mode=False) or 0
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except UsageError as error:
        return _refuse(error.format_message())
    except ValueError as error:
        return _refuse(str(error))
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        return _refuse(str(error))


@contextlib.contextmanager
def quiet_stdout():
    """What libraries print inside the `with` goes to stderr, so that stdout holds the result alone."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _is_out_of_memory(error: RuntimeError) -> bool:
    from .engine import OutOfMemoryError

    return isinstance(error, OutOfMemoryError)


def _refuse(sentence: str) -> int:
    print(" ".join(sentence.split()), file=sys.stderr)
    return BAD_INPUT
