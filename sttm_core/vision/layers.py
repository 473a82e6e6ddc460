"""Forward passes of a vision encoder's modules that read and write memory once where transformers does many times.

Each gives what the module gives, but for the order of sums, and stands on one module until its `with` ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .. import packed_attention
from . import operations


def turned_attention(
    self: nn.Module,
    hidden_states: torch.Tensor,
    cu_seqlens: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    **unused,
) -> torch.Tensor:
    """Attention of Qwen-VL's encoders ``[N, C]`` whose queries and keys are turned where they are."""
    parts = self.qkv(hidden_states).view(len(hidden_states), 3, self.num_heads, -1)  # [N, 3, heads, head_dim]
    operations.turn_(parts[:, :2].flatten(1, 2), *position_embeddings)
    rows = (part.transpose(0, 1)[None] for part in parts.unbind(1))  # [1, heads, N, head_dim]
    attended, _ = packed_attention.packed_attention(self, *rows, cu_seq_lens_q=cu_seqlens, scaling=self.scaling)
    return self.proj(attended.reshape(hidden_states.shape))


def rms_norm(self: nn.Module, hidden_states: torch.Tensor) -> torch.Tensor:
    """`Qwen2_5_VLRMSNorm` of ``[..., C]``."""
    return operations.rms_norm(hidden_states, self.weight, self.variance_epsilon)


def gated_feed_forward(self: nn.Module, hidden_state: torch.Tensor) -> torch.Tensor:
    """`Qwen2_5_VLMLP` of ``[..., C]`` with SiLU."""
    return self.down_proj(operations.silu_times_(self.gate_proj(hidden_state), self.up_proj(hidden_state)))


def quick_gelu(self: nn.Module, input: torch.Tensor) -> torch.Tensor:
    """`QuickGELUActivation`."""
    return operations.quick_gelu_(input)


def siglip_feed_forward(self: nn.Module, hidden_states: torch.Tensor) -> torch.Tensor:
    """`SiglipMLP` of ``[..., C]`` with GELU by tanh."""
    return self.fc2(operations.linear_gelu(self.fc1, hidden_states))


def qwen3_feed_forward(self: nn.Module, hidden_state: torch.Tensor) -> torch.Tensor:
    """`Qwen3VLVisionMLP` of ``[..., C]`` with GELU by tanh."""
    return self.linear_fc2(operations.linear_gelu(self.linear_fc1, hidden_state))


def patch_product(self: nn.Module, input: torch.Tensor) -> torch.Tensor:
    """A convolution whose patches do not overlap: ``[N, C, ...]`` to ``[N, E, ...]``, channels last in memory."""
    return operations.patch_product(input, self.weight, self.bias)


def forward_of(module: nn.Module) -> Callable | None:
    """What may stand for the module's forward pass; None to leave it alone."""
    name = type(module).__name__
    if isinstance(module, (nn.Conv2d, nn.Conv3d)):
        return patch_product if _of_patches(module) else None
    if name in TURNED:
        return turned_attention if module.config._attn_implementation == packed_attention.NAME else None
    if name in ACTIVATED:
        forward, attribute, activation = ACTIVATED[name]
        return forward if type(getattr(module, attribute)).__name__ in activation else None
    return {"Qwen2_5_VLRMSNorm": rms_norm, "QuickGELUActivation": quick_gelu}.get(name)


TURNED = ("VisionAttention", "Qwen2_5_VLVisionAttention", "Qwen3VLVisionAttention", "Qwen3VLMoeVisionAttention")
TANH = ("GELUTanh", "PytorchGELUTanh")
ACTIVATED = {
    "Qwen2_5_VLMLP": (gated_feed_forward, "act_fn", ("SiLU", "SiLUActivation")),
    "Qwen3VLVisionMLP": (qwen3_feed_forward, "act_fn", TANH),
    "Qwen3VLMoeVisionMLP": (qwen3_feed_forward, "act_fn", TANH),
    "SiglipMLP": (siglip_feed_forward, "activation_fn", TANH),
    "SmolVLMVisionMLP": (siglip_feed_forward, "activation_fn", TANH),
}  # by class: the forward pass, where its activation is, and the classes of those that it is for


@contextmanager
def fused_layers(vision: nn.Module) -> Iterator[None]:
    """Inside the `with`, modules of the encoder have the forward passes of `forward_of`.

    Those that have one of their own already (accelerate's, a user's) keep it. So does all inside a compiled layer:
    its compiler fuses by itself.
    """
    compiled = {part for layer in vision.modules() if is_compiled(layer) for part in layer.modules()}
    replaced = {}
    for module in vision.modules():
        forward = None if module in compiled or "forward" in vars(module) else forward_of(module)
        if forward is not None:
            replaced[module] = MethodType(forward, module)
    try:
        for module, forward in replaced.items():
            module.forward = forward
        yield
    finally:
        for module in replaced:
            vars(module).pop("forward", None)


def is_compiled(layer: nn.Module) -> bool:
    """Whether `torch.compile` made this layer's forward pass."""
    return hasattr(vars(layer).get("forward"), "_torchdynamo_orig_callable")


@contextmanager
def contiguous_layers(vision: nn.Module) -> Iterator[None]:
    """Inside the `with`, the encoder's first layer gets its tokens with the channels of each next to each other.

    Patch embeddings by convolution come with channels first in memory. Sums keep the layout of their first operand, so
    that the residual stream would stay that way through all layers: every sum and norm would read with a large stride.
    """
    first = next((layer for layer in vision.modules() if isinstance(layer, GradientCheckpointingLayer)), None)

    def entered(module, args, kwargs):
        if args:
            return (args[0].contiguous(), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": kwargs["hidden_states"].contiguous()}

    handle = first.register_forward_pre_hook(entered, with_kwargs=True) if first is not None else None
    try:
        yield
    finally:
        if handle is not None:
            handle.remove()


@contextmanager
def interpolated_positions(tower: nn.Module) -> Iterator[None]:
    """Inside the `with`, this one SigLIP tower interpolates its position embeddings to the frames that it is given."""

    def entered(module, args, kwargs):
        return args, kwargs | {"interpolate_pos_encoding": True}

    handle = tower.register_forward_pre_hook(entered, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _of_patches(module: nn.Conv2d | nn.Conv3d) -> bool:
    plain = module.groups == 1 and not any(size != 1 for size in module.dilation)
    unpadded = module.padding == "valid" or not any(module.padding)
    return plain and unpadded and module.stride == module.kernel_size
