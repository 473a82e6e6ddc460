"""Model families, picked by `config.model_type`. A new family is one file and one row here."""

from __future__ import annotations

from .base import Family, VideoLayout
from .internvl import InternVL
from .llava_onevision import LlavaOnevision
from .llava_video import LlavaVideo
from .qwen2_5_vl import Qwen25VL
from .qwen2_vl import Qwen2VL
from .qwen3_vl import Qwen3VL, Qwen3VLMoe
from .smolvlm import SmolVLM

FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        LlavaOnevision(),
        LlavaVideo(),
        Qwen2VL(),
        Qwen25VL(),
        Qwen3VL(),
        Qwen3VLMoe(),
        InternVL(),
        SmolVLM(),
    )
}


def family_of(model_type: str) -> Family:
    """The family for a Hugging Face ``config.model_type``.

    Raises:
        ValueError: if there is none, naming those that exist and the file to write.
    """
    if model_type not in FAMILIES:
        known = ", ".join(f"{family.title} ({key})" for key, family in FAMILIES.items())
        raise ValueError(
            f"models of type {model_type!r} are not supported; supported are {known}. "
            f"To add it, write sttm_core/models/{model_type}.py and a row in sttm_core/models/__init__.py."
        )
    return FAMILIES[model_type]


def family_for(config: dict) -> Family:
    """The family of a checkpoint by its config.json; ValueError as `family_of`."""
    found = [family for family in FAMILIES.values() if family.matches(config)]
    return found[-1] if found else family_of(config["model_type"])  # LLaVA-Video is of LLaVA-OneVision's type as well


__all__ = ["FAMILIES", "Family", "VideoLayout", "family_for", "family_of"]
