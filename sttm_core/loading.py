"""Loading a checkpoint: device, dtype and attention chosen or given, and one plain sentence when it can't be done."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import BitsAndBytesConfig, PreTrainedConfig

from .models import Family, family_for

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
ATTENTIONS = ("sdpa", "eager", "flash_attention_2")
# Kept in full precision when the rest is quantised: they are small, and the image features depend on them.
NOT_QUANTISED = ("visual", "vision_tower", "vision_model", "multi_modal_projector", "connector", "lm_head")
# What transformers raises for files that are missing, cut short or of another model; it promises no single type.
_LOADING_ERRORS = (
    OSError, ValueError, ImportError, RuntimeError, LookupError, TypeError, AttributeError, SafetensorError,
)  # fmt: skip


class ModelError(ValueError):
    """A model that can't be used; the message is one sentence for people."""


@dataclass(frozen=True)
class LoadingOptions:
    """How to load a checkpoint.

    Attributes:
        device: ``"cuda"``, ``"cpu"``...; a GPU if there is one by default.
        dtype: bfloat16 on a GPU and float32 on a CPU by default.
        device_map: ``"auto"`` or a map spreads the layers over devices by accelerate; ``device`` is then ignored.
        max_memory: for ``device_map="auto"``, what each device may hold: ``{0: "70GiB", "cpu": "100GiB"}``.
        offload_folder: where ``device_map`` puts weights that neither GPUs nor memory hold.
        attention: ``"sdpa"``, ``"eager"`` or ``"flash_attention_2"``.
        load_in_4bit, load_in_8bit: quantise the decoder while loading; needs a CUDA GPU and bitsandbytes.
        rope_factor: divide all positions by this (linear RoPE scaling), for inputs longer than the model was trained
            on: the paper sets 2 for 180 frames, whose 35280 tokens exceed the 32768 positions of Qwen2.
        newline: LLaVA-Video only, see `models.llava_video.NEWLINES`; ``"no_token"`` by default.
    """

    device: str | None = None
    dtype: str | torch.dtype | None = None
    device_map: str | dict | None = None
    max_memory: dict[int | str, int | str] | None = None
    offload_folder: str | None = None
    attention: str = "sdpa"
    load_in_4bit: bool = False
    load_in_8bit: bool = False
    rope_factor: float | None = None
    newline: str | None = None


def load_model(path_or_id: str, **options) -> tuple[torch.nn.Module, object, Family]:
    """A Hugging Face model in evaluation mode, its processor and its family.

    Args:
        path_or_id: local folder or hub id.
        options: see `LoadingOptions`.

    Raises:
        ModelError: if the folder or id is missing, the files are broken or incomplete, the architecture is not
            supported, or an option makes no sense on this machine.
    """
    wanted = LoadingOptions(**options)
    device = _device(wanted.device)
    arguments = _arguments(wanted, device)
    family = _family(path_or_id)
    try:
        config = family.config(path_or_id, wanted.newline)
        _scale_rope(config, wanted.rope_factor)
        model, report = family.load(path_or_id, config, **arguments)
        processor = family.load_processor(path_or_id, model)
        model = model if "device_map" in arguments else model.to(device)
    except torch.OutOfMemoryError as error:
        raise ModelError(f"The GPU's memory does not hold {path_or_id}; spread it with device_map='auto'.") from error
    except _LOADING_ERRORS as error:
        raise ModelError(f"The model {path_or_id} could not be loaded: {_one_sentence(error)}") from error
    _check_complete(path_or_id, model, report["missing_keys"])
    return model.eval(), processor, family


def load_outline(
    path_or_id: str,
    *,
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
    newline: str | None = None,
    rope_factor: float | None = None,
) -> tuple[torch.nn.Module, object, Family, torch.dtype]:
    """A model without its weights, its processor, its family and the dtype that `load_model` would choose.

    Reads the checkpoint's config and tokenizer only. The model is on the meta device.

    Raises:
        ModelError: as `load_model`.
    """
    family, chosen = _family(path_or_id), _dtype(dtype, _device(device))
    try:
        config = family.config(path_or_id, newline)
        _scale_rope(config, rope_factor)
        model = family.empty(config)
        return model, family.load_processor(path_or_id, model), family, chosen
    except _LOADING_ERRORS as error:
        raise ModelError(f"The model {path_or_id} could not be read: {_one_sentence(error)}") from error


