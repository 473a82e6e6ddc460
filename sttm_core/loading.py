"""Loading a checkpoint: device, dtype and attention chosen or given, and one plain sentence when it can't be done."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from .models import family_of


class ModelError(ValueError):
    """A model that can't be used; the message is one sentence for people."""


def load_model(
    path_or_id: str,
    *,
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
    device_map: str | dict | None = None,
    attention: str = "sdpa",
) -> tuple[torch.nn.Module, object]:
    """A Hugging Face model and its processor, in evaluation mode.

    Args:
        path_or_id: local folder or hub id.
        device: ``"cuda"``, ``"cpu"``...; a GPU if there is one by default.
        dtype: bfloat16 on a GPU and float32 on a CPU by default.
        device_map: ``"auto"`` or a map spreads the layers over devices by accelerate; ``device`` is then ignored.
        attention: ``"sdpa"``, ``"eager"`` or ``"flash_attention_2"``.

    Raises:
        ModelError: if the folder or id is missing, the files are broken, or the architecture is not supported.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelError("There is no CUDA GPU on this machine; leave the device out or choose cpu.")
    dtype = _dtype(dtype, device)
    config = _config(path_or_id)
    try:
        family_of(config.model_type)
    except ValueError as error:
        raise ModelError(str(error)) from error
    try:
        processor = AutoProcessor.from_pretrained(path_or_id)
        model = AutoModelForImageTextToText.from_pretrained(
            path_or_id, dtype=dtype, attn_implementation=attention, device_map=device_map
        )
    except torch.OutOfMemoryError as error:
        raise ModelError(f"The GPU's memory does not hold {path_or_id}; spread it with device_map='auto'.") from error
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise ModelError(f"The model {path_or_id} could not be loaded: {_first_line(error)}") from error
    return (model if device_map is not None else model.to(device)).eval(), processor


def _config(path_or_id: str):
    try:
        return AutoConfig.from_pretrained(path_or_id)
    except (OSError, ValueError) as error:
        where = "folder" if Path(path_or_id).exists() else "folder or hub id"
        raise ModelError(
            f"There is no usable model at {path_or_id!r}; give the {where} of a Hugging Face checkpoint with a config.json."
        ) from error


def _dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    if dtype is None:
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if isinstance(dtype, str):
        dtype = getattr(torch, dtype, None)
    if dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise ModelError("The dtype must be float32, bfloat16 or float16.")
    return dtype


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].strip() if str(error).strip() else type(error).__name__
