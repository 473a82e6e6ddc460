"""How people type: British spelling, a polite frame, no capitals, no question mark, a small typo. The meaning stays."""

from __future__ import annotations

import random
import re
import string
from dataclasses import dataclass

from demo_model.vocabulary import COLOURS, COLUMNS, ROWS, SHAPES
from demo_model.wordings import WORDINGS

FOR_QUESTIONS = (
    "Please tell me: {}",
    "Can you tell me: {}",
    "Could you tell me: {}",
    "I would like to know: {}",
    "Do you know: {}",
    "Question: {}",
    "Hello, {}",
    "Hi, {}",
    "So, {}",
    "Please: {}",
)
FOR_COMMANDS = ("Please {}", "Please, {}", "Hello, {}", "Hi, please {}", "Now {}", "So, {}")

ORDINALS = ("first", "second", "third", "last")
NAMES = (*SHAPES, *COLOURS, *ROWS, *COLUMNS, *ORDINALS)  # words that an answer hangs on
KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
SHORTEST_MISSPELT = 4  # letters

_WORD = re.compile(rf"[A-Za-z]{{{SHORTEST_MISSPELT},}}")


@dataclass(frozen=True)
class Habits:
    """Shares of questions that are changed in each way; the changes are drawn independently.

    Attributes:
        british: "color" becomes "colour".
        polite: "please" or a greeting around the question.
        lower: no capitals.
        bare: no final punctuation.
        typo: one letter swapped, dropped, doubled or hit on a neighbouring key.
    """

    british: float = 0.4
    polite: float = 0.0
    lower: float = 0.0
    bare: float = 0.0
    typo: float = 0.0


PLAIN = Habits()
TYPOS = Habits(typo=1.0)
TRAINING = Habits(polite=0.12, lower=0.08, bare=0.08, typo=0.1)


def as_typed(rng: random.Random, question: str, habits: Habits) -> str:
    """The question as somebody might type it."""
    if rng.random() < habits.british:
        question = question.replace("olor", "olour")
    if rng.random() < habits.typo:
        question = misspell(rng, question)
    if rng.random() < habits.polite:
        question = polite(rng, question)
    if rng.random() < habits.lower:
        question = question.lower()
    if rng.random() < habits.bare:
        question = question.rstrip("?.!")
    return question


def polite(rng: random.Random, question: str) -> str:
    """The question in a polite frame."""
    if rng.random() < 0.3 and question[-1] in "?.":
        return f"{question[:-1]}, please{question[-1]}"
    frames = FOR_QUESTIONS if question.endswith("?") else FOR_COMMANDS
    return rng.choice(frames).format(question[0].lower() + question[1:])


def misspell(rng: random.Random, text: str) -> str:
    """The text with one typo in a word of at least four letters; its first letter stays.

    A misspelt name is nearest to itself among all names, and no other word turns into a known one or comes near a name.
    The text is returned as it is where no word allows that.
    """
    words = list(_WORD.finditer(text))
    for _ in range(12 if words else 0):
        word = rng.choice(words)
        typo = _one_typo(rng, word.group())
        if typo != word.group() and _can_be_told(typo.lower(), word.group().lower()):
            return text[: word.start()] + typo + text[word.end() :]
    return text


def _one_typo(rng: random.Random, word: str) -> str:
    """Swap two neighbours, drop, double or mistype one letter after the first."""
    at = rng.randrange(1, len(word))
    way = rng.randrange(4)
    if way == 0:
        at = min(at, len(word) - 2)
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    letters = ("", word[at] * 2, rng.choice(_NEIGHBOURS[word[at].lower()]))[way - 1]
    return word[:at] + letters + word[at + 1 :]


def _can_be_told(typo: str, word: str) -> bool:
    """Whether a reader who knows the words would still read ``word``."""
    return typo not in _KNOWN_WORDS and _NEAR_NAMES.get(typo, _NOTHING) <= {word}


def one_edit_away(word: str) -> set[str]:
    """All lower-case strings that one swap, drop, insertion or replacement makes of a word."""
    splits = [(word[:at], word[at:]) for at in range(len(word) + 1)]
    dropped = {a + b[1:] for a, b in splits if b}
    swapped = {a + b[1] + b[0] + b[2:] for a, b in splits if len(b) > 1}
    replaced = {a + c + b[1:] for a, b in splits if b for c in string.ascii_lowercase}
    inserted = {a + c + b for a, b in splits for c in string.ascii_lowercase}
    return (dropped | swapped | replaced | inserted) - {word}


def _neighbouring_keys() -> dict[str, str]:
    """Letters beside, above and below each letter."""
    place = {letter: (row, column) for row, letters in enumerate(KEYS) for column, letter in enumerate(letters)}
    near = {(0, -1), (0, 1), (1, -1), (1, 0), (-1, 0), (-1, 1)}  # each row is set half a key to the right
    return {
        one: "".join(two for two, (r, c) in place.items() if (r - row, c - column) in near)
        for one, (row, column) in place.items()
    }


def _names_near() -> dict[str, frozenset[str]]:
    """Which names each string that is one edit away from any name is near to."""
    near: dict[str, set[str]] = {}
    for name in NAMES:
        for typo in one_edit_away(name):
            near.setdefault(typo, set()).add(name)
    return {typo: frozenset(names) for typo, names in near.items()}


def _known_words() -> frozenset[str]:
    texts = [wording for wordings in WORDINGS.values() for wording in wordings]
    return frozenset(word.lower() for text in (*texts, *NAMES) for word in re.findall(r"[A-Za-z]+", text))


_NEIGHBOURS = _neighbouring_keys()
_NEAR_NAMES = _names_near()
_KNOWN_WORDS = _known_words()
_NOTHING: frozenset[str] = frozenset()
