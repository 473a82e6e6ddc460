"""Methods that act inside the decoder, while the question is there. What differs from all others is said here, once.

A method on tokens looks at a video once, before decoder layer k, and its `Plan` serves every question. A method inside
layers runs the whole prompt, video and question, and is called between the layers, and between attention and MLP of a
layer: it sees the hidden states that are there at that moment and how much the last prompt token attends to each of
them, and says which go on. Hence:

- it has no plan before it has run; the `Plan` of its `Prefix` is a record of where every patch went, no recipe;
- layers see different numbers of video tokens, so "kept" and "layer average" part, and caches differ in length;
- its prefix has read the question, so it serves that question alone (`Prefix.check_question`);
- which knobs meet a budget may depend on video and question: `LayerMethod.fit` may try them out.

`sttm_core.inside_layers` runs them. The first call comes before the merge layer k; layers before k see all tokens.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from .budgets import PrefixShape
from .method import Method


@dataclass(frozen=True, eq=False)
class Look:
    """What a method sees when it is called.

    Attributes:
        tokens: ``[N, C]`` hidden states of the video tokens that are left, in scan order.
        places: ``[N]`` int64, the flat patch index where each of them stands.
        grid: ``(T, H, W)`` of the whole video.
        seen: video tokens that each layer has seen so far: ``len(seen)`` layers have attended.
        num_layers: of the decoder.
        calls: how often the method was called before in this run.
        attention: gives ``[N]`` float32: how much the last prompt token attends to each of ``tokens`` in the last layer
            that has attended, mean over heads of the softmax over all keys.
    """

    tokens: torch.Tensor
    places: torch.Tensor
    grid: tuple[int, int, int]
    seen: tuple[int, ...]
    num_layers: int
    calls: int
    attention: Callable[[], torch.Tensor]

    @property
    def num_patches(self) -> int:
        return self.grid[0] * self.grid[1] * self.grid[2]


@dataclass(frozen=True, eq=False)
class Step:
    """What a method says: ``into [N]``, the token that each one goes into: itself if it stays, -1 if it is dropped.

    Tokens that go into one are averaged with it, all alike. ``done``: the method need not be called again.
    """

    into: torch.Tensor
    done: bool

    @classmethod
    def keeping(cls, kept: torch.Tensor, count: int, done: bool) -> Step:
        """Those at the indices ``kept [n]`` of ``count`` tokens stay, all others are dropped."""
        into = torch.full((count,), -1, dtype=torch.int64, device=kept.device)
        into[kept] = kept
        return cls(into, done)


class LayerMethod(Method):
    """A method whose decisions fall inside the decoder; see the module's text."""

    acts_on: ClassVar[str] = "layers"
    query_aware: ClassVar[bool] = True
    position_rule: ClassVar[str | None] = "survived"

    @abstractmethod
    def step(self, look: Look) -> Step:
        """Which of the video tokens go on.

        Raises:
            ValueError: where the method can't act, in one sentence.
        """

    def fit(
        self, shape: PrefixShape, share: float, budget: str, shares_of: Callable[[LayerMethod], Mapping[str, float]]
    ) -> LayerMethod:
        """The method with the knobs by which ``budget`` comes to at most ``share``, as near to it as it can.

        Args:
            shares_of: runs the method and gives all three shares (`Prefix.shares`).
        """
        return replace(self, retention=shape.kept_share(share, budget), **dict.fromkeys(self.overrides))

    def ready(self, shape: PrefixShape, shares_of: Callable[[LayerMethod], Mapping[str, float]]) -> LayerMethod:
        """The method with every knob set that a run needs."""
        return self


def strongest(scores: torch.Tensor, count: int) -> torch.Tensor:
    """``[count]`` indices of the highest of ``scores [N]``, ascending; of equal ones the first."""
    return scores.sort(descending=True, stable=True).indices[:count].sort().values
