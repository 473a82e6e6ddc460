"""Videos made for the tests: every frame carries its own number in blocks that survive compression."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from sttm_core.video import VideoClip

HEIGHT, WIDTH, NUM_FRAMES, BITS = 120, 160, 60, 8
RED = (200, 30, 30)


def stamped(number: int) -> np.ndarray:
    """Grey, `number` as white and black blocks across the top, a red corner bottom left to see which way is up."""
    frame = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    for bit in range(BITS):
        frame[8:56, 8 + 18 * bit : 24 + 18 * bit] = 255 * (number >> bit & 1)
    frame[90:, :40] = RED
    return frame


def stamp_of(frame: np.ndarray) -> int:
    """Reads `number` back from an upright frame of any size."""
    height, width = frame.shape[:2]
    centres = [int((16 + 18 * bit) * width / WIDTH) for bit in range(BITS)]
    return sum(int(frame[int(32 * height / HEIGHT), x].mean() > 127) << bit for bit, x in enumerate(centres))


def stamps_of(clip: VideoClip) -> list[int]:
    return [stamp_of(frame) for frame in clip.frames]


def make(
    path: Path, codec="libx264", num_frames=NUM_FRAMES, options=None, ticks=None, setup=None, movflags=None
) -> Path:
    """Encode stamped frames with an encoder that the code under test does not share; `ticks` are milliseconds."""
    with av.open(str(path), "w", options={"movflags": movflags} if movflags else {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = options or {}
        if ticks is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if setup is not None:
            setup(stream)
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(stamped(number), format="rgb24")
            if ticks is not None:
                frame.pts, frame.time_base = ticks[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def make_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        for _ in range(8):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 16000
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("side", [1.0, 0.5])
def test_every_stamp_can_be_told_from_every_other(side):
    for number in range(1 << BITS):
        frame = stamped(number)[:: int(1 / side), :: int(1 / side)]
        assert stamp_of(frame) == number
