"""Tiny Video LLMs with random weights, one row a family: model and processor made in memory, nothing downloaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import transformers as tf
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
)
from transformers.video_utils import VideoMetadata

from sttm_core.engine import VideoLLM
from sttm_core.models import family_of
from sttm_core.video import VideoClip

LAYERS = 4
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}VIDEO{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Tiny:
    """One family.

    Attributes:
        build: ``(attention) -> (model, processor)``, weights still as transformers draws them.
        grid: ``(frames, which size) -> (T, H, W)`` tokens that such a clip must become.
        patch_token: the special token that stands for a patch.
        sizes: height and width of the clips it is tried on.
        with_video: keyword arguments by which plain transformers is told about a clip, beside its frames.
    """

    build: Callable
    grid: Callable[[int, int], tuple[int, int, int]]
    patch_token: str
    sizes: tuple[tuple[int, int], tuple[int, int]] = ((64, 64), (48, 96))
    with_video: Callable[[VideoClip], dict] = lambda clip: {}


def tokenizer(video: str, *special: str, **named: str) -> PreTrainedTokenizerFast:
    """Bytes as tokens, and the given special tokens; a chat template with ``video`` in the video's place."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_ = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_.decoder = decoders.ByteLevel()
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *special]
    bytes_.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    made = PreTrainedTokenizerFast(
        tokenizer_object=bytes_, eos_token="<|im_end|>", pad_token="<|endoftext|>", extra_special_tokens=named or None
    )
    made.chat_template = CHAT.replace("VIDEO", video)
    return made


def text_config(vocabulary: int) -> dict:
    return {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
    }


def llava_onevision(attention: str = "sdpa"):
    text = tokenizer("<video>\n", "<image>", "<video>")
    size = {"height": 120, "width": 120}  # 15x15 patches are pooled to 8x8
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=[[120, 120]]),
        text,
        LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=15 * 15,
        vision_feature_select_strategy="full",
        chat_template=text.chat_template,
    )
    vision = SiglipVisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=120, patch_size=8,
        vision_use_head=False,
    )  # fmt: skip
    config = LlavaOnevisionConfig(
        vision_config=vision,
        text_config=Qwen2Config(**text_config(len(text))),
        image_token_index=text.convert_tokens_to_ids("<image>"),
        video_token_index=text.convert_tokens_to_ids("<video>"),
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        image_grid_pinpoints=[[120, 120]],
    )
    return LlavaOnevisionForConditionalGeneration._from_config(config, attn_implementation=attention), processor


def qwen_processor(kind, video_processor, image_processor, text: PreTrainedTokenizerFast):
    size = {"shortest_edge": 32 * 32, "longest_edge": 400 * 32 * 32}
    text.padding_side = "left"
    return kind(image_processor(size=size), text, video_processor(size=size), chat_template=text.chat_template)


def qwen_tokenizer() -> PreTrainedTokenizerFast:
    special = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    return tokenizer("<|vision_start|><|video_pad|><|vision_end|>", *special)


def qwen_ids(text: PreTrainedTokenizerFast) -> dict[str, int]:
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>",
             "vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}  # fmt: skip
    return {name: text.convert_tokens_to_ids(token) for name, token in names.items()}


def mrope(**more) -> dict:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]} | more}


def qwen2_vl(attention: str = "sdpa"):
    text = qwen_tokenizer()
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2}
    config = tf.Qwen2VLConfig(
        vision_config=vision, text_config=text_config(len(text)) | mrope(), **qwen_ids(text)
    )  # fmt: skip
    model = tf.Qwen2VLForConditionalGeneration._from_config(config, attn_implementation=attention)
    return model, qwen_processor(tf.Qwen2VLProcessor, tf.Qwen2VLVideoProcessor, tf.Qwen2VLImageProcessor, text)


