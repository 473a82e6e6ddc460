"""Glyphs and shapes as signed distance fields, kept in ``atlas.npz`` so that every machine draws the same clips.

A distance field is positive inside the figure and negative outside, in units of the cell's side; it can be sampled at
any size and stays sharp. ``build_atlas`` makes the file from fonts that allow embedding; drawing needs the file alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from demo_model.vocabulary import CHARACTERS, SHAPES

ATLAS_FILE = Path(__file__).with_name("atlas.npz")
CELL = 48  # side of a stored field in samples
SPREAD = 0.25  # largest distance that is stored, in cell sides
SUPERSAMPLING = 8
GLYPH_HEIGHT = 0.62  # height of a capital letter in cell sides
FONTS = (  # in the order of their textures: scenes keep font numbers, so that new fonts only go to the end
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono-Bold", "DejaVuSerif-Bold", "STIXGeneralBol"),
    *("Aileron", "DejaVuSansMono-Oblique"),
    *("LiberationSans-Regular", "LiberationSerif-Italic", "LiberationMono-Regular", "NotoSerif-Bold"),
    *("Roboto-Bold", "Roboto-Italic", "RobotoCondensed-Regular", "RobotoSlab-Regular"),
    *("Lato-Light", "Lato-BoldItalic", "Cantarell-Bold", "Cabin-Regular", "FiraCode-Regular", "JetBrainsMono-Italic"),
    *("OpenSans-Regular", "Inconsolata"),
)
HELD_OUT_FONTS = ("Aileron", "DejaVuSansMono-Oblique", "OpenSans-Regular", "Inconsolata")  # never drawn in training
TRAIN_FONTS = tuple(font for font in FONTS if font not in HELD_OUT_FONTS)
PILLOW_FONT = "Aileron"  # comes with Pillow, without a file


@dataclass(frozen=True)
class Atlas:
    """Distance fields of all textures.

    Attributes:
        fields: [N, CELL, CELL] float32; first the shapes, then the characters of each font.
        advances: [N] float32, width of a character in cell sides (1 for shapes).
        fonts: names of the fonts, in the order of their textures.
    """

    fields: torch.Tensor
    advances: torch.Tensor
    fonts: tuple[str, ...]

    def shape_index(self, shape: str) -> int:
        """Texture of a shape's name."""
        return SHAPES.index(shape)

    def character_index(self, character: str, font: int) -> int:
        """Texture of a character in font number ``font``.

        Raises:
            ValueError: the atlas has no such character.
        """
        place = CHARACTERS.find(character)
        if place < 0 or len(character) != 1:
            raise ValueError(f"The atlas has no character {character!r}; use letters A-Z, a-z and digits.")
        return len(SHAPES) + font * len(CHARACTERS) + place


@lru_cache(maxsize=4)
def load_atlas(device: str = "cpu") -> Atlas:
    """Read ``atlas.npz`` onto a device."""
    with np.load(ATLAS_FILE) as data:
        fields = torch.from_numpy(data["fields"]).to(device).float()  # [N, CELL, CELL]
        advances = torch.from_numpy(data["advances"]).to(device)
        fonts = tuple(str(name) for name in data["fonts"])
    return Atlas((fields - 127.5) / 127.5 * SPREAD, advances, fonts)


