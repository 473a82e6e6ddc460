"""Published architectures with random weights: the time and memory that they take do not depend on what they know.

A shape is one entry of `SHAPES`: the family that it belongs to and the dimensions of its published config. What is the
same for all shapes of a family (special tokens, processor classes) is made by one function a family, in `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import transformers as tf
from transformers.initialization import no_init_weights

from sttm_core.advice import SHIPPED_MODEL
from sttm_core.engine import VideoLLM
from sttm_core.models import family_of

INIT_STD = 0.02  # `initializer_range` of all these models


@dataclass(frozen=True)
class Shape:
    """Dimensions of one model.

    Attributes:
        family: ``config.model_type``, a key of `FAMILIES`.
        vision, text: of its ``vision_config`` and ``text_config``, as published.
        clip_size: height and width of the synthetic clip that it is timed on.
        fewest_pixels: smallest frame that the processor makes, where frames keep their own size (Qwen-VL).
    """

    family: str
    vision: dict
    text: dict
    clip_size: tuple[int, int] = (720, 1280)
    fewest_pixels: int = 128 * 28 * 28


SO400M = {  # SigLIP so400m/14 at 384 without its last layer, as LLaVA-OneVision uses it
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 26,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}
QWEN2_7B = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
}
QWEN2_7B_MROPE = QWEN2_7B | {
    "vocab_size": 152064,
    "max_position_embeddings": 128000,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
}
TINY_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
}
TINY_MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
SHAPES = {
    "llava-onevision-7b": Shape("llava_onevision", SO400M, QWEN2_7B | {"vocab_size": 152000}),
    "llava-onevision-0.5b": Shape(
        "llava_onevision",
        SO400M,
        {
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "vocab_size": 152000,
        },
    ),
    "qwen2-vl-7b": Shape(
        "qwen2_vl",
        {"depth": 32, "embed_dim": 1280, "hidden_size": 3584, "num_heads": 16, "mlp_ratio": 4},
        QWEN2_7B_MROPE,
    ),
    "qwen2.5-vl-7b": Shape(
        "qwen2_5_vl",
        {
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": 3584,
            "window_size": 112,
            "fullatt_block_indexes": [7, 15, 23, 31],
            "tokens_per_second": 2,
        },
        QWEN2_7B_MROPE,
    ),
    "qwen3-vl-8b": Shape(
        "qwen3_vl",
        {
            "depth": 27,
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_heads": 16,
            "out_hidden_size": 4096,
            "num_position_embeddings": 2304,
            "deepstack_visual_indexes": [8, 16, 24],
        },
        {
            "hidden_size": 4096,
            "intermediate_size": 12288,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "vocab_size": 151936,
            "max_position_embeddings": 262144,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5e6,
                "mrope_section": [24, 20, 20],
                "mrope_interleaved": True,
            },
        },
    ),
    "tiny": Shape(
        "llava_onevision",
        {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 112,
            "patch_size": 14,
        },
        TINY_TEXT,
        (128, 160),
    ),
    "tiny-qwen2-vl": Shape(
        "qwen2_vl",
        {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2},
        TINY_TEXT | {"rope_parameters": TINY_MROPE},
        (112, 140),
        32 * 32,
    ),
    "tiny-qwen2.5-vl": Shape(
        "qwen2_5_vl",
        {
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": 32,
            "window_size": 56,
            "fullatt_block_indexes": [1],
            "tokens_per_second": 2,
        },
        TINY_TEXT | {"rope_parameters": TINY_MROPE},
        (112, 140),
        32 * 32,
    ),
    "tiny-qwen3-vl": Shape(
        "qwen3_vl",
        {
            "depth": 3,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": 32,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        },
        TINY_TEXT | {"head_dim": 8, "rope_parameters": TINY_MROPE | {"mrope_interleaved": True}},
        (128, 160),
        32 * 32,
    ),
}


def shape_of(name: str) -> Shape:
    """The entry of `SHAPES`; ValueError for a name that is not listed."""
    if name not in SHAPES:
        raise ValueError(f"There is no shape {name!r}; there are {', '.join(SHAPES)}.")
    return SHAPES[name]


def random_model(name: str, device: str | None = None, seed: int = 0) -> VideoLLM:
    """A model of one of `SHAPES`, its weights drawn on the device: bfloat16 on a GPU, float32 on a CPU.

    The tokenizer is the shipped model's, with the family's special tokens: text is a few dozen tokens of thousands.

    Raises:
        ValueError: for a shape that is not listed.
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = torch.bfloat16 if place.type == "cuda" else torch.float32
    config, processor = parts(name)
    with no_init_weights(), place:
        model = tf.AutoModelForImageTextToText.from_config(config, dtype=dtype, attn_implementation="sdpa")
    draw_weights(model, seed)
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    return VideoLLM(model.eval(), processor, family_of(config.model_type), f"{name} shape, random weights")


