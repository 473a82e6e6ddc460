"""Running decoder layers over a whole prompt while a `LayerMethod` decides, from layer to layer, what goes on.

The prompt is the prefix that ends with the video, and a question behind it. Layers before the merge layer have read the
prefix already; the question follows behind their caches. No attention matrix is ever made: of the one row that methods
look at, the query is computed by hand and the keys are in the cache, so that fast attention stays on everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn
from transformers import DynamicCache

from .decoder import RotaryEmbeddings, run_layers
from .insertion import LayerReached, hooks
from .layer_method import LayerMethod, Look, Step
from .method import TokenPlan, count_values, pool_members
from .models import VideoLayout
from .positions import Positions, shortened_positions


@dataclass
class PromptState:
    """A whole prompt on its way through the layers: it gets shorter as a method goes on.

    Attributes:
        hidden: ``[1, n, D]`` residual stream.
        layout: of the whole prompt of S tokens.
        full, positions: rotary positions of its S tokens, and of the n that are left.
        source: ``[n]`` place in the whole prompt of each token that is left.
        places: ``[N]`` flat patch index where each video token that is left stands.
        member_of, weights: ``[T*H*W]`` as in `Plan`: what became of every patch so far.
    """

    hidden: torch.Tensor
    layout: VideoLayout
    full: Positions
    positions: Positions = field(init=False)
    source: torch.Tensor = field(init=False)
    places: torch.Tensor = field(init=False)
    member_of: torch.Tensor = field(init=False)
    weights: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        device, patches = self.hidden.device, self.layout.num_patches
        self.positions = self.full
        self.source = torch.arange(self.hidden.shape[1], device=device)
        self.places = torch.arange(patches, device=device)
        self.member_of = torch.arange(patches, device=device)
        self.weights = torch.ones(patches, device=device)

    @property
    def rows(self) -> torch.Tensor:
        """``[N]`` rows of ``hidden`` that are video tokens."""
        stands = self.layout.index.to(self.source.device).reshape(-1)[self.places]
        return torch.searchsorted(self.source, stands)

    def to(self, device: torch.device) -> None:
        """Follow the hidden states to the device of the layer that gave them out."""
        for name in ("source", "places", "member_of", "weights"):
            setattr(self, name, getattr(self, name).to(device))

    def plan(self, method: LayerMethod) -> TokenPlan:
        """What became of the video so far."""
        weights = self.weights.view(self.layout.shape)
        return TokenPlan(method, self.places, self.member_of.view(self.layout.shape), weights)

    def take(self, into: torch.Tensor) -> None:
        """Shorten everything but the positions by what a method said; see `Step`."""
        rows, stays = self.rows, into == torch.arange(len(into), device=into.device)
        token = torch.where(into >= 0, (stays.cumsum(0) - 1)[into.clamp(min=0)], -1)  # [N], in the new numbering
        sizes = count_values(token[token >= 0], int(stays.sum()))
        share = sizes.float().reciprocal()[token.clamp(min=0)]  # [N]
        merged = pool_members(self.hidden[0, rows], token, share, len(sizes)) if int(sizes.max()) > 1 else None
        left = torch.ones(len(self.source), dtype=torch.bool, device=rows.device)
        left[rows[~stays]] = False
        was = self.member_of.clamp(min=0)
        self.weights = self.weights * torch.where(self.member_of >= 0, share[was], 0.0)
        self.member_of = torch.where(self.member_of >= 0, token[was], -1)
        self.weights = torch.where(self.member_of >= 0, self.weights, 0.0)
        self.hidden, self.source, self.places = self.hidden[:, left], self.source[left], self.places[stays]
        if merged is not None:
            self.hidden[0, self.rows] = merged


@dataclass(frozen=True, eq=False)
class InsideRun:
    """One run of a method inside the layers of a decoder.

    Args:
        decoder: of the model.
        method: what decides.
        first: the merge layer: the first one that may see fewer tokens.
        rule: of positions after a token has gone, see `positions.shortened_positions`.
        rotary: cos and sin for ``[n]`` position numbers.
        cache: what the layers before ``first`` have seen; grows by all others.
        clock: seconds since it was last asked, all devices waited for.
    """

    decoder: nn.Module
    method: LayerMethod
    first: int
    rule: str
    rotary: Callable[[torch.Tensor], RotaryEmbeddings]
    cache: DynamicCache
    clock: Callable[[], float]
    seen: list[int] = field(default_factory=list)
    next_positions: list[int] = field(default_factory=list)
    deciding: list[float] = field(default_factory=list)  # seconds of each call

    def read(
        self, ids: torch.Tensor, hidden: torch.Tensor, layout: VideoLayout, positions: Positions
    ) -> tuple[PromptState, torch.Tensor | None]:
        """Let the layers before ``first`` read the question ``ids [q]`` behind the prefix that they have seen.

        Args:
            hidden, layout, positions: of the prefix before layer ``first``.

        Returns:
            the whole prompt there, and ``[1, 1, D]`` what layer ``first - 1`` was given for its last token, if it is
            there.
        """
        embeddings = self.rotary(torch.arange(positions.next, positions.next + len(ids), device=ids.device))
        question, query = self.decoder.embed_tokens(ids[None]), None  # [1, q, D]
        for layer in range(self.first):
            query, span = question[:, -1:], range(layer, layer + 1)
            question = run_layers(self.decoder.layers, span, question, embeddings, self.cache, self._attention)
        both = zip(positions.embeddings, embeddings, strict=True)
        joined = tuple(torch.cat([video, text.to(video.device)], dim=-2) for video, text in both)
        whole = torch.cat([hidden, question.to(hidden.device)], dim=1)
        full = Positions(joined, positions.next + len(ids))
        return PromptState(whole, VideoLayout(layout.index, layout.length + len(ids)), full), query

    def __call__(self, state: PromptState, last_query: torch.Tensor | None) -> float:
        """Run the layers from ``first`` on; ``state`` is then as behind the last one.

        Args:
            last_query: ``[1, 1, D]`` what layer ``first - 1`` was given for the prompt's last token, if there is one.

        Returns:
            seconds since the clock was last asked, without those in which the method decided.
        """
        seconds = self.clock()
        self._layers_saw(state, self.first)
        done = self._decide(state, last_query, state.full)
        last = len(self.decoder.layers) - 1
        for layer in range(self.first, last + 1):
            self._layers_saw(state, 1)
            query, positions = state.hidden[:, -1:], state.positions
            run = partial(run_layers, self.decoder.layers, range(layer, layer + 1), state.hidden, positions.embeddings)
            run = partial(run, self.cache, self._attention)
            if done or layer == last:
                state.hidden = run()
                continue
            state.hidden = up_to_mlp(self.decoder.layers[layer], run)
            seconds += self.clock()
            done = self._decide(state, query, positions)
            state.hidden = mlp(self.decoder.layers[layer], state.hidden)
        return seconds + self.clock()

    def _layers_saw(self, state: PromptState, layers: int) -> None:
        self.seen.extend([len(state.places)] * layers)
        self.next_positions.extend([state.positions.next] * layers)

    def _decide(self, state: PromptState, query: torch.Tensor | None, positions: Positions) -> bool:
        """One call of the method, and what follows from it; whether it was the last one.

        Args:
            query: ``[1, 1, D]`` what the last layer that attended was given for the prompt's last token.
            positions: of the tokens that it was given.
        """
        state.to(state.hidden.device)
        rows = state.rows

        def attention() -> torch.Tensor:
            index = len(self.seen) - 1
            keys = self.cache.layers[index].keys
            row = last_query_attention(self.decoder.layers[index], query, positions.embeddings, keys)
            return row.to(rows.device)[rows]

        look = Look(
            state.hidden[0, rows], state.places, state.layout.shape, tuple(self.seen), len(self.decoder.layers),
            len(self.deciding), attention,
        )  # fmt: skip
        step: Step = self.method.step(look)
        if not bool((step.into == torch.arange(len(rows), device=step.into.device)).all()):
            state.take(step.into)
            left, index, plan = (state.source, state.rows), state.layout.index, state.plan(self.method)
            state.positions = shortened_positions(self.rule, state.full, *left, index, plan, self.rotary)
        self.deciding.append(self.clock())
        return step.done

    @property
    def _attention(self) -> str:
        return self.decoder.config._attn_implementation


def up_to_mlp(layer: nn.Module, run: Callable[[], torch.Tensor]) -> torch.Tensor:
    """``[1, n, D]`` residual between a layer's attention and MLP: its own forward pass ``run``, up to there."""
    found: list[torch.Tensor] = []

    def reached(module, args):
        found.append(args[0])
        raise LayerReached

    with hooks(layer.post_attention_layernorm.register_forward_pre_hook(reached)), suppress(LayerReached):
        run()
    return found[0]


