"""Draws sprites (shapes and characters) over background frames, batched, on whatever device the tensors are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import grid_sample

from demo_model.atlas import SPREAD, Atlas


@dataclass(frozen=True)
class Sprites:
    """Textured objects of B clips: K a clip over T frames. Lower k is drawn first.

    Attributes:
        texture: [B, K] int64, index into the atlas.
        centre: [B, K, T, 2] (y, x) as fractions of the frame.
        cell: [B, K] height of the texture's cell as a fraction of the frame's height.
        stretch: [B, K] width of the cell over its height, 1 for square.
        colour: [B, K, 3] in 0..1.
        outline: [B, K] width of a contrasting rim in cell sides, 0 for none.
        visible: [B, K, T] bool.
    """

    texture: torch.Tensor
    centre: torch.Tensor
    cell: torch.Tensor
    stretch: torch.Tensor
    colour: torch.Tensor
    outline: torch.Tensor
    visible: torch.Tensor

    def to(self, device: torch.device | str) -> Sprites:
        """The same sprites on another device."""
        return Sprites(**{name: value.to(device) for name, value in vars(self).items()})

    def clip(self, index: int) -> Sprites:
        """One clip of the batch, as a batch of one."""
        return Sprites(**{name: value[index : index + 1] for name, value in vars(self).items()})


def draw_sprites(background: torch.Tensor, sprites: Sprites, atlas: Atlas) -> torch.Tensor:
    """Paint the sprites: all rims first, then all bodies, so that neighbours in a word do not cut each other.

    Args:
        background: [B, T, 3, H, W] float in 0..1.
        sprites: what to draw; same B and T.
        atlas: textures on the same device.

    Returns:
        [B, T, 3, H, W] float in 0..1.
    """
    frames = background.clone()
    rim_colour = (sprites.colour.mean(-1, keepdim=True) < 0.5).to(frames.dtype).expand_as(sprites.colour)
    with_rim = sprites.visible & (sprites.outline > 0)[..., None]
    none = torch.zeros_like(sprites.outline)
    for k in range(sprites.texture.shape[1]):
        _paint(frames, sprites, atlas, k, with_rim[:, k], rim_colour[:, k], sprites.outline[:, k])
    for k in range(sprites.texture.shape[1]):
        _paint(frames, sprites, atlas, k, sprites.visible[:, k], sprites.colour[:, k], none[:, k])
    return frames


def _paint(
    frames: torch.Tensor,
    sprites: Sprites,
    atlas: Atlas,
    k: int,
    shown: torch.Tensor,
    colour: torch.Tensor,
    grow: torch.Tensor,
) -> None:
    """Blend sprite k into the frames where ``shown`` [B, T] holds, in place, grown by ``grow`` [B] cell sides."""
    clip, frame = shown.nonzero(as_tuple=True)  # [n] each
    if not len(clip):
        return
    height, width = frames.shape[-2:]
    centre, cell, stretch = sprites.centre[clip, k, frame], sprites.cell[clip, k], sprites.stretch[clip, k]
    grid = cell_coordinates(centre, cell, stretch, height, width)
    fields = atlas.fields[sprites.texture[clip, k]][:, None].to(frames.dtype)  # [n, 1, CELL, CELL]
    distance = grid_sample(fields, grid, padding_mode="border", align_corners=False)  # [n, 1, H, W]
    outside = (grid.abs().amax(-1) > 1)[:, None]
    distance = distance.masked_fill(outside, -SPREAD)
    pixels = (cell * height).view(-1, 1, 1, 1)
    alpha = ((distance + grow[clip].view(-1, 1, 1, 1)) * pixels + 0.5).clamp(0, 1)
    frames[clip, frame] = torch.lerp(frames[clip, frame], colour[clip][..., None, None].to(frames.dtype), alpha)


def cell_coordinates(
    centre: torch.Tensor, cell: torch.Tensor, stretch: torch.Tensor, height: int, width: int
) -> torch.Tensor:
    """Where every pixel falls in a sprite's cell.

    Args:
        centre: [n, 2] (y, x) fractions of the frame.
        cell, stretch: [n] as in ``Sprites``.

    Returns:
        [n, H, W, 2] (x, y); -1..1 inside the cell.
    """
    y = (torch.arange(height, device=centre.device) + 0.5) / height
    x = (torch.arange(width, device=centre.device) + 0.5) / width
    v = (y[None] - centre[:, :1]) * 2 / cell[:, None]  # [n, H]
    u = (x[None] - centre[:, 1:]) * 2 / (cell * stretch)[:, None] * (width / height)  # [n, W]
    return torch.stack(torch.broadcast_tensors(u[:, None, :], v[:, :, None]), dim=-1).to(torch.float32)


def place_text(
    text: str, font: int, centre: tuple[float, float], cell: float, stretch: float, aspect: float, atlas: Atlas
) -> list[tuple[int, float, float]]:
    """Lay out a word on one line.

    Args:
        text: characters of the atlas.
        centre: (y, x) of the whole word, as fractions of the frame.
        cell: height of a character's cell as a fraction of the frame's height.
        stretch: horizontal stretch of every character.
        aspect: width over height of the frame.

    Returns:
        For each character (texture, y, x).
    """
    textures = [atlas.character_index(character, font) for character in text]
    widths = [float(atlas.advances[texture]) * cell * stretch / aspect for texture in textures]
    left = centre[1] - sum(widths) / 2
    placed = []
    for texture, width in zip(textures, widths, strict=True):
        placed.append((texture, centre[0], left + width / 2))
        left += width
    return placed
