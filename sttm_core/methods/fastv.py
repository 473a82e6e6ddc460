"""FastV (Chen et al., ECCV 2024, arXiv 2403.06764): what the last prompt token does not attend to is dropped, once.

K is the run's merge layer, 2 as published. The layers before it see all tokens. Its score of a video token is the
attention of layer K-1: the last prompt token as query, softmax over all keys, mean over heads. The video tokens with
the highest scores go on, in scan order and at their positions. In a model that adds features of the vision encoder
behind its first layers (Qwen3-VL) K is at least the first layer after those.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..layer_method import LayerMethod, Look, Step, strongest
from ..method import budget_count, check_retention, check_share


@dataclass(frozen=True)
class FastV(LayerMethod):
    """Pruning by attention behind layer K.

    Attributes:
        retention: budget, used where ``ratio`` is None; any number of tokens can be reached.
        ratio: the published R: ``round(N * (1 - R))`` of the video's N tokens are kept, at least 1.

    Raises:
        ValueError: for a value out of range, in one sentence.
    """

    name: ClassVar[str] = "fastv"
    title: ClassVar[str] = "FastV"
    paper: ClassVar[str] = "Chen et al., ECCV 2024, arXiv 2403.06764"
    merge_layer: ClassVar[int | None] = 2
    overrides: ClassVar[tuple[str, ...]] = ("ratio",)

    retention: float = 0.5
    ratio: float | None = None

    def __post_init__(self) -> None:
        check_retention(self.retention)
        check_share("ratio", self.ratio)

    def step(self, look: Look) -> Step:
        if not look.seen:
            raise ValueError("FastV reads the attention of the layer before it, so its merge layer must be at least 1.")
        return Step.keeping(strongest(look.attention(), self.count(len(look.places))), len(look.places), done=True)

    def count(self, patches: int) -> int:
        """Video tokens that it keeps of so many."""
        if self.ratio is None:
            return budget_count(patches, self.retention)
        return max(1, round(patches * (1 - self.ratio)))
