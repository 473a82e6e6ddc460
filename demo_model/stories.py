"""Random scenes: which things a clip holds, when each is seen and where it goes. One seed, one scene."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from demo_model.atlas import HELD_OUT_FONTS, TRAIN_FONTS, Atlas
from demo_model.scene import CAPITAL, Scene, Thing, thing_box
from demo_model.vocabulary import BACKGROUNDS, CODE_CHARACTERS, COLOURS, DIRECTIONS, SHAPES, WORDS

MAX_COUNT = 8
TEXTS = (0.22, 0.5, 0.2, 0.08)  # shares of clips with 0 to 3 texts
PAGES = 0.7  # share of single frames that are full of text, to learn reading from
PAGE_LINES = (3, 7)
FOOTAGE_SHARE = 4  # times as likely as each other background, where there is any
TRIES = 30  # places that are looked at for a shape before it is left out


@dataclass(frozen=True)
class StoryRules:
    """What random scenes look like. With the defaults a seed gives the scenes that the published figures are about.

    Attributes:
        side: side of the model's picture in pixels, for the sizes of texts.
        text_pixels: smallest and largest height of capitals.
        code_length: shortest and longest code.
        held_out: draw with the fonts that training never sees.
        backgrounds: names to choose from; "footage" only where real footage is at hand.
        needles: whether anything is drawn at all.
        doubles: share of clips in which shapes have the same figure or the same colour.
        same_figure: share of these in which it is the figure.
        largest_group: most shapes that share it.
        in_turn: share of clips in which every resting shape appears once, one after the other.
        anywhere: share of clips whose resting shapes stand anywhere; in the others near the middles of the ninths.
        rimless: share of things whose rim is drawn only as far as they don't stand out from the background.
    """

    side: int = 224
    text_pixels: tuple[int, int] = (12, 44)
    code_length: tuple[int, int] = (2, 8)
    held_out: bool = False
    backgrounds: tuple[str, ...] = BACKGROUNDS[:3]
    needles: bool = True
    doubles: float = 0.25
    same_figure: float = 0.5
    largest_group: int = 2
    in_turn: float = 0.4
    anywhere: float = 0.0
    rimless: float = 0.0


TRAINING_RULES = StoryRules(doubles=0.65, same_figure=0.7, largest_group=4, in_turn=0.55, anywhere=0.5, rimless=0.35)


def random_scene(rng: random.Random, frames: int, atlas: Atlas, rules: StoryRules) -> Scene:
    """A scene with 0-3 texts and 0-4 shapes that flash, stay or move; many single frames are pages of text."""
    scene = _rimmed_scene(rng, frames, atlas, rules)
    if not rules.rimless:
        return scene
    return replace(scene, things=tuple(replace(t, rim_if_needed=rng.random() < rules.rimless) for t in scene.things))


def _rimmed_scene(rng: random.Random, frames: int, atlas: Atlas, rules: StoryRules) -> Scene:
    """Texts and moving shapes have rows or columns of the 3x3 grid to themselves, so that nothing hides a needle."""
    background = rng.choices(rules.backgrounds, [FOOTAGE_SHARE if b == "footage" else 1 for b in rules.backgrounds])[0]
    if not rules.needles or rng.random() < 0.03:
        return Scene(frames, background, ())
    if frames == 1 and rng.random() < PAGES:
        return Scene(frames, background, _page(rng, atlas, rules))
    rows, columns = rng.sample(range(3), 3), rng.sample(range(3), 3)
    texts = []
    for _ in range(rng.choices(range(len(TEXTS)), TEXTS)[0]):
        height = (rows.pop() + rng.uniform(0.35, 0.65)) / 3
        texts.append(_random_text(rng, frames, height, atlas, rules))
    looks = _looks(rng, rng.choices((0, 1, 2, 3, 4), (0.08, 0.2, 0.32, 0.25, 0.15))[0], rules) if rows else []
    shapes = []
    if looks and frames > 2 and rng.random() < 0.35:
        shapes.append(_moving_shape(rng, frames, looks.pop(), rows, columns))
    places = [(row, column) for row in rows for column in columns]
    rng.shuffle(places)
    in_turn = frames >= 2 * len(looks) and rng.random() < rules.in_turn
    turns = _windows(rng, frames, len(looks), longest=3) if in_turn and looks else None
    anywhere = rules.anywhere > 0 and rng.random() < rules.anywhere
    for number, look in enumerate(looks[: len(places)]):
        windows = (turns[number],) if turns else _appearances(rng, frames)
        shape = _still_shape(rng, look, places[number], windows)
        shape = _moved_anywhere(rng, shape, (*shapes, *texts), frames, atlas) if anywhere else shape
        shapes += [shape] if shape else []
    return Scene(frames, background, (*shapes, *texts))


def _page(rng: random.Random, atlas: Atlas, rules: StoryRules) -> tuple[Thing, ...]:
    """Lines of text from top to bottom of a single frame."""
    lines = rng.randint(*PAGE_LINES)
    pixels = rules.side / lines * CAPITAL
    small = replace(rules, text_pixels=(min(rules.text_pixels[0], pixels), min(rules.text_pixels[1], pixels)))
    return tuple(_random_text(rng, 1, (line + 0.5) / lines, atlas, small) for line in range(lines))


def _random_text(rng: random.Random, frames: int, height: float, atlas: Atlas, rules: StoryRules) -> Thing:
    """A code, a number or a word for one to three frames somewhere at a height, a fraction of the frame."""
    low, high = rules.code_length
    kind = rng.random()
    if kind < 0.75:
        figure = "".join(rng.choices(CODE_CHARACTERS, k=rng.randint(low, high)))
    elif kind < 0.85:
        figure = "".join(rng.choices("0123456789", k=rng.randint(low, high)))
    else:
        figure = rng.choice(WORDS)
    fonts = HELD_OUT_FONTS if rules.held_out else TRAIN_FONTS
    font = atlas.fonts.index(rng.choice(fonts))
    stretch = rng.uniform(0.8, 1.5)
    advance = sum(float(atlas.advances[atlas.character_index(c, font)]) for c in figure) * stretch
    cell = min(rng.uniform(*rules.text_pixels) / rules.side / CAPITAL, 0.95 / advance, 0.36)
    half = advance * cell / 2
    at = (height, rng.uniform(half, 1 - half) if half < 0.5 else 0.5)
    window = _windows(rng, frames, 1, longest=3)[0]
    colour = "white" if rng.random() < 0.6 else rng.choice(list(COLOURS))
    rim = rng.choice((0.02, 0.03, 0.05)) if colour == "white" else 0.04
    return Thing(figure, True, colour, cell, (window,), at, at, font, stretch, rim)


def _looks(rng: random.Random, count: int, rules: StoryRules) -> list[tuple[str, str]]:
    """(figure, colour) of ``count`` shapes: all different, but sometimes the first few share one of the two."""
    figures, colours = rng.sample(SHAPES, count), rng.sample(list(COLOURS), count)
    if count >= 2 and rng.random() < rules.doubles:
        shared = figures if rng.random() < rules.same_figure else colours
        most = min(count, rules.largest_group)
        group = rng.randint(2, most) if most > 2 else 2
        shared[:group] = shared[:1] * group
    return list(zip(figures, colours, strict=True))


def _moving_shape(rng: random.Random, frames: int, look: tuple[str, str], rows: list[int], columns: list[int]) -> Thing:
    """A shape that crosses the frame; it takes its row or column off the lists, unless that would leave none."""
    direction = rng.choice(list(DIRECTIONS))
    dy, dx = DIRECTIONS[direction]
    cell = rng.uniform(0.14, 0.26)
    span = rng.uniform(0.25, 0.38)
    if dx:
        lane = rows.pop() if len(rows) > 1 else rows[0]
        y, x = (lane + 0.5) / 3, 0.5
    else:
        lane = columns.pop() if len(columns) > 1 else columns[0]
        y, x = 0.5, (lane + 0.5) / 3
    start, stop = (y - dy * span, x - dx * span), (y + dy * span, x + dx * span)
    return Thing(look[0], False, look[1], cell, ((0, frames - 1),), start, stop, rim=_rim(rng))


def _still_shape(rng: random.Random, look: tuple[str, str], place: tuple[int, int], windows) -> Thing:
    at = tuple((side + rng.uniform(0.4, 0.6)) / 3 for side in place)
    return Thing(look[0], False, look[1], rng.uniform(0.14, 0.3), tuple(windows), at, at, rim=_rim(rng))


def _moved_anywhere(
    rng: random.Random, shape: Thing, others: Sequence[Thing], frames: int, atlas: Atlas
) -> Thing | None:
    """The shape at a random place where it touches none of the others; None where no such place is found."""
    taken = [_swept_box(thing, frames, atlas) for thing in others]
    half = shape.cell / 2
    for _ in range(TRIES):
        at = (rng.uniform(half, 1 - half), rng.uniform(half, 1 - half))
        moved = replace(shape, start=at, stop=at)
        y0, x0, y1, x1 = _swept_box(moved, frames, atlas)
        if all(y1 < top or bottom < y0 or x1 < left or right < x0 for top, left, bottom, right in taken):
            return moved
    return None


def _swept_box(thing: Thing, frames: int, atlas: Atlas) -> tuple[float, ...]:
    """(y0, x0, y1, x1) of all that a thing covers on its way, as fractions of the frame."""
    first, last = (thing_box(thing, frame, frames, atlas) for frame in (0, frames - 1))
    return (*map(min, first[:2], last[:2]), *map(max, first[2:], last[2:]))


def _rim(rng: random.Random) -> float:
    return rng.choice((0.015, 0.03, 0.04))


def _appearances(rng: random.Random, frames: int) -> list[tuple[int, int]]:
    """One to eight appearances, or the whole clip."""
    most = min(MAX_COUNT, (frames + 1) // 2)
    if rng.random() < 0.2 or most < 1:
        return [(0, frames - 1)]
    return _windows(rng, frames, rng.randint(1, most), longest=2 + frames // 16)


def _windows(rng: random.Random, frames: int, count: int, longest: int) -> list[tuple[int, int]]:
    """``count`` windows of frames in order with at least one frame between neighbours.

    Raises:
        ValueError: they do not fit.
    """
    spare = frames - (2 * count - 1)
    if spare < 0:
        raise ValueError(f"{count} appearances need {2 * count - 1} frames, but the clip has {frames}.")
    lengths = []
    for _ in range(count):
        extra = rng.randint(0, min(longest - 1, spare))
        lengths.append(1 + extra)
        spare -= extra
    cuts = sorted(rng.randint(0, spare) for _ in range(count))
    windows, used = [], 0
    for number, (cut, length) in enumerate(zip(cuts, lengths, strict=True)):
        first = cut + used + number
        windows.append((first, first + length - 1))
        used += length
    return windows
