"""FastV and FrameFusion once more, in plain loops on a model with eager attention, every attention matrix kept whole.

Nothing is cached and nothing shared with `sttm_core`: for every token the whole prompt, with what was generated so far
behind it, goes through the plain model up to the first layer that may see less, and then half a layer at a time.
Budgets are counted in fractions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch

from tests.core.by_hand import Prompt, before_layer, extended, numbered


@dataclass
class Row:
    """One token on its way: its place in the prompt, its patch if it is video, and the shares of patches in it."""

    place: int
    patch: int | None = None
    parts: dict[int, Fraction] = field(default_factory=dict)


@dataclass
class Pass:
    """One pass through the layers."""

    llm: object
    prompt: Prompt
    hidden: list[torch.Tensor]
    rows: list[Row]
    inputs: dict
    positions: torch.Tensor
    first: int
    seen: list[int] = field(default_factory=list)  # video tokens of each layer

    @classmethod
    def begin(cls, llm, prompt: Prompt, generated: list[int], first: int) -> Pass:
        """Before layer ``first``, which all tokens reach."""
        inputs, positions = extended(prompt, generated)
        hidden = before_layer(llm.model, llm.decoder.layers[first], inputs, positions)
        patch_at = {place: patch for patch, place in enumerate(prompt.places.ravel().tolist())}
        rows = [Row(place, patch_at.get(place)) for place in range(len(hidden))]
        for row in rows:
            if row.patch is not None:
                row.parts = {row.patch: Fraction(1)}
        start = cls(llm, prompt, list(hidden), rows, inputs, positions, first)
        start.seen = [start.video] * first
        return start

    @property
    def video(self) -> int:
        return sum(row.patch is not None for row in self.rows)

    @property
    def last_query(self) -> int:
        """Where the last token of the prompt is now; generated ones come behind it."""
        return next(i for i, row in enumerate(self.rows) if row.place == self.prompt.length - 1)

    def embeddings(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Every token at the position that it had."""
        whole = self.llm.decoder.rotary_emb(self.hidden[0], numbered(self.positions))
        return tuple(part[..., [row.place for row in self.rows], :] for part in whole)

    def attend(self, index: int) -> torch.Tensor:
        """Attention of a layer and its residual; returns ``[heads, n, n]`` what every token attended to."""
        layer, count = self.llm.decoder.layers[index], len(self.rows)
        self.seen.append(self.video)
        stream = torch.stack(self.hidden)[None]
        mask = torch.full((count, count), torch.finfo(torch.float32).min).triu(1)[None, None]
        out, weights = layer.self_attn(
            hidden_states=layer.input_layernorm(stream), position_embeddings=self.embeddings(), attention_mask=mask
        )
        self.hidden = list((stream + out)[0])
        return weights[0]

    def feed(self, index: int) -> None:
        """MLP of a layer and its residual."""
        layer, stream = self.llm.decoder.layers[index], torch.stack(self.hidden)[None]
        self.hidden = list((stream + layer.mlp(layer.post_attention_layernorm(stream)))[0])

    def keep(self, wanted: set[int]) -> None:
        """Only text, and the video tokens at these indices."""
        left = [i for i, row in enumerate(self.rows) if row.patch is None or i in wanted]
        self.hidden, self.rows = [self.hidden[i] for i in left], [self.rows[i] for i in left]

    def prune(self, weights: torch.Tensor, count: int) -> None:
        """The ``count`` video tokens to which the prompt's last token attended most."""
        row = weights[:, self.last_query].mean(dim=0)
        video = [i for i, one in enumerate(self.rows) if one.patch is not None]
        ranked = sorted(video, key=lambda i: (-float(row[i]), i))
        self.keep(set(ranked[:count]))

    def logits(self) -> torch.Tensor:
        return self.llm.model.lm_head(self.llm.decoder.norm(self.hidden[-1]))


def finish(state: Pass) -> Pass:
    """All layers that have not attended yet, with nothing more left out."""
    for index in range(len(state.seen), len(state.llm.decoder.layers)):
        state.attend(index)
        state.feed(index)
    return state


