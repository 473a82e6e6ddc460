"""Qwen2-VL: two frames joined to one step, a grid that follows the video's size, M-RoPE over time, rows and columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize
from transformers.image_utils import SizeDict
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from .. import packed_attention
from .base import Family, processed, resized_by, runs_of

AS_IT_IS = {"shortest_edge": 1, "longest_edge": 2**40}  # sizes that leave every frame of whole tokens as it is


class Qwen2VL(Family):
    model_type = "qwen2_vl"
    title = "Qwen2-VL"
    hub_ids = ("Qwen/Qwen2-VL-2B-Instruct", "Qwen/Qwen2-VL-7B-Instruct", "Qwen/Qwen2-VL-72B-Instruct")
    position_rule = "survived"
    position_axes = 3
    square = False
    features_by = "get_video_features"
    frame_tokens = 768  # VIDEO_MAX_PIXELS of qwen-vl-utils: 768 * 28 * 28 pixels a frame

    def vision(self, model: nn.Module) -> nn.Module:
        return model.model.visual

    def prepare(self, model: nn.Module) -> None:
        """One attention call for all frames or windows, where transformers would make one for each."""
        super().prepare(model)
        vision = model.config.vision_config
        if vision._attn_implementation == "sdpa":
            vision._attn_implementation = packed_attention.NAME

    def video_end(self, processor) -> str:
        return "<|vision_end|>"

    def smaller(
        self, model: nn.Module, processor, frames: torch.Tensor, grid: tuple[int, int]
    ) -> tuple[Any, torch.Tensor]:
        side = token_pixels(processor.video_processor)
        small = resize(frames, [grid[0] * side, grid[1] * side], InterpolationMode.BICUBIC, antialias=True)
        return resized_by(processor, size=SizeDict(**AS_IT_IS)), small

    def video_options(self, processor, frames: torch.Tensor, times: np.ndarray, frame_tokens: int | None) -> dict:
        video = processor.video_processor
        lowest, highest = self.pixel_range(video, len(frames), frame_tokens)
        options = {"do_sample_frames": False, "size": {"shortest_edge": lowest, "longest_edge": highest}}
        if hasattr(video, "cap_pixels_per_frame"):
            options["cap_pixels_per_frame"] = False  # the size says it
        return options

    def inputs(
        self, processor, text: str, frames: torch.Tensor, times: np.ndarray, frame_tokens: int | None = None
    ) -> dict[str, torch.Tensor]:
        """What the processor makes, without its text of 46000 placeholders, which takes longer than all pixels.

        It is given frames of one token each. What belongs to that token is then repeated for all tokens of a step.
        """
        options = self.video_options(processor, frames, times, frame_tokens)
        side = token_pixels(processor.video_processor)
        small = torch.zeros(len(frames), 3, side, side, dtype=torch.uint8)
        made = processed(processor, text, small, options | {"size": AS_IT_IS})
        options.pop("video_metadata", None)  # which only the text depends on
        made |= dict(processor.video_processor([frames], return_tensors="pt", **options))
        _, height, width = made["video_grid_thw"][0].tolist()
        tokens = height * width // processor.video_processor.merge_size**2
        counts = torch.where(made["input_ids"][0] == processor.video_token_id, tokens, 1)
        of_text = [name for name, value in made.items() if value.shape == (1, len(counts))]
        return made | {name: made[name].repeat_interleave(counts, dim=1) for name in of_text}

    def pixel_range(self, video_processor, num_frames: int, frame_tokens: int) -> tuple[int, int]:
        """What the processor takes as ``shortest_edge`` and ``longest_edge``: fewest and most pixels of a frame."""
        lowest = video_processor.size["shortest_edge"]
        return lowest, max(lowest, frame_tokens * token_pixels(video_processor) ** 2)

    def resized(self, num_frames: int, size: tuple[int, int], factor: int, pixels: tuple[int, int]) -> tuple[int, int]:
        """Height and width to which the processor brings frames."""
        return smart_resize(*size, factor=factor, min_pixels=pixels[0], max_pixels=pixels[1])

    def grid(
        self, model: nn.Module, processor, num_frames: int, size: tuple[int, int], frame_tokens: int | None
    ) -> tuple[int, int, int]:
        video = processor.video_processor
        side, pixels = token_pixels(video), self.pixel_range(video, num_frames, frame_tokens)
        height, width = self.resized(num_frames, size, side, pixels)
        return math.ceil(num_frames / video.temporal_patch_size), height // side, width // side

    def clips(
        self, model: nn.Module, inputs: Mapping[str, Any], places: list[torch.Tensor]
    ) -> list[list[torch.Tensor]]:
        """Clips follow each other in ``video_grid_thw``, row by row, or in what `generate` encoded beforehand."""
        grids, found = self._grids(model, inputs), []
        for number, row in enumerate(places):
            clips = []
            while len(row):
                count, shape = next(grids, (len(row), (0, 0, 0)))
                clip, row = row[:count], row[count:]
                shape = shape or grid_by_positions(inputs["position_ids"][-2:, number], clip)
                if math.prod(shape) != len(clip):
                    raise ValueError(
                        f"{len(clip)} video tokens of row {number} don't make a whole video; "
                        "a video is read in one pass, without prefill_chunk_size."
                    )
                clips.append(clip.view(shape))
            found.append(clips)
        return found

    def _grids(self, model: nn.Module, inputs: Mapping[str, Any]) -> Iterator[tuple[int, tuple[int, int, int] | None]]:
        """Tokens of each clip of a batch, and its ``T, H, W`` where it is told."""
        grids, encoded = inputs.get("video_grid_thw"), inputs.get("mm_encoder_outputs") or {}
        joined = model.config.vision_config.spatial_merge_size
        if grids is not None:
            for frames, height, width in grids.tolist():
                shape = frames, height // joined, width // joined
                yield math.prod(shape), shape
        elif encoded.get("video") is not None:
            for features in encoded["video"].pooler_output:  # [n, C] of each clip
                yield len(features), None

    def next_position(self, model: nn.Module, inputs: dict[str, torch.Tensor], position_ids: torch.Tensor) -> int:
        """The model itself numbers one more token of text: behind rows and columns, or behind the last step in time."""
        longer = {name: value for name, value in inputs.items() if not name.startswith("pixel_values")}
        for name, number in (("input_ids", 0), ("attention_mask", 1), ("mm_token_type_ids", 0)):
            if name in longer:
                longer[name] = torch.cat([longer[name], longer[name].new_full((1, 1), number)], dim=1)
        return int(model.model.get_rope_index(**longer)[0][0, 0, -1])  # of [3, 1, S + 1]


def token_pixels(video_processor) -> int:
    """Pixels along a side of a token: 2x2 patches of 14 or 16 pixels."""
    return video_processor.patch_size * video_processor.merge_size


def grid_by_positions(positions: torch.Tensor, places: torch.Tensor) -> tuple[int, int, int]:
    """``T, H, W`` of a clip from the rows and columns by which M-RoPE numbers its tokens.

    Args:
        positions: ``[2, S]`` of row and column, which begin anew with each step in time.
        places: ``[n]`` of the clip's tokens.
    """
    step = runs_of(places)[0]  # all steps, or the first one where text stands between them
    rows, columns = positions[:, step]
    width = first_again(columns)
    height = first_again(rows[::width])
    return len(places) // (height * width), height, width


def first_again(numbers: torch.Tensor) -> int:
    """How many numbers come before the first of them does once more: all, where it does not."""
    again = (numbers[1:] == numbers[0]).nonzero()
    return int(again[0]) + 1 if len(again) else len(numbers)
