"""The clips that ship with the application: what they show, what can be asked, and what is true about them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

CLIPS = Path(__file__).resolve().parent.parent / "assets" / "clips"


@dataclass(frozen=True)
class Needle:
    """Where and when the thing asked about is seen: seconds, and a box as fractions of the frame (y0, x0, y1, x1)."""

    first_s: float
    last_s: float
    box: tuple[float, float, float, float]

    def in_patches(self, label: str, times: Sequence[float], height: int, width: int) -> dict | None:
        """The needle in sampled frames and patches of the grid; None if no sampled frame shows it."""
        frames = [i for i, time in enumerate(times) if self.first_s - 1e-6 <= time <= self.last_s + 1e-6]
        if not frames:
            return None
        y0, x0, y1, x1 = self.box
        low = [min(int(y0 * height), height - 1), min(int(x0 * width), width - 1)]
        high = [max(low[0] + 1, -int(-y1 * height // 1)), max(low[1] + 1, -int(-x1 * width // 1))]
        box = [*low, min(high[0], height), min(high[1], width)]
        return {"label": label, "frames": [frames[0], frames[-1]], "box": box}


@dataclass(frozen=True)
class Question:
    """A suggested question; ``answer`` is the truth where it is known."""

    text: str
    answer: str | None = None
    needle: Needle | None = None


@dataclass(frozen=True)
class Sample:
    """One shipped clip."""

    id: str
    path: Path
    title: str
    description: str
    num_frames: int
    questions: tuple[Question, ...]
    attribution: str

    def truth(self, question: str) -> str | None:
        """The known answer to one of the suggested questions."""
        return next((q.answer for q in self.questions if q.text.lower() == question.strip().lower()), None)


@lru_cache(maxsize=4)
def load_samples(folder: Path = CLIPS) -> dict[str, Sample]:
    """The samples listed in ``samples.json`` by id, in its order.

    Raises:
        ValueError: if the list is missing.
    """
    file = folder / "samples.json"
    if not file.is_file():
        raise ValueError(f"The sample clips are missing: there is no {file.name} in assets/clips.")
    rows = json.loads(file.read_text(encoding="utf-8"))["samples"]
    return {row["id"]: _sample(folder, row) for row in rows}


def _sample(folder: Path, row: dict) -> Sample:
    questions = tuple(
        Question(q["question"], q.get("answer"), _needle(q["needle"]) if q.get("needle") else None)
        for q in row["questions"]
    )
    return Sample(
        id=row["id"],
        path=folder / row["file"],
        title=row["title"],
        description=row["description"],
        num_frames=int(row.get("num_frames", 16)),
        questions=questions,
        attribution=row.get("attribution", ""),
    )


def _needle(row: dict) -> Needle:
    first, last = row["frames"]
    return Needle(float(first), float(last), tuple(float(v) for v in row["box"]))
