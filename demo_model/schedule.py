"""Stages of training and the learning rate, both as functions of the time used."""

from __future__ import annotations

from dataclasses import dataclass

WARMUP_STEPS = 60
CONSTANT_UNTIL = 0.38
FINAL_RATE = 0.02
HEADS_STEPS = 100  # steps of a continued run in which the fresh auxiliary heads learn alone
CONTINUED_PEAK = 0.5  # of the rates of a run from nothing


@dataclass(frozen=True)
class Stage:
    """A part of the training time.

    Attributes:
        name: for the log.
        share: of the whole time.
        cycle: (frames, clips) of one step after the other, over and over.
        answers: False trains the vision tower by the auxiliary losses alone.
    """

    name: str
    share: float
    cycle: tuple[tuple[int, int], ...]
    answers: bool = True


STAGES = (
    Stage("single frames", 0.12, ((1, 512),), answers=False),
    Stage("4 frames", 0.22, ((4, 128),)),
    Stage("4, 8, 16 frames", 0.28, ((4, 128), (8, 64), (16, 32))),
    Stage("8 to 64 frames", 0.38, ((16, 32), (64, 8), (8, 64), (64, 8), (32, 16))),
)  # always 512 frames a step, so that the vision tower compiles once; a continued run has the last stage alone

TINY_STAGES = (
    Stage("single frames", 0.3, ((1, 4),), answers=False),
    Stage("2, 4 frames", 0.7, ((2, 2), (4, 2))),
)  # for tests on a CPU


def stage_at(stages: tuple[Stage, ...], part: float) -> Stage:
    """The stage that is on when ``part`` (0 to 1) of the time is used."""
    for stage in stages:
        part -= stage.share
        if part < 0:
            return stage
    return stages[-1]


def rate_at(part: float, step: int, peak: float = 1.0) -> float:
    """Factor on the learning rates: warm-up by steps, constant at ``peak``, then linear by time to ``FINAL_RATE``."""
    warm = min(1.0, (step + 1) / WARMUP_STEPS)
    falling = (1 - part) / (1 - CONSTANT_UNTIL)
    return peak * warm * max(FINAL_RATE, min(1.0, falling))
