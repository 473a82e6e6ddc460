"""Questions: true answers, wordings kept apart, typos that can be told, refusals that are never known questions."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace
from functools import cache

import pytest

from demo_model.atlas import load_atlas
from demo_model.questions import HELD_OUT, KINDS, WORDINGS, slots_of
from demo_model.refusals import GENERAL, KNOWN_THINGS, LISTS, SHARED, TALK, _part, refusal_question
from demo_model.scene import Scene, Thing
from demo_model.stories import TRAINING_RULES, StoryRules, random_scene
from demo_model.typing_habits import NAMES, PLAIN, TRAINING, TYPOS, Habits, as_typed, misspell, one_edit_away
from demo_model.vocabulary import COLOURS, COLUMNS, DIRECTIONS, PERIODS, REFUSAL, ROWS, SHAPES

RULES = StoryRules(side=128)
NAME = r"(?:[a-z]+ )?[a-z]+"
ANSWERS = {
    "ocr": r"[A-Za-z0-9]+",
    "ocr_nth": r"[A-Za-z0-9]+",
    "when": "|".join(PERIODS),
    "colour": "|".join((*COLOURS, "none")),
    "colour_at": "|".join(COLOURS),
    "shape": "|".join((*SHAPES, "none")),
    "place": rf"(?:{'|'.join(ROWS)}) (?:left|center|right)|none",
    "first": rf"(?:(?:{'|'.join(COLOURS)}) )?(?:{'|'.join(SHAPES)})",
    "order": rf"(?:{'|'.join(SHAPES)})(?:, (?:{'|'.join(SHAPES)}))+",
    "count": "[0-8]",
    "motion": "|".join(DIRECTIONS),
    "background": "gradient|noise|stripes|footage",
    "refusal": re.escape(REFUSAL),
}


def some_slots(clips: int, seed: int = 3, **options):
    rng = random.Random(seed)
    scenes = [random_scene(rng, 16, load_atlas(), RULES) for _ in range(clips)]
    return [(scene, slots_of(scene, rng, limit=100, **options)) for scene in scenes]


@cache
def patterns(kind: str, held_out: bool) -> re.Pattern:
    """Matches the questions of a kind, however they are typed but for typos."""
    wordings = WORDINGS[kind][-HELD_OUT:] if held_out else WORDINGS[kind][:-HELD_OUT]
    fields = {r"\{0\}": NAME, r"\{1\}": NAME, r"\{nth\}": r"\w+"}
    found = []
    for wording in wordings:
        pattern = re.escape(wording).replace("olor", "olou?r")
        for field, names in fields.items():
            pattern = pattern.replace(field, names)
        found.append(pattern)
    return re.compile("|".join(found), re.IGNORECASE)


def test_a_place_is_asked_for_or_named_only_where_it_is_beyond_doubt():
    rng, asked = random.Random(5), Counter()
    for _ in range(1200):
        scene = random_scene(rng, 16, load_atlas(), replace(TRAINING_RULES, anywhere=1.0))
        for slot in slots_of(scene, rng, limit=100, habits=PLAIN):
            if slot.kind == "colour_at":
                words = slot.question.lower()
                (place,) = (f"{row} {column}" for row in ROWS for column in COLUMNS if f"{row} {column}" in words)
                twins = [shape for shape in scene.shapes if shape.figure in words]
                (meant,) = (shape for shape in twins if place in shape.possible_places)
                assert len(twins) > 1 and slot.answer == meant.colour and meant.possible_places == {place}
            if slot.kind == "place" and slot.answer != "none":
                assert any(shape.possible_places == {slot.answer} for shape in scene.shapes)
            asked[slot.kind] += 1
        asked["border"] += any(len(shape.possible_places) > 1 for shape in scene.shapes)
    assert asked["colour_at"] > 100 and asked["place"] > 500 and asked["border"] > 300


def text(figure: str, first: int) -> Thing:
    return Thing(figure, True, "white", 0.2, ((first, first),), (0.5, 0.5), (0.5, 0.5))


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_questions_have_a_wording_and_an_answer_of_their_kind(kind, held_out):
    slots = [
        slot for _, found in some_slots(250, held_out=held_out, habits=PLAIN) for slot in found if slot.kind == kind
    ]
    assert slots
    assert all(re.fullmatch(ANSWERS[kind], slot.answer) for slot in slots)
    if kind != "refusal":
        assert all(patterns(kind, held_out).fullmatch(slot.question) for slot in slots)
        assert all(not slot.question[0].islower() for slot in slots)


@pytest.mark.parametrize("kind", WORDINGS)
def test_each_kind_has_many_wordings_and_none_belongs_to_two_kinds(kind):
    assert len(set(WORDINGS[kind])) == len(WORDINGS[kind]) >= 14 + HELD_OUT
    others = {wording for other in WORDINGS if other != kind for wording in WORDINGS[other]}
    assert not others & set(WORDINGS[kind])


def words(texts) -> set[str]:
    return {word for text in texts for word in re.findall(r"[a-z]+", text.lower())}


def test_held_out_wordings_are_made_of_words_that_training_knows():
    known = words(wording for wordings in WORDINGS.values() for wording in wordings[:-HELD_OUT])
    assert not words(wording for wordings in WORDINGS.values() for wording in wordings[-HELD_OUT:]) - known


def test_held_out_wordings_and_words_are_never_used_in_training():
    slots = [slot for _, found in some_slots(3000) for slot in found]
    asked = "\n".join(slot.question.lower().replace("colour", "color") for slot in slots if slot.kind != "refusal")
    for kind in WORDINGS:
        whole = re.compile(f"(?m)^(?:{patterns(kind, True).pattern})$", re.IGNORECASE)
        assert not whole.search(asked), kind
    held_out = {word for name in LISTS if name not in SHARED for word in _part(LISTS[name], True)}
    rng = random.Random(1)
    refused = "\n".join(refusal_question(rng, held_out=False) for _ in range(5000))
    leaked = {word for word in held_out if re.search(rf"\b{word}\b", refused)}
    fixed = "\n".join((*_part(GENERAL, False), *_part(KNOWN_THINGS, False), *_part(TALK, False)))
    assert {word for word in leaked if not re.search(rf"\b{word}\b", fixed)} == set()


def test_answers_agree_with_a_frame_by_frame_look_at_the_scene():
    def count_by_looking(shape: Thing) -> int:
        seen = [shape.seen(t) for t in range(16)]
        return sum(now and not before for before, now in zip([False, *seen], seen, strict=False))

    def start(shape: Thing) -> int:
        return min(t for t in range(16) if shape.seen(t))

    kinds = set()
    for scene, slots in some_slots(300, seed=4, habits=PLAIN):
        for slot in slots:
            kinds.add(slot.kind)
            asked = slot.question.lower()
            named = [s for s in scene.shapes if re.search(rf"\b{s.figure}\b", asked)]
            exact = [s for s in named if f"{s.colour} {s.figure}" in asked] or named
            if slot.kind == "count" and slot.answer != "0":
                assert [str(count_by_looking(s)) for s in exact] == [slot.answer]
            if slot.kind == "place" and slot.answer != "none":
                assert [s.place for s in exact] == [slot.answer]
            if slot.kind == "order":
                assert slot.answer == ", ".join(s.figure for s in sorted(scene.shapes, key=start))
            if slot.kind == "first":
                earlier, later = sorted(exact, key=start)
                assert start(earlier) < start(later)
                assert slot.answer in (earlier.figure, f"{earlier.colour} {earlier.figure}")
                assert slot.answer in asked
            if slot.kind == "colour" and slot.answer != "none":
                assert [s.colour for s in named] == [slot.answer]
            if slot.kind == "motion":
                (moving,) = (s for s in scene.shapes if s.moves)
                (y0, x0), (y1, x1) = moving.centre(0, 16), moving.centre(15, 16)
                ways = {"down": y1 - y0, "up": y0 - y1, "right": x1 - x0, "left": x0 - x1}
                assert slot.answer == max(ways, key=ways.get)
    assert kinds == set(KINDS)


@pytest.mark.parametrize(
    ("starts", "answers"),
    [
        ((), {"ocr": {"none"}}),
        ((4,), {"ocr": {"A0"}, "when": {"beginning"}}),
        ((4, 1), {"ocr_nth": {"A0", "A1"}}),
        ((9, 4, 1), {"ocr_nth": {"A0", "A1", "A2"}}),
        ((4, 4), {}),
        ((9, 4, 4), {}),
        ((1, 4, 9, 12), {}),
    ],
)
def test_which_questions_are_asked_about_texts(starts, answers):
    scene = Scene(16, "noise", tuple(text(f"A{number}", start) for number, start in enumerate(starts)))
    found: dict[str, set[str]] = {}
    for slot in slots_of(scene, random.Random(0), habits=PLAIN):
        if slot.kind in ("ocr", "ocr_nth", "when"):
            found.setdefault(slot.kind, set()).add(slot.answer)
    assert found == answers


@pytest.mark.parametrize("count", [2, 3])
def test_ordinals_name_the_right_text(count):
    scene = Scene(16, "noise", tuple(text(f"A{number}", 3 * number) for number in range(count)))
    right = {"first": "A0", "1st": "A0", "second": "A1", "2nd": "A1", "third": "A2", "3rd": "A2"}
    right["last"] = f"A{count - 1}"
    met = set()
    for seed in range(60):
        for slot in slots_of(scene, random.Random(seed), habits=PLAIN):
            if slot.kind == "ocr_nth":
                (ordinal,) = set(re.findall(r"\w+", slot.question.lower())) & set(right)
                assert slot.answer == right[ordinal]
                met.add(ordinal)
    assert met == {word for word, figure in right.items() if figure < f"A{count}"}


def distance(one: str, two: str) -> int:
    """Edits, swaps of neighbours among them, that make one string of the other."""
    rows = [list(range(len(two) + 1))]
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(two, 1):
            best = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (a != b))
            if i > 1 and j > 1 and a == two[j - 2] and one[i - 2] == b:
                best = min(best, rows[-2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]


@pytest.mark.parametrize(("one", "two", "edits"), [("star", "satr", 1), ("star", "tar", 1), ("star", "heart", 3)])
def test_the_measure_of_typos(one, two, edits):
    assert distance(one, two) == edits
    assert (two in one_edit_away(one)) is (edits == 1)


@pytest.mark.parametrize("kind", WORDINGS)
def test_typos_are_one_edit_away_and_nearest_to_the_right_name(kind):
    names = {"shape": ("pink", ""), "colour_at": ("star", "top left")}.get(kind, ("star", "red heart"))
    rng = random.Random(2)
    for wording in WORDINGS[kind]:
        question = wording.format(*names, nth="last")
        for _ in range(20):
            typo = misspell(rng, question)
            assert distance(typo, question) == 1
            changed = [(a, b) for a, b in zip(question.lower().split(), typo.lower().split(), strict=True) if a != b]
            ((right, wrong),) = [(a.strip("?.,:"), b.strip("?.,:")) for a, b in changed]
            near = [name for name in NAMES if distance(wrong, name) <= 1]
            assert near == ([right] if right in NAMES else [])


@pytest.mark.parametrize(
    ("habits", "question", "expected"),
    [
        (Habits(british=1), "What color is it?", r"What colour is it\?"),
        (Habits(british=0, lower=1), "What color is it?", r"what color is it\?"),
        (Habits(british=0, bare=1), "Name the color.", "Name the color"),
        (Habits(british=0, polite=1), "Name the color.", r".*\b([Pp]lease|Hello|Now|So)\b.*"),
        (Habits(british=0, polite=1), "What color is it?", r".+what color is it\?|What color is it, please\?"),
        (Habits(british=0), "What color is it?", r"What color is it\?"),
    ],
)
def test_habits(habits, question, expected):
    for seed in range(40):
        assert re.fullmatch(expected, as_typed(random.Random(seed), question, habits))


def test_a_question_without_long_words_has_no_typo():
    assert misspell(random.Random(0), "Is it so?") == "Is it so?"


def test_habits_of_training_are_as_frequent_as_they_are_said_to_be():
    question, rng = "What shape is the object?", random.Random(0)
    asked = [as_typed(rng, question, TRAINING) for _ in range(8000)]
    share = {
        "bare": sum(text[-1] != "?" for text in asked) / len(asked),
        "polite": sum(len(text) > len(question) + 3 for text in asked) / len(asked),
        "lower": sum(text[0].islower() for text in asked) / len(asked),
    }
    assert share == pytest.approx(
        {"bare": TRAINING.bare, "polite": TRAINING.polite, "lower": TRAINING.lower}, abs=0.015
    )


def test_refusals_are_many_and_never_a_known_question():
    rng = random.Random(0)
    known = [patterns(kind, held_out) for kind in WORDINGS for held_out in (False, True)]
    names = rf"(?:{'|'.join((*SHAPES, *COLOURS))})\b"
    for held_out in (False, True):
        asked = {refusal_question(rng, held_out) for _ in range(4000)}
        assert len(asked) > (900 if held_out else 2000)
        for question in asked:
            if any(pattern.fullmatch(question) for pattern in known):  # then what it asks about is unknown
                things = re.findall(r"[a-z]+", question.lower())
                unknown = [word for name in ("object", "animal", "person", "colour") for word in LISTS[name]]
                assert set(things) & set(unknown), question
    assert not [
        word
        for name in ("object", "animal", "person", "colour")
        for word in LISTS[name]
        if re.fullmatch(names, word) or min(distance(word, known) for known in NAMES) < 2
    ]


def test_a_third_of_the_clips_has_a_question_to_refuse():
    rng = random.Random(7)
    scenes = [random_scene(rng, 16, load_atlas(), RULES) for _ in range(1500)]
    refused = [sum(slot.kind == "refusal" for slot in slots_of(scene, rng)) for scene in scenes]
    assert set(refused) == {0, 1}
    assert sum(refused) / len(refused) == pytest.approx(0.35, abs=0.04)


@pytest.mark.parametrize("options", [{}, {"held_out": True}, {"habits": TYPOS}, {"cut": True}])
def test_questions_are_decided_by_the_seed(options):
    first, again = some_slots(20, **options), some_slots(20, **options)
    assert first == again
    assert first != some_slots(20, seed=4, **options)
    if options.get("cut"):
        assert all(slot.kind != "background" for _, slots in first for slot in slots)
