"""What each video token covers: targets of the dense auxiliary losses, whose heads are dropped after training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from demo_model.render import Sprites
from demo_model.scene import Scene, Thing
from demo_model.vocabulary import BACKGROUNDS, CHARACTERS, COLOURS, COLUMNS, ROWS, SHAPES

PATCH_CLASSES = {
    "shape": len(SHAPES) + 1,
    "colour": len(COLOURS) + 1,
    "character": len(CHARACTERS) + 1,
    "index": 9,  # of the character in its text
    "place": len(ROWS) * len(COLUMNS) + 1,
}  # of each of the QUARTERS of a token: small characters stand side by side in one
TOKEN_CLASSES = {"count": 9, "ordinal": 9}
QUARTERS = 4  # vision patches that are pooled into a video token
SCENE_CLASSES = len(BACKGROUNDS)
_REACH = 0.4  # half of a figure's extent in cell sides


@dataclass(frozen=True)
class SpriteLabels:
    """Classes of every sprite; 0 means nothing. K sprites a clip over T frames.

    Attributes:
        fixed: [B, K, 6]: shape, colour, character, index, place, ordinal.
        count: [B, K, T] appearances so far.
        background: [B] index of ``BACKGROUNDS``.
    """

    fixed: torch.Tensor
    count: torch.Tensor
    background: torch.Tensor

    def to(self, device: torch.device | str) -> SpriteLabels:
        """The same on another device."""
        return SpriteLabels(**{name: value.to(device, non_blocking=True) for name, value in vars(self).items()})


def labels_of(scenes: Sequence[Scene], sprites: int) -> SpriteLabels:
    """Classes of the sprites that ``sprites_of`` makes of the same scenes, padded to ``sprites``."""
    frames = scenes[0].frames
    rows = [[row for thing in scene.things for row in _thing_labels(thing, scene)] for scene in scenes]
    blank = ((0,) * 6, (0,) * frames)
    rows = [row + [blank] * (sprites - len(row)) for row in rows]
    fixed, count = (torch.tensor([[row[part] for row in clip] for clip in rows]) for part in range(2))
    background = torch.tensor([BACKGROUNDS.index(scene.background) for scene in scenes])
    return SpriteLabels(fixed.view(len(scenes), sprites, 6), count.view(len(scenes), sprites, frames), background)


def _thing_labels(thing: Thing, scene: Scene) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """For each sprite of the thing its six classes, and its appearances so far in every frame."""
    peers = scene.texts if thing.is_text else scene.shapes
    ordinal = min(sum(other.first < thing.first for other in peers), 7) + 1
    colour = list(COLOURS).index(thing.colour) + 1 if thing.colour in COLOURS else 0
    if thing.is_text:
        return [
            ((0, colour, CHARACTERS.index(character) + 1, min(index, 7) + 1, 0, ordinal), (0,) * scene.frames)
            for index, character in enumerate(thing.figure)
        ]
    place = 0 if thing.moves else 1 + min(int(thing.start[0] * 3), 2) * 3 + min(int(thing.start[1] * 3), 2)
    begun = tuple(min(sum(first <= t for first, _ in thing.windows), 8) for t in range(scene.frames))
    return [((SHAPES.index(thing.figure) + 1, colour, 0, 0, place, ordinal), begun)]


def top_sprite(sprites: Sprites, advances: torch.Tensor, grid: int) -> torch.Tensor:
    """Which sprite each video token shows.

    Args:
        sprites: of B clips with T frames in square pictures.
        advances: [N] of the atlas; letters are as wide as their advance.
        grid: tokens a side, G.

    Returns:
        [B, T, G, G] int64: k + 1 of the topmost sprite that covers the token's middle, 0 for none.
    """
    middle = (torch.arange(grid, device=sprites.cell.device) + 0.5) / grid
    least = 0.5 / grid  # a small figure still claims the token that it lies in
    half_y = (sprites.cell * _REACH).clamp(min=least)  # [B, K]
    half_x = (sprites.cell * sprites.stretch * advances[sprites.texture].clamp(max=2 * _REACH) / 2).clamp(min=least)
    in_y = (middle - sprites.centre[..., 0, None]).abs() <= half_y[:, :, None, None]  # [B, K, T, G]
    in_x = (middle - sprites.centre[..., 1, None]).abs() <= half_x[:, :, None, None]
    covers = in_y[..., :, None] & in_x[..., None, :] & sprites.visible[..., None, None]  # [B, K, T, G, G]
    number = torch.arange(1, sprites.texture.shape[1] + 1, device=covers.device).view(1, -1, 1, 1, 1)
    return (covers * number).amax(dim=1)


def token_targets(labels: SpriteLabels, sprites: Sprites, advances: torch.Tensor, grid: int) -> dict[str, torch.Tensor]:
    """Class of every video token by name.

    Args:
        labels: of the sprites.
        sprites, advances, grid: see ``top_sprite``.

    Returns:
        [B, T, G, G, QUARTERS] int64 for each of ``PATCH_CLASSES``: what the vision patches of each token show, row by
        row; [B, T, G, G] int64 for each of ``TOKEN_CLASSES``.
    """
    quarters = top_sprite(sprites, advances, 2 * grid).unflatten(-1, (grid, 2)).unflatten(-3, (grid, 2))
    quarters = quarters.transpose(-3, -2).flatten(-2)  # [B, T, G, G, 4]
    clip = torch.arange(len(quarters), device=quarters.device).view(-1, 1, 1, 1, 1)
    targets = {}
    for number, name in enumerate(PATCH_CLASSES):
        known = nn.functional.pad(labels.fixed[..., number], (1, 0))  # [B, 1 + K], 0 for no sprite
        targets[name] = known[clip, quarters]
    top = top_sprite(sprites, advances, grid)
    frame = torch.arange(top.shape[1], device=top.device).view(1, -1, 1, 1)
    clip = clip[..., 0]
    targets["count"] = nn.functional.pad(labels.count, (0, 0, 1, 0))[clip, top, frame]
    targets["ordinal"] = nn.functional.pad(labels.fixed[..., 5], (1, 0))[clip, top]
    return targets
