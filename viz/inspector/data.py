"""What the browser needs of one video: geometry, cosines and small pictures. No features, no model."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sttm_core import MergePlan, Quadtree, SimilarityTables
from sttm_core.settings import RunSettings
from sttm_core.video import step_frames

from .images import FrameFiles, encode_frames
from .ranges import threshold_ranges

if TYPE_CHECKING:
    from collections.abc import Callable

FORMAT = 1
TABLES = ("child_min", "child_min_released", "pair_cosines")


@dataclass(frozen=True, eq=False)
class InspectorData:
    """One video for the inspector. Make it with `InspectorData.of`.

    Attributes:
        tables: every cosine of the video, on the CPU.
        files: its frames as JPEG.
        times: ``[T]`` seconds of each frame.
        title: shown as the picture's name.
        needles: known boxes ``{"label", "frames": [first, last], "box": [y0, x0, y1, x1]}`` in frames and patches.
        curve: measured prefill ``{"tokens": [...], "seconds": [...]}`` for the prediction, or None.
        ranges: the sliders, see `threshold_ranges`.
        settings: what to begin with: ``tauSpatial``, ``tauTemporal``, ``rules``, ``frame``, ``overlays``.
    """

    tables: SimilarityTables
    files: FrameFiles
    times: tuple[float, ...]
    title: str = ""
    needles: tuple[Mapping[str, Any], ...] = ()
    curve: Mapping[str, Sequence[float]] | None = None
    ranges: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        frames: np.ndarray | torch.Tensor,
        times: Sequence[float],
        tables: SimilarityTables,
        *,
        title: str = "",
        needles: Iterable[Mapping[str, Any]] = (),
        curve: Mapping[str, Sequence[float]] | None = None,
        tau_spatial: float | None = None,
        tau_temporal: float | None = None,
        rules: str = "paper",
        stage_side: int = 640,
        thumb_side: int = 112,
        quality: int = 82,
    ) -> InspectorData:
        """Shrink and compress the frames and keep the tables.

        Args:
            frames: uint8 ``[T, H, W, 3]`` RGB. Where a model joins n frames to one step (Qwen2-VL), T is up to n times
                the tables' frames and the first of each n is shown.
            times: ``[T]`` seconds.
            tables: the video's `SimilarityTables`, on any device.
            needles: known boxes, ``{"label": str, "frames": [first, last], "box": [y0, x0, y1, x1]}`` (frames from 0,
                last included; patches, half open).
            curve: measured ``{"tokens": [...], "seconds": [...]}`` of the prefill, ascending in video tokens.
            tau_spatial, tau_temporal, rules: what to begin with; thresholds default to the median cosines.

        Raises:
            ValueError: if frames, times and tables do not belong together, or a needle or the curve is malformed.
        """
        frames, times = _matching_frames(np.asarray(frames), times, tables.num_frames)
        return cls(
            tables=tables.to("cpu"),
            files=encode_frames(frames, stage_side, thumb_side, quality),
            times=times,
            title=str(title),
            needles=tuple(_checked_needle(needle, tables) for needle in needles),
            curve=_checked_curve(curve),
            ranges=threshold_ranges(tables, tau_spatial, tau_temporal),
            settings={"rules": rules},
        )

    @property
    def num_frames(self) -> int:
        return len(self.times)

    def with_settings(self, **settings: Any) -> InspectorData:
        """The same video, beginning with other `settings`."""
        return replace(self, settings={**self.settings, **settings})

    def plan(self, settings: RunSettings) -> MergePlan:
        """What STTM merges at these settings: the tables tell, no features are needed."""
        return settings.plan(None, self.tables)

    def payload(self, frames_url: str | None = None) -> dict[str, Any]:
        """Everything as one JSON-able object for the browser.

        Args:
            frames_url: where the folder written by `save` can be fetched from, e.g. ``"gradio_api/file=<folder>"``;
                pictures are then fetched when they are shown. None puts them into the payload.
        """
        tree, tables = self.tables.tree, self.tables
        if frames_url is None:
            url = _data_url
        else:
            names = iter([*(_frame_name(i) for i in range(self.num_frames)), "strip.jpg"])
            url = lambda _: f"{frames_url.rstrip('/')}/{next(names)}"  # noqa: E731
        return {
            **self._meta(),
            "tree": _tree_payload(tree),
            "tables": {name: _base64(getattr(tables, name).numpy()) for name in _stored_tables(tables)},
            "images": {**self._image_meta(), **_image_urls(self.files, url)},
        }

    def save(self, folder: str | Path) -> Path:
        """Write ``inspector.json``, ``tables.bin``, ``strip.jpg`` and ``frames/*.jpg``; `load` reads them back."""
        folder = Path(folder)
        (folder / "frames").mkdir(parents=True, exist_ok=True)
        for i, data in enumerate(self.files.stage):
            (folder / _frame_name(i)).write_bytes(data)
        (folder / "strip.jpg").write_bytes(self.files.sheet)
        tables = {name: getattr(self.tables, name).numpy() for name in _stored_tables(self.tables)}
        (folder / "tables.bin").write_bytes(b"".join(table.astype("<f4").tobytes() for table in tables.values()))
        tree = self.tables.tree
        meta = {
            **self._meta(),
            "images": self._image_meta(),
            "tree": {"height": tree.height, "width": tree.width, "root_level": tree.root_level},
            "tables": {name: list(table.shape) for name, table in tables.items()},
            "weighting": self.tables.weighting,
        }
        (folder / "inspector.json").write_text(json.dumps(meta, ensure_ascii=False, indent=1) + "\n", "utf-8")
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> InspectorData:
        """Read what `save` wrote.

        Raises:
            ValueError: if the folder was not written by `save`, or by another version.
        """
        folder = Path(folder)
        try:
            meta = json.loads((folder / "inspector.json").read_text("utf-8"))
        except FileNotFoundError:
            raise ValueError(f"{folder.name!r} holds no inspector.json; write it with InspectorData.save.") from None
        if meta.get("format") != FORMAT:
            raise ValueError(f"{folder.name!r} has format {meta.get('format')!r}, not {FORMAT}; save it again.")
        images = meta["images"]
        files = FrameFiles(
            tuple((folder / _frame_name(i)).read_bytes() for i in range(len(meta["times"]))),
            tuple(images["size"]), (folder / "strip.jpg").read_bytes(), tuple(images["thumb"]), images["columns"],
        )  # fmt: skip
        return cls(
            _read_tables(folder / "tables.bin", meta), files, tuple(meta["times"]), meta["title"],
            tuple(meta["needles"]), meta["curve"], meta["ranges"], meta["settings"],
        )  # fmt: skip

    def _meta(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "title": self.title,
            "times": list(self.times),
            "needles": [dict(needle) for needle in self.needles],
            "curve": self.curve and {name: list(values) for name, values in self.curve.items()},
            "ranges": dict(self.ranges),
            "settings": dict(self.settings),
        }

    def _image_meta(self) -> dict[str, Any]:
        return {"size": list(self.files.size), "thumb": list(self.files.thumb), "columns": self.files.columns}


def _matching_frames(frames: np.ndarray, times: Sequence[float], steps: int) -> tuple[np.ndarray, tuple[float, ...]]:
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(f"frames must be uint8 [T, H, W, 3], got {frames.dtype} {list(frames.shape)}.")
    if len(times) != len(frames):
        raise ValueError(f"{len(frames)} frames need as many times, got {len(times)}.")
    shown = step_frames(len(frames), steps)
    return frames[shown], tuple(float(times[index]) for index in shown)


def _checked_needle(needle: Mapping[str, Any], tables: SimilarityTables) -> dict[str, Any]:
    try:
        label, (first, last), (y0, x0, y1, x1) = str(needle["label"]), needle["frames"], needle["box"]
        first, last, y0, x0, y1, x1 = (int(v) for v in (first, last, y0, x0, y1, x1))
    except (KeyError, TypeError, ValueError):
        form = "label, frames [first, last] and box [y0, x0, y1, x1]"
        raise ValueError(f"a needle needs {form}, got {needle!r}.") from None
    tree = tables.tree
    inside = 0 <= first <= last < tables.num_frames and 0 <= y0 < y1 <= tree.height and 0 <= x0 < x1 <= tree.width
    if not inside:
        size = f"{tables.num_frames} frames of {tree.height}x{tree.width} patches"
        raise ValueError(f"needle {label!r} lies outside the {size}.")
    return {"label": label, "frames": [first, last], "box": [y0, x0, y1, x1]}


def _checked_curve(curve: Mapping[str, Sequence[float]] | None) -> dict[str, list[float]] | None:
    if curve is None:
        return None
    tokens, seconds = [list(map(float, curve.get(name, ()))) for name in ("tokens", "seconds")]
    if len(tokens) != len(seconds) or len(tokens) < 2 or any(b <= a for a, b in zip(tokens, tokens[1:], strict=False)):
        raise ValueError(f"a prefill curve needs two or more ascending tokens and as many seconds, got {curve!r}.")
    return {"tokens": tokens, "seconds": seconds}


def _stored_tables(tables: SimilarityTables) -> list[str]:
    same = tables.child_min_released is tables.child_min
    return [name for name in TABLES if not (same and name == "child_min_released")]


def _tree_payload(tree: Quadtree) -> dict[str, Any]:
    arrays = ("boxes", "ancestors", "top_left", "parents", "pair_index")
    return {
        "height": tree.height, "width": tree.width, "levels": tree.num_levels, "pairs": len(tree.pairs),
        **{name: _base64(getattr(tree, name).astype("<i4")) for name in arrays},
    }  # fmt: skip


def _image_urls(files: FrameFiles, url: Callable[[bytes], str]) -> dict[str, Any]:
    return {"stage": [url(data) for data in files.stage], "sheet": url(files.sheet)}


def _read_tables(path: Path, meta: Mapping[str, Any]) -> SimilarityTables:
    values, found = np.frombuffer(path.read_bytes(), dtype="<f4"), {}
    for name, shape in meta["tables"].items():
        count = int(np.prod(shape))
        found[name] = torch.from_numpy(values[:count].reshape(shape).astype(np.float32))
        values = values[count:]
    found.setdefault("child_min_released", found["child_min"])
    return SimilarityTables(Quadtree(**meta["tree"]), **found, weighting=meta["weighting"])


def _frame_name(index: int) -> str:
    return f"frames/{index:04d}.jpg"


def _data_url(data: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def _base64(array: np.ndarray) -> str:
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return base64.b64encode(np.ascontiguousarray(little).tobytes()).decode()
