"""What happens in each sample clip, and the questions with their true answers."""

from __future__ import annotations

import random

from demo_model.clips import FOOTAGE_SIZE, RATE, Sample, between, code, shape, text, wide
from demo_model.scene import Thing

Things = tuple[Thing, ...]
Questions = list[tuple[str, str | None, Thing | None]]


def short_code(rng: random.Random, frames: int, aspect: float) -> Things:
    """A code for one second."""
    return (text(code(rng), (0.17, 0.64), between(4.6, 5.8), cell=0.24, font=1),)


def ask_code(things: Things) -> Questions:
    """Questions about the only text."""
    needle = things[-1]
    when = needle.period(8 * RATE)
    return [("What code is shown?", needle.figure, needle), ("When is the text shown?", when, needle)]


def small_code(rng: random.Random, frames: int, aspect: float) -> Things:
    """A small five-character code over stripes: hard."""
    return (text(code(rng, 5), (0.83, 0.3), between(2.0, 3.2), cell=0.095, font=1),)


def two_shapes(rng: random.Random, frames: int, aspect: float) -> Things:
    """Two shapes, one after the other."""
    return (
        shape("circle", "red", (0.17, 0.18), [between(1.5, 2.8)]),
        shape("star", "yellow", (0.83, 0.82), [between(4.5, 5.8)]),
    )


def ask_two_shapes(things: Things) -> Questions:
    """Colour, shape and place of two shapes."""
    circle, star = things
    return [
        ("What color is the circle?", circle.colour, circle),
        ("What shape is yellow?", star.figure, star),
        ("Where is the star?", star.place, star),
        ("Which comes first, the red circle or the yellow star?", "red circle", circle),
    ]


def three_in_order(rng: random.Random, frames: int, aspect: float) -> Things:
    """Three shapes flash in turn at one place each."""
    figures = [("triangle", "green", (0.18, 0.17)), ("heart", "pink", (0.5, 0.82)), ("square", "blue", (0.82, 0.48))]
    rng.shuffle(figures)
    starts = (0.9, 3.4, 6.0)
    return tuple(shape(*figure, [between(start, start + 1.1)]) for figure, start in zip(figures, starts, strict=True))


def ask_order(things: Things) -> Questions:
    """Order of all, and which of two is first."""
    one, two, three = things
    return [
        ("In what order do the shapes flash?", ", ".join(thing.figure for thing in things), one),
        (f"Which comes first, the {two.colour} {two.figure} or the {one.colour} {one.figure}?", _name(one), one),
        (f"What color is the {three.figure}?", three.colour, three),
    ]


def _name(thing: Thing) -> str:
    return f"{thing.colour} {thing.figure}"


def three_flashes(rng: random.Random, frames: int, aspect: float) -> Things:
    """A shape that flashes three times."""
    at = (0.5, rng.choice((0.17, 0.5, 0.83)))
    return (shape("diamond", "cyan", at, [between(s, s + 0.75) for s in (1.0, 3.4, 6.2)], cell=0.28),)


def ask_count(things: Things) -> Questions:
    """Count, colour and place."""
    needle = things[-1]
    return [
        (f"How many times does the {needle.figure} flash?", str(len(needle.windows)), needle),
        (f"What color is the {needle.figure}?", needle.colour, needle),
        (f"Where is the {needle.figure}?", needle.place, needle),
    ]


def one_moves(rng: random.Random, frames: int, aspect: float) -> Things:
    """One shape crosses the frame, another stays."""
    return (
        shape("ring", "orange", (0.17, 0.18), [(0, frames - 1)], cell=0.22),
        shape("cross", "purple", (0.83, 0.84), [(0, frames - 1)], cell=0.24, to=(0.83, 0.16)),
    )


def ask_motion(things: Things) -> Questions:
    """Direction, colour, place."""
    still, moving = things
    return [
        (f"Which way does the {moving.figure} move?", moving.direction, moving),
        (f"What color is the {moving.figure}?", moving.colour, moving),
        (f"Where is the {still.figure}?", still.place, still),
    ]


def code_on_footage(rng: random.Random, frames: int, aspect: float) -> Things:
    """A code with a dark rim on real footage."""
    needle = text(code(rng), (0.17, 0.5), between(3.0, 4.3), cell=0.24, font=1, rim=0.04)
    return (wide(needle, aspect),)


def shape_on_footage(rng: random.Random, frames: int, aspect: float) -> Things:
    """A shape that flashes twice on real footage."""
    needle = shape("heart", "red", (0.18, 0.82), [between(1.2, 2.4), between(5.4, 6.6)], cell=0.28)
    return (wide(needle, aspect),)


def nothing(rng: random.Random, frames: int, aspect: float) -> Things:
    """Nothing is drawn."""
    return ()


def ask_freely(things: Things) -> Questions:
    """Questions on untouched footage, without a known answer."""
    return [("What text is shown?", None, None), ("What is the background?", None, None)]


SAMPLES = (
    Sample(
        "code-short",
        "A code for one second",
        "ocr",
        "A four-character code appears for about a second over a gradient.",
        1,
        short_code,
        ask_code,
    ),
    Sample(
        "code-small",
        "A small code over stripes",
        "ocr",
        "A small five-character code for a second over stripes: easy to lose.",
        2,
        small_code,
        ask_code,
        background="stripes",
    ),
    Sample(
        "two-shapes",
        "Circle, then star",
        "attribute",
        "A red circle flashes, then a yellow star, over coloured noise.",
        3,
        two_shapes,
        ask_two_shapes,
        background="noise",
    ),
    Sample(
        "three-in-order",
        "Which came first?",
        "order",
        "Three coloured shapes flash one after another.",
        14,
        three_in_order,
        ask_order,
    ),
    Sample(
        "three-flashes",
        "How many flashes?",
        "count",
        "A cyan diamond flashes three times over stripes.",
        5,
        three_flashes,
        ask_count,
        background="stripes",
        shake=0.3,
    ),
    Sample(
        "one-moves",
        "Which way does it go?",
        "motion",
        "A purple cross crosses the frame while an orange ring stays.",
        16,
        one_moves,
        ask_motion,
        background="noise",
        shake=0.3,
        seconds=6.0,
    ),
    Sample(
        "code-bunny",
        "Code in a cartoon",
        "needle",
        "A code flashes for a second in a scene of Big Buck Bunny.",
        22,
        code_on_footage,
        ask_code,
        background="bunny",
        size=FOOTAGE_SIZE,
    ),
    Sample(
        "heart-dog",
        "Heart over a dog",
        "needle",
        "A red heart flashes twice over phone footage of a dog.",
        8,
        shape_on_footage,
        ask_count,
        background="dog",
        size=FOOTAGE_SIZE,
    ),
    Sample(
        "terminal",
        "A terminal",
        "untouched",
        "Screen recording of a terminal with changing text; nothing is drawn on it.",
        9,
        nothing,
        ask_freely,
        background="terminal",
        size=(360, 640),
    ),
    Sample(
        "bunny",
        "Big Buck Bunny",
        "untouched",
        "A scene of Big Buck Bunny; nothing is drawn on it.",
        10,
        nothing,
        ask_freely,
        background="bunny",
        size=(360, 640),
        seconds=5.25,
    ),
)
