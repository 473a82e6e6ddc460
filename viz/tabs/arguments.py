"""What a program may hand to the named endpoints: each argument's type and range, one sentence for what misses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sttm_core.budgets import BUDGETS
from sttm_core.engine import VideoLLM
from sttm_core.method import RULES
from sttm_core.methods import METHODS
from sttm_core.methods.sttm.budget import EXPONENTS
from sttm_core.methods.sttm.method import MAX_TAU

MOST_RUNS = 20
LONGEST_SHOWN = 40  # characters of a wrong value


class Argument(Protocol):
    """One argument: what the documentation says of it, and the check."""

    schema: dict[str, str]

    @property
    def allowed(self) -> str: ...

    def fits(self, value: Any) -> bool: ...

    def read(self, value: Any) -> Any:
        """A value that fits, as the settings take it."""


@dataclass(frozen=True)
class Number:
    """A finite number from ``low`` to ``high``; ``above``: ``low`` itself is left out."""

    low: float
    high: float
    whole: bool = False
    above: bool = False

    @property
    def schema(self) -> dict[str, str]:
        return {"type": "integer" if self.whole else "number"}

    @property
    def allowed(self) -> str:
        ends = f"above {self.low:g} and at most {self.high:g}" if self.above else f"from {self.low:g} to {self.high:g}"
        return f"a {'whole ' if self.whole else ''}number {ends}"

    def fits(self, value: Any) -> bool:
        """NaN fits nowhere; neither does True."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        inside = self.low < value <= self.high if self.above else self.low <= value <= self.high
        return inside and (not self.whole or value == int(value))

    def read(self, value: float) -> float:
        return int(value) if self.whole else float(value)


@dataclass(frozen=True)
class Text:
    """Any text, or one of ``choices``."""

    choices: tuple[str, ...] = ()
    schema = {"type": "string"}

    @property
    def allowed(self) -> str:
        return f"one of {', '.join(self.choices)}" if self.choices else "text"

    def fits(self, value: Any) -> bool:
        return isinstance(value, str) and (not self.choices or value in self.choices)

    def read(self, value: str) -> str:
        return value


@dataclass(frozen=True)
class Named:
    """A JSON object: values by name."""

    schema = {"type": "object"}
    allowed = 'an object of knobs by name, such as {"seed": 1}'

    def fits(self, value: Any) -> bool:
        return isinstance(value, dict)

    def read(self, value: dict) -> dict:
        return value


def arguments(llm: VideoLLM, max_frames: int) -> dict[str, Argument]:
    """The endpoints' arguments by name, but for the video itself."""
    return {
        "sample": Text(),
        "question": Text(),
        "num_frames": Number(1, max_frames, whole=True),
        "tau_spatial": Number(-1, MAX_TAU),
        "tau_temporal": Number(-1, MAX_TAU),
        "retention": Number(0, 1, above=True),
        "rules": Text(tuple(RULES)),
        "merge_layer": Number(llm.merge_layers[0], llm.merge_layers[-1], whole=True),
        "runs": Number(1, MOST_RUNS, whole=True),
        "prefer": Text(tuple(EXPONENTS)),
        "method": Text(tuple(METHODS)),
        "budget": Text(BUDGETS),
        "knobs": Named(),
    }


def check(known: Mapping[str, Argument], **given: Any) -> None:
    """Check each value against the argument of its name; None stands for what was not given.

    Raises:
        ValueError: for the first that does not fit: its name, what is allowed, and what was given.
    """
    for name, value in given.items():
        if value is not None and not known[name].fits(value):
            raise ValueError(f"The argument {name} must be {known[name].allowed}, got {_shown(value)}.")


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
