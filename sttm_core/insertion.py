"""Where merging meets a Hugging Face model: hooks on one instance, inside a `with`, gone afterwards.

Two ways in, built on the same `shorten`: `stop_before_layer` hands the engine everything that reaches decoder layer k,
and `sttm_core.generation.merging` lets plain ``model.generate`` run with merged video tokens.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import torch
from torch import nn

from .decoder import RotaryEmbeddings
from .method import MergedTokens
from .models.base import VideoLayout
from .positions import Positions, shortened_positions


class LayerReached(Exception):  # noqa: N818 - control flow, not an error
    """Raised by the hook on the layer at which a forward pass shall stop, and caught by whoever asked for it."""


@dataclass
class Arrival:
    """What reached decoder layer k in a forward pass that stopped there.

    Attributes:
        hidden: ``[1, S, D]`` before layer k.
        embeddings: rotary cos and sin that the layers were given, ``[..., S, head_dim]``.
        position_ids: as the rotary embedding was called, ``[1, S]`` or ``[3, 1, S]``.
        decoder_started: `time.perf_counter` when the decoder was entered (the vision encoder was done).
    """

    hidden: torch.Tensor | None = None
    embeddings: RotaryEmbeddings | None = None
    position_ids: torch.Tensor | None = None
    decoder_started: float = 0.0


@contextmanager
def hooks(*handles: torch.utils.hooks.RemovableHandle) -> Iterator[None]:
    """Remove the given hook handles on the way out, also after an exception."""
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        yield


@contextmanager
def stop_before_layer(decoder: nn.Module, layer: int, synchronize: Callable[[], None]) -> Iterator[Arrival]:
    """Inside the `with`, a forward pass ends before decoder layer ``layer``; what came there is in the `Arrival`.

    Forward passes of other threads run as ever. (Where they meet hooks that are just being registered or removed, torch
    calls these without keyword arguments.)
    """
    arrival, thread = Arrival(), threading.get_ident()

    def entered(module, args, kwargs=None):
        if threading.get_ident() == thread:
            synchronize()
            arrival.decoder_started = time.perf_counter()

    def rotated(module, args, kwargs=None):
        if threading.get_ident() == thread:
            arrival.position_ids = kwargs["position_ids"] if "position_ids" in kwargs else args[1]

    def reached(module, args, kwargs=None):
        if threading.get_ident() != thread:
            return
        arrival.hidden = args[0] if args else kwargs["hidden_states"]
        arrival.embeddings = kwargs["position_embeddings"]
        raise LayerReached

    with (
        hooks(
            decoder.register_forward_pre_hook(entered, with_kwargs=True),
            decoder.rotary_emb.register_forward_pre_hook(rotated, with_kwargs=True),
            decoder.layers[layer].register_forward_pre_hook(reached, with_kwargs=True),
        ),
        suppress(LayerReached),
    ):  # then the forward pass has done what it was asked for
        yield arrival


@dataclass(frozen=True, eq=False)
class Shortened:
    """A sequence after merging: ``hidden [1, n, D]``, and its positions in the layers that follow."""

    hidden: torch.Tensor
    positions: Positions


def shorten(
    hidden: torch.Tensor,
    full: Positions,
    layout: VideoLayout,
    merged: MergedTokens,
    rule: str,
    rotary: Callable[[torch.Tensor], RotaryEmbeddings],
) -> Shortened:
    """Put each token of the plan where it stands, drop the other patches, keep all text.

    Tokens that a plan does not hand out in scan order fill the places that are kept in the plan's order.

    Args:
        hidden: ``[1, S, D]`` before the merge layer.
        full: positions of the S tokens.
        layout: which of them are video patches.
        merged: the layout's patches of ``hidden``, merged.
        rule: see `positions.shortened_positions`.
        rotary: cos and sin for ``[n]`` position numbers.
    """
    index = layout.index.to(hidden.device)  # [T, H, W]
    stands = index.reshape(-1)[merged.plan.places]  # [N], in output order
    keep = torch.ones(hidden.shape[1], dtype=torch.bool, device=hidden.device)
    keep[index.reshape(-1)] = False
    keep[stands] = True
    kept = torch.nonzero_static(keep, size=hidden.shape[1] - layout.num_patches + len(stands)).squeeze(1)
    merged_at = torch.searchsorted(kept, stands.sort().values)
    short, source = hidden[:, kept], kept.clone()
    short[0, merged_at], source[merged_at] = merged.tokens, stands
    return Shortened(short, shortened_positions(rule, full, source, merged_at, index, merged.plan, rotary))


def __getattr__(name: str):
    """`merging` lives in `sttm_core.generation`, which builds on this module."""
    if name == "merging":
        from .generation import merging

        return merging
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
