"""Loading a checkpoint: device, dtype and attention chosen or given, and one plain sentence when it can't be done."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import PreTrainedConfig

from .models import Family, family_of

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
ATTENTIONS = ("sdpa", "eager", "flash_attention_2")
# What transformers raises for files that are missing, cut short or of another model; it promises no single type.
_LOADING_ERRORS = (
    OSError, ValueError, ImportError, RuntimeError, LookupError, TypeError, AttributeError, SafetensorError,
)  # fmt: skip


class ModelError(ValueError):
    """A model that can't be used; the message is one sentence for people."""


def load_model(
    path_or_id: str,
    *,
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
    device_map: str | dict | None = None,
    attention: str = "sdpa",
    offload_folder: str | None = None,
) -> tuple[torch.nn.Module, object, Family]:
    """A Hugging Face model in evaluation mode, its processor and its family.

    Args:
        path_or_id: local folder or hub id.
        device: ``"cuda"``, ``"cpu"``...; a GPU if there is one by default.
        dtype: bfloat16 on a GPU and float32 on a CPU by default.
        device_map: ``"auto"`` or a map spreads the layers over devices by accelerate; ``device`` is then ignored.
        attention: ``"sdpa"``, ``"eager"`` or ``"flash_attention_2"``.
        offload_folder: where ``device_map`` puts weights that neither GPUs nor memory hold.

    Raises:
        ModelError: if the folder or id is missing, the files are broken or incomplete, the architecture is not
            supported, or an option makes no sense on this machine.
    """
    device = _device(device)
    options = {
        "dtype": _dtype(dtype, device),
        "attn_implementation": _one_of("attention", attention, ATTENTIONS),
        "device_map": device_map,
    }
    if offload_folder is not None:
        options["offload_folder"] = offload_folder
    family = _family(path_or_id)
    try:
        processor = family.load_processor(path_or_id)
        model, report = family.load(path_or_id, **options)
        model = model if device_map is not None else model.to(device)
    except torch.OutOfMemoryError as error:
        raise ModelError(f"The GPU's memory does not hold {path_or_id}; spread it with device_map='auto'.") from error
    except _LOADING_ERRORS as error:
        raise ModelError(f"The model {path_or_id} could not be loaded: {_one_sentence(error)}") from error
    _check_complete(path_or_id, model, report["missing_keys"])
    return model.eval(), processor, family


def _family(path_or_id: str) -> Family:
    """The family that the checkpoint's config.json names."""
    try:
        model_type = PreTrainedConfig.get_config_dict(path_or_id)[0].get("model_type")
    except (OSError, ValueError):
        model_type = None
    if not model_type:
        where = "folder" if Path(path_or_id).exists() else "folder or hub id"
        raise ModelError(
            f"There is no usable model at {path_or_id!r}; "
            f"give the {where} of a Hugging Face checkpoint with a config.json."
        )
    try:
        return family_of(model_type)
    except ValueError as error:
        raise ModelError(str(error)) from error


def _check_complete(path_or_id: str, model: torch.nn.Module, missing: set[str]) -> None:
    """ModelError if weights were made up, or if some layers see a window of the sequence only."""
    if missing:
        first = sorted(missing)[0]
        raise ModelError(
            f"The model {path_or_id} is incomplete: "
            f"{len(missing)} of its weights are not in the files, among them {first}."
        )
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or []
    if "sliding_attention" in kinds:
        raise ModelError(f"The model {path_or_id} uses sliding window attention, which merging does not support.")


def _device(device: str | None) -> torch.device:
    try:
        found = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise ModelError(f"There is no device {device!r}; give cpu, cuda, or cuda:0, cuda:1 and so on.") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"There is no CUDA GPU on this machine, so not {device}; leave the device out or choose cpu.")
    if found.type == "cuda" and (found.index or 0) >= (count := torch.cuda.device_count()):
        raise ModelError(f"There is no {device}; this machine has {count} GPUs, counted from cuda:0.")
    return found


def _dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    if dtype is None:
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if isinstance(dtype, str):
        dtype = getattr(torch, dtype, None)
    if dtype not in DTYPES:
        raise ModelError("The dtype must be float32, bfloat16 or float16.")
    return dtype


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ModelError(f"The {name} must be one of {', '.join(known)}, got {value!r}.")
    return value


def _one_sentence(error: Exception) -> str:
    """The first line of an error, ending in one full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[0].rstrip(".:, ") + "."