def weight_bytes(model: torch.nn.Module, dtype: torch.dtype, bits: int | None = None) -> int:
    """Bytes of a model's weights, all in ``dtype`` or with the decoder's matrices in ``bits`` (4 or 8).

    bitsandbytes keeps a float32 scale for each 64 weights in 4 bit, for each row in 8 bit.
    """
    total = sum(weight.numel() for weight in model.parameters()) * dtype.itemsize
    if bits is None:
        return total
    for name, part in model.named_modules():
        if isinstance(part, torch.nn.Linear) and not set(name.split(".")) & set(NOT_QUANTISED):
            scales = part.weight.numel() / 64 if bits == 4 else part.out_features
            total += int(part.weight.numel() * (bits / 8 - dtype.itemsize) + 4 * scales)
    return total


def device_of_inputs(model: torch.nn.Module, embeddings: torch.nn.Module) -> torch.device:
    """Where the model's inputs go: to its embeddings, or to the device that runs them if their weights are offloaded.

    Raises:
        ModelError: if the weights were never loaded.
    """
    if embeddings.weight.device.type != "meta":
        return embeddings.weight.device
    for module in (embeddings, model):
        hook = getattr(module, "_hf_hook", None)  # accelerate's: one, or several in ``hooks``
        for one in getattr(hook, "hooks", (hook,)):
            device = getattr(one, "execution_device", None)
            if device is not None:
                return torch.device(device)
    raise ModelError("The model's weights are not loaded; load it with VideoLLM.load, or dispatch it with accelerate.")


def _arguments(wanted: LoadingOptions, device: torch.device) -> dict:
    """What `from_pretrained` is told."""
    if wanted.attention not in ATTENTIONS:
        raise ModelError(f"The attention must be one of {', '.join(ATTENTIONS)}, got {wanted.attention!r}.")
    arguments = {"dtype": _dtype(wanted.dtype, device), "attn_implementation": wanted.attention}
    device_map = wanted.device_map
    if wanted.load_in_4bit or wanted.load_in_8bit:
        arguments["quantization_config"] = _quantization(wanted, device, arguments["dtype"])
        device_map = {"": device} if device_map is None else device_map  # quantised weights can't be moved later
    if wanted.max_memory is not None and device_map is None:
        raise ModelError("max_memory limits what device_map='auto' may use; give both.")
    given = {"device_map": device_map, "max_memory": wanted.max_memory, "offload_folder": wanted.offload_folder}
    return arguments | {name: value for name, value in given.items() if value is not None}


def _quantization(wanted: LoadingOptions, device: torch.device, dtype: torch.dtype) -> BitsAndBytesConfig:
    if wanted.load_in_4bit and wanted.load_in_8bit:
        raise ModelError("A model is loaded in 4 bit or in 8 bit, not both; leave one of them out.")
    if find_spec("bitsandbytes") is None:
        raise ModelError("Loading in 4 or 8 bit needs the package bitsandbytes; install it with pip.")
    if device.type != "cuda":
        raise ModelError(f"Loading in 4 or 8 bit needs a CUDA GPU, not {device}; leave it out.")
    return BitsAndBytesConfig(
        load_in_4bit=wanted.load_in_4bit,
        load_in_8bit=wanted.load_in_8bit,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=list(NOT_QUANTISED),
    )


def _scale_rope(config: PreTrainedConfig, factor: float | None) -> None:
    """Linear RoPE scaling of the text decoder by ``factor``."""
    if factor is None:
        return
    if not factor >= 1:
        raise ValueError(f"rope_factor must be 1 or more, got {factor}")
    text = config.get_text_config()
    text.rope_parameters = dict(text.rope_parameters) | {"rope_type": "linear", "factor": float(factor)}


def _family(path_or_id: str) -> Family:
    """The family that the checkpoint's config.json names."""
    try:
        config = PreTrainedConfig.get_config_dict(path_or_id)[0]
    except (OSError, ValueError):
        config = {}
    if not config.get("model_type"):
        where = "folder" if Path(path_or_id).exists() else "folder or hub id"
        raise ModelError(
            f"There is no usable model at {path_or_id!r}; "
            f"give the {where} of a Hugging Face checkpoint with a config.json."
        )
    try:
        return family_for(config)
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


def _one_sentence(error: Exception) -> str:
    """The first line of an error, ending in one full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[0].rstrip(".:, ") + "."
