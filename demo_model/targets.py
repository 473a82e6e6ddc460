"""What each video token covers: targets of the dense auxiliary losses, whose heads are dropped after training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from demo_model.render import Sprites
from demo_model.scene import Scene
from demo_model.vocabulary import BACKGROUNDS, CHARACTERS, COLOURS, COLUMNS, ROWS, SHAPES

PATCH_CLASSES = {
    "shape": len(SHAPES) + 1,
    "colour": len(COLOURS) + 1,
    "character": len(CHARACTERS) + 1,
    "index": 9,  # of the character in its text
    "place": len(ROWS) * len(COLUMNS) + 1,
}
TOKEN_CLASSES = {"count": 9, "ordinal": 9}
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
    fixed = torch.zeros(len(scenes), sprites, 6, dtype=torch.int64)
    count = torch.zeros(len(scenes), sprites, frames, dtype=torch.int64)
    for b, scene in enumerate(scenes):
        order = sorted(scene.shapes, key=lambda shape: shape.first)
        k = 0
        for thing in scene.things:
            colour = list(COLOURS).index(thing.colour) + 1 if thing.colour in COLOURS else 0
            place = 1 + min(int(thing.start[0] * 3), 2) * 3 + min(int(thing.start[1] * 3), 2)
            if thing.is_text:
                for index, character in enumerate(thing.figure):
                    row = (0, colour, CHARACTERS.index(character) + 1, min(index, 7) + 1, 0, 0)
                    fixed[b, k] = torch.tensor(row)
                    k += 1
                continue
            ordinal = min(order.index(thing), 7) + 1
            place = 0 if thing.moves else place
            fixed[b, k] = torch.tensor((SHAPES.index(thing.figure) + 1, colour, 0, 0, place, ordinal))
            begun = [min(sum(first <= t for first, _ in thing.windows), 8) for t in range(frames)]
            count[b, k] = torch.tensor(begun)
            k += 1
    background = torch.tensor([BACKGROUNDS.index(scene.background) for scene in scenes])
    return SpriteLabels(fixed, count, background)


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


def token_targets(labels: SpriteLabels, top: torch.Tensor) -> dict[str, torch.Tensor]:
    """Class of every video token by name.

    Args:
        labels: of the sprites.
        top: [B, T, G, G] of ``top_sprite``.

    Returns:
        [B, T, G, G] int64 for each of ``PATCH_CLASSES`` and ``TOKEN_CLASSES``.
    """
    batch, frames = top.shape[:2]
    clip = torch.arange(batch, device=top.device).view(-1, 1, 1, 1)
    frame = torch.arange(frames, device=top.device).view(1, -1, 1, 1)
    nothing = top == 0
    sprite = (top - 1).clamp(min=0)
    fixed = labels.fixed[clip, sprite].masked_fill(nothing[..., None], 0)  # [B, T, G, G, 6]
    names = ("shape", "colour", "character", "index", "place", "ordinal")
    targets = {name: fixed[..., i] for i, name in enumerate(names)}
    targets["count"] = labels.count[clip, sprite, frame].masked_fill(nothing, 0)
    return targets
