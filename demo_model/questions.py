"""Questions about a scene with true answers, in many wordings. The last ones of a kind are held out of training."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

from demo_model.scene import Scene, Thing
from demo_model.vocabulary import COLOURS, NO_ANSWER, REFUSAL, SHAPES

SLOTS = 10  # questions a clip
HELD_OUT = 1  # wordings at the end of each list that training never sees

WORDINGS = {
    "ocr": (
        "What code is shown?",
        "What text is shown?",
        "Read the text.",
        "What does the text say?",
        "Which code do you see?",
    ),
    "ocr_nth": (
        "What is the {nth} text?",
        "What text is shown {nth}?",
        "Read the {nth} text.",
        "Which text comes {nth}?",
    ),
    "when": (
        "When is the text shown?",
        "When does the text appear?",
        "In which part of the video is the text shown?",
        "At what time does the text appear?",
    ),
    "colour": (
        "What color is the {0}?",
        "Which color does the {0} have?",
        "Tell me the color of the {0}.",
        "The {0} has what color?",
    ),
    "colour_at": (
        "What color is the {0} in the {1}?",
        "Which color does the {0} in the {1} have?",
        "Name the color of the {0} in the {1}.",
    ),
    "shape": (
        "What shape is {0}?",
        "Which shape is {0}?",
        "What shape is the {0} object?",
        "What shape does the {0} object have?",
        "Which shape has the color {0}?",
    ),
    "place": (
        "Where is the {0}?",
        "Where does the {0} appear?",
        "In which part of the frame is the {0}?",
        "In what place is the {0}?",
    ),
    "first": (
        "Which comes first, the {0} or the {1}?",
        "Which appears first, the {0} or the {1}?",
        "Which object appears first, the {0} or the {1}?",
        "What is seen first, the {0} or the {1}?",
    ),
    "order": (
        "In what order do the shapes flash?",
        "In which order do they flash?",
        "List the shapes in the order they flash.",
        "Name the shapes in the order they flash.",
    ),
    "count": (
        "How many times does the {0} flash?",
        "How many times does the {0} appear?",
        "How often does the {0} flash?",
        "Count how many times the {0} flashes.",
        "How many flashes of the {0} are there?",
    ),
    "motion": (
        "Which way does the {0} move?",
        "In which direction does the {0} move?",
        "Which way is the {0} moving?",
        "Where is the {0} moving to?",
    ),
    "background": (
        "What is the background?",
        "Tell me what the background is.",
        "What kind of background is it?",
        "What is behind it all?",
    ),
    "refusal": (
        "What is the weather?",
        "Who made this video?",
        "What is the person doing?",
        "Tell me a story.",
        "What is two plus two?",
        "How old are you?",
        "Describe the video.",
        "What sound do you hear?",
        "Is there a dog?",
        "Why is it so?",
        "Translate this.",
        "Write a poem.",
        "What happens at the end of the film?",
        "Who is the president?",
        "Which car is that?",
    ),
}

KINDS = tuple(WORDINGS)


@dataclass(frozen=True)
class Slot:
    """One question and its answer; ``kind`` is a key of ``WORDINGS``."""

    kind: str
    question: str
    answer: str


def ask(rng: random.Random, kind: str, answer: str, *names: str, held_out: bool = False, **fields: str) -> Slot:
    """A question of a kind in a random wording: one of training, or one that training never sees."""
    wordings = WORDINGS[kind][-HELD_OUT:] if held_out else WORDINGS[kind][:-HELD_OUT]
    question = rng.choice(wordings).format(*names, **fields)
    return Slot(kind, question, answer)


def slots_of(
    scene: Scene, rng: random.Random, limit: int = SLOTS, held_out: bool = False, cut: bool = False
) -> list[Slot]:
    """Up to ``limit`` questions about a scene, each with exactly one true answer.

    Args:
        scene: what the clip shows.
        rng: for the choice of questions and wordings.
        held_out: use the wordings outside training.
        cut: the clip changes its background, so none is asked for.
    """
    slots = [
        *_text_slots(scene, rng, held_out),
        *_shape_slots(scene, rng, held_out),
        *_order_slots(scene, rng, held_out),
    ]
    if not cut:
        slots.append(ask(rng, "background", scene.background, held_out=held_out))
    if rng.random() < 0.3:
        slots.append(ask(rng, "refusal", REFUSAL, held_out=held_out))
    rng.shuffle(slots)
    return slots[:limit]


def _text_slots(scene: Scene, rng: random.Random, held_out: bool) -> list[Slot]:
    texts = sorted(scene.texts, key=lambda text: text.first)
    if not texts:
        return [ask(rng, "ocr", NO_ANSWER, held_out=held_out)]
    if len(texts) == 1:
        period = texts[0].period(scene.frames)
        slots = [ask(rng, "ocr", texts[0].figure, held_out=held_out)]
        return slots + ([ask(rng, "when", period, held_out=held_out)] if scene.frames >= 4 else [])
    if texts[0].first == texts[1].first:
        return []
    return [
        ask(rng, "ocr_nth", text.figure, held_out=held_out, nth=nth)
        for nth, text in zip(("first", "second"), texts, strict=True)
    ]


def _shape_slots(scene: Scene, rng: random.Random, held_out: bool) -> list[Slot]:
    """Colour, shape, place, count and direction of single shapes; twins are told apart by colour or place."""
    figures = Counter(shape.figure for shape in scene.shapes)
    colours = Counter(shape.colour for shape in scene.shapes)
    slots = []
    for shape in scene.shapes:
        name = shape.figure if figures[shape.figure] == 1 else f"{shape.colour} {shape.figure}"
        if figures[shape.figure] == 1:
            slots.append(ask(rng, "colour", shape.colour, shape.figure, held_out=held_out))
        elif not any(other.moves for other in scene.shapes):
            slots.append(ask(rng, "colour_at", shape.colour, shape.figure, shape.place, held_out=held_out))
        if colours[shape.colour] == 1:
            slots.append(ask(rng, "shape", shape.figure, shape.colour, held_out=held_out))
        if shape.moves:
            slots.append(ask(rng, "motion", shape.direction, name, held_out=held_out))
        else:
            slots.append(ask(rng, "place", shape.place, name, held_out=held_out))
            if shape.windows[0] != (0, scene.frames - 1):
                slots.append(ask(rng, "count", str(len(shape.windows)), name, held_out=held_out))
    return slots + _absent_slots(scene, rng, held_out)


def _absent_slots(scene: Scene, rng: random.Random, held_out: bool) -> list[Slot]:
    """Now and then a question about a shape or colour that is not there."""
    if rng.random() > 0.15:
        return []
    figure = rng.choice([name for name in SHAPES if name not in {shape.figure for shape in scene.shapes}])
    colour = rng.choice([name for name in COLOURS if name not in {shape.colour for shape in scene.shapes}])
    kind, name = rng.choice((("colour", figure), ("place", figure), ("count", figure), ("shape", colour)))
    return [ask(rng, kind, "0" if kind == "count" else NO_ANSWER, name, held_out=held_out)]


def _order_slots(scene: Scene, rng: random.Random, held_out: bool) -> list[Slot]:
    """Which of two is seen first, and the order of all where each flashes once."""
    slots = []
    shapes = sorted((shape for shape in scene.shapes if not shape.moves), key=lambda shape: shape.first)
    for one, two in _neighbours(shapes):
        pair = [_full_name(one), _full_name(two)]
        rng.shuffle(pair)
        slots.append(ask(rng, "first", _full_name(one), *pair, held_out=held_out))
    starts = {shape.first for shape in shapes}
    once = all(len(shape.windows) == 1 for shape in shapes)
    apart = len(starts) == len(shapes) == len({shape.figure for shape in shapes}) == len(scene.shapes)
    if len(shapes) >= 2 and once and apart:
        slots.append(ask(rng, "order", ", ".join(shape.figure for shape in shapes), held_out=held_out))
    return slots


def _neighbours(shapes: list[Thing]) -> list[tuple[Thing, Thing]]:
    """Pairs of shapes that start one after the other, the earlier first."""
    return [(one, two) for one, two in zip(shapes, shapes[1:], strict=False) if one.first < two.first]


def _full_name(shape: Thing) -> str:
    return f"{shape.colour} {shape.figure}"
