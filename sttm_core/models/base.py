"""What the engine asks of a model family. One family, one file, one row in the registry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, PreTrainedConfig
from transformers.video_utils import VideoMetadata

from ..decoder import RotaryEmbeddings
from ..vision import align_feed_forward, contiguous_layers, encoded_once, fused_layers
from .plain_text import PLACE, PromptParts, plain_text, split_prompt

MERGE_LAYER = 2  # of the 7B models in the paper (section 4.1)
ADVICE = "sttm"  # key of a config.json that advises {"merge_layer": ..., "position_rule": ...}


@dataclass(frozen=True, eq=False)
class VideoLayout:
    """Where the video is in the prompt: ``index [T, H, W]`` int64, each patch's place among ``length`` tokens.

    T may be smaller than the number of frames (Qwen-VL joins two). Places ascend in scan order; text may stand between.
    """

    index: torch.Tensor
    length: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(self.index.shape)

    @property
    def num_patches(self) -> int:
        return self.index.numel()

    @cached_property
    def start(self) -> int | None:
        """The place of the first patch if all others follow it without anything between, else None."""
        first, last = int(self.index[0, 0, 0]), int(self.index[-1, -1, -1])
        return first if last - first + 1 == self.num_patches else None

    def patches(self, hidden: torch.Tensor) -> torch.Tensor:
        """``[T, H, W, C]`` rows of ``hidden [S, C]``: a view of it where they are one stretch."""
        if self.start is None:
            return hidden[self.index.to(hidden.device)]
        return hidden[self.start : self.start + self.num_patches].view(*self.shape, -1)


class Family:
    """How one kind of Video LLM lays out its prompt and where its parts are. Holds no state.

    Attributes:
        model_type: `config.model_type` that picks this family.
        title: for people.
        hub_ids: checkpoints that are known to load.
        position_rule: one of `positions.POSITION_RULES`, the default of this family.
        position_axes: 1 for plain RoPE, 3 for M-RoPE.
        frame_tokens: limit of tokens for one step in time where it depends on the video's size, else None.
        square: whether all frames become one square grid of tokens.
        features_by: the method of ``model.model`` that encodes a video, if nothing in it looks from one step in time at
            another, so that steps of equal pixels have equal features; else None.
    """

    model_type: str = ""
    title: str = ""
    hub_ids: tuple[str, ...] = ()
    position_rule: str = "reassigned"
    position_axes: int = 1
    frame_tokens: int | None = None
    square: bool = True
    features_by: str | None = None

    def matches(self, config: dict) -> bool:
        """Whether a checkpoint's config.json is of this family."""
        return config.get("model_type") == self.model_type

    def config(self, path_or_id: str, newline: str | None = None) -> PreTrainedConfig:
        """The checkpoint's config; ``newline`` is for LLaVA-Video alone."""
        if newline is not None:
            raise ValueError(f"newline tokens can't be chosen for {self.title}; leave newline out")
        return AutoConfig.from_pretrained(path_or_id)

    def load(self, path_or_id: str, config: PreTrainedConfig, **options) -> tuple[nn.Module, dict]:
        """The model, and transformers' report with its ``missing_keys``; ``options`` are those of `from_pretrained`."""
        return AutoModelForImageTextToText.from_pretrained(
            path_or_id, config=config, output_loading_info=True, **options
        )

    def empty(self, config: PreTrainedConfig) -> nn.Module:
        """The model as `load` makes it, without weights: on the meta device, where it takes no memory."""
        with torch.device("meta"):
            return AutoModelForImageTextToText.from_config(config)

    def load_processor(self, path_or_id: str, model: nn.Module):
        """What turns text and frames into inputs of ``model``."""
        return AutoProcessor.from_pretrained(path_or_id)

    def vision(self, model: nn.Module) -> nn.Module:
        """The vision encoder."""
        return model.model.vision_tower

    def prepare(self, model: nn.Module) -> None:
        """What makes the loaded model faster and changes nothing that it gives."""
        align_feed_forward(self.vision(model))

    @contextmanager
    def fast_vision(self, model: nn.Module) -> Iterator[None]:
        """Inside the `with`, without gradients, the model encodes a video faster and gives what it gives otherwise."""
        vision = self.vision(model)
        with contiguous_layers(vision), fused_layers(vision):
            yield

    def reusing(self, model: nn.Module, repeated: torch.Tensor) -> AbstractContextManager[None]:
        """A `with` inside which steps ``repeated [T]`` get the features of the step before instead of being encoded."""
        if self.features_by is None:
            return nullcontext()
        return encoded_once(model.model, self.features_by, repeated, partial(self.closing_rows, model))

    def closing_rows(self, model: nn.Module, rows: int, steps: int) -> int:
        """Of ``rows`` features that the encoder gave of ``steps`` steps, those that stand behind the last step."""
        return 0

    def any_size(self, model: nn.Module) -> AbstractContextManager[None]:
        """A `with` inside which the vision encoder takes frames of another size than its own."""
        return nullcontext()

    def smaller(
        self, model: nn.Module, processor, frames: torch.Tensor, grid: tuple[int, int]
    ) -> tuple[Any, torch.Tensor]:
        """A processor and frames by which each step in time becomes ``grid [h, w]`` tokens; neither original changes.

        Raises:
            ValueError: where this family can't encode smaller frames, in one sentence.
        """
        raise ValueError(f"{self.title} can't encode smaller frames; choose another method.")

    def decoder(self, model: nn.Module) -> nn.Module:
        """The text decoder: has ``layers``, ``norm``, ``rotary_emb`` and ``embed_tokens``."""
        return model.model.language_model

    def first_merge_layer(self, model: nn.Module) -> int:
        """The first layer before which merging is possible."""
        return 0

    def default_merge_layer(self, model: nn.Module) -> int:
        """Layer index 2 as in the paper's 7B models, or what the config advises, as far as the model allows it."""
        last = len(self.decoder(model).layers) - 1
        return min(max(_advice(model).get("merge_layer", MERGE_LAYER), self.first_merge_layer(model)), last)

    def default_position_rule(self, model: nn.Module) -> str:
        """This family's rule unless the config advises another."""
        return _advice(model).get("position_rule", self.position_rule)

    def check_merge_layer(self, model: nn.Module, layer: int) -> None:
        """ValueError if merging before decoder layer ``layer`` is not possible in this model."""
        first, last = self.first_merge_layer(model), len(self.decoder(model).layers) - 1
        if not first <= layer <= last:
            raise ValueError(f"the merge layer must lie between {first} and {last} for this model, got {layer}.")

    def check_frame_tokens(self, frame_tokens: int | None) -> int | None:
        """The limit itself, or this family's own; ValueError if it is below 1."""
        if frame_tokens is not None and frame_tokens < 1:
            raise ValueError(f"frame_tokens must be at least 1, got {frame_tokens}.")
        return self.frame_tokens if frame_tokens is None else frame_tokens

    def prompt(self, processor, question: str) -> str:
        """The chat template's text for one video and one question, with one video placeholder in it."""
        content = [{"type": "video"}, {"type": "text", "text": question}]
        return processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)

    def video_end(self, processor) -> str:
        """Text with which the video ends in the prompt: what comes behind it differs from question to question."""
        return processor.video_token

    def parts(self, processor) -> PromptParts:
        """The prompt around a question; nothing that a person wrote is in it."""
        return split_prompt(self.prompt(processor, PLACE), self.video_end(processor))

    def question_ids(self, processor, question: str) -> list[int]:
        """Token ids of what follows the video: the question as `plain_ids`, end of turn, start of the answer."""
        return plain_text(processor.tokenizer).question_ids(self.parts(processor), question)

    def plain_ids(self, processor, text: str) -> list[int]:
        """Token ids of what a person wrote (a question, subtitles, a file's name): never a control token."""
        return plain_text(processor.tokenizer).ids(text)

    def video_options(self, processor, frames: torch.Tensor, times: np.ndarray, frame_tokens: int | None) -> dict:
        """What the processor is told about the video beside its frames."""
        return {"do_sample_frames": False}

    def inputs(
        self, processor, text: str, frames: torch.Tensor, times: np.ndarray, frame_tokens: int | None = None
    ) -> dict[str, torch.Tensor]:
        """Model inputs for ``text`` (a prompt or its prefix) and frames ``[T, 3, H, W]`` uint8 at ``times`` seconds.

        Pixels are resized and normalised where ``frames`` are.
        """
        return processed(processor, text, frames, self.video_options(processor, frames, times, frame_tokens))

    def grid(
        self, model: nn.Module, processor, num_frames: int, size: tuple[int, int], frame_tokens: int | None
    ) -> tuple[int, int, int]:
        """``(T, H, W)`` tokens of ``num_frames`` frames of ``size`` (height, width), without running anything."""
        side = self.side(model)
        return num_frames, side, side

    def side(self, model: nn.Module, pixels: int | None = None) -> int:
        """Tokens along a side of a square frame of so many ``pixels``; None for the model's own size."""
        raise TypeError(f"{type(self).__name__} must say how many tokens a frame has: define side() or grid().")

    def fewest_positions(self, grid: tuple[int, int, int]) -> int:
        """Positions that a video of ``grid`` tokens takes at least; text between its frames comes on top."""
        return grid[0] * grid[1] * grid[2] if self.position_axes == 1 else max(grid[1:])

    def layout(self, model: nn.Module, inputs: Mapping[str, Any]) -> VideoLayout:
        """Where the video tokens of a prompt with one video are."""
        return self.layouts(model, inputs)[0][0]

    def layouts(self, model: nn.Module, inputs: Mapping[str, Any]) -> list[list[VideoLayout]]:
        """Where the video tokens of a batch are: a list of clips, in their order, for each row.

        Args:
            inputs: what the model's forward pass is given, ``input_ids [B, S]`` among it.

        Raises:
            ValueError: if the video tokens make no whole frames.
        """
        ids = inputs["input_ids"]  # [B, S]
        places = [(row == self.patch_token(model)).nonzero().squeeze(1) for row in ids]
        return [[VideoLayout(clip, ids.shape[1]) for clip in row] for row in self.clips(model, inputs, places)]

    def patch_token(self, model: nn.Module) -> int:
        """The token id that stands for a patch of a video."""
        return model.config.video_token_id

    def clips(
        self, model: nn.Module, inputs: Mapping[str, Any], places: list[torch.Tensor]
    ) -> list[list[torch.Tensor]]:
        """The clips of each row as ``[T, H, W]`` places, out of the places of its `patch_token`.

        Every family says this itself. What comes behind the patches of a clip (a newline token) is no patch.
        """
        raise TypeError(f"{type(self).__name__} must say where its video tokens are: define clips().")

    def frame_side(self, model: nn.Module, inputs: Mapping[str, Any]) -> int:
        """Tokens along a side of the square frames in ``inputs``; the model's own where these are encoded already."""
        given = [inputs.get(name) for name in ("pixel_values_videos", "pixel_values")]
        return self.side(model, next((pixels.shape[-1] for pixels in given if pixels is not None), None))

    def next_position(self, model: nn.Module, inputs: dict[str, torch.Tensor], position_ids: torch.Tensor) -> int:
        """Position of the first text token behind ``inputs``, whose own are ``position_ids [..., S]``."""
        return int(position_ids.max()) + 1

    def rotary(self, decoder: nn.Module, positions: torch.Tensor) -> RotaryEmbeddings:
        """Cos and sin ``[..., n, head_dim]`` of text at position numbers ``[n]``."""
        numbers = positions[None]  # [1, n]
        if self.position_axes > 1:
            numbers = numbers.expand(self.position_axes, 1, -1)  # [3, 1, n]
        like = decoder.embed_tokens.weight.new_empty(1, device=positions.device)
        return decoder.rotary_emb(like, numbers)


