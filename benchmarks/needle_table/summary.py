"""What the rows say: accuracy by task, flips, shares, time; and question by question, who wins against STTM."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.needle_qa.held_out import HELD_OUT_TASKS, HeldOutClip
from benchmarks.needle_qa.items import TASKS
from benchmarks.needle_table.rows import FULL, RowFile, Setting
from demo_model.evaluate import score

PUBLISHED = "STTM"
STAGES = ("vision", "merge", "prefill", "first_token")
SURE = 0.05  # below this chance a difference counts as one


def summarise(file: RowFile, items: Sequence[HeldOutClip], settings: Sequence[Setting]) -> dict[str, Any]:
    """JSON-ready: a line for each setting over the clips that all of them were asked about, and the duels.

    Raises:
        ValueError: if there is no such clip.
    """
    whole = [item for item in items if not file.missing(item, settings)]
    if not whole:
        raise ValueError("no clip was asked at every setting yet; give more time, or fewer methods and budgets.")
    full = _answers(file.of(whole, Setting(FULL, None, None)))
    lines = [_line(setting, file.of(whole, setting), full) for setting in settings]
    rights = {(s.label, s.budget): _rights(file.of(whole, s)) for s in settings}
    return {"clips": len(whole), "questions": len(full), "rows": lines, "duels": duels(rights)}


def _line(setting: Setting, rows: Sequence[dict], full: Sequence[dict]) -> dict[str, Any]:
    answers = _answers(rows)
    by_task = {task: [a["right"] for a in answers if a["task"] == task] for task in HELD_OUT_TASKS}
    needles = [right for task in TASKS for right in by_task[task]]
    changed = sum(one["said"] != other["said"] for one, other in zip(answers, full, strict=True))
    timed = [row for row in rows if all(f"{name}_s" in row for name in STAGES)]  # rows of older code lack a stage
    seconds = {name: statistics.median(row[f"{name}_s"] for row in timed) for name in STAGES}
    return {
        "label": setting.label,
        "budget": setting.budget,
        "settings": setting.settings.as_dict() if setting.settings else None,
        **{name: statistics.fmean(row["shares"][name] for row in rows) for name in rows[0]["shares"]},
        "video_kv_bytes": statistics.fmean(row["kv_bytes"] for row in rows),
        "missed": sum(bool(row["missed"]) for row in rows),
        "changed": score(changed, len(answers)),
        "tasks": {task: score(sum(rights), len(rights)) for task, rights in by_task.items() if rights},
        "overall": score(sum(needles), len(needles)) if needles else None,
        "seconds": seconds | {"language_model": sum(seconds.values()) - seconds["vision"]},
    }


def _answers(rows: Sequence[dict]) -> list[dict]:
    return [answer for row in rows for answer in row["answers"]]


def _rights(rows: Sequence[dict]) -> list[bool]:
    return [answer["right"] for answer in _answers(rows) if answer["task"] in TASKS]


def duels(rights: dict[tuple[str, float | None], list[bool]], champion: str = PUBLISHED) -> list[dict[str, Any]]:
    """Every method against one at the same budget, question by question.

    ``better`` and ``worse`` count questions about needles that only one of the two answers right; ``chance`` is that of
    a split at least as uneven between two equally good ones (exact sign test, two-sided).
    """
    found = []
    for (label, budget), mine in rights.items():
        against = rights.get((champion, budget))
        if against is None or label == champion:
            continue
        better = sum(a and not b for a, b in zip(mine, against, strict=True))
        worse = sum(b and not a for a, b in zip(mine, against, strict=True))
        duel = {"label": label, "against": champion, "budget": budget, "better": better, "worse": worse}
        found.append(duel | {"chance": sign_test(better, worse)})
    return found


def sign_test(wins: int, losses: int) -> float:
    """Chance of a split at least as uneven as this between two equally good ones; 1 where nothing differs."""
    count, fewer = wins + losses, min(wins, losses)
    tail = sum(math.comb(count, k) for k in range(fewer + 1)) / 2**count
    return min(1.0, 2 * tail)


def verdict(duel: dict[str, Any]) -> str:
    """``"wins"``, ``"loses"`` or ``"even"``: where chance could as well have made the difference."""
    if duel["chance"] >= SURE:
        return "even"
    return "wins" if duel["better"] > duel["worse"] else "loses"
