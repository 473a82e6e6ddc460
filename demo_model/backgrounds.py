"""Moving pictures behind the objects: synthetic fields or real footage, under a hand-held camera.

Everything is batched and runs on the generator's device. Fields are drawn larger than the frame, so that shake, pan and
zoom find pixels beyond its border.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import affine_grid, grid_sample, interpolate

MARGIN = 1.3  # side of a field over the side of the frame


def uniform(generator: torch.Generator, *shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    """Uniform random numbers on the generator's device."""
    return torch.rand(*shape, generator=generator, device=generator.device) * (high - low) + low


def gradient(generator: torch.Generator, batch: int, height: int, width: int) -> torch.Tensor:
    """[B, 3, H, W]: two colours that run into each other along a random direction."""
    along = _ramp(generator, batch, height, width)  # [B, 1, H, W] in 0..1
    first, second = (uniform(generator, batch, 3, 1, 1, low=0.1, high=0.75) for _ in range(2))
    return torch.lerp(first, second, along)


def noise(generator: torch.Generator, batch: int, height: int, width: int) -> torch.Tensor:
    """[B, 3, H, W]: coloured noise at three scales."""
    picture = uniform(generator, batch, 3, 1, 1, low=0.25, high=0.6).expand(batch, 3, height, width)
    for cells, strength in ((4, 0.16), (16, 0.1), (64, 0.06)):
        grain = uniform(generator, batch, 3, cells, cells, low=-strength, high=strength)
        picture = picture + interpolate(grain, size=(height, width), mode="bilinear", align_corners=False)
    return picture.clamp(0, 1)


def stripes(generator: torch.Generator, batch: int, height: int, width: int) -> torch.Tensor:
    """[B, 3, H, W]: 4 to 14 soft stripes of two colours."""
    along = _ramp(generator, batch, height, width)
    count = uniform(generator, batch, 1, 1, 1, low=4, high=14)
    wave = (torch.sin(along * count * 2 * math.pi) * 2).clamp(-0.5, 0.5) + 0.5
    first, second = (uniform(generator, batch, 3, 1, 1, low=0.1, high=0.75) for _ in range(2))
    return torch.lerp(first, second, wave)


def _ramp(generator: torch.Generator, batch: int, height: int, width: int) -> torch.Tensor:
    """[B, 1, H, W]: 0 to 1 along a random direction."""
    angle = uniform(generator, batch, 1, 1, 1, high=2 * math.pi)
    y = torch.linspace(-1, 1, height, device=generator.device).view(1, 1, -1, 1)
    x = torch.linspace(-1, 1, width, device=generator.device).view(1, 1, 1, -1)
    return (x * torch.cos(angle) + y * torch.sin(angle)) / (2 * math.sqrt(2)) + 0.5


FIELDS = {"gradient": gradient, "noise": noise, "stripes": stripes}


def camera_path(generator: torch.Generator, batch: int, frames: int, motion: torch.Tensor) -> torch.Tensor:
    """Affine maps of a hand-held camera: slow pan and zoom, and shake.

    Args:
        motion: [B] strength, 0 for a tripod to 1.

    Returns:
        [B, T, 2, 3] maps from the frame to the field, both in -1..1.
    """
    time = torch.linspace(-0.5, 0.5, frames, device=generator.device).view(1, -1) if frames > 1 else 0.0
    strength = motion[:, None]
    room = 1 - 1 / MARGIN
    pan = uniform(generator, batch, 2, 1, low=-0.9, high=0.9) * time * room * strength[:, None]  # [B, 2, T]
    shake = uniform(generator, batch, 2, frames, low=-0.12, high=0.12) * room * strength[:, None]
    zoom = (1 - room * (0.5 + 0.5 * uniform(generator, batch, 1, low=-1) * time * strength)).expand(batch, frames)
    angle = uniform(generator, batch, frames, low=-0.015, high=0.015) * strength
    rows = [zoom * torch.cos(angle), -zoom * torch.sin(angle), pan[:, 0] + shake[:, 0]]
    rows += [zoom * torch.sin(angle), zoom * torch.cos(angle), pan[:, 1] + shake[:, 1]]
    return torch.stack([row.expand(batch, frames) for row in rows], -1).view(batch, frames, 2, 3)