def _advice(model: nn.Module) -> dict:
    """What a config.json says under ``sttm``: where its maker advises to merge, and with which positions."""
    return getattr(model.config, ADVICE, None) or {}


def processed(processor, text: str, frames: torch.Tensor, options: dict) -> dict[str, torch.Tensor]:
    """All that a processor makes of a text with one video in it, except what it only says about the video."""
    made = processor(text=text, return_tensors="pt", **{"videos": [frames]} | options)
    return {name: torch.as_tensor(value) for name, value in made.items() if name != "video_metadata"}


def runs_of(places: torch.Tensor) -> list[torch.Tensor]:
    """Ascending ``places [n]`` cut where something stands between them; no runs where there are no places."""
    cuts = (places.diff() != 1).nonzero().squeeze(1) + 1
    return list(places.tensor_split(cuts.tolist())) if len(places) else []


def square_frames(places: torch.Tensor, side: int) -> torch.Tensor:
    """``places [n]`` of a clip as ``[T, side, side]``; ValueError if they make no whole frames."""
    if len(places) % (side * side):
        raise ValueError(
            f"{len(places)} video tokens are no whole frames of {side}x{side}; a video is read in one pass, "
            "without prefill_chunk_size, and with something between it and the next one."
        )
    return places.view(-1, side, side)


