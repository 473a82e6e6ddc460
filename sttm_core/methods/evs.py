"""EVS, Efficient Video Sampling (Bagrov et al., 2025, arXiv 2510.14624): patches that did not change are dropped.

A patch's dissimilarity is 1 minus its cosine to the same patch one frame earlier. The first frame is kept whole. Of all
others the most dissimilar are kept, over the whole video at once; of equal ones the earlier comes first. Kept tokens
stay where they were: nothing is averaged, and their positions survive.

The method runs before the decoder, on the projected features (`merge_layer` is 0), in vLLM, SGLang and TensorRT-LLM.
It keeps at least the first frame: a plan's ``retention`` says what a smaller budget came to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..method import Method, TokenPlan, budget_count, check_retention, check_share, check_tokens
from .likeness import frame_cosines


@dataclass(frozen=True, eq=False)
class EvsTables:
    """``cosines [(T-1)*H*W]`` float32: of each patch with the same patch one frame earlier."""

    cosines: torch.Tensor

    @property
    def nbytes(self) -> int:
        return self.cosines.nbytes


@dataclass(frozen=True)
class Evs(Method):
    """Temporal pruning over the whole video.

    Attributes:
        retention: budget, used where ``q`` is None.
        q: the published pruning rate: ``max(H*W, int(T*H*W * (1 - q)))`` tokens are kept.

    Raises:
        ValueError: for a value out of range, in one sentence.
    """

    name: ClassVar[str] = "evs"
    title: ClassVar[str] = "EVS"
    paper: ClassVar[str] = "Bagrov et al., 2025, arXiv 2510.14624"
    merge_layer: ClassVar[int | None] = 0
    position_rule: ClassVar[str | None] = "survived"
    overrides: ClassVar[tuple[str, ...]] = ("q",)

    retention: float = 0.5
    q: float | None = None

    def __post_init__(self) -> None:
        check_retention(self.retention)
        check_share("q", self.q)

    def tables(self, tokens: torch.Tensor) -> EvsTables:
        """The cosines that every budget needs: one pass over the features."""
        pairs = [(frame - 1, frame) for frame in range(1, len(check_tokens(tokens)))]
        return EvsTables(frame_cosines(tokens, pairs).flatten())

    def plan(self, tokens: torch.Tensor, tables: EvsTables | None = None) -> TokenPlan:
        cosines = (self.tables(tokens) if tables is None else tables).cosines
        grid = tuple(tokens.shape[:3])
        area = grid[1] * grid[2]
        changed = (1 - cosines).argsort(descending=True, stable=True)[: self.count(grid) - area]
        first = torch.arange(area, device=tokens.device)
        return TokenPlan.keeping(self, torch.cat([first, changed.sort().values + area]), grid)

    def count(self, grid: tuple[int, int, int]) -> int:
        """Tokens that are kept."""
        frames, height, width = grid
        total = frames * height * width
        wanted = budget_count(total, self.retention) if self.q is None else int(total * (1 - self.q))
        return max(height * width, wanted)
