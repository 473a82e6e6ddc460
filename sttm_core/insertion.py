"""Where merging meets a Hugging Face model: hooks on one instance, inside a `with`, gone afterwards.

Two ways in, built on the same `shorten`: `stop_before_layer` hands the engine everything that reaches decoder layer k,
and `merging` lets plain ``model.generate`` run with merged video tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

import torch
from torch import nn

from .decoder import RotaryEmbeddings, cache_argument, causal_mask
from .method import MergedTokens
from .methods.sttm.merge import merge_tokens
from .methods.sttm.plan import MergePlan
from .models.base import Family, VideoLayout
from .positions import Positions, check_rule, shortened_positions


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
    """Inside the `with`, a forward pass ends before decoder layer ``layer``; what came there is in the `Arrival`."""
    arrival = Arrival()

    def entered(module, args, kwargs):
        synchronize()
        arrival.decoder_started = time.perf_counter()

    def rotated(module, args, kwargs):
        arrival.position_ids = kwargs["position_ids"] if "position_ids" in kwargs else args[1]

    def reached(module, args, kwargs):
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


@dataclass
class Engagement:
    """Proof that merging happened: filled in by the first forward pass inside `merging`."""

    plan: MergePlan | None = None
    tokens_before: int = 0
    tokens_after: int = 0
    positions: Positions | None = field(default=None, repr=False)


@contextmanager
def merging(
    model: nn.Module,
    family: Family,
    layout: VideoLayout,
    *,
    tau_spatial: float,
    tau_temporal: float,
    merge_layer: int | None = None,
    rules: str = "paper",
    position_rule: str | None = None,
    root_level: int = 1,
) -> Iterator[Engagement]:
    """Let plain ``model.generate(**inputs)`` merge its video tokens before a decoder layer, by default the family's.

    One video, batch size 1, one `generate` call per `with`. The instance's layers carry hooks until the `with` ends.

    Yields:
        an `Engagement` that says what was merged, once a forward pass has run.

    Raises:
        ValueError: for an unknown position rule, a merge layer that is not there, or a batch of more than one sequence.
    """
    decoder = family.decoder(model)
    merge_layer = family.default_merge_layer(model) if merge_layer is None else merge_layer
    family.check_merge_layer(model, merge_layer)
    rule = check_rule(position_rule or family.default_position_rule(model))
    state = Engagement()

    def rotary(numbers: torch.Tensor) -> RotaryEmbeddings:
        return family.rotary(decoder, numbers)

    def at_merge_layer(module, args, kwargs):
        hidden, kwargs = args[0] if args else kwargs["hidden_states"], dict(kwargs)
        if len(hidden) != 1:
            raise ValueError(f"merging works on one sequence at a time, got a batch of {len(hidden)}.")
        if state.plan is None:
            merged = merge_tokens(
                layout.patches(hidden[0]), tau_spatial, tau_temporal, root_level=root_level, rules=rules
            )
            full = Positions(kwargs["position_embeddings"], hidden.shape[1])
            short = shorten(hidden, full, layout, merged, rule, rotary)
            state.plan = merged.plan
            state.tokens_before, state.tokens_after = hidden.shape[1], short.hidden.shape[1]
            hidden, state.positions = short.hidden, short.positions
        kwargs.pop("hidden_states", None)
        return (hidden,), kwargs

    def after_merge(module, args, kwargs):
        hidden, kwargs = args[0] if args else kwargs["hidden_states"], dict(kwargs)
        cache = kwargs.get(cache_argument(type(module)))
        past = cache.get_seq_length(module.self_attn.layer_idx) if cache is not None else 0
        if not past:
            kwargs["position_embeddings"] = state.positions.embeddings
        elif rule == "reassigned":
            kwargs["position_embeddings"] = rotary(torch.arange(past, past + hidden.shape[1], device=hidden.device))
        kwargs["attention_mask"] = causal_mask(hidden, past, decoder.config._attn_implementation)
        kwargs["position_ids"] = None
        return args, kwargs

    first = decoder.layers[merge_layer].register_forward_pre_hook(at_merge_layer, with_kwargs=True)
    rest = [layer.register_forward_pre_hook(after_merge, with_kwargs=True) for layer in decoder.layers[merge_layer:]]
    with hooks(first, *rest):
        yield state
