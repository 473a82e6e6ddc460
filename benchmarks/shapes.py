"""Published architectures with random weights: the time and memory that they take do not depend on what they know."""

from __future__ import annotations

import torch
from transformers import AutoProcessor, LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

from sttm_core.defaults import SHIPPED_MODEL
from sttm_core.engine import VideoLLM
from sttm_core.models import family_of

SO400M = {  # SigLIP so400m/14 at 384 without its last layer, as LLaVA-OneVision uses it
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 26,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}
SHAPES = {
    "llava-onevision-7b": {
        "vision": SO400M,
        "text": {
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "vocab_size": 152000,
        },
    },
    "llava-onevision-0.5b": {
        "vision": SO400M,
        "text": {
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "vocab_size": 152000,
        },
    },
    "tiny": {
        "vision": {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 112,
            "patch_size": 14,
        },
        "text": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 1000,
        },
    },
}


def random_model(name: str, device: str | None = None, seed: int = 0) -> VideoLLM:
    """A LLaVA-OneVision of one of `SHAPES`, made on the device: bfloat16 on a GPU, float32 on a CPU.

    The tokenizer is the shipped model's: text is a few dozen tokens of thousands.

    Raises:
        ValueError: for a shape that is not listed.
    """
    if name not in SHAPES:
        raise ValueError(f"There is no shape {name!r}; there are {', '.join(SHAPES)}.")
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = torch.bfloat16 if place.type == "cuda" else torch.float32
    processor = AutoProcessor.from_pretrained(SHIPPED_MODEL)
    config = configuration(name, processor)
    torch.manual_seed(seed)
    with place:
        model = LlavaOnevisionForConditionalGeneration._from_config(config, dtype=dtype, attn_implementation="sdpa")
    side = config.vision_config.image_size
    processor.video_processor.size = {"height": side, "width": side}
    processor.num_image_tokens = (side // config.vision_config.patch_size) ** 2
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    return VideoLLM(model.eval(), processor, family_of(config.model_type), f"{name} shape, random weights")


def configuration(name: str, processor) -> LlavaOnevisionConfig:
    """The model's configuration with the special tokens of ``processor``."""
    shape, side = SHAPES[name], SHAPES[name]["vision"]["image_size"]
    text = {"model_type": "qwen2", "max_position_embeddings": 131072, "tie_word_embeddings": False, **shape["text"]}
    vision = {"model_type": "siglip_vision_model", "vision_use_head": False, **shape["vision"]}
    tokens = processor.tokenizer.convert_tokens_to_ids([processor.image_token, processor.video_token])
    return LlavaOnevisionConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokens[0],
        video_token_index=tokens[1],
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        image_grid_pinpoints=[[side, side]],
    )