def attention_of(llm, index: int, inputs: dict, positions: torch.Tensor) -> torch.Tensor:
    """``[heads, S, S]`` of a layer of the plain model."""
    seen = []
    hook = lambda module, args, output: seen.append(output[1])  # noqa: E731
    handle = llm.decoder.layers[index].self_attn.register_forward_hook(hook)
    try:
        llm.model(**inputs, position_ids=numbered(positions), use_cache=False)
    finally:
        handle.remove()
    return seen[0][0]


@torch.no_grad()
def fastv(llm, prompt: Prompt, generated: list[int], layer: int, kept: int) -> Pass:
    """Pruned before ``layer`` by the attention of the one before it."""
    state = Pass.begin(llm, prompt, generated, layer)
    state.prune(attention_of(llm, layer - 1, state.inputs, state.positions), kept)
    return finish(state)


@torch.no_grad()
def framefusion(
    llm, prompt: Prompt, generated: list[int], first: int, cost: str, similarity: float, ratio_floor: float = 0.1
) -> Pass:
    """As described: merging calls until one merges too little, then one that prunes; or the cost is met at once."""
    state, layers = Pass.begin(llm, prompt, generated, first), len(llm.decoder.layers)
    left, sums, steps = Fraction(1), Fraction(first), first  # product of what stays, sum of those, steps done

    def cap() -> Fraction:
        wanted = 1 - (layers * Fraction(cost) - sums) / ((layers - steps) * left)
        return min(Fraction(1), max(Fraction(0), wanted))

    merging, weights = True, None
    for index in range(first, layers):
        if not merging:
            state.prune(weights, max(1, round(state.video * (1 - cap()))))
            if index > first:
                state.feed(index - 1)
            return finish(state)
        before, limit = state.video, cap()
        alike = alikeness(state)
        chosen = [i for i, value in alike.items() if value >= similarity]
        rho = Fraction(len(chosen), before)
        if rho >= limit:
            ranked = sorted(alike, key=lambda i: (-alike[i], i))
            fuse(state, set(ranked[: int(limit * before)]))
            if index > first:
                state.feed(index - 1)
            return finish(state)
        fuse(state, set(chosen))
        left, merging = left * (1 - rho), rho >= Fraction(str(ratio_floor))
        sums, steps = sums + left, steps + 1
        if index > first:
            state.feed(index - 1)
        weights = state.attend(index)
    state.feed(layers - 1)
    return state


def columns(state: Pass) -> dict[int, list[int]]:
    """Indices of the video tokens at each patch of the frame, in order of time."""
    area = int(np.prod(state.prompt.places.shape[1:]))
    found: dict[int, list[int]] = {}
    for i, row in enumerate(state.rows):
        if row.patch is not None:
            found.setdefault(row.patch % area, []).append(i)
    return found


def alikeness(state: Pass) -> dict[int, float]:
    """Cosine of each video token with the one before it at its patch; -2 for the first."""
    found = {}
    for column in columns(state).values():
        found[column[0]] = -2.0
        for one, other in zip(column, column[1:], strict=False):
            a, b = state.hidden[one].double(), state.hidden[other].double()
            found[other] = float(a @ b / (a.norm() * b.norm()))
    return found


def fuse(state: Pass, chosen: set[int]) -> None:
    """Runs of chosen tokens go into the token before them: the plain mean of all."""
    gone = set()
    for column in columns(state).values():
        groups: list[list[int]] = []
        for i in column:
            if i in chosen:
                groups[-1].append(i)
            else:
                groups.append([i])
        for group in groups:
            mean = torch.stack([state.hidden[i] for i in group]).mean(dim=0)
            parts = {p: share / len(group) for i in group for p, share in state.rows[i].parts.items()}
            state.hidden[group[0]], state.rows[group[0]].parts = mean, parts
            gone |= set(group[1:])
    state.keep({i for i, row in enumerate(state.rows) if row.patch is not None} - gone)


def greedy(llm, once: Callable[[list[int]], Pass], count: int) -> list[int]:
    """The next ``count`` tokens, or fewer up to the end token, each from scratch."""
    generated: list[int] = []
    while len(generated) < count:
        token = int(once(generated).logits().argmax())
        if token == llm.processor.tokenizer.eos_token_id:
            break
        generated.append(token)
    return generated
