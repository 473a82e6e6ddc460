"""LLaVA-Video in its original form (lmms-lab): keys and config are mapped onto LLaVA-OneVision's classes at load.

The checkpoints were trained with a newline token behind every row of a frame ("grid"); the paper removes them
("no_token", +0.3 points on average), which is the default here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoTokenizer,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionModel,
    LlavaOnevisionVideoProcessor,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    Qwen2Config,
    SiglipVisionConfig,
)
from transformers.image_utils import SizeDict
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ..vision import halve_bilinear, interpolated_positions
from .base import Family, repeated, resized_by, square_frames

NEWLINES = ("no_token", "one_token", "frame", "grid")
POOLINGS = ("average", "max", "bilinear")
ARCHITECTURE = "LlavaQwenForCausalLM"
VIDEO_TOKEN = "<video>"
PROMPT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    f"<|im_start|>user\n{VIDEO_TOKEN}\n{{question}}<|im_end|>\n<|im_start|>assistant\n"
)
VISION_TOWER = "google/siglip-so400m-patch14-384"
TEXT_KEYS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "hidden_act", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "attention_dropout",
    "use_sliding_window", "sliding_window", "max_window_layers", "tie_word_embeddings", "bos_token_id", "eos_token_id",
)  # fmt: skip


class LlavaVideoModel(LlavaOnevisionModel):
    """LLaVA-OneVision whose config says how frames are pooled (``pooling``) and where newlines go (``newline``)."""

    def forward(self, input_ids=None, pixel_values_videos=None, inputs_embeds=None, **kwargs):
        if pixel_values_videos is not None:
            embedded = self.get_input_embeddings()(input_ids)
            video = self.video_tokens(pixel_values_videos[0]).to(embedded.device, embedded.dtype)
            is_video = (input_ids == self.config.video_token_index)[..., None]
            input_ids, inputs_embeds = None, embedded.masked_scatter(is_video, video)
        return super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds, **kwargs)

    def get_video_features(self, pixel_values_videos: torch.Tensor, **kwargs) -> BaseModelOutputWithPooling:
        """For `generate` of newer transformers, which encodes videos before the first forward pass."""
        return BaseModelOutputWithPooling(
            pooler_output=torch.stack([self.video_tokens(v) for v in pixel_values_videos])
        )

    def video_tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        """Frames ``[T, 3, H, W]`` to the video's part of the sequence ``[N, C]``, newlines and all."""
        patches = self.vision_tower(pixels, output_hidden_states=True).hidden_states[-1]  # [T, H*W, D]
        features = self.pool(self.multi_modal_projector(patches)).flatten(0, 1)  # [T*h*w, C]
        runs = newline_runs(self.config, len(pixels), token_side(self.config, pixels.shape[-1]))
        if runs:
            newlines = self.image_newline.to(features).expand(runs, 1, -1)
            features = torch.cat([features.unflatten(0, (runs, -1)), newlines], dim=1).flatten(0, 1)
        return features

    def pool(self, patches: torch.Tensor) -> torch.Tensor:
        """``[T, H*W, C]`` patches to ``[T, h*w, C]`` tokens, two by two."""
        side = math.isqrt(patches.shape[1])
        grid = patches.unflatten(1, (side, side))  # [T, H, W, C]
        if self.config.pooling == "bilinear":
            return halve_bilinear(grid).flatten(1, 2)
        grid = grid.permute(0, 3, 1, 2)  # [T, C, H, W]
        if self.config.pooling == "average":
            pooled = nn.functional.avg_pool2d(grid, 2)
        else:
            pooled = nn.functional.max_pool2d(grid, 2)
        return pooled.flatten(2).mT  # [T, h*w, C]


class LlavaVideoForConditionalGeneration(LlavaOnevisionForConditionalGeneration):
    def __init__(self, config: LlavaOnevisionConfig) -> None:
        super().__init__(config)
        self.model = LlavaVideoModel(config)
        self.post_init()


