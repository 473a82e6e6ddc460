"""A plan of any method as pictures see it: what of each token lies in each frame, and what was dropped."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from sttm_core import MergePlan
from sttm_core.method import Plan

from .palette import LEVELS


@dataclass(frozen=True, eq=False)
class Pieces:
    """NumPy arrays on the CPU. A piece is what of one token lies in one frame: of STTM a node that was kept, of other
    methods all patches of the frame that went into the token.

    Attributes:
        of_patch: ``[T, H, W]``, the piece over each patch; -1 for a patch that was dropped.
        tokens, levels: ``[M]`` of each piece: its token; how large it is, 0 for a patch (see `num_levels`).
        stands: ``[M]`` bool, whether the token stands in this piece; otherwise it was merged away, to another one.
        member_of: ``[T, H, W]``, the token of each patch; -1 for none.
        patch_counts: ``[N]``; ``token_boxes``: ``[N, 5]``, as in `Plan`.
        num_levels: sizes of pieces: of STTM levels of the quadtree, else up to 1, 4, 16 patches and more.
    """

    of_patch: np.ndarray
    tokens: np.ndarray
    levels: np.ndarray
    stands: np.ndarray
    member_of: np.ndarray
    patch_counts: np.ndarray
    token_boxes: np.ndarray
    num_levels: int

    @cached_property
    def piece_counts(self) -> np.ndarray:
        """``[N]``: pieces of each token; 2 and more were joined through time."""
        return np.bincount(self.tokens, minlength=len(self.patch_counts))

    def dropped(self, frame: int) -> np.ndarray:
        """``[H, W]`` bool: patches that ended in no token."""
        return self.of_patch[frame] < 0

    def merged_away(self, frame: int) -> np.ndarray:
        """``[H, W]`` bool: patches whose token stands elsewhere."""
        return self._of_frame(frame, ~self.stands)

    def shown(self, frame: int, chosen: np.ndarray) -> np.ndarray:
        """``[H, W]``: the piece over each patch of a frame if it is one of ``chosen`` (``[M]`` bool), else -1."""
        return np.where(self._of_frame(frame, chosen), self.of_patch[frame], -1)

    def rectangles(self, frame: int, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes ``[n, 4]`` (y0, x0, y1, x1 in patches) that make up the chosen pieces of a frame, and ``[n]`` whose.

        A piece that fills its box is one rectangle; of another shape, every patch is one.
        """
        boxes, owners = [], []
        labels = self.shown(frame, chosen)
        for piece in np.unique(labels[labels >= 0]):
            ys, xs = np.nonzero(labels == piece)
            whole = (ys.min(), xs.min(), ys.max() + 1, xs.max() + 1)
            fills = (whole[2] - whole[0]) * (whole[3] - whole[1]) == len(ys)
            found = [whole] if fills else [(y, x, y + 1, x + 1) for y, x in zip(ys, xs, strict=True)]
            boxes += found
            owners += [piece] * len(found)
        return np.array(boxes, dtype=np.int64).reshape(-1, 4), np.array(owners, dtype=np.int64)

    def _of_frame(self, frame: int, chosen: np.ndarray) -> np.ndarray:
        labels = self.of_patch[frame]
        return (labels >= 0) & chosen[np.maximum(labels, 0)]


@lru_cache(maxsize=8)
def plan_pieces(plan: Plan) -> Pieces:
    """The plan's pieces, brought to the CPU once a plan."""
    plan = plan.to("cpu")
    common = {
        "member_of": plan.member_of.numpy(),
        "patch_counts": plan.patch_counts.numpy(),
        "token_boxes": plan.boxes.numpy(),
    }
    return Pieces(**(_kept_nodes(plan) if isinstance(plan, MergePlan) else _by_frame(**common)), **common)


def _kept_nodes(plan: MergePlan) -> dict:
    """STTM's pieces are its nodes."""
    tokens = plan.node_tokens.numpy()
    stands = np.zeros(len(tokens), dtype=bool)
    stands[np.unique(tokens, return_index=True)[1]] = True  # scan order: the first member represents its token
    levels = plan.tree.levels[plan.node_ids.numpy()]
    of_patch, count = plan.node_of_patch.numpy(), plan.tree.num_levels
    return {"of_patch": of_patch, "tokens": tokens, "levels": levels, "stands": stands, "num_levels": count}


def _by_frame(member_of: np.ndarray, patch_counts: np.ndarray, token_boxes: np.ndarray) -> dict:
    """A piece for each token in each frame that it has patches of."""
    count, kept = len(patch_counts), member_of >= 0
    frames = np.broadcast_to(np.arange(len(member_of))[:, None, None], member_of.shape)
    keys, pieces, sizes = np.unique(
        frames[kept] * count + member_of[kept], return_inverse=True, return_counts=True
    )  # frame by frame
    of_patch = np.full(member_of.shape, -1, dtype=np.int64)
    of_patch[kept] = pieces.reshape(-1)
    levels = np.searchsorted(4 ** np.arange(len(LEVELS) - 1), sizes)  # 1, up to 4, up to 16, more
    stands = token_boxes[keys % count, 0] == keys // count
    return {
        "of_patch": of_patch, "tokens": keys % count, "levels": levels, "stands": stands, "num_levels": len(LEVELS),
    }  # fmt: skip