def film(fields: torch.Tensor, path: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Look at fields through a moving camera.

    Args:
        fields: [B, 3, H', W'] still pictures or [B, T, 3, H', W'] footage.
        path: [B, T, 2, 3].

    Returns:
        [B, T, 3, H, W].
    """
    batch, frames = path.shape[:2]
    if fields.dim() == 4:
        fields = fields[:, None].expand(-1, frames, -1, -1, -1)
    grid = affine_grid(path.flatten(0, 1), [batch * frames, 3, height, width], align_corners=False)
    views = grid_sample(fields.flatten(0, 1), grid, padding_mode="reflection", align_corners=False)
    return views.view(batch, frames, 3, height, width)


@dataclass(frozen=True)
class Footage:
    """Real clips on the device that draws.

    Attributes:
        frames: [N, 3, h, w] uint8, all frames of all clips.
        first, length: [K] where each clip starts, and its frames.
    """

    frames: torch.Tensor
    first: torch.Tensor
    length: torch.Tensor

    @classmethod
    def of(cls, clips: Sequence[torch.Tensor], device: torch.device | str = "cpu") -> Footage:
        """From clips [F, 3, h, w] uint8 of one size.

        Raises:
            ValueError: there are none, or their sizes differ.
        """
        sizes = {tuple(clip.shape[1:]) for clip in clips}
        if len(sizes) != 1:
            raise ValueError(f"Footage must be clips of one size; got {sorted(sizes) or 'none'}.")
        length = torch.tensor([len(clip) for clip in clips])
        return cls(torch.cat(list(clips)).to(device), (length.cumsum(0) - length).to(device), length.to(device))


def footage_views(generator: torch.Generator, footage: Footage, path: torch.Tensor, side: int) -> torch.Tensor:
    """Pieces of real clips at random place, size, speed and tint, mirrored or not, under a moving camera.

    Args:
        path: [B, T, 2, 3] of ``camera_path``.
        side: of the result in pixels.

    Returns:
        [B, T, 3, side, side] in 0..1.
    """
    batch, frames = path.shape[:2]
    pick = (uniform(generator, batch) * len(footage.length)).long()
    first, length = footage.first[pick][:, None], footage.length[pick][:, None]  # [B, 1]
    step = 1 + (uniform(generator, batch, 1) * 3).long()
    start = (uniform(generator, batch, 1) * length).long()
    turn = (start + step * torch.arange(frames, device=path.device)) % (2 * length)
    order = first + torch.where(turn < length, turn, 2 * length - 1 - turn)  # forth and back
    crop = uniform(generator, batch, 1, 1, low=0.45, high=1.0)
    shift = uniform(generator, batch, 1, 2, low=-1.0) * (1 - crop)
    mirror = (uniform(generator, batch, 1, 1) < 0.5) * -2.0 + 1
    size = torch.cat([crop * mirror, crop], dim=-1)  # [B, 1, 2] of (x, y)
    path = torch.cat([path[..., :2] * size[..., None], path[..., 2:] * size[..., None] + shift[..., None]], dim=-1)
    views = film(footage.frames[order].float() / 255, path, side, side)
    tint = uniform(generator, batch, 1, 3, 1, 1, low=0.75, high=1.15)
    return (views * tint).clamp(0, 1)


def flicker(generator: torch.Generator, clips: torch.Tensor, strength: float) -> torch.Tensor:
    """Brightness of every frame changes a little: exposure and lamps."""
    gain = 1 + uniform(generator, *clips.shape[:2], 1, 1, 1, low=-strength, high=strength)
    return (clips * gain).clamp(0, 1)


def compress(clips: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
    """Artefacts of a lossy codec: 8x8 cosine transform, coarser steps for higher frequencies.

    Args:
        clips: [B, T, 3, H, W] in 0..1, sides multiples of 8.
        quality: [B] step of the lowest frequency in 0..1 units; 0.005 is hardly seen, 0.05 is poor.
    """
    batch, frames, _, height, width = clips.shape
    basis = _cosine_basis(clips.device)
    blocks = clips.unflatten(-1, (width // 8, 8)).unflatten(-3, (height // 8, 8))  # [B, T, 3, h, 8, w, 8]
    spectrum = torch.einsum("ui,bnchiwj,vj->bnchuwv", basis, blocks, basis)
    ramp = torch.arange(8, device=clips.device, dtype=clips.dtype)
    steps = quality.view(batch, 1, 1, 1, 1, 1, 1) * 8 * (1 + ramp[:, None, None] / 2 + ramp / 2)
    spectrum = (spectrum / steps).round() * steps
    blocks = torch.einsum("ui,bnchuwv,vj->bnchiwj", basis, spectrum, basis)
    return blocks.reshape(batch, frames, 3, height, width).clamp(0, 1)


def _cosine_basis(device: torch.device) -> torch.Tensor:
    """[8, 8] orthonormal cosine transform."""
    n = torch.arange(8, device=device, dtype=torch.float32)
    basis = torch.cos((2 * n[None] + 1) * n[:, None] * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    return basis