def qwen2_5_vl(attention: str = "sdpa"):
    text = qwen_tokenizer()
    vision = {
        "depth": 2, "hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 48, "num_heads": 2,
        "fullatt_block_indexes": [1], "window_size": 56, "tokens_per_second": 25,
    }  # fmt: skip
    config = tf.Qwen2_5_VLConfig(vision_config=vision, text_config=text_config(len(text)) | mrope(), **qwen_ids(text))
    model = tf.Qwen2_5_VLForConditionalGeneration._from_config(config, attn_implementation=attention)
    return model, qwen_processor(tf.Qwen2_5_VLProcessor, tf.Qwen2VLVideoProcessor, tf.Qwen2VLImageProcessor, text)


def qwen3_vision() -> dict:
    return {
        "depth": 4, "hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 48, "num_heads": 2,
        "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1, 2],
    }  # fmt: skip


def qwen3_vl(attention: str = "sdpa"):
    text = qwen_tokenizer()
    said = text_config(len(text)) | mrope(mrope_interleaved=True) | {"head_dim": 8}
    config = tf.Qwen3VLConfig(vision_config=qwen3_vision(), text_config=said, **qwen_ids(text))
    model = tf.Qwen3VLForConditionalGeneration._from_config(config, attn_implementation=attention)
    return model, qwen_processor(tf.Qwen3VLProcessor, tf.Qwen3VLVideoProcessor, tf.Qwen2VLImageProcessor, text)


def qwen3_vl_moe(attention: str = "sdpa"):
    text = qwen_tokenizer()
    said = text_config(len(text)) | mrope(mrope_interleaved=True) | {"head_dim": 8}
    said |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    config = tf.Qwen3VLMoeConfig(vision_config=qwen3_vision(), text_config=said, **qwen_ids(text))
    model = tf.Qwen3VLMoeForConditionalGeneration._from_config(config, attn_implementation=attention)
    return model, qwen_processor(tf.Qwen3VLProcessor, tf.Qwen3VLVideoProcessor, tf.Qwen2VLImageProcessor, text)


def internvl(attention: str = "sdpa"):
    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
             "video_token": "<video>"}  # fmt: skip
    text, size = tokenizer("<video>\n", **named), {"height": 128, "width": 128}
    processor = tf.InternVLProcessor(
        tf.GotOcr2ImageProcessor(size=size), text, tf.InternVLVideoProcessor(size=size),
        image_seq_length=64, chat_template=text.chat_template,
    )  # fmt: skip
    vision = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
        "image_size": [128, 128], "patch_size": [8, 8],
    }  # fmt: skip
    config = tf.InternVLConfig(
        vision_config=vision, text_config={"model_type": "qwen2"} | text_config(len(text)), image_seq_length=64,
        image_token_id=text.convert_tokens_to_ids("<IMG_CONTEXT>"),
    )  # fmt: skip
    return tf.InternVLForConditionalGeneration._from_config(config, attn_implementation=attention), processor


