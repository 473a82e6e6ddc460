"""Needles over footage and in fonts that training never saw, and clips without any needle, asked for one.

A clip is decided by its number, and reaches the model as an application's upload does: through an H.264 file.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from benchmarks.needle_qa.items import MP4_RATE, TASK_OF, TASKS, Question
from demo_model.atlas import ATLAS_FILE, load_atlas
from demo_model.backgrounds import Footage
from demo_model.data import Batch, draw_batch
from demo_model.footage import VIDEO_SUFFIXES, named_footage
from demo_model.questions import slots_of
from demo_model.scene import Scene, sprites_of
from demo_model.sequence import PackedSlots
from demo_model.stories import StoryRules, random_scene
from demo_model.targets import labels_of
from demo_model.typing_habits import PLAIN
from demo_model.vocabulary import COLOURS, NO_ANSWER, SHAPES
from demo_model.wordings import wordings_of
from sttm_core.video import VideoClip
from sttm_core.video.write import write_mp4

PACK = Path(__file__).with_name("held_out.pt")
SAMPLE_CLIPS = Path(__file__).resolve().parents[2] / "assets" / "clips"
UNTOUCHED = {"bunny.mp4": True, "terminal.mp4": False}  # whether it may be asked for texts: a terminal shows some
SIDE = 448  # of the files; a processor scales them
QUESTIONS_A_CLIP = 6
NO_CODE, NO_SHAPE = "no code", "no shape"  # tasks of clips without needles: no text is invented, no shape is seen
HELD_OUT_TASKS = (*TASKS, NO_CODE, NO_SHAPE)


@dataclass(frozen=True)
class HeldOutClip:
    """A clip of the set before it is drawn.

    Attributes:
        number: of the clip in its set; together with ``seed`` it decides everything.
        seed: of the set.
        scene: what happens; nothing where needles are asked for in vain.
        questions: about it.
        file: an untouched sample clip instead of a drawn one.
    """

    number: int
    seed: int
    scene: Scene
    questions: tuple[Question, ...]
    file: str | None = None

    @property
    def name(self) -> str:
        """Name of its file, another one where the scene, the backgrounds or the fonts are others."""
        digest = hashlib.sha256(f"{self.scene}/{_pictures_digest()}".encode()).hexdigest()[:8]
        return self.file or f"held-out-{self.seed}-{self.scene.frames}-{self.number:03}-{digest}.mp4"

    @property
    def draw_seed(self) -> int:
        """Seed of the picture; odd, as training draws even ones only."""
        return 2 * (self.seed * 1_000_003 + self.number) + 1

    def frames(self) -> np.ndarray:
        """[T, SIDE, SIDE, 3] uint8."""
        count = self.scene.frames
        sprites, none = sprites_of([self.scene], load_atlas()), torch.zeros(1, 0, dtype=torch.int64)
        labels = labels_of([self.scene], sprites.texture.shape[1])
        slots = PackedSlots(none, none, none, none, none)
        batch = Batch(sprites, labels, slots, torch.tensor([count]), self.draw_seed)
        footage = held_out_footage(moving=not self.scene.things and self.number % 2 == 0)
        clip = draw_batch(batch, count, SIDE, load_atlas(), footage)[0]
        return (clip * 255).round().byte().permute(0, 2, 3, 1).numpy()

    def write(self, folder: Path) -> Path:
        """Its H.264 file in a folder, drawn now unless it is there already."""
        if self.file:
            return SAMPLE_CLIPS / self.file
        path = folder / self.name
        return path if path.is_file() else write_mp4(self.frames(), path, MP4_RATE)

    def clip(self, folder: Path) -> VideoClip:
        """The clip for a model, decoded from its file; by OpenCV where the application's decoders are missing."""
        return decode(self.write(folder), self.scene.frames)


@lru_cache(maxsize=1)
def _pictures_digest() -> str:
    return hashlib.sha256(PACK.read_bytes() + ATLAS_FILE.read_bytes()).hexdigest()


