"""Real footage and photographs for backgrounds: reads sources with PyAV and packs them into one small file.

``load_footage`` is the only reader of a pack; it needs Pillow alone, so that training runs where no video is decoded.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

SOURCES_FILE = Path(__file__).with_name("footage_sources.json")
SPLITS = ("train", "held-out")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".webm")
WINDOW_S = 4.0  # length of a piece of a video
QUALITY = 80  # of WebP


@dataclass(frozen=True)
class FootageSource:
    """A video or photograph of known origin.

    Attributes:
        split: "train" or "held-out"; a package of photographs stands on one side as a whole.
        package: where it is published.
        file: the end of its path inside the package.
        licence, author: for the table of sources.
        spans: (first, last) seconds to use; the whole video without any.
        box: (y0, x0, y1, x1) part of the picture to use, as fractions.
    """

    split: str
    package: str
    file: str
    licence: str
    author: str
    spans: tuple[tuple[float, float], ...] = ()
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)

    @property
    def is_video(self) -> bool:
        """Whether it moves by itself."""
        return self.file.lower().endswith(VIDEO_SUFFIXES)


@lru_cache(maxsize=1)
def footage_sources() -> tuple[FootageSource, ...]:
    """All sources that ``footage_sources.json`` names."""
    rows = json.loads(SOURCES_FILE.read_text(encoding="utf-8"))["sources"]
    return tuple(FootageSource(**row) for row in rows)


def read_footage(path: Path, height: int, width: int, seconds: float, rate: int) -> np.ndarray:
    """Decode, crop to the wanted shape and scale; a clip that is too short plays forth and back.

    Args:
        path: a video file.
        height, width: of the result; the middle of the picture is kept.
        seconds, rate: length and frames a second of the result.

    Returns:
        [T, H, W, 3] uint8.

    Raises:
        ValueError: the file is missing or cannot be decoded.
    """
    from sttm_core.video import VideoClip

    if not path.is_file():
        raise ValueError(f"There is no video at {path}; give the folder that holds it with --sources.")
    clip = VideoClip.open(path, fps=rate)
    wanted = round(seconds * rate)
    forth = np.arange(clip.num_frames)
    order = np.resize(np.concatenate([forth, forth[::-1][1:-1]]), wanted)
    scaled = {i: _crop_and_scale(clip.frames[i], height, width) for i in sorted(set(order.tolist()))}
    return np.stack([scaled[i] for i in order.tolist()])


def _crop_and_scale(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """The largest centred part of the wanted shape, scaled to [H, W, 3]."""
    h, w = picture.shape[:2]
    scale = min(h / height, w / width)
    crop_h, crop_w = height * scale, width * scale
    box = ((w - crop_w) / 2, (h - crop_h) / 2, (w + crop_w) / 2, (h + crop_h) / 2)
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS, box=box))


def find_source(source: FootageSource, folder: Path) -> Path:
    """The file of a source somewhere below a folder of unpacked packages.

    Raises:
        ValueError: it is not there.
    """
    matches = sorted(path for path in folder.rglob(Path(source.file).name) if path.as_posix().endswith(source.file))
    if not matches:
        raise ValueError(f"There is no {source.file} below {folder}; unpack there: {source.package}.")
    return matches[0]


def views_of(source: FootageSource, folder: Path, side: int, crops: int, rate: int = 4) -> list[np.ndarray]:
    """Square pieces of a source: the whole picture squeezed, as an app's processor does, and random crops.

    Args:
        source: what to read.
        folder: holds the unpacked packages.
        side: of the result in pixels.
        crops: random square crops of every piece, beside the whole.
        rate: frames a second of videos.

    Returns:
        Arrays [F, side, side, 3] uint8: F = 1 for a photograph, up to 4 seconds for a piece of a video.

    Raises:
        ValueError: the file is missing or cannot be decoded.
    """
    path = find_source(source, folder)
    pieces = _video_pieces(source, path, rate) if source.is_video else [_photograph(path)[None]]
    rng = random.Random(source.file)
    views = []
    for piece in pieces:
        boxes = [source.box] + [_square_box(rng, source.box, *piece.shape[1:3]) for _ in range(crops)]
        views += [np.stack([_scaled(frame, box, side) for frame in piece]) for box in boxes]
    return views


def _video_pieces(source: FootageSource, path: Path, rate: int) -> list[np.ndarray]:
    """[F, H, W, 3] pieces of at most ``WINDOW_S`` and at least half of it; a whole clip may be shorter."""
    from sttm_core.video import VideoClip

    clip = VideoClip.open(path, fps=rate)
    size = round(WINDOW_S * rate)
    pieces = []
    for first, last in source.spans or ((0.0, clip.num_frames / rate),):
        start, stop = round(first * rate), min(round(last * rate), clip.num_frames)
        starts = [at for at in range(start, stop, size) if stop - at >= size // 2] or [start]
        pieces += [clip.frames[at : min(at + size, stop)] for at in starts]
    return pieces


def _photograph(path: Path) -> np.ndarray:
    """[H, W, 3], upright."""
    with Image.open(path) as image:
        image.draft("RGB", (1600, 1600))
        upright = ImageOps.exif_transpose(image).convert("RGB")
    return np.asarray(upright)


def _square_box(rng: random.Random, box: tuple[float, ...], height: int, width: int) -> tuple[float, ...]:
    """A random square of 45-95% of the shorter side within a box, as fractions of the picture."""
    y0, x0, y1, x1 = box
    side = min((y1 - y0) * height, (x1 - x0) * width) * rng.uniform(0.45, 0.95)
    top = rng.uniform(y0, y1 - side / height)
    left = rng.uniform(x0, x1 - side / width)
    return top, left, top + side / height, left + side / width


def _scaled(picture: np.ndarray, box: tuple[float, ...], side: int) -> np.ndarray:
    """A part of a picture as [side, side, 3]."""
    height, width = picture.shape[:2]
    y0, x0, y1, x1 = box
    pixels = (x0 * width, y0 * height, x1 * width, y1 * height)
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS, box=pixels))


def save_footage(views: Iterable[tuple[str, np.ndarray]], target: Path) -> int:
    """Write named views [F, H, W, 3] uint8 as one file of WebP pictures; returns its bytes."""
    names, lengths, pictures = [], [], []
    for name, frames in views:
        names.append(name)
        lengths.append(len(frames))
        pictures += [_encoded(frame) for frame in frames]
    pack = {
        "names": names,
        "lengths": torch.tensor(lengths),
        "sizes": torch.tensor([len(picture) for picture in pictures]),
        "data": torch.frombuffer(bytearray(b"".join(pictures)), dtype=torch.uint8),
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.save(pack, target)
    return target.stat().st_size


def _encoded(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "WEBP", quality=QUALITY, method=4)
    return buffer.getvalue()


def load_footage(path: Path) -> list[torch.Tensor]:
    """All views of a file that ``save_footage`` wrote, [F, 3, h, w] uint8 each; photographs have one frame.

    Raises:
        ValueError: the file is missing or was not written by ``save_footage``.
    """
    return [frames for _, frames in named_footage(path)]


def named_footage(path: Path) -> list[tuple[str, torch.Tensor]]:
    """As ``load_footage``, each with the ``file`` of its source."""
    if not path.is_file():
        raise ValueError(f"There is no footage at {path}; write it with python -m demo_model footage.")
    pack = torch.load(path, weights_only=True)
    if not isinstance(pack, dict) or pack.keys() != {"names", "lengths", "sizes", "data"}:
        raise ValueError(f"{path} is no footage; write it with python -m demo_model footage.")
    data, at, clips = pack["data"].numpy(), 0, []
    sizes = iter(pack["sizes"].tolist())
    for name, length in zip(pack["names"], pack["lengths"].tolist(), strict=True):
        frames = []
        for _ in range(length):
            size = next(sizes)
            with Image.open(io.BytesIO(data[at : at + size].tobytes())) as image:
                frames.append(torch.from_numpy(np.array(image.convert("RGB"))))
            at += size
        clips.append((name, torch.stack(frames).permute(0, 3, 1, 2).contiguous()))
    return clips
