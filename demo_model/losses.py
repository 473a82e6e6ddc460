"""Answer loss and the dense auxiliary losses, whose heads are thrown away after training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, cosine_similarity, cross_entropy, mse_loss

from demo_model.model import Outputs
from demo_model.sequence import IGNORED
from demo_model.targets import PATCH_CLASSES, QUARTERS, SCENE_CLASSES, TOKEN_CLASSES


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms. The last four spread the cosines of video tokens: without them all background is one.

    Attributes:
        answers: tokens of the answers.
        patches: shape, colour, character, character index and place of the four vision patches that are pooled into
            every video token, after the projector.
        scene: class of the background.
        tokens: running count and ordinal at two thirds of the decoder.
        centring: share of the mean vector in the tokens before decoder layer ``MERGE_LAYER``.
        picture: RGB of the four vision patches and (row, column) at every video token after the projector.
        parents: cosines there between 2 x 2 tokens and their mean, where the pictures are less alike; ``cosine_limit``.
        neighbours: the same between tokens of one place in consecutive frames.
    """

    answers: float = 1.0
    patches: float = 0.4
    scene: float = 0.1
    tokens: float = 0.3
    centring: float = 0.2
    picture: float = 0.1
    parents: float = 0.5
    neighbours: float = 0.5


LOWEST_LIMIT = 0.45  # no published threshold lies below, so nothing is gained by cosines that do
PARENT_SCALE, NEIGHBOUR_SCALE = 0.1, 0.04  # RGB distances at which the limits are 1/e; README.md says how chosen


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

    Returns:
        Weighted losses by name; "neighbours" only where there are two frames.
    """
    quarters = {name: head(patches).unflatten(-1, (QUARTERS, -1)) for name, head in heads.patch.items()}
    dense = sum(dense_loss(logits, targets[name]) for name, logits in quarters.items())
    scene = cross_entropy(heads.scene(patches.mean(dim=(1, 2, 3))).float(), background)
    losses = {"patches": weights.patches * dense / len(heads.patch), "scene": weights.scene * scene}
    wanted = pictures(frames, patches.shape[2])
    losses["picture"] = weights.picture * 10 * mse_loss(heads.picture(patches).float(), wanted)
    colours = wanted[..., : 3 * QUARTERS]
    losses["parents"] = weights.parents * parent_excess(patches, colours)
    if patches.shape[1] > 1:
        losses["neighbours"] = weights.neighbours * neighbour_excess(patches, colours)
    return losses


def answer_losses(
    heads: AuxiliaryHeads,
    outputs: Outputs,
    labels: torch.Tensor,
    targets: dict[str, torch.Tensor],
    weights: LossWeights,
) -> dict[str, torch.Tensor]:
    """Losses of the decoder: answers [B, S], and where all tokens are there, centring and tokens at two thirds."""
    logits = outputs.logits.flatten(0, 1).float()
    losses = {"answers": weights.answers * cross_entropy(logits, labels.flatten(), ignore_index=IGNORED)}
    if outputs.at_merge is not None:
        losses["centring"] = weights.centring * common_share(outputs.at_merge)
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


def cosine_limit(one: torch.Tensor, two: torch.Tensor, scale: float) -> torch.Tensor:
    """How alike two tokens may be: max(``LOWEST_LIMIT``, exp(-distance / scale)), 1 where their pictures are equal.

    Args:
        one, two: [..., C] colours of what they show; their distance is the root of the mean square over C.
    """
    distance = (one - two).square().mean(-1).sqrt()
    return torch.exp(-distance / scale).clamp(min=LOWEST_LIMIT)


def parent_excess(tokens: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
    """Mean square by which cosines of tokens and the mean of their 2 x 2 block exceed what their colours allow.

    Args:
        tokens: [B, T, G, G, D].
        colours: [B, T, G, G, C].
    """
    (token, parent), (own, shared) = _blocks(tokens.float()), _blocks(colours)
    return _excess(cosine_similarity(token, parent, dim=-1), cosine_limit(own, shared, PARENT_SCALE))


def neighbour_excess(tokens: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
    """The same of each token and that of its place in the next frame; T must be 2 or more."""
    cosines = cosine_similarity(tokens[:, :-1].float(), tokens[:, 1:].float(), dim=-1)
    return _excess(cosines, cosine_limit(colours[:, :-1], colours[:, 1:], NEIGHBOUR_SCALE))


def _excess(cosines: torch.Tensor, limits: torch.Tensor) -> torch.Tensor:
    return (cosines - limits).clamp(min=0).square().mean()


def _blocks(planes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[B, T, g, 2, g, 2, D] and its means [B, T, g, 1, g, 1, D]; an odd last row or column is left out."""
    even = planes.shape[2] // 2 * 2
    blocks = planes[:, :, :even, :even].unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
    return blocks, blocks.mean(dim=(3, 5), keepdim=True)