def token_side(config: LlavaOnevisionConfig, pixels: int | None = None) -> int:
    """Tokens along a side of a frame of so many ``pixels``: 14, or 13 where 27 patches are pooled by average."""
    patches = (pixels or config.vision_config.image_size) // config.vision_config.patch_size
    return math.ceil(patches / 2) if config.pooling == "bilinear" else patches // 2


def newline_runs(config: LlavaOnevisionConfig, frames: int, side: int) -> int:
    """How many runs of tokens end in a newline, with ``side`` tokens along a side of a frame."""
    return {"no_token": 0, "one_token": 1, "frame": frames, "grid": frames * side}[config.newline]


@dataclass
class LlavaVideoProcessor:
    """Tokenizer and frame preprocessing of the original; enough of a Hugging Face processor for one video."""

    tokenizer: PreTrainedTokenizerBase
    video_processor: LlavaOnevisionVideoProcessor
    config: LlavaOnevisionConfig
    video_token: str = VIDEO_TOKEN

    def __call__(self, text: str, videos: list[torch.Tensor], return_tensors: str = "pt", **options) -> dict:
        """``input_ids``, ``attention_mask`` and ``pixel_values_videos [1, T, 3, H, W]``."""
        pixels = self.video_processor(videos, return_tensors=return_tensors, **options)
        frames, side = len(videos[0]), token_side(self.config, pixels["pixel_values_videos"].shape[-1])
        tokens = frames * side * side + newline_runs(self.config, frames, side)
        ids = self.tokenizer(text, return_tensors=return_tensors)["input_ids"]
        ids = repeated(ids, self.config.video_token_index, tokens)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **pixels}


class LlavaVideo(Family):
    model_type = "llava_qwen"
    title = "LLaVA-Video"
    hub_ids = (
        "lmms-lab/LLaVA-Video-7B-Qwen2",
        "lmms-lab/LLaVA-Video-7B-Qwen2-Video-Only",
        "lmms-lab/LLaVA-Video-72B-Qwen2",
    )

    features_by = "video_tokens"

    def closing_rows(self, model: nn.Module, rows: int, steps: int) -> int:
        return int(model.config.newline == "one_token")

    def matches(self, config: dict) -> bool:
        """The originals say "llava" or "qwen2", as other models do: their class name tells."""
        return ARCHITECTURE in (config.get("architectures") or [])

    def config(self, path_or_id: str, newline: str | None = None) -> LlavaOnevisionConfig:
        config = onevision_config(PreTrainedConfig.get_config_dict(path_or_id)[0])
        config.newline = "no_token" if newline is None else newline
        if config.newline not in NEWLINES:
            raise ValueError(f"newline must be one of {', '.join(NEWLINES)}, got {newline!r}")
        config.video_token_index = load_tokenizer(path_or_id).convert_tokens_to_ids(VIDEO_TOKEN)
        if config.video_token_index >= config.text_config.vocab_size:
            raise ValueError(f"its vocabulary of {config.text_config.vocab_size} has no row left for {VIDEO_TOKEN}")
        return config

    def load(self, path_or_id: str, config: LlavaOnevisionConfig, **options) -> tuple[nn.Module, dict]:
        return LlavaVideoForConditionalGeneration.from_pretrained(
            path_or_id, config=config, key_mapping=key_mapping(config), output_loading_info=True, **options
        )

    def empty(self, config: LlavaOnevisionConfig) -> nn.Module:
        with torch.device("meta"):
            return LlavaVideoForConditionalGeneration(config)

    def load_processor(self, path_or_id: str, model: nn.Module) -> LlavaVideoProcessor:
        side = model.config.vision_config.image_size
        half = [0.5, 0.5, 0.5]
        video = LlavaOnevisionVideoProcessor(size={"height": side, "width": side}, image_mean=half, image_std=half)
        return LlavaVideoProcessor(load_tokenizer(path_or_id), video, model.config)

    def prompt(self, processor, question: str) -> str:
        return PROMPT.format(question=question)

    def any_size(self, model: nn.Module) -> AbstractContextManager[None]:
        return interpolated_positions(model.model.vision_tower)

    def smaller(
        self, model: nn.Module, processor, frames: torch.Tensor, grid: tuple[int, int]
    ) -> tuple[Any, torch.Tensor]:
        vision = model.config.vision_config
        odd = vision.image_size // vision.patch_size % 2
        patches = 2 * grid[0] + (-odd if model.config.pooling == "bilinear" else odd)
        side = patches * vision.patch_size
        return resized_by(processor, size=SizeDict(height=side, width=side)), frames

    def side(self, model: nn.Module, pixels: int | None = None) -> int:
        return token_side(model.config, pixels)

    def patch_token(self, model: nn.Module) -> int:
        return model.config.video_token_index

    def clips(
        self, model: nn.Module, inputs: Mapping[str, Any], places: list[torch.Tensor]
    ) -> list[list[torch.Tensor]]:
        """The video tokens of a row are one clip; a newline ends it, each of its frames, or each of their rows."""
        side, newline = self.frame_side(model, inputs), model.config.newline
        return [[square_frames(without_newlines(row, newline, side), side)] if len(row) else [] for row in places]


