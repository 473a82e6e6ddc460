"""Answer loss and the dense auxiliary losses, whose heads are thrown away after training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, cosine_similarity, cross_entropy, mse_loss

from demo_model.model import Outputs
from demo_model.sequence import IGNORED
from demo_model.targets import PATCH_CLASSES, QUARTERS, SCENE_CLASSES, TOKEN_CLASSES


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms. The last four spread the cosines at the merge layer: without them all background is one.

    Attributes:
        answers: tokens of the answers.
        patches: shape, colour, character, character index and place of the four vision patches that are pooled into
            every video token, after the projector.
        scene: class of the background.
        tokens: running count and ordinal at two thirds of the decoder.
        centring: share of the mean vector in the tokens at the merge layer.
        picture: RGB of the four vision patches and (row, column) at every video token after the projector.
        parents: cosines between 2 x 2 tokens and their mean at the merge layer, where they exceed ``PARENT_LIMIT``.
        neighbours: cosines between tokens of one place in consecutive frames there, above ``NEIGHBOUR_LIMIT``.
    """

    answers: float = 1.0
    patches: float = 0.4
    scene: float = 0.1
    tokens: float = 0.3
    centring: float = 0.2
    picture: float = 0.1
    parents: float = 0.5
    neighbours: float = 0.5


PARENT_LIMIT, NEIGHBOUR_LIMIT = 0.65, 0.85


class AuxiliaryHeads(nn.Module):
    """Linear heads on video tokens of width ``width``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.patch = nn.ModuleDict({name: nn.Linear(width, QUARTERS * n) for name, n in PATCH_CLASSES.items()})
        self.token = nn.ModuleDict({name: nn.Linear(width, classes) for name, classes in TOKEN_CLASSES.items()})
        self.scene = nn.Linear(width, SCENE_CLASSES)
        self.picture = nn.Linear(width, 3 * QUARTERS + 2)


def patch_losses(
    heads: AuxiliaryHeads,
    patches: torch.Tensor,
    frames: torch.Tensor,
    targets: dict[str, torch.Tensor],
    background: torch.Tensor,
    weights: LossWeights,
) -> dict[str, torch.Tensor]:
    """Losses after the projector.

    Args:
        patches: [B, T, G, G, D].
        frames: [B, T, 3, H, W] in 0..1.
        targets: of ``token_targets``.
        background: [B] classes.
    """
    quarters = {name: head(patches).unflatten(-1, (QUARTERS, -1)) for name, head in heads.patch.items()}
    dense = sum(dense_loss(logits, targets[name]) for name, logits in quarters.items())
    scene = cross_entropy(heads.scene(patches.mean(dim=(1, 2, 3))).float(), background)
    losses = {"patches": weights.patches * dense / len(heads.patch), "scene": weights.scene * scene}
    if weights.picture:
        wanted = pictures(frames, patches.shape[2])
        losses["picture"] = weights.picture * 10 * mse_loss(heads.picture(patches).float(), wanted)
    return losses


def answer_losses(
    heads: AuxiliaryHeads,
    outputs: Outputs,
    labels: torch.Tensor,
    targets: dict[str, torch.Tensor],
    weights: LossWeights,
) -> dict[str, torch.Tensor]:
    """Losses of the decoder: answers [B, S], tokens at two thirds, geometry at the merge layer."""
    logits = outputs.logits.flatten(0, 1).float()
    losses = {"answers": weights.answers * cross_entropy(logits, labels.flatten(), ignore_index=IGNORED)}
    losses["centring"] = weights.centring * common_share(outputs.at_merge)
    if weights.parents:
        losses["parents"] = weights.parents * parent_excess(outputs.at_merge)
    if weights.neighbours:
        losses["neighbours"] = weights.neighbours * neighbour_excess(outputs.at_merge)
    if outputs.late is not None:
        dense = sum(dense_loss(head(outputs.late), targets[name]) for name, head in heads.token.items())
        losses["tokens"] = weights.tokens * dense / len(heads.token)
    return losses


def pictures(frames: torch.Tensor, grid: int) -> torch.Tensor:
    """[B, T, G, G, 14]: RGB of the four vision patches of every token, its row and its column, all in 0..1."""
    small = adaptive_avg_pool2d(frames.flatten(0, 1), 2 * grid)  # [n, 3, 2G, 2G]
    small = small.unflatten(-1, (grid, 2)).unflatten(-3, (grid, 2)).permute(0, 2, 4, 1, 3, 5).flatten(3)
    axis = torch.linspace(0, 1, grid, device=frames.device)
    place = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).expand(len(small), grid, grid, 2)
    return torch.cat([small, place], dim=-1).unflatten(0, frames.shape[:2])


def dense_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross entropy in which things and background weigh the same, however small the things are.

    Args:
        logits: [..., classes].
        target: [...] classes, 0 for nothing.
    """
    loss = cross_entropy(logits.flatten(0, -2).float(), target.flatten(), reduction="none")
    thing = (target.flatten() > 0).float()
    halves = [(loss * mask).sum() / mask.sum().clamp(min=1) for mask in (thing, 1 - thing)]
    return (halves[0] + halves[1]) / 2


def common_share(tokens: torch.Tensor) -> torch.Tensor:
    """Energy of the mean vector over the mean energy of the vectors, 0 to 1."""
    flat = tokens.flatten(0, -2).float()
    return flat.mean(0).square().sum() / flat.square().sum(-1).mean().clamp(min=1e-6)


def parent_excess(tokens: torch.Tensor, limit: float = PARENT_LIMIT) -> torch.Tensor:
    """Mean square by which the cosine of a token and the mean of its 2 x 2 block exceeds ``limit``; [B, T, G, G, D]."""
    planes = tokens.flatten(0, 1).movedim(-1, 1).float()  # [n, D, G, G]
    even = planes[..., : planes.shape[-2] // 2 * 2, : planes.shape[-1] // 2 * 2]
    parents = avg_pool2d(even, 2).repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
    return (cosine_similarity(even, parents, dim=1) - limit).clamp(min=0).square().mean()


def neighbour_excess(tokens: torch.Tensor, limit: float = NEIGHBOUR_LIMIT) -> torch.Tensor:
    """Mean square by which the cosine of a token and that of its place in the next frame exceeds ``limit``."""
    earlier, later = tokens[:, :-1].float(), tokens[:, 1:].float()
    return (cosine_similarity(earlier, later, dim=-1) - limit).clamp(min=0).square().mean()
