"""STTM within its own freedom: which setting loses least at small budgets, found on development clips alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.needle_qa.items import TASKS
from sttm_core.settings import RunSettings

TUNED = "STTM, tuned"
TUNED_BUDGETS = (0.15, 0.1)
ROUNDS = 2
CHOICES: dict[str, tuple] = {  # of each field, the paper's first
    "prefer": ("balanced", "temporal", "spatial"),
    "rules": ("paper", "as_released", "bottom_up"),
    "weighting": ("nodes", "patches"),
    "root_level": (1, 0, 2),
}
POSITIONS = ("reassigned", "survived", "merged")

Count = Callable[[Sequence[RunSettings]], list[int]]  # right answers of each, over all development clips


def choices(layers: Sequence[int], layer: int, positions: str) -> dict[str, tuple]:
    """Every field that may vary and its values, those to start from first.

    Args:
        layers: before which the model can merge; a quarter of them is tried at most.
        layer, positions: the model's own.
    """
    early = [one for one in layers if one != layer and one <= max(layers) // 4 + 1]
    rest = [rule for rule in POSITIONS if rule != positions]
    return CHOICES | {"merge_layer": (layer, *early), "position_rule": (positions, *rest)}


def search(
    fields: dict[str, tuple], budgets: Sequence[float], count: Count, rounds: int = ROUNDS
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One field after the other, ``rounds`` times, each set to the value with most right answers over all budgets.

    Returns:
        The chosen fields, and everything that was tried: ``name``, ``right``.
    """
    chosen = {name: values[0] for name, values in fields.items()}
    scores: dict[tuple, int] = {}

    def right(options: Sequence[dict[str, Any]]) -> list[int]:
        new = [option for option in options if tuple(option.values()) not in scores]
        runs = [RunSettings.of(retention=budget, **option) for option in new for budget in budgets]
        counted = count(runs) if runs else []
        for place, option in enumerate(new):
            scores[tuple(option.values())] = sum(counted[place * len(budgets) : (place + 1) * len(budgets)])
        return [scores[tuple(option.values())] for option in options]

    for _ in range(rounds):
        before = dict(chosen)
        for name, values in fields.items():
            options = [chosen | {name: value} for value in (chosen[name], *(v for v in values if v != chosen[name]))]
            found = right(options)
            chosen = options[found.index(max(found))]  # of equal ones the one that was there
        if chosen == before:
            break
    tried = [{"name": ", ".join(map(str, key)), "right": score} for key, score in scores.items()]
    return chosen, sorted(tried, key=lambda one: -one["right"])


def right_about_needles(rows: Sequence[dict]) -> int:
    """Right answers in these rows."""
    return sum(answer["right"] for row in rows for answer in row["answers"] if answer["task"] in TASKS)
