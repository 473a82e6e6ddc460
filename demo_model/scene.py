"""What happens in a clip, as plain data: the things in it, when they are seen and where they go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from demo_model.atlas import Atlas
from demo_model.render import Sprites, place_text
from demo_model.vocabulary import COLOURS, DIRECTIONS, period_name, place_name, possible_places

CAPITAL = 0.62  # height of a capital letter over its cell


@dataclass(frozen=True)
class Thing:
    """A coloured shape or a text.

    Attributes:
        figure: name of the shape, or the text to show.
        is_text: whether ``figure`` is a text.
        colour: name of the colour.
        cell: height of the cell (of one character for texts) as a fraction of the frame's height.
        windows: (first, last) frames, both seen, of every appearance, in order and apart.
        start, stop: (y, x) centre in the first and the last frame of the clip, as fractions of the frame.
        font: number of the font in the atlas.
        stretch: horizontal stretch; width over height of the frame makes up for a model that squeezes it to a square.
        rim: width of a contrasting rim in cell sides.
        rim_if_needed: the rim fades as far as the figure stands out from what is behind it.
    """

    figure: str
    is_text: bool
    colour: str
    cell: float
    windows: tuple[tuple[int, int], ...]
    start: tuple[float, float]
    stop: tuple[float, float]
    font: int = 0
    stretch: float = 1.0
    rim: float = 0.0
    rim_if_needed: bool = False

    @property
    def first(self) -> int:
        """First frame in which it is seen."""
        return self.windows[0][0]

    @property
    def moves(self) -> bool:
        """Whether it changes place."""
        return self.start != self.stop

    @property
    def direction(self) -> str:
        """Name of the axis direction in which it moves most."""
        dy, dx = self.stop[0] - self.start[0], self.stop[1] - self.start[1]
        return max(DIRECTIONS, key=lambda name: DIRECTIONS[name][0] * dy + DIRECTIONS[name][1] * dx)

    @property
    def place(self) -> str:
        """Ninth of the frame in which it stays."""
        return place_name(*self.start)

    @property
    def possible_places(self) -> set[str]:
        """What people might call the ninth in which it stays: one name, or more near the lines between them."""
        return possible_places(*self.start)

    def period(self, frames: int) -> str:
        """Third of the clip in which its only appearance lies."""
        return period_name(*self.windows[0], frames)

    def centre(self, frame: int, frames: int) -> tuple[float, float]:
        """(y, x) in a frame."""
        part = frame / max(frames - 1, 1)
        return tuple(a + (b - a) * part for a, b in zip(self.start, self.stop, strict=True))

    def seen(self, frame: int) -> bool:
        """Whether it is seen in a frame."""
        return any(first <= frame <= last for first, last in self.windows)


@dataclass(frozen=True)
class Scene:
    """A clip before it is drawn.

    Attributes:
        frames: number of frames.
        background: name of the background, "footage" for real pictures.
        things: lower ones are drawn first.
    """

    frames: int
    background: str
    things: tuple[Thing, ...]

    @property
    def shapes(self) -> tuple[Thing, ...]:
        """The coloured shapes."""
        return tuple(thing for thing in self.things if not thing.is_text)

    @property
    def texts(self) -> tuple[Thing, ...]:
        """The texts."""
        return tuple(thing for thing in self.things if thing.is_text)


def sprites_of(scenes: Sequence[Scene], atlas: Atlas, aspect: float = 1.0) -> Sprites:
    """Sprites of a batch of scenes with equal numbers of frames; short scenes are padded with sprites never seen.

    Args:
        scenes: B scenes of T frames.
        aspect: width over height of the frame.
    """
    frames = scenes[0].frames
    rows = [[row for thing in scene.things for row in _thing_rows(thing, frames, atlas, aspect)] for scene in scenes]
    most = max(1, max(len(row) for row in rows))
    blank = (0, [(0.0, 0.0)] * frames, 1.0, 1.0, (0.0, 0.0, 0.0), 0.0, False, [False] * frames)
    columns = list(zip(*[row + [blank] * (most - len(row)) for row in rows], strict=True))  # [K][B]
    fields = [[[row[f] for row in clip] for clip in zip(*columns, strict=True)] for f in range(8)]  # 8 x [B][K]
    kinds = (torch.int64, *[torch.float32] * 5, torch.bool, torch.bool)
    return Sprites(*[torch.tensor(field, dtype=kind) for field, kind in zip(fields, kinds, strict=True)])


def _thing_rows(thing: Thing, frames: int, atlas: Atlas, aspect: float) -> list[tuple]:
    """One row (texture, centres, cell, stretch, colour, rim, rim_if_needed, visible) a sprite of the thing."""
    colour = tuple(channel / 255 for channel in COLOURS.get(thing.colour, (245, 245, 245)))
    seen = [thing.seen(frame) for frame in range(frames)]
    centres = [thing.centre(frame, frames) for frame in range(frames)]
    look = (thing.cell, thing.stretch, colour, thing.rim, thing.rim_if_needed, seen)
    if not thing.is_text:
        return [(atlas.shape_index(thing.figure), centres, *look)]
    origin = thing.start
    letters = place_text(thing.figure, thing.font, origin, thing.cell, thing.stretch, aspect, atlas)
    rows = []
    for texture, y, x in letters:
        moved = [(cy + y - origin[0], cx + x - origin[1]) for cy, cx in centres]
        rows.append((texture, moved, *look))
    return rows


def thing_box(thing: Thing, frame: int, frames: int, atlas: Atlas, aspect: float = 1.0) -> tuple[float, ...]:
    """(y0, x0, y1, x1) of a thing in a frame, as fractions of the frame, clipped to it."""
    y, x = thing.centre(frame, frames)
    if thing.is_text:
        font = [float(atlas.advances[atlas.character_index(c, thing.font)]) for c in thing.figure]
        half_h, half_w = thing.cell * CAPITAL / 2 * 1.1, sum(font) * thing.cell * thing.stretch / aspect / 2
    else:
        half_h, half_w = thing.cell * 0.42, thing.cell * 0.42 * thing.stretch / aspect
    return max(y - half_h, 0.0), max(x - half_w, 0.0), min(y + half_h, 1.0), min(x + half_w, 1.0)