def without_newlines(places: torch.Tensor, newline: str, side: int) -> torch.Tensor:
    """Those of a clip's places ``[n]`` at which patches are, ``[T*H*W]``."""
    run = {"no_token": 0, "one_token": len(places), "frame": side * side + 1, "grid": side + 1}[newline]
    return places.unflatten(0, (-1, run))[:, :-1].flatten() if run and not len(places) % run else places


def load_tokenizer(path_or_id: str) -> PreTrainedTokenizerBase:
    """The original's tokenizer, with a token of its own for the video. (Its config is for classes that nobody has.)"""
    tokenizer = AutoTokenizer.from_pretrained(path_or_id, config=Qwen2Config())
    tokenizer.add_tokens([VIDEO_TOKEN], special_tokens=True)
    return tokenizer


def onevision_config(original: dict) -> LlavaOnevisionConfig:
    """The config of LLaVA-OneVision's classes for one of the original's."""
    vision = original.get("vision_config")
    if vision is None and original.get("mm_vision_tower") != VISION_TOWER:
        raise ValueError(f"its vision tower is {original.get('mm_vision_tower')!r}, and only {VISION_TOWER} is known")
    pooling = original.get("mm_spatial_pool_mode") or "bilinear"
    if pooling not in POOLINGS or original.get("mm_spatial_pool_stride", 2) != 2:
        raise ValueError(f"its pooling is {pooling!r}, and only {', '.join(POOLINGS)} two by two are known")
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**vision) if vision else None,
        text_config=Qwen2Config(**{key: original[key] for key in TEXT_KEYS if original.get(key) is not None}),
        tie_word_embeddings=bool(original.get("tie_word_embeddings")),
        vision_feature_layer=-1,  # the checkpoints hold the tower without its last layer
        vision_feature_select_strategy="full",
    )
    config.pooling = pooling
    config.architectures = [ARCHITECTURE]  # so that `LlavaVideo.matches` it
    return config


def key_mapping(config: LlavaOnevisionConfig) -> dict[str, str]:
    """Patterns of the original's names, and what they are in this version's classes."""
    tower = LlavaVideo().empty(config).model.vision_tower
    inner = "model.vision_tower.vision_model." if hasattr(tower, "vision_model") else "model.vision_tower."
    return {
        r"^model\.vision_tower\.vision_tower\.vision_model\.": inner,
        r"^model\.mm_projector\.0\.": "model.multi_modal_projector.linear_1.",
        r"^model\.mm_projector\.2\.": "model.multi_modal_projector.linear_2.",
        r"^model\.embed_tokens\.": "model.language_model.embed_tokens.",
        r"^model\.layers\.": "model.language_model.layers.",
        r"^model\.norm\.": "model.language_model.norm.",
    }
