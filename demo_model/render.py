"""Draws sprites (shapes and characters) over background frames, batched, on whatever device the tensors are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import adaptive_avg_pool2d, grid_sample

from demo_model.atlas import SPREAD, Atlas

CONTRAST_GRID = 28  # pieces a side in which a background is compared with what is drawn on it
ALIKE, APART = 0.35, 0.55  # distances of colours (RGB in 0..1) at which a rim is needed in full, and not at all


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
        rim_if_needed: [B, K] bool, the rim fades as far as the figure stands out, see `rim_opacity`.
        visible: [B, K, T] bool.
    """

    texture: torch.Tensor
    centre: torch.Tensor
    cell: torch.Tensor
    stretch: torch.Tensor
    colour: torch.Tensor
    outline: torch.Tensor
    rim_if_needed: torch.Tensor
    visible: torch.Tensor

    def to(self, device: torch.device | str) -> Sprites:
        """The same sprites on another device."""
        return Sprites(**{name: value.to(device, non_blocking=True) for name, value in vars(self).items()})

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
    opacity = rim_opacity(background, sprites) if sprites.rim_if_needed.any() else None
    _paint(frames, sprites, atlas, with_rim, rim_colour, sprites.outline, opacity)
    _paint(frames, sprites, atlas, sprites.visible, sprites.colour, none)
    return frames


def rim_opacity(background: torch.Tensor, sprites: Sprites) -> torch.Tensor:
    """How much of its rim each sprite needs, the same in all frames.

    A sprite with ``rim_if_needed`` needs none where its colour is ``APART`` or further from every piece of background
    behind its cell in the frames that show it, a faint one where it is nearer, and all of it from ``ALIKE`` on.

    Args:
        background: [B, T, 3, H, W] in 0..1.
        sprites: on any device, best the CPU.

    Returns:
        [B, K] in 0..1 on the device of the background; 1 for sprites that always have a rim.
    """
    sprites = sprites.to(background.device)
    frames, grid = background.shape[1], CONTRAST_GRID
    pieces = adaptive_avg_pool2d(background.flatten(0, 1), grid).unflatten(0, (-1, frames))  # [B, T, 3, g, g]
    pieces = pieces.movedim(2, -1).flatten(1, 3)  # [B, T*g*g, 3]
    distance = torch.cdist(sprites.colour.to(pieces.dtype), pieces).unflatten(-1, (frames, grid, grid))
    half = torch.stack([sprites.cell, sprites.cell * sprites.stretch], dim=-1)[:, :, None] / 2  # [B, K, 1, 2] of (y, x)
    middle = (torch.arange(grid, device=pieces.device) + 0.5) / grid
    near = (middle - sprites.centre[..., None]).abs() <= half[..., None]  # [B, K, T, 2, g]
    behind = near[..., 0, :, None] & near[..., 1, None, :] & sprites.visible[..., None, None]  # [B, K, T, g, g]
    nearest = distance.masked_fill(~behind, APART).amin(dim=(2, 3, 4))
    needed = ((APART - nearest) / (APART - ALIKE)).clamp(0, 1)
    return torch.where(sprites.rim_if_needed, needed, 1.0)


def _paint(
    frames: torch.Tensor,
    sprites: Sprites,
    atlas: Atlas,
    shown: torch.Tensor,
    colour: torch.Tensor,
    grow: torch.Tensor,
    opacity: torch.Tensor | None = None,
) -> None:
    """Blend the sprites into the frames in place, one k after the other, each k in all clips at once.

    Args:
        sprites, shown, colour, grow: all on one device, best the CPU, so that nothing waits for the GPU that paints.
        shown: [B, K, T] where to paint.
        colour: [B, K, 3].
        grow: [B, K] cell sides by which the figures grow.
        opacity: [B, K] in 0..1 on the device of the frames; opaque by default.
    """
    height, width = frames.shape[-2:]
    number, clip, frame = shown.transpose(0, 1).nonzero(as_tuple=True)  # [n] each, in the order of k
    centre, cell, stretch = (v[clip, number] for v in (sprites.centre, sprites.cell, sprites.stretch))
    centre = centre[torch.arange(len(frame), device=frame.device), frame]  # [n, 2]
    colour, grow, texture = colour[clip, number], grow[clip, number], sprites.texture[clip, number]
    sides = torch.stack([cell, cell * stretch], dim=-1) * height + 2
    largest = sides.new_zeros(shown.shape[1], 2).scatter_reduce(0, number[:, None].expand(-1, 2), sides, "amax")
    counts = torch.bincount(number, minlength=shown.shape[1])
    sizes = torch.cat([counts[:, None], largest.long()], dim=1).tolist()
    placed = (number, clip, frame, texture, centre, cell, stretch, colour, grow)
    placed = (part.to(frames.device, non_blocking=True) for part in placed)
    number, clip, frame, texture, centre, cell, stretch, colour, grow = placed
    fields = atlas.fields[texture]
    opaque = None if opacity is None else opacity[clip, number, None, None]  # [n, 1, 1]
    start = 0
    for count, tall, wide in sizes:
        rows = slice(start, start + count)
        start += count
        if not count:
            continue
        y, x = (
            _pixels(centre[rows, axis], size, length) for axis, size, length in ((0, tall, height), (1, wide, width))
        )
        grid = cell_coordinates(y, x, centre[rows], cell[rows], stretch[rows], height, width)
        alpha = _coverage(fields[rows], grid, grow[rows], cell[rows] * height)  # [n, h, w]
        alpha = alpha if opaque is None else alpha * opaque[rows]
        places = (clip[rows, None, None], frame[rows, None, None], slice(None), y[:, :, None], x[:, None, :])
        paint = colour[rows, None, None].to(frames.dtype)  # [n, 1, 1, 3]
        frames[places] = torch.lerp(frames[places], paint, alpha[..., None])


def _coverage(fields: torch.Tensor, grid: torch.Tensor, grow: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """[n, h, w] in 0..1: how far figures, grown by ``grow`` [n] cell sides of ``pixels`` [n], cover pixels ``grid``."""
    distance = grid_sample(fields[:, None], grid, padding_mode="border", align_corners=False)[:, 0]
    distance = distance.masked_fill(grid.abs().amax(-1) > 1, -SPREAD)
    return ((distance + grow.view(-1, 1, 1)) * pixels.view(-1, 1, 1) + 0.5).clamp(0, 1)


def _pixels(centre: torch.Tensor, size: int, length: int) -> torch.Tensor:
    """[n, size] pixels around centres (fractions of ``length``), moved into the frame."""
    size = min(size, length)
    first = (centre * length - size / 2).floor().long().clamp(0, length - size)
    return first[:, None] + torch.arange(size, device=centre.device)


def cell_coordinates(
    y: torch.Tensor,
    x: torch.Tensor,
    centre: torch.Tensor,
    cell: torch.Tensor,
    stretch: torch.Tensor,
    height: int,
    width: int,
) -> torch.Tensor:
    """Where pixels fall in a sprite's cell.

    Args:
        y, x: [n, h] and [n, w] rows and columns of the frame.
        centre: [n, 2] (y, x) fractions of the frame.
        cell, stretch: [n] as in ``Sprites``.

    Returns:
        [n, h, w, 2] (x, y); -1..1 inside the cell.
    """
    down, right = (y + 0.5) / height, (x + 0.5) / width
    v = (down - centre[:, :1]) * 2 / cell[:, None]  # [n, h]
    u = (right - centre[:, 1:]) * 2 / (cell * stretch)[:, None] * (width / height)  # [n, w]
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