def find_fonts(folders: Iterable[Path | str]) -> dict[str, Path]:
    """Files of ``FONTS`` by name, looked for in folders and all folders below; the first that is found counts."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.[to]tf")):
            if path.stem in FONTS:
                found.setdefault(path.stem, path)
    return found


def build_atlas(font_paths: dict[str, Path], target: Path = ATLAS_FILE) -> None:
    """Draw all shapes and the characters of ``FONTS`` and write their fields.

    Args:
        font_paths: TrueType or OpenType file of every font by name. ``Aileron`` comes with Pillow and needs none.
        target: file to write.

    Raises:
        ValueError: a font has no file.
    """
    missing = [name for name in FONTS if name not in font_paths and name != PILLOW_FONT]
    if missing:
        raise ValueError(f"No file for {', '.join(missing)}; README.md names the packages that hold them.")
    fields = [_field(_shape_mask(shape)) for shape in SHAPES]
    advances = [1.0] * len(SHAPES)
    for name in FONTS:
        font = _scaled_font(font_paths.get(name))
        for character in CHARACTERS:
            fields.append(_field(_glyph_mask(font, character)))
            advances.append(font.getlength(character) / (CELL * SUPERSAMPLING))
    packed = np.clip(np.stack(fields) / SPREAD * 127.5 + 127.5, 0, 255).round().astype(np.uint8)
    np.savez_compressed(target, fields=packed, advances=np.float32(advances), fonts=np.array(FONTS))


def _scaled_font(path: Path | None):
    """The font at the size where capitals are ``GLYPH_HEIGHT`` cells high, or smaller where a character needs it."""
    from PIL import ImageFont

    def at(size: float):
        return ImageFont.truetype(str(path), size) if path else ImageFont.load_default(size)

    _, top, _, bottom = at(1000).getbbox("H")
    size = 1000 * GLYPH_HEIGHT * CELL * SUPERSAMPLING / (bottom - top)
    reach = max(_reach(at(size), character) for character in CHARACTERS)
    return at(size if reach <= 0.5 else size * 0.49 / reach)


def _reach(font, character: str) -> float:
    """How far a character extends from the middle of its cell, in cell sides; up to 0.5 lies inside."""
    (_, top, _, bottom), (x0, y0, x1, y1) = font.getbbox("H"), font.getbbox(character)
    x, y = font.getlength(character) / 2, (top + bottom) / 2
    return max(x - x0, x1 - x, y - y0, y1 - y) / (CELL * SUPERSAMPLING)


def _glyph_mask(font, character: str) -> np.ndarray:
    """[S, S] bool: a character centred by its advance, capitals centred vertically."""
    from PIL import Image, ImageDraw

    side = CELL * SUPERSAMPLING
    image = Image.new("L", (side, side))
    _, top, _, bottom = font.getbbox("H")
    corner = ((side - font.getlength(character)) / 2, side / 2 - (top + bottom) / 2)
    ImageDraw.Draw(image).text(corner, character, font=font, fill=255)
    return np.asarray(image) > 127


def _field(mask: np.ndarray) -> np.ndarray:
    """[CELL, CELL] signed distances of a [S, S] mask, in cell sides."""
    from scipy.ndimage import distance_transform_edt

    side = mask.shape[0]
    signed = (distance_transform_edt(mask) - distance_transform_edt(~mask)) / side
    return signed.reshape(CELL, side // CELL, CELL, side // CELL).mean(axis=(1, 3))


def _shape_mask(shape: str) -> np.ndarray:
    """[S, S] bool: a shape that fills the cell but for a small margin."""
    side = CELL * SUPERSAMPLING
    y, x = (np.mgrid[0:side, 0:side] + 0.5) / side * 2.4 - 1.2  # the figure lies within -1..1
    radius = np.hypot(x, y)
    if shape == "circle":
        return radius < 0.95
    if shape == "ring":
        return (radius < 0.98) & (radius > 0.55)
    if shape == "square":
        return (abs(x) < 0.85) & (abs(y) < 0.85)
    if shape == "diamond":
        return abs(x) / 0.8 + abs(y) < 1.0
    if shape == "cross":
        return (np.minimum(abs(x), abs(y)) < 0.32) & (np.maximum(abs(x), abs(y)) < 0.95)
    if shape == "triangle":
        return (y < 0.8) & (abs(x) < (y + 0.95) * 0.57)
    if shape == "star":
        return _star_mask(x, y)
    if shape == "heart":
        u, v = x * 1.2, 0.15 - y * 1.15
        return (u**2 + v**2 - 1) ** 3 - u**2 * v**3 < 0
    raise ValueError(f"There is no shape {shape!r}; known are {', '.join(SHAPES)}.")


def _star_mask(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Five-pointed star: inside the wedge between an outer and an inner corner."""
    angle = np.mod(np.arctan2(x, -y), 2 * math.pi / 5)
    angle = np.minimum(angle, 2 * math.pi / 5 - angle)  # 0 at a point, pi/5 at a notch
    px, py = np.hypot(x, y) * np.cos(angle), np.hypot(x, y) * np.sin(angle)
    inner = 0.45 * np.array([math.cos(math.pi / 5), math.sin(math.pi / 5)])
    return (inner[0] - 1.0) * py - inner[1] * (px - 1.0) > 0