def mlp(layer: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """The other half of a layer, behind `up_to_mlp`."""
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden))


def last_query_attention(
    layer: nn.Module, query: torch.Tensor, embeddings: RotaryEmbeddings, keys: torch.Tensor
) -> torch.Tensor:
    """``[S]`` float32: what the last token attends to in a layer, softmax over all keys, mean over heads.

    Args:
        query: ``[1, 1, D]`` what the layer was given for that token, which is text: with M-RoPE, too, it has one
            position number.
        embeddings: rotary cos and sin of the tokens that the layer was given; the last row is that token's.
        keys: ``[1, key heads, S, head_dim]`` of the layer, rotated.
    """
    own = layer.self_attn
    states = own.q_proj(layer.input_layernorm(query.to(keys.device))).view(-1, own.head_dim)  # [heads, head_dim]
    if hasattr(own, "q_norm"):
        states = own.q_norm(states)
    cos, sin = (part.reshape(-1, *part.shape[-2:])[0, -1].to(states.device) for part in embeddings)  # [head_dim]
    front, back = states.chunk(2, dim=-1)
    rotated = states * cos + torch.cat([-back, front], dim=-1) * sin
    grouped = rotated.view(keys.shape[1], -1, own.head_dim)  # [key heads, heads a key head, head_dim]
    scores = (grouped @ keys[0].mT).float() * own.scaling  # [key heads, heads a key head, S]
    return scores.softmax(dim=-1).flatten(0, 1).mean(dim=0)
