"""A run once more, exactly: from what `ask --json` printed, or from the runs that the page saved.

run = read_run("runs.json", 2)
clip = run.open()                      # the same frames of the same file
compare(llm, clip, run.question, run.settings, **run.limits)
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .settings import RunSettings
from .video import VideoClip

if TYPE_CHECKING:
    from .command_line import Loading
    from .comparison import Comparison
    from .engine import VideoLLM

SAMPLES = Path(__file__).resolve().parents[1] / "assets" / "clips"


@dataclass(frozen=True)
class RecordedRun:
    """What a run was of, and where its record lies.

    Attributes:
        video: the file's name.
        content_hash: SHA-256 of its bytes.
        indices: numbers of the frames that the model saw.
        model: the checkpoint's name.
        record: the file it was read from.
        typed: what was typed in the shell: ``video``, ``loading`` and ``limits``; empty for a run of the page.
        kept, text: tokens after merging and the merged answer then; the text is None for a run that failed.
    """

    video: str
    content_hash: str
    indices: list[int]
    question: str
    model: str
    settings: RunSettings
    record: Path
    kept: int
    text: str | None
    typed: dict[str, Any] = field(default_factory=dict)

    @property
    def limits(self) -> dict[str, Any]:
        """Arguments of `compare`: ``baseline``, ``runs``, ``max_new_tokens``, as far as they were recorded."""
        return dict(self.typed.get("limits", {}))

    def open(self, path: str | None = None) -> VideoClip:
        """The same frames; without a path, of the file that was named then, beside the record, here, or a sample.

        Raises:
            ValueError: if there is no such file, or it is another one by its bytes.
        """
        found = path or next((place for place in self._places() if place.is_file()), None)
        if found is None:
            raise ValueError(f"{self.video} of this run was not found here: give its path behind --from and its file.")
        clip = VideoClip.open(found, indices=self.indices)
        if clip.content_hash != self.content_hash:
            raise ValueError(f"{clip.name} is another file than the one of this run: give the path of {self.video}.")
        return clip

    def _places(self) -> list[Path]:
        named = [Path(self.typed["video"])] if "video" in self.typed else []
        return [*named, self.record.parent / self.video, Path(self.video), SAMPLES / self.video]

    def loading(self, given: Loading) -> Loading:
        """How the model is loaded: as then, but for the options that are given now."""
        then, defaults = self.typed.get("loading", {}), asdict(type(given)())
        left_open = [name for name, value in asdict(given).items() if value == defaults[name] and name in then]
        return replace(given, **{name: then[name] for name in left_open})

    def check_model(self, llm: VideoLLM) -> None:
        """ValueError for another model than then, by name."""
        if llm.name != self.model:
            raise ValueError(f"This run was one of {self.model}, not of {llm.name}: give --model with its path or id.")

    def differences(self, result: Comparison) -> str:
        """One sentence on what came out otherwise than then, or that nothing did."""
        changed = ["kept tokens"] * (result.plan.num_tokens != self.kept)
        changed += ["answer"] * (self.text is not None and result.merged.text != self.text)
        if not changed:
            return "The same tokens were kept and the same answer was given as in the recorded run."
        return f"Not as in the recorded run: {' and '.join(changed)}; compare the two environments."


def read_run(path: str | Path, number: int | None = None) -> RecordedRun:
    """A run from a JSON file: one object, a list, or an object with a list ``runs``.

    Args:
        number: which run of a list, from 1; may be left out where there is one.

    Raises:
        ValueError: in one sentence, if the file is missing or no JSON, holds no such run, or not all of it.
    """
    path = Path(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path.name} could not be read: check the path.") from error
    except ValueError as error:
        raise ValueError(f"{path.name} is not JSON: give what `ask --json` printed or the page saved.") from error
    if isinstance(found, dict) and isinstance(found.get("runs"), list):
        found = found["runs"]
    return _recorded(_chosen(found, number, path), path)


def _chosen(found: Any, number: int | None, path: Path) -> dict:
    runs = found if isinstance(found, list) else [found]
    if number is None and len(runs) != 1:
        raise ValueError(f"{path.name} holds {len(runs)} runs: choose one with --run and a number from 1.")
    number = 1 if number is None else number
    if not 1 <= number <= len(runs):
        raise ValueError(f"{path.name} holds {len(runs)} runs: there is no run {number}.")
    return runs[number - 1]


def _recorded(run: Any, path: Path) -> RecordedRun:
    try:
        merged = run["merged"]
        return RecordedRun(
            video=str(run["video"]),
            content_hash=str(run["frames"]["content_hash"]),
            indices=list(run["frames"]["indices"]),
            question=str(run["question"]),
            model=str(run["environment"]["model"]),
            settings=_settings(run["settings"]),
            record=path,
            kept=int(run["tokens"]["kept"]),
            text=merged and str(merged["text"]),
            typed=dict(run.get("typed", {})),
        )
    except (KeyError, TypeError, AttributeError) as error:
        words = f"{path.name} does not hold all that a run is repeated from"
        raise ValueError(f"{words}: give what `ask --json` printed or the page saved.") from error


def _settings(recorded: dict) -> RunSettings:
    return RunSettings.of(**{name: value for name, value in recorded.items() if name != "num_frames"})
