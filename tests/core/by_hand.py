"""Merging inside a model once more, in plain loops: nothing cached, nothing shared with insertion, positions or engine.

For every token the whole prompt goes through the model again; what reaches the merge layer is merged by the naive
oracle, the shortened sequence is put together token by token and run through the remaining layers under an explicit
causal mask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from tests.core import naive


@dataclass(frozen=True)
class Merging:
    layer: int
    tau_spatial: float
    tau_temporal: float
    rule: str = "reassigned"


@dataclass(frozen=True)
class Prompt:
    """A prompt with a video in it.

    Attributes:
        inputs: what plain transformers made of it.
        places: ``[T, H, W]`` places of the video's patches among its tokens.
        positions: rotary positions ``[axes, S]`` of its tokens, as the model itself numbers them.
    """

    inputs: dict[str, torch.Tensor]
    places: np.ndarray
    positions: torch.Tensor

    @property
    def length(self) -> int:
        return self.inputs["input_ids"].shape[1]


def places_of(inputs: dict[str, torch.Tensor], token: int, grid: tuple[int, int, int]) -> np.ndarray:
    """Where the first T*H*W tokens of this id are."""
    places = [i for i, number in enumerate(inputs["input_ids"][0].tolist()) if number == token]
    return np.array(places[: int(np.prod(grid))]).reshape(grid)


def positions_of(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """``[axes, S]``: one axis for plain RoPE, three for M-RoPE."""
    if not hasattr(model.model, "get_rope_index"):
        return torch.arange(inputs["input_ids"].shape[1])[None]
    asked = {name: value for name, value in inputs.items() if not name.startswith("pixel")}
    return model.model.get_rope_index(**asked)[0][:, 0]


def extended(prompt: Prompt, generated: list[int]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The prompt's inputs and positions with generated tokens behind it, which count on from its last position."""
    count, inputs = len(generated), dict(prompt.inputs)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([generated], dtype=torch.long)], dim=1)
    for name, fill in (("attention_mask", 1), ("mm_token_type_ids", 0)):
        if name in inputs:
            tail = inputs[name].new_full((1, count), fill)
            inputs[name] = torch.cat([inputs[name], tail], dim=1)
    behind = prompt.positions[:, -1:] + 1 + torch.arange(count)
    return inputs, torch.cat([prompt.positions, behind], dim=1)


def numbered(positions: torch.Tensor) -> torch.Tensor:
    """``[axes, n]`` as a rotary embedding wants it: ``[1, n]``, or ``[3, 1, n]``."""
    return positions if len(positions) == 1 else positions[:, None]


def before_layer(model: torch.nn.Module, layer: torch.nn.Module, inputs: dict, positions: torch.Tensor) -> torch.Tensor:
    """``[S, D]`` hidden states that a decoder layer of the plain model is given."""
    seen = []
    handle = layer.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    try:
        model(**inputs, position_ids=numbered(positions), use_cache=False)
    finally:
        handle.remove()
    return seen[0][0]


def shortened(hidden: torch.Tensor, places: np.ndarray, merged: naive.NaiveMerge) -> tuple[torch.Tensor, list[int]]:
    """The sequence after merging, and which place of the full one each of its tokens stands in."""
    token_at = {int(places[t, y, x]): i for i, (t, y, x, _, _) in enumerate(merged.boxes.tolist())}
    video = set(places.ravel().tolist())
    rows, kept = [], []
    for place in range(len(hidden)):
        if place in token_at:
            rows.append(torch.from_numpy(merged.tokens[token_at[place]]).float())
        elif place not in video:
            rows.append(hidden[place])
        else:
            continue
        kept.append(place)
    return torch.stack(rows), kept


def averaged(part: torch.Tensor, places: np.ndarray, merged: naive.NaiveMerge) -> np.ndarray:
    """Mean of cos or sin ``[S, head_dim]`` over each token's members, ``[N, head_dim]``; means of means, as ever."""
    grid = part.double().numpy()[places]  # [T, H, W, head_dim]
    trees = naive.quadtree(*places.shape[1:], 1)
    features = [naive.node_features(frame, trees, "nodes") for frame in grid]
    members: list[list[np.ndarray]] = [[] for _ in merged.tokens]
    for (frame, node), token in zip(merged.kept, merged.token_of_kept, strict=True):
        members[token].append(features[frame][node.number])
    return np.array([np.mean(found, axis=0) for found in members])


def embeddings_of(
    rotary: Callable, hidden: torch.Tensor, positions: torch.Tensor, places, merged, kept: list[int], rule: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cos and sin ``[1, n, head_dim]`` of the shortened sequence by one of the three rules."""
    if rule == "reassigned":
        return rotary(hidden, numbered(torch.arange(len(kept)).expand(len(positions), -1)))
    cos, sin = (part[..., kept, :].clone() for part in rotary(hidden, numbered(positions)))
    if rule == "merged":
        at = [kept.index(int(places[t, y, x])) for t, y, x, _, _ in merged.boxes.tolist()]
        for short, whole in zip((cos, sin), rotary(hidden, numbered(positions)), strict=True):
            for axis, rows in enumerate(whole.reshape(-1, *whole.shape[-2:])):
                means = torch.from_numpy(averaged(rows, places, merged)).float()
                short.reshape(-1, *short.shape[-2:])[axis, at] = means
    return cos, sin


@torch.no_grad()
def merged_video(llm, prompt: Prompt, merging: Merging) -> naive.NaiveMerge:
    """The naive oracle's merge of what reaches the merge layer: the same for every question, which comes behind it."""
    layer = llm.family.decoder(llm.model).layers[merging.layer]
    video = before_layer(llm.model, layer, prompt.inputs, prompt.positions).numpy()[prompt.places]
    return naive.merge(video, merging.tau_spatial, merging.tau_temporal)


@torch.no_grad()
def next_logits(
    llm, prompt: Prompt, generated: list[int], merging: Merging, merged: naive.NaiveMerge
) -> tuple[torch.Tensor, int]:
    """``[vocabulary]`` of the token after ``generated``, and the length of the shortened sequence."""
    model, decoder = llm.model, llm.family.decoder(llm.model)
    inputs, positions = extended(prompt, generated)
    hidden = before_layer(model, decoder.layers[merging.layer], inputs, positions)
    short, kept = shortened(hidden, prompt.places, merged)
    embeddings = embeddings_of(decoder.rotary_emb, hidden, positions, prompt.places, merged, kept, merging.rule)
    mask = torch.full((len(kept), len(kept)), torch.finfo(torch.float32).min).triu(1)[None, None]
    state = short[None]
    for layer in decoder.layers[merging.layer :]:
        state = layer(state, attention_mask=mask, position_embeddings=embeddings)
        state = state[0] if isinstance(state, tuple) else state
    return model.lm_head(decoder.norm(state))[0, -1], len(kept)


def greedy(llm, prompt: Prompt, merging: Merging, merged: naive.NaiveMerge, count: int) -> list[int]:
    """The next ``count`` tokens, or fewer up to the end token, each from scratch."""
    generated: list[int] = []
    while len(generated) < count:
        token = int(next_logits(llm, prompt, generated, merging, merged)[0].argmax())
        if token == llm.processor.tokenizer.eos_token_id:
            break
        generated.append(token)
    return generated