def parts(name: str) -> tuple[tf.PreTrainedConfig, tf.ProcessorMixin]:
    """Config and processor of a shape; ValueError for one that is not listed."""
    shape = shape_of(name)
    return FAMILIES[shape.family](shape)


@torch.no_grad()
def draw_weights(model: torch.nn.Module, seed: int) -> None:
    """Matrices from a normal distribution, gains of norms 1, biases 0; drawn where the parameters are."""
    generator = torch.Generator(next(model.parameters()).device).manual_seed(seed)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            weight.zero_()
        elif weight.ndim == 1 and name.endswith("weight"):
            weight.fill_(1)
        else:
            weight.normal_(std=INIT_STD, generator=generator)


@cache
def shipped_processor() -> tf.ProcessorMixin:
    """Of the shipped model: its tokenizer and chat template serve all shapes."""
    return tf.AutoProcessor.from_pretrained(SHIPPED_MODEL)


def tokenizer_with(*special: str) -> tf.PreTrainedTokenizerBase:
    """The shipped tokenizer and these special tokens."""
    made = tf.AutoTokenizer.from_pretrained(SHIPPED_MODEL)
    made.add_tokens(list(special), special_tokens=True)
    return made


def onevision(shape: Shape) -> tuple[tf.PreTrainedConfig, tf.ProcessorMixin]:
    """LLaVA-OneVision: square frames of the vision encoder's size."""
    side = shape.vision["image_size"]
    processor = tf.AutoProcessor.from_pretrained(SHIPPED_MODEL)
    processor.video_processor.size = {"height": side, "width": side}
    processor.num_image_tokens = (side // shape.vision["patch_size"]) ** 2
    image, video = processor.tokenizer.convert_tokens_to_ids([processor.image_token, processor.video_token])
    text = {"model_type": "qwen2", "max_position_embeddings": 131072, "tie_word_embeddings": False, **shape.text}
    config = tf.LlavaOnevisionConfig(
        vision_config={"model_type": "siglip_vision_model", "vision_use_head": False, **shape.vision},
        text_config=text,
        image_token_index=image,
        video_token_index=video,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        image_grid_pinpoints=[[side, side]],
    )
    return config, processor


def qwen(
    config: type, processor: type, video_processor: type, shape: Shape
) -> tuple[tf.PreTrainedConfig, tf.ProcessorMixin]:
    """Qwen-VL: frames keep their proportions, special tokens around the video."""
    names = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = tokenizer_with(*names)
    start, end, image, video = tokenizer.convert_tokens_to_ids(names)
    template = shipped_processor().chat_template
    template = template.replace(shipped_processor().video_token, "<|vision_start|><|video_pad|><|vision_end|>")
    size = {"shortest_edge": shape.fewest_pixels, "longest_edge": 768 * 28 * 28}
    made = processor(tf.Qwen2VLImageProcessor(size=size), tokenizer, video_processor(size=size), chat_template=template)
    ids = {"image_token_id": image, "video_token_id": video, "vision_start_token_id": start, "vision_end_token_id": end}
    text = {"bos_token_id": None, "eos_token_id": None, **shape.text}
    return config(vision_config=shape.vision, text_config=text, tie_word_embeddings=False, **ids), made


FAMILIES: dict[str, Callable[[Shape], tuple[tf.PreTrainedConfig, tf.ProcessorMixin]]] = {
    "llava_onevision": onevision,
    "qwen2_vl": lambda s: qwen(tf.Qwen2VLConfig, tf.Qwen2VLProcessor, tf.Qwen2VLVideoProcessor, s),
    "qwen2_5_vl": lambda s: qwen(tf.Qwen2_5_VLConfig, tf.Qwen2_5_VLProcessor, tf.Qwen2VLVideoProcessor, s),
    "qwen3_vl": lambda s: qwen(tf.Qwen3VLConfig, tf.Qwen3VLProcessor, tf.Qwen3VLVideoProcessor, s),
}