def smolvlm(attention: str = "sdpa"):
    special = ("<fake_token_around_image>", "<image>", "<global-img>", "<video>", "<end_of_utterance>")
    text, size = tokenizer("<video>", *special), {"longest_edge": 120}
    processor = tf.SmolVLMProcessor(
        tf.SmolVLMImageProcessor(size=size, max_image_size=size), text,
        tf.SmolVLMVideoProcessor(size=size, max_image_size=size, num_frames=64, fps=1), image_seq_len=25,
    )  # fmt: skip
    vision = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
        "image_size": 120, "patch_size": 8,
    }  # fmt: skip
    config = tf.SmolVLMConfig(
        vision_config=vision, text_config={"model_type": "llama"} | text_config(len(text)), scale_factor=3,
        image_token_id=text.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    return tf.SmolVLMForConditionalGeneration._from_config(config, attn_implementation=attention), processor


def half_seconds(shown: VideoClip) -> dict:
    """The clip as a file of two frames a second, all of them taken."""
    count = shown.num_frames
    known = VideoMetadata(total_num_frames=count, fps=2.0, duration=count / 2, frames_indices=list(range(count)))
    return {"do_sample_frames": False, "video_metadata": [known]}


def nested(shown: VideoClip) -> dict:
    """One list of videos for each text."""
    return half_seconds(shown) | {"videos": [[shown.frames]]}


def uncapped(shown: VideoClip) -> dict:
    return half_seconds(shown) | {"cap_pixels_per_frame": False}


def pairs(frames: int, size: int) -> tuple[int, int, int]:
    """Two frames a step; 8x8 or 5x7 tokens."""
    return (frames + 1) // 2, *((8, 8), (5, 7))[size]


FOR_28, FOR_32 = ((224, 224), (140, 196)), ((256, 256), (160, 224))
TINY: dict[str, Tiny] = {
    "qwen2_vl": Tiny(qwen2_vl, pairs, "<|video_pad|>", FOR_28, uncapped),
    "qwen2_5_vl": Tiny(qwen2_5_vl, pairs, "<|video_pad|>", FOR_28, uncapped),
    "qwen3_vl": Tiny(qwen3_vl, pairs, "<|video_pad|>", FOR_32, uncapped),
    "qwen3_vl_moe": Tiny(qwen3_vl_moe, pairs, "<|video_pad|>", FOR_32, uncapped),
    "internvl": Tiny(internvl, lambda frames, size: (frames, 8, 8), "<IMG_CONTEXT>"),
    "smolvlm": Tiny(smolvlm, lambda frames, size: (frames, 5, 5), "<image>", with_video=nested),
    "llava_onevision": Tiny(llava_onevision, lambda frames, size: (frames, 8, 8), "<video>"),
}


def shuffled(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Weights large enough that every token matters and greedy answers are not one token over and over."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "embed_tokens" in name:
                weight.normal_(generator=generator)
            elif weight.ndim > 1:
                weight.normal_(std=1.2 / weight[0].numel() ** 0.5, generator=generator)
            else:
                weight.add_(torch.empty_like(weight).normal_(std=0.05, generator=generator))
        model.get_output_embeddings().weight[256:] = 0  # bytes only: an answer with a video placeholder in it is none
    return model.float().eval()


@cache
def tiny(model_type: str, attention: str = "sdpa") -> VideoLLM:
    """A tiny model of a family, shared by all tests: leave it as it is."""
    torch.manual_seed(0)
    model, processor = TINY[model_type].build(attention)
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    return VideoLLM(shuffled(model, 7), processor, family_of(model_type), f"tiny {model_type}")


@cache
def clip(frames: int = 5, size: tuple[int, int] = (64, 64), seed: int = 0) -> VideoClip:
    """Blocks of colour that drift, noise in one corner; half a second a frame."""
    rng = np.random.default_rng(seed)
    height, width = size
    scene = rng.integers(0, 255, (4, 4, 3)).repeat(height // 4 + 1, 0).repeat(width // 4 + 1, 1)[:height, :width]
    made = np.stack([np.roll(scene, 3 * max(0, t - 1), axis=1) for t in range(frames)])
    made[:, : height // 3, : width // 3] = rng.integers(0, 255, (frames, height // 3, width // 3, 3))
    return VideoClip.from_frames(made.astype(np.uint8), np.arange(frames) * 0.5, name="blocks")


def plain_inputs(llm: VideoLLM, model_type: str, shown: VideoClip, question: str) -> dict[str, torch.Tensor]:
    """What plain transformers makes of a clip and a question, without any help from this package."""
    messages = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": question}]}]
    prompt = llm.processor.apply_chat_template(messages, add_generation_prompt=True)
    made = llm.processor(
        text=prompt, return_tensors="pt", **{"videos": [shown.frames]} | TINY[model_type].with_video(shown)
    )
    return {name: value for name, value in made.items() if isinstance(value, torch.Tensor)}


def hook_counts(model: torch.nn.Module) -> list[tuple[int, ...]]:
    """How many hooks every module of a model carries, of each kind."""
    names = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs")
    return [tuple(len(getattr(module, name)) for name in names) for module in model.modules()]
