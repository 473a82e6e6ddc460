"""The words that clips and questions are made of. Plain data, no torch."""

from __future__ import annotations

SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "diamond", "ring")

COLOURS = {
    "red": (225, 35, 40),
    "green": (40, 175, 60),
    "blue": (40, 80, 225),
    "yellow": (245, 220, 45),
    "orange": (245, 140, 25),
    "purple": (135, 50, 185),
    "pink": (250, 130, 185),
    "cyan": (50, 215, 225),
}

DIRECTIONS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}  # unit steps (y, x)

ROWS = ("top", "middle", "bottom")
COLUMNS = ("left", "center", "right")

PLACE_MARGIN = 1 / 28  # of the frame: half a video token of the shipped model

PERIODS = ("beginning", "middle", "end")

BACKGROUNDS = ("gradient", "noise", "stripes", "footage")

CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
CODE_CHARACTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # without I, O, 0 and 1, which many fonts draw alike
WORDS = (
    *("apple", "bread", "chair", "cloud", "dance", "eagle", "flame", "glass", "honey", "island", "jelly", "knife"),
    *("lemon", "mango", "night", "ocean", "piano", "queen", "river", "stone", "table", "uncle", "voice", "water"),
    *("EXIT", "OPEN", "STOP", "TAXI", "SALE", "HOTEL", "NORTH", "SOUTH", "BUS", "PARK", "FIRE"),
)

NO_ANSWER = "none"
REFUSAL = "I can only answer questions about codes, shapes, colours, order, counts, places and motion in short clips."


def place_name(y: float, x: float) -> str:
    """Name of the ninth of the frame that holds a point.

    Args:
        y: vertical position, 0 (top) to 1 (bottom).
        x: horizontal position, 0 (left) to 1 (right).
    """
    return f"{ROWS[min(int(y * 3), 2)]} {COLUMNS[min(int(x * 3), 2)]}"


def possible_places(y: float, x: float) -> set[str]:
    """Names of all ninths within ``PLACE_MARGIN`` of a point: what people might call its place."""
    steps = (-PLACE_MARGIN, PLACE_MARGIN)
    return {place_name(y + down, x + right) for down in steps for right in steps}


def period_name(first: int, last: int, frames: int) -> str:
    """Third of the clip in which the middle of the frames ``first`` to ``last`` (inclusive) lies."""
    return PERIODS[min(int((first + last + 1) / 2 / frames * 3), 2)]
