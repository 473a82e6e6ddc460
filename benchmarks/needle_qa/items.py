"""The held-out set: clips and questions from their seeds alone, in wordings that the shipped model was trained for."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from demo_model.atlas import load_atlas
from demo_model.data import Batch, draw_batch
from demo_model.questions import slots_of
from demo_model.scene import Scene, sprites_of
from demo_model.sequence import PackedSlots
from demo_model.stories import StoryRules, random_scene
from demo_model.targets import labels_of
from sttm_core.video import VideoClip
from sttm_core.video.write import write_mp4

TASKS = {
    "retrieval": ("place", "when"),
    "ordering": ("first", "order"),
    "counting": ("count",),
    "ocr": ("ocr", "ocr_nth"),
    "attribute": ("colour", "colour_at", "shape"),
    "motion": ("motion",),
}
TASK_OF = {kind: task for task, kinds in TASKS.items() for kind in kinds}
SIDE = 224
MP4_RATE = 2  # frames a second of clips written as MP4


@dataclass(frozen=True)
class Question:
    """A question with its task and true answer."""

    task: str
    text: str
    answer: str


@dataclass(frozen=True)
class NeedleClip:
    """A clip of the set before it is drawn.

    Attributes:
        seed: decides the picture; odd, as training draws even ones only.
        scene: what happens.
        questions: all questions about it.
    """

    seed: int
    scene: Scene
    questions: tuple[Question, ...]

    @property
    def name(self) -> str:
        """Name of the clip."""
        return f"needle-{self.seed}"

    def frames(self) -> np.ndarray:
        """[T, H, W, 3] uint8."""
        sprites, none = sprites_of([self.scene], load_atlas()), torch.zeros(1, 0, dtype=torch.int64)
        labels = labels_of([self.scene], sprites.texture.shape[1])
        batch = Batch(
            sprites, labels, PackedSlots(none, none, none, none, none), torch.tensor([self.scene.frames]), self.seed
        )
        clip = draw_batch(batch, self.scene.frames, SIDE, load_atlas())[0]  # [T, 3, H, W]
        return (clip * 255).round().byte().permute(0, 2, 3, 1).numpy()

    def clip(self, folder: Path | None = None) -> VideoClip:
        """The clip for a model: from memory, or through an MP4 written to ``folder``, with a codec's losses."""
        if folder is None:
            return VideoClip.from_frames(self.frames(), name=self.name)
        path = write_mp4(self.frames(), folder / f"{self.name}.mp4", MP4_RATE)
        return VideoClip.open(path, num_frames=self.scene.frames)


def needle_clip(seed: int, num_frames: int) -> NeedleClip:
    """One clip of the set from its number.

    Raises:
        ValueError: fewer than 4 frames, in which no order or motion can be seen.
    """
    if num_frames < 4:
        raise ValueError(f"The clips need 4 frames or more to show an order, got {num_frames}.")
    rng = random.Random(f"needle qa/{seed}/{num_frames}")
    scene = random_scene(rng, num_frames, load_atlas(), StoryRules(side=SIDE))
    slots = [slot for slot in slots_of(scene, rng, limit=100) if slot.kind in TASK_OF]
    questions = tuple(Question(TASK_OF[slot.kind], slot.question, slot.answer) for slot in slots)
    return NeedleClip(2 * seed + 1, scene, questions)


def needle_clips(per_task: int, num_frames: int, seed: int = 1) -> Iterator[NeedleClip]:
    """Clips until every task has ``per_task`` questions, each with those of its questions that are still wanted.

    Args:
        per_task: questions of each task.
        num_frames: frames a clip.
        seed: of the set.

    Raises:
        ValueError: ``per_task`` is below 1, or too few frames.
    """
    if per_task < 1:
        raise ValueError(f"Each task needs at least 1 question, got {per_task}.")
    left = dict.fromkeys(TASKS, per_task)
    number = 0
    while any(left.values()):
        clip = needle_clip(seed * 1_000_003 + number, num_frames)
        number += 1
        wanted = []
        for question in clip.questions:
            if left[question.task]:
                left[question.task] -= 1
                wanted.append(question)
        if wanted:
            yield NeedleClip(clip.seed, clip.scene, tuple(wanted))