@lru_cache(maxsize=2)
def held_out_footage(moving: bool = False) -> Footage:
    """All held-out backgrounds, or those that move by themselves."""
    views = [frames for name, frames in named_footage(PACK) if not moving or name.lower().endswith(VIDEO_SUFFIXES)]
    return Footage.of(views)


def decode(path: Path, num_frames: int) -> VideoClip:
    """``num_frames`` frames of a file.

    Raises:
        ValueError: the file cannot be decoded.
    """
    try:
        import av  # noqa: F401
    except ImportError:
        return _decode_with_opencv(path, num_frames)
    return VideoClip.open(path, num_frames=num_frames)


def _decode_with_opencv(path: Path, num_frames: int) -> VideoClip:
    """Evenly spread frames from first to last, as ``VideoClip.open`` chooses them, for machines without PyAV."""
    import cv2

    reader, frames = cv2.VideoCapture(str(path)), []
    while (picture := reader.read()[1]) is not None:
        frames.append(picture[..., ::-1])
    if not frames:
        raise ValueError(f"{path} cannot be decoded.")
    chosen = np.linspace(0, len(frames) - 1, min(num_frames, len(frames))).round().astype(int)
    return VideoClip.from_frames(np.stack([frames[i] for i in chosen]), name=path.name)


def needle_clip(number: int, num_frames: int, seed: int = 1) -> HeldOutClip:
    """A clip with needles and up to ``QUESTIONS_A_CLIP`` questions, tasks as different as possible."""
    rng = random.Random(f"held out needles/{seed}/{number}/{num_frames}")
    rules = StoryRules(held_out=True, backgrounds=("footage",))
    while True:
        scene = random_scene(rng, num_frames, load_atlas(), rules)
        slots = [slot for slot in slots_of(scene, rng, limit=100, habits=PLAIN) if slot.kind in TASK_OF]
        if scene.things and slots:
            break
    questions = [Question(TASK_OF[slot.kind], slot.question, slot.answer) for slot in slots]
    return HeldOutClip(number, seed, scene, tuple(_spread(questions)[:QUESTIONS_A_CLIP]))


def _spread(questions: list[Question]) -> list[Question]:
    """The first question of every task, then the second of every task, and so on."""
    seen: Counter[str] = Counter()
    ranked = []
    for question in questions:
        ranked.append((seen[question.task], question))
        seen[question.task] += 1
    return [question for _, question in sorted(ranked, key=lambda pair: pair[0])]


def empty_clip(number: int, num_frames: int, seed: int = 1, file: str | None = None) -> HeldOutClip:
    """Real footage without needles, asked for a code in two wordings and for a shape or colour."""
    rng = random.Random(f"held out empty/{seed}/{number}/{num_frames}")
    readings = rng.sample(wordings_of("ocr", False), 2) if UNTOUCHED.get(file, True) else []
    questions = [Question(NO_CODE, reading, NO_ANSWER) for reading in readings]
    figure, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
    kind, name, answer = rng.choice(
        (("colour", figure, NO_ANSWER), ("place", figure, NO_ANSWER), ("count", figure, "0"), ("shape", colour, "none"))
    )
    questions.append(Question(NO_SHAPE, rng.choice(wordings_of(kind, False)).format(name), answer))
    return HeldOutClip(number, seed, Scene(num_frames, "footage", ()), tuple(questions), file)


def held_out_clips(needles: int, empty: int, num_frames: int, seed: int = 1) -> Iterator[HeldOutClip]:
    """The set: clips with needles, then clips without, of which the first are untouched sample clips.

    Raises:
        ValueError: fewer than one clip of a kind, or fewer than 4 frames, in which no order can be seen.
    """
    if needles < 1 or empty < 1:
        raise ValueError(f"The set needs at least 1 clip of each kind, got {needles} and {empty}.")
    if num_frames < 4:
        raise ValueError(f"The clips need 4 frames or more to show an order, got {num_frames}.")
    for number in range(needles):
        yield needle_clip(number, num_frames, seed)
    files = [*UNTOUCHED, *[None] * empty]
    for number in range(empty):
        yield empty_clip(needles + number, num_frames, seed, files[number])
