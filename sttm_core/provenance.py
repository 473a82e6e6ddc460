"""What a run rests on, so that its figures can be judged and repeated: frames, prompt, model, machine, versions."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import torch

from .models.plain_text import PLACE
from .version import VERSION

if TYPE_CHECKING:
    from .engine import VideoLLM
    from .video import VideoClip

PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "av", "decord", "opencv-python", "pillow")


def run_truth(llm: VideoLLM, clip: VideoClip, question: str) -> dict:
    """JSON-ready: ``frames`` as the model saw them, ``prompt`` as rendered, ``environment``.

    Raises:
        ValueError: for an empty question.
    """
    return {
        "frames": clip.frames_dict(),
        "prompt": rendered_prompt(llm, question),
        "environment": environment(llm),
    }


def rendered_prompt(llm: VideoLLM, question: str) -> str:
    """The text around the video's tokens as the model's chat template writes it, from the first character to the last.

    The video stands in it as the template's one placeholder; the processor puts the tokens of all frames there.

    Raises:
        ValueError: for an empty question.
    """
    llm.question_ids(question)  # refuses what can't be asked
    return llm.family.prompt(llm.processor, PLACE).replace(PLACE, question.strip())


def environment(llm: VideoLLM) -> dict:
    """JSON-ready: the model as loaded, the device, and versions; None for a package that is not installed."""
    config = llm.model.config.get_text_config()
    return {
        "model": llm.name,
        "family": llm.family.title,
        "dtype": str(llm.dtype).removeprefix("torch."),
        "quantization": _quantization(llm.model),
        "attention": llm.decoder.config._attn_implementation,
        "rope": getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None),
        "frame_tokens": llm.frame_tokens,
        "reuse_frames": llm.reuse_frames,
        "device": _device_name(llm.device),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
    }


def versions() -> dict[str, str | None]:
    """Of Python, this package, and those that decide what a model sees and says."""
    return {
        "python": platform.python_version(),
        "sttm-studio": VERSION,
        **{name: _version(name) for name in PACKAGES},
        "cuda": torch.version.cuda,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or device.type


def _quantization(model: torch.nn.Module) -> str | None:
    """``"4bit"`` or ``"8bit"`` where the decoder was quantised while loading."""
    for bits in ("4bit", "8bit"):
        if getattr(model, f"is_loaded_in_{bits}", False):
            return bits
    return None
