"""What the command lines share: their options, loading with settings, progress on stderr, errors as one sentence."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from .defaults import SHIPPED_MODEL, default_thresholds

if TYPE_CHECKING:  # torch and transformers take seconds to import: --help and bad options answer without them
    from .comparison import MergeSettings
    from .engine import VideoLLM
    from .presets import Preset as PublishedPreset
    from .video import VideoClip

BAD_INPUT = 2
INTERRUPTED = 130
DEFAULT_FRAMES = 16
MERGING, MODEL = "What is merged", "Model"

# typer's click, under whatever name it brings it along
UsageError = typer.BadParameter.__base__

Video = Annotated[str, typer.Argument(help="Video file.", show_default=False)]
NumFrames = Annotated[
    int | None,
    typer.Option(help="Frames taken, evenly spaced over the video.", show_default="the preset's sampling, or 16"),
]
TauSpatial = Annotated[
    float | None,
    typer.Option(help="Spatial threshold τ_S.", rich_help_panel=MERGING, show_default="the model's advice, or 0.85"),
]
TauTemporal = Annotated[
    float | None,
    typer.Option(
        help="Temporal threshold τ_T; 0 or less links no frames.",
        rich_help_panel=MERGING,
        show_default="the model's advice, or 0.65",
    ),
]
Retention = Annotated[
    float | None,
    typer.Option(help="Budget, above 0 up to 1: finds both thresholds instead.", rich_help_panel=MERGING),
]
Rules = Annotated[
    Literal["paper", "as_released"] | None,
    typer.Option(
        help="The method as published, or as its released code does it.",
        rich_help_panel=MERGING,
        show_default="the preset's, or paper",
    ),
]
MergeLayer = Annotated[
    int | None,
    typer.Option(help="Decoder layer before which tokens are merged.", rich_help_panel=MERGING, show_default="2"),
]
RootLevel = Annotated[
    int, typer.Option(min=0, help="How many of the coarsest quadtree grids are not used.", rich_help_panel=MERGING)
]
Model = Annotated[
    str, typer.Option(help="Folder or hub id of a checkpoint.", rich_help_panel=MODEL, show_default="the shipped model")
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="Published settings by benchmark and budget, such as videomme-50; options given beside it win.",
        rich_help_panel=MERGING,
        show_default=False,
    ),
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1 ...", rich_help_panel=MODEL, show_default="a GPU if there is one")
]
Dtype = Annotated[
    Literal["float32", "bfloat16", "float16"] | None,
    typer.Option(rich_help_panel=MODEL, show_default="bfloat16 on a GPU, float32 on a CPU"),
]
DeviceMap = Annotated[str | None, typer.Option(help="auto spreads the layers over all GPUs.", rich_help_panel=MODEL)]
Attention = Annotated[
    Literal["sdpa", "flash_attention_2", "eager"],
    typer.Option("--attn", help="Attention implementation.", rich_help_panel=MODEL),
]
LoadIn4Bit = Annotated[
    bool, typer.Option("--load-in-4bit", help="Quantise the decoder; needs bitsandbytes.", rich_help_panel=MODEL)
]
LoadIn8Bit = Annotated[
    bool, typer.Option("--load-in-8bit", help="Quantise the decoder; needs bitsandbytes.", rich_help_panel=MODEL)
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        help="With --device-map auto, what each device may hold: 0=70GiB,1=70GiB,cpu=100GiB.", rich_help_panel=MODEL
    ),
]
RopeFactor = Annotated[
    float | None,
    typer.Option(help="Divide positions by this: inputs longer than the model was trained on.", rich_help_panel=MODEL),
]
FrameTokens = Annotated[
    int | None,
    typer.Option(
        help="Qwen-VL: at most so many tokens for one step in time.", rich_help_panel=MODEL, show_default="768"
    ),
]
DEFAULT_MODEL = str(SHIPPED_MODEL)


def merge_settings(
    model: str,
    tau_spatial: float | None,
    tau_temporal: float | None,
    retention: float | None,
    preset: PublishedPreset | None = None,
    **rest,
) -> MergeSettings:
    """Settings from options; what was not given (None) comes from the preset, or else from the model's advice.

    Raises:
        ValueError: for a value out of range, or a budget beside thresholds.
    """
    from .comparison import MergeSettings

    if retention is not None and (tau_spatial is not None or tau_temporal is not None):
        raise ValueError("A budget finds both thresholds by itself; give --retention or thresholds, not both.")
    advice = preset or default_thresholds(model)
    if preset is not None:
        published = {name: getattr(preset, name) for name in ("rules", "merge_layer", "position_rule")}
        rest |= {name: value for name, value in published.items() if name in rest and rest[name] is None}
    rest["rules"] = rest.get("rules") or "paper"
    return MergeSettings(
        tau_spatial=advice.tau_spatial if tau_spatial is None else tau_spatial,
        tau_temporal=advice.tau_temporal if tau_temporal is None else tau_temporal,
        retention=retention,
        **rest,
    )


def published(name: str | None, model: str) -> PublishedPreset | None:
    """The preset of this name for a model; None without a name.

    Raises:
        ValueError: if there is none, naming those that exist.
    """
    from .presets import preset

    return None if name is None else preset(name, model)


def open_video(path: str, num_frames: int | None, preset: PublishedPreset | None) -> VideoClip:
    """The frames that were asked for; else sampled as the preset's run was, else 16 of them.

    Raises:
        ValueError: (`VideoError`) if the file can't be read.
    """
    from .video import VideoClip

    if num_frames is None and preset is not None:
        return VideoClip.open(path, fps=preset.fps, max_frames=preset.max_frames)
    return VideoClip.open(path, DEFAULT_FRAMES if num_frames is None else num_frames)


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


def load_model(model: str, device: str | None, **options) -> VideoLLM:
    """The model, without a word from the libraries that load it; see `loading.LoadingOptions` for the options.

    Raises:
        ValueError: (`ModelError`) in one sentence if it can't be loaded.
    """
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    from .engine import ModelError, VideoLLM

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    hub_logging.set_verbosity_error()
    try:
        return VideoLLM.load(model, device=device, **options)
    except RuntimeError as error:  # torch, for a device it does not know or does not have
        raise ModelError(f"The model can't be put on the device {device!r}; give cpu or cuda.") from error


def prepare(
    progress: Progress, video: str, num_frames: int | None, model: str, preset: str | None, merge: dict, loading: dict
) -> tuple[VideoClip, VideoLLM, MergeSettings]:
    """Everything that both command lines do before they part: settings checked, video read, model loaded.

    Args:
        merge: options of `merge_settings`, None where they were not given.
        loading: options of `loading.LoadingOptions`; ``max_memory`` as text.

    Raises:
        ValueError: for bad input of any kind, in one sentence.
    """
    found = published(preset, model)
    settings = merge_settings(model, preset=found, **merge)
    factor = loading["rope_factor"] or (found.rope_factor if found else None)
    loading = loading | {"max_memory": memory_limits(loading["max_memory"]), "rope_factor": factor}
    from .comparison import settings_used

    progress.checking("reading the video")
    clip = open_video(video, num_frames, found)
    progress.checking("loading the model")
    llm = load_model(model, **loading)
    llm.family.check_merge_layer(llm.model, settings_used(llm, settings).merge_layer)
    return clip, llm, settings


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
