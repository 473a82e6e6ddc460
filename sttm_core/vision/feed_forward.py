"""Feed-forward matrices of a width that tensor cores take at full speed, by zeros that change no result."""

from __future__ import annotations

import torch
from torch import nn

from .operations import ALIGNED_BYTES

STEP = 64  # channels: a multiple of this is aligned in every dtype
IN_AND_OUT = {
    "Qwen2_5_VLMLP": (("gate_proj", "up_proj"), "down_proj"),
    "VisionMlp": (("fc1",), "fc2"),
    "Qwen3VLVisionMLP": (("linear_fc1",), "linear_fc2"),
    "Qwen3VLMoeVisionMLP": (("linear_fc1",), "linear_fc2"),
    "SiglipMLP": (("fc1",), "fc2"),
    "SmolVLMVisionMLP": (("fc1",), "fc2"),
    "InternVLVisionMLP": (("fc1",), "fc2"),
}  # by class: matrices into the inner width, and the one out of it


def align_feed_forward(model: nn.Module) -> list[nn.Module]:
    """Widen feed-forward layers whose inner width leaves rows of memory unaligned, such as 3420 of Qwen2.5-VL.

    Rows of 3420 bfloat16 values are no multiple of 16 bytes, so that their products run at a third of the speed. The
    activations of zero are zero here, and what is added to sums is zero: the result stays the same. `state_dict` gives,
    and `load_state_dict` takes, the matrices without the zeros, so that a widened model is saved as what it was.

    Returns:
        The layers that were widened; `original_feed_forward` undoes it.
    """
    widened = []
    for layer in model.modules():
        if type(layer).__name__ in IN_AND_OUT and not hasattr(layer, "unaligned_width") and _is_unaligned(layer):
            _widen(layer)
            widened.append(layer)
    return widened


def original_feed_forward(model: nn.Module) -> None:
    """Undo `align_feed_forward`."""
    for layer in model.modules():
        if hasattr(layer, "unaligned_width"):
            _resize(layer, layer.unaligned_width)
            for handle in layer.alignment_hooks:
                handle.remove()
            del layer.unaligned_width, layer.alignment_hooks


def _parts(layer: nn.Module) -> tuple[list[nn.Linear], nn.Linear]:
    into, out = IN_AND_OUT[type(layer).__name__]
    return [getattr(layer, name) for name in into], getattr(layer, out)


def _is_unaligned(layer: nn.Module) -> bool:
    into, out = _parts(layer)
    plain = all(type(part) is nn.Linear and part.weight.device.type != "meta" for part in (*into, out))
    return plain and out.in_features * out.weight.element_size() % ALIGNED_BYTES != 0


def _widen(layer: nn.Module) -> None:
    width = _parts(layer)[1].in_features
    _resize(layer, -(-width // STEP) * STEP)
    layer.unaligned_width = width
    layer.alignment_hooks = (
        layer.register_state_dict_post_hook(_without_zeros),
        layer.register_load_state_dict_pre_hook(_with_zeros),
    )


@torch.no_grad()
def _resize(layer: nn.Module, width: int) -> None:
    """Cut the inner width, or fill it up with zeros."""
    into, out = _parts(layer)
    for part in into:
        part.weight.data, part.out_features = _sized(part.weight.data, 0, width), width
        if part.bias is not None:
            part.bias.data = _sized(part.bias.data, 0, width)
    out.weight.data, out.in_features = _sized(out.weight.data, 1, width), width


def _sized(values: torch.Tensor, axis: int, width: int) -> torch.Tensor:
    """``values`` with ``width`` entries along ``axis``, zeros behind those that there are."""
    shape = list(values.shape)
    shape[axis] = width
    made = values.new_zeros(shape)
    kept = min(width, values.shape[axis])
    made.narrow(axis, 0, kept).copy_(values.narrow(axis, 0, kept))
    return made


def _entries(layer: nn.Module, prefix: str, state: dict) -> list[tuple[str, int]]:
    """Names in ``state`` of what is padded, and along which axis."""
    into, out = IN_AND_OUT[type(layer).__name__]
    names = [(f"{prefix}{name}.{kind}", 0) for name in into for kind in ("weight", "bias")]
    return [(name, axis) for name, axis in (*names, (f"{prefix}{out}.weight", 1)) if name in state]


def _without_zeros(layer: nn.Module, state: dict, prefix: str, metadata: dict) -> None:
    for name, axis in _entries(layer, prefix, state):
        state[name] = _sized(state[name].detach(), axis, layer.unaligned_width)


def _with_zeros(layer: nn.Module, state: dict, prefix: str, *unused) -> None:
    width = _parts(layer)[1].in_features
    for name, axis in _entries(layer, prefix, state):
        state[name] = _sized(state[name], axis, width)
