"""Questions about a scene with true answers, in many wordings, typed as people type; some are held out of training."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from demo_model.refusals import refusal_question
from demo_model.scene import Scene, Thing
from demo_model.typing_habits import PLAIN, TRAINING, Habits, as_typed
from demo_model.vocabulary import COLOURS, NO_ANSWER, REFUSAL, SHAPES
from demo_model.wordings import HELD_OUT, WORDINGS, wordings_of

__all__ = ["HELD_OUT", "KINDS", "SLOTS", "WORDINGS", "Asker", "Slot", "slots_of"]

SLOTS = 10  # questions a clip
KINDS = (*WORDINGS, "refusal")
ORDINALS = (("first", "1st"), ("second", "2nd"), ("third", "3rd"))

REFUSALS = 0.36  # share of clips with a question to refuse
FULL_NAMES = 0.15  # share of names such as "red star" where "star" would do
SHORT_NAMES = 0.25  # share of comparisons such as "star or ring" where the figures tell the two apart


@dataclass(frozen=True)
class Slot:
    """One question and its answer; ``kind`` is a key of ``WORDINGS``."""

    kind: str
    question: str
    answer: str


class Asker:
    """Words questions: as in training, or as somebody might who never saw how training words them.

    Args:
        rng: for the choice of wordings.
        held_out: use the wordings outside training.
        habits: how the questions are typed.
    """

    def __init__(self, rng: random.Random, held_out: bool, habits: Habits) -> None:
        self.rng, self.held_out, self.habits = rng, held_out, habits

    def ask(self, kind: str, answer: str, *names: str, **fields: str) -> Slot:
        """A question of a kind about the names."""
        question = self.rng.choice(wordings_of(kind, self.held_out)).format(*names, **fields)
        return self._slot(kind, question[0].upper() + question[1:], answer)

    def refuse(self) -> Slot:
        """A question that is to be refused."""
        return self._slot("refusal", refusal_question(self.rng, self.held_out), REFUSAL)

    def _slot(self, kind: str, question: str, answer: str) -> Slot:
        return Slot(kind, as_typed(self.rng, question, self.habits), answer)


def slots_of(
    scene: Scene,
    rng: random.Random,
    limit: int = SLOTS,
    held_out: bool = False,
    cut: bool = False,
    habits: Habits | None = None,
) -> list[Slot]:
    """Up to ``limit`` questions about a scene, each with exactly one true answer.

    Args:
        scene: what the clip shows.
        rng: for the choice of questions and wordings.
        held_out: use the wordings, words and templates outside training.
        cut: the clip changes its background, so none is asked for.
        habits: how the questions are typed; None for ``TRAINING``, or ``PLAIN`` where wordings are held out.
    """
    asker = Asker(rng, held_out, habits or (PLAIN if held_out else TRAINING))
    slots = [*_text_slots(scene, asker), *_shape_slots(scene, asker), *_order_slots(scene, asker)]
    if not cut:
        slots.append(asker.ask("background", scene.background))
    rng.shuffle(slots)
    if rng.random() < REFUSALS:
        slots.insert(rng.randrange(min(len(slots) + 1, limit)), asker.refuse())
    return slots[:limit]


def _text_slots(scene: Scene, asker: Asker) -> list[Slot]:
    """What is written and when; of two or three texts, which comes first, second, third or last."""
    texts = sorted(scene.texts, key=lambda text: text.first)
    if not texts:
        return [asker.ask("ocr", NO_ANSWER)]
    if len(texts) == 1:
        slots = [asker.ask("ocr", texts[0].figure)]
        period = texts[0].period(scene.frames)
        return slots + ([asker.ask("when", period)] if scene.frames >= 4 else [])
    if len(texts) > len(ORDINALS) or len({text.first for text in texts}) < len(texts):
        return []
    ordinals = [words[asker.rng.random() < 0.3] for words in ORDINALS[: len(texts)]]
    if asker.rng.random() < 0.35:
        ordinals[-1] = "last"
    return [asker.ask("ocr_nth", text.figure, nth=nth) for nth, text in zip(ordinals, texts, strict=True)]


def _shape_slots(scene: Scene, asker: Asker) -> list[Slot]:
    """Colour, shape, place, count and direction of single shapes; twins are told apart by colour or place."""
    figures = Counter(shape.figure for shape in scene.shapes)
    colours = Counter(shape.colour for shape in scene.shapes)
    slots = []
    for shape in scene.shapes:
        unique = figures[shape.figure] == 1
        name = shape.figure if unique and asker.rng.random() >= FULL_NAMES else _full_name(shape)
        if unique:
            slots.append(asker.ask("colour", shape.colour, shape.figure))
        elif _told_apart_by_place(shape, scene.shapes):
            slots.append(asker.ask("colour_at", shape.colour, shape.figure, shape.place))
        if colours[shape.colour] == 1:
            slots.append(asker.ask("shape", shape.figure, shape.colour))
        if shape.moves:
            slots.append(asker.ask("motion", shape.direction, name))
        else:
            if len(shape.possible_places) == 1:
                slots.append(asker.ask("place", shape.place, name))
            if shape.windows[0] != (0, scene.frames - 1):
                slots.append(asker.ask("count", str(len(shape.windows)), name))
    return slots + _absent_slots(scene, asker)


def _told_apart_by_place(shape: Thing, shapes: Sequence[Thing]) -> bool:
    """Whether figure and place name this shape and no other; what crosses the frame comes by too many places."""
    if any(other.moves for other in shapes) or len(shape.possible_places) > 1:
        return False
    twins = [other for other in shapes if other.figure == shape.figure and other is not shape]
    return not any(shape.place in twin.possible_places for twin in twins)


def _absent_slots(scene: Scene, asker: Asker) -> list[Slot]:
    """Now and then a question about a shape or colour that is not there."""
    rng = asker.rng
    if rng.random() > 0.15:
        return []
    figure = rng.choice([name for name in SHAPES if name not in {shape.figure for shape in scene.shapes}])
    colour = rng.choice([name for name in COLOURS if name not in {shape.colour for shape in scene.shapes}])
    kind, name = rng.choice((("colour", figure), ("place", figure), ("count", figure), ("shape", colour)))
    return [asker.ask(kind, "0" if kind == "count" else NO_ANSWER, name)]


def _order_slots(scene: Scene, asker: Asker) -> list[Slot]:
    """Which of two is seen first, and the order of all where each flashes once."""
    slots = []
    figures = Counter(shape.figure for shape in scene.shapes)
    shapes = sorted((shape for shape in scene.shapes if not shape.moves), key=lambda shape: shape.first)
    for one, two in _neighbours(shapes):
        short = figures[one.figure] == figures[two.figure] == 1 and asker.rng.random() < SHORT_NAMES
        pair = [one.figure, two.figure] if short else [_full_name(one), _full_name(two)]
        earlier = pair[0]
        asker.rng.shuffle(pair)
        slots.append(asker.ask("first", earlier, *pair))
    starts = {shape.first for shape in shapes}
    once = all(len(shape.windows) == 1 for shape in shapes)
    apart = len(starts) == len(shapes) == len({shape.figure for shape in shapes}) == len(scene.shapes)
    if len(shapes) >= 2 and once and apart:
        slots.append(asker.ask("order", ", ".join(shape.figure for shape in shapes)))
    return slots


def _neighbours(shapes: list[Thing]) -> list[tuple[Thing, Thing]]:
    """Pairs of shapes that start one after the other, the earlier first."""
    return [(one, two) for one, two in zip(shapes, shapes[1:], strict=False) if one.first < two.first]


def _full_name(shape: Thing) -> str:
    return f"{shape.colour} {shape.figure}"