def frames_as_images(places: torch.Tensor, side: int) -> list[torch.Tensor]:
    """The clip of a row in which each run of ``side * side`` image tokens is a frame; none where a run is not."""
    runs = runs_of(places)
    if not runs or any(len(run) != side * side for run in runs):
        return []  # an image in tiles
    return [torch.stack(runs).view(-1, side, side)]


def repeated(ids: torch.Tensor, token: int, count: int) -> torch.Tensor:
    """``ids [1, S]`` with the first ``token`` in it repeated ``count`` times.

    Equal to tokenising text in which the placeholder stands ``count`` times, without reading thousands of them.
    """
    first = int((ids[0] == token).nonzero()[0])
    return torch.cat([ids[:, :first], ids.new_full((1, count), token), ids[:, first + 1 :]], dim=1)


def metadata(times: np.ndarray) -> VideoMetadata:
    """What processors derive timestamps and frame rates from: frames on a clock of milliseconds.

    Their own arithmetic then gives back ``times`` to a millisecond, and the mean rate at which frames were taken.
    """
    step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 1.0
    length = step * len(times)
    clock = 1000.0
    return VideoMetadata(
        total_num_frames=round(length * clock),
        fps=clock,
        duration=float(times[-1]) + step,
        frames_indices=[round(second * clock) for second in times.tolist()],
    )


def resized_by(processor, **attributes):
    """A copy of a processor whose video processor is a copy with other ``attributes``."""
    made = copy(processor)
    made.video_processor = copy(processor.video_processor)
    for name, value in attributes.items():
        setattr(made.video_processor, name, value)
    return made
