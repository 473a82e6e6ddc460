"""Asks a model about the set, from all tokens and from merged ones, and counts right answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.needle_qa.held_out import HELD_OUT_TASKS, HeldOutClip
from benchmarks.needle_qa.items import TASKS, NeedleClip
from demo_model.evaluate import score
from sttm_core.engine import VideoLLM
from sttm_core.scoring import is_right
from sttm_core.settings import RunSettings


@dataclass
class Row:
    """Counts of one setting: for each task [correct, total], answers that differ from the full video's, tokens."""

    settings: RunSettings | None
    tally: dict[str, list[int]] = field(default_factory=dict)
    changed: int = 0
    kept: int = 0
    all: int = 0

    def as_dict(self) -> dict:
        """What the JSON holds: accuracy with its Wilson interval by task and over ``TASKS``, retention and flips."""
        totals = [sum(self.tally[task][i] for task in TASKS if task in self.tally) for i in range(2)]
        return {
            "settings": self.settings.as_dict() if self.settings else None,
            "retention": self.kept / self.all,
            "tasks": {task: score(*self.tally[task]) for task in HELD_OUT_TASKS if task in self.tally},
            "overall": score(*totals) if totals[1] else None,
            "changed_answers": self.changed,
        }


def run(
    llm: VideoLLM,
    settings: Sequence[RunSettings],
    items: Iterable[NeedleClip | HeldOutClip],
    mp4_folder: Path | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> tuple[dict[str, dict], list[dict]]:
    """Ask every question of a set from the full video and at every setting.

    Args:
        llm: the model.
        settings: what to merge; the full video always comes first.
        items: clips with their questions.
        mp4_folder: pass the clips through MP4 files written here.
        log: called with a line of progress.

    Returns:
        For "full" and each setting's name the dictionary of ``Row.as_dict``, and the wrong answers.
    """
    rows = {"full": Row(None)} | {name_of(setting): Row(setting) for setting in settings}
    wrong = []
    for number, item in enumerate(items, start=1):
        encoded = llm.encode(item.clip(mp4_folder))
        full: list[str] = []
        for name, row in rows.items():
            plan = encoded.plan(row.settings) if row.settings else None
            prefix = llm.prefill(encoded, plan)
            answers = [llm.answer(prefix, question.text).text for question in item.questions]
            full = full or answers
            row.kept += prefix.video_tokens
            row.all += encoded.layout.num_patches
            row.changed += sum(a != b for a, b in zip(answers, full, strict=True))
            for question, answer in zip(item.questions, answers, strict=True):
                counts = row.tally.setdefault(question.task, [0, 0])
                right = is_right(answer, question.answer)
                counts[0] += right
                counts[1] += 1
                if not right:
                    wrong.append({"clip": item.name, "setting": name, "answered": answer} | vars(question))
        asked = sum(counts[1] for counts in rows["full"].tally.values())
        log(f"clip {number}: {asked} questions")
    return {name: row.as_dict() for name, row in rows.items()}, wrong


def name_of(setting: RunSettings) -> str:
    """Name of a setting in table and JSON."""
    rules = "" if setting.method.rules == "paper" else f" {setting.method.rules}"
    if setting.retention is not None:
        return f"budget {setting.retention:.0%} {setting.method.prefer}{rules}"
    return f"tau {setting.method.tau_spatial:g}/{setting.method.tau_temporal:g}{rules}"


def table(rows: dict[str, dict]) -> str:
    """Markdown: accuracy in percent with its 95% interval; "changed" counts answers other than the full video's."""
    tasks = list(next(iter(rows.values()))["tasks"])
    lines = ["| setting | kept | " + " | ".join([*tasks, "overall"]) + " | changed |"]
    lines.append("|---" * (len(tasks) + 4) + "|")
    for name, row in rows.items():
        cells = [_cell(row["tasks"][task]) for task in tasks] + [_cell(row["overall"])]
        lines.append(f"| {name} | {row['retention']:.1%} | " + " | ".join(cells) + f" | {row['changed_answers']} |")
    return "\n".join(lines)


def _cell(result: dict | None) -> str:
    if result is None:
        return "-"
    return f"{100 * result['accuracy']:.1f} ({100 * result['low']:.0f}-{100 * result['high']:.0f})"
