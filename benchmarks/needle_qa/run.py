"""Asks a model about the set, from all tokens and from merged ones, and counts right answers."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.needle_qa.asking import Encodings
from benchmarks.needle_qa.held_out import HELD_OUT_TASKS, HeldOutClip
from benchmarks.needle_qa.items import TASKS, NeedleClip
from demo_model.evaluate import score
from sttm_core.budgets import KEPT
from sttm_core.engine import VideoLLM
from sttm_core.methods import Sttm
from sttm_core.scoring import is_right
from sttm_core.settings import RunSettings


@dataclass
class Row:
    """Counts of one setting: for each task [correct, total], answers that differ from the full video's, shares kept."""

    settings: RunSettings | None
    tally: dict[str, list[int]] = field(default_factory=dict)
    changed: int = 0
    shares: list[Mapping[str, float]] = field(default_factory=list)  # one a question, see `Prefix.shares`

    def as_dict(self) -> dict:
        """What the JSON holds: accuracy with its Wilson interval by task and over ``TASKS``, shares kept, flips.

        Shares are means over questions; ``retention`` is that of tokens kept in the end.
        """
        totals = [sum(self.tally[task][i] for task in TASKS if task in self.tally) for i in range(2)]
        means = {name: statistics.fmean(shares[name] for shares in self.shares) for name in self.shares[0]}
        return {
            "settings": self.settings.as_dict() if self.settings else None,
            "retention": means["kept"],
            "layer_average": means["layer_average"],
            "kv_share": means["kv_bytes"],
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
        encodings = Encodings(llm, item.clip(mp4_folder))
        full: list[str] = []
        for name, row in rows.items():
            asked = list(encodings.answers(row.settings, [question.text for question in item.questions]))
            answers = [answer.text for _, answer in asked]
            full = full or answers
            row.shares += [prefix.shares for prefix, _ in asked]
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
    knobs = asdict(setting.method)
    rules = "" if knobs.get("rules", "paper") == "paper" else f" {knobs['rules']}"
    if setting.name != Sttm.name:
        return f"{setting.name}{rules} {_budget(setting)}"
    if setting.retention is not None:
        return f"{_budget(setting)} {setting.method.prefer}{rules}"
    return f"tau {setting.method.tau_spatial:g}/{setting.method.tau_temporal:g}{rules}"


def _budget(setting: RunSettings) -> str:
    return f"budget {setting.retention:.0%}" + ("" if setting.budget == KEPT else f" {setting.budget}")


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
