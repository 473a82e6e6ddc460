"""One line a clip and setting: what was asked, said and right, what was kept, what it took. Files that can go on."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.needle_qa.asking import Encodings
from benchmarks.needle_qa.held_out import HeldOutClip
from sttm_core.comparison import budget_missed
from sttm_core.engine import VideoLLM
from sttm_core.scoring import is_right
from sttm_core.settings import RunSettings

FULL = "All tokens"


@dataclass(frozen=True)
class Setting:
    """A row of the table: what it is called, at which budget, and what runs; None is the full video."""

    label: str
    budget: float | None
    settings: RunSettings | None

    @property
    def key(self) -> str:
        """The same for the same work, whatever it is called."""
        return json.dumps(self.settings.as_dict() if self.settings else None, sort_keys=True)


def ask_clip(llm: VideoLLM, item: HeldOutClip, folder: Path, settings: Sequence[Setting]) -> Iterator[dict]:
    """Every question of a clip under every setting: JSON-ready lines."""
    encodings = Encodings(llm, item.clip(folder))
    for setting in settings:
        yield {"clip": item.name, "seed": item.seed, "key": setting.key} | _row(encodings, item, setting)


def _row(encodings: Encodings, item: HeldOutClip, setting: Setting) -> dict:
    answers = []
    prefixes, firsts = [], []
    for question, (prefix, answer) in zip(
        item.questions, encodings.answers(setting.settings, [q.text for q in item.questions]), strict=True
    ):
        right = is_right(answer.text, question.answer)
        answers.append({"task": question.task, "question": question.text, "said": answer.text, "right": right})
        prefixes.append(prefix)
        firsts.append(answer.timings.first_token)
    shares = {name: statistics.fmean(p.shares[name] for p in prefixes) for name in prefixes[0].shares}
    return {
        "answers": answers,
        "shares": shares,
        "kv_bytes": statistics.fmean(prefix.video_kv_bytes for prefix in prefixes),
        "vision_s": prefixes[0].timings.vision,
        "merge_s": prefixes[0].timings.merge,
        "prefill_s": prefixes[0].timings.prefill,
        "first_token_s": firsts[0],
        "missed": budget_missed(setting.settings, shares) if setting.settings else "",
    }


class RowFile:
    """Lines of JSON that a run appends to, and that the next run goes on from."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[tuple[str, str], dict] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
            try:
                row = json.loads(line)
            except ValueError:  # the line that a run was stopped in
                continue
            self.rows[row["clip"], row["key"]] = row

    def add(self, rows: Iterable[dict]) -> None:
        """Keep these, on disk first."""
        rows = list(rows)
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join("\n" + json.dumps(row, ensure_ascii=False) for row in rows))
        self.rows |= {(row["clip"], row["key"]): row for row in rows}

    def missing(self, item: HeldOutClip, settings: Sequence[Setting]) -> list[Setting]:
        """What was not asked of a clip yet."""
        return [setting for setting in settings if (item.name, setting.key) not in self.rows]

    def of(self, items: Sequence[HeldOutClip], setting: Setting) -> list[dict]:
        """The rows of a setting on these clips, in their order; clips without one are left out."""
        found = (self.rows.get((item.name, setting.key)) for item in items)
        return [row for row in found if row]
