"""Tables and pictures that ship with the samples, so that the page is alive before any model has run.

`python -m viz.precomputed` makes them anew, after a change of the shipped model or of the clips. They are used only
where the model's weights, the clip's bytes, the frames and the merge layer are those that they were made from.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch

from sttm_core.engine import VideoLLM

from .inspector import InspectorData
from .samples import Sample

FOLDER = Path(__file__).resolve().parent.parent / "assets" / "precomputed"
ROUTE = "precomputed"  # where a page fetches the pictures
KEY_FILE = "key.json"
VALUES_OF_A_TENSOR = 512
STAGE_SIDE = 448  # pixels; what ships stays below 4 MB


@dataclass(frozen=True)
class Key:
    """What the tables follow from; any difference makes them useless."""

    model: str
    video: str
    num_frames: int
    merge_layer: int
    root_level: int


@dataclass(frozen=True)
class PrecomputedSample:
    """One sample as it was saved: its key, facts that need no decoding, and the inspector's data."""

    key: Key
    source_size: tuple[int, int]
    duration_s: float
    data: InspectorData


class Precomputed:
    """Reads what was saved for one loaded model.

    Args:
        llm: the model; of another one than the tables were made with, nothing is found.
        folder: written by `save`.
    """

    def __init__(self, llm: VideoLLM, folder: Path = FOLDER) -> None:
        self.llm, self.folder = llm, folder
        self._read = lru_cache(maxsize=64)(self._read_sample)

    def get(
        self, sample_id: str, video: str, num_frames: int, merge_layer: int | None = None, root_level: int = 1
    ) -> PrecomputedSample | None:
        """The sample, if it was saved for these bytes, frames and layer (the model's default if None)."""
        layer = self.llm.default_merge_layer if merge_layer is None else merge_layer
        found = self._read(sample_id)
        if found is None or found.key != Key(self.fingerprint, video, num_frames, layer, root_level):
            return None
        return found

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.llm)

    def _read_sample(self, sample_id: str) -> PrecomputedSample | None:
        folder = self.folder / sample_id
        if not (folder / KEY_FILE).is_file():
            return None
        row = json.loads((folder / KEY_FILE).read_text(encoding="utf-8"))
        size, data = tuple(row["source_size"]), InspectorData.load(folder)
        return PrecomputedSample(Key(**row["key"]), size, row["duration_s"], data)


def fingerprint(llm: VideoLLM) -> str:
    """Hexadecimal digest of the weights as loaded: device type, names, shapes, dtypes and evenly spaced values."""
    digest = hashlib.sha256(llm.device.type.encode())
    for name, tensor in sorted(llm.model.state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}".encode())
        flat = tensor.reshape(-1)
        some = flat[:: 1 + len(flat) // VALUES_OF_A_TENSOR] if tensor.device.type != "meta" else flat[:0]
        digest.update(some.to("cpu", torch.float32).numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as `VideoClip.content_hash`."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def save(llm: VideoLLM, sample: Sample, folder: Path = FOLDER, num_frames: int | None = None) -> Path:
    """Encode one sample and write its tables and pictures to ``folder/<id>``."""
    from sttm_core.video import VideoClip

    clip = VideoClip.open(sample.path, num_frames or sample.num_frames)
    encoded = llm.encode(clip)
    data = InspectorData.of(clip.frames, clip.times, encoded.tables, stage_side=STAGE_SIDE)
    target = data.save(folder / sample.id)
    frames = num_frames or sample.num_frames
    key = Key(fingerprint(llm), clip.content_hash, frames, encoded.merge_layer, encoded.tables.tree.root_level)
    row = {"key": asdict(key), "source_size": list(map(int, clip.source_size)), "duration_s": clip.duration_s}
    (target / KEY_FILE).write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    return target


def same_tables(one: InspectorData, other: InspectorData, tolerance: float = 1e-4) -> bool:
    """Whether two sets of tables agree but for rounding."""
    names = ("child_min", "child_min_released", "pair_cosines")
    pairs = [(getattr(one.tables, name).numpy(), getattr(other.tables, name).numpy()) for name in names]
    return all(a.shape == b.shape and np.allclose(a, b, atol=tolerance) for a, b in pairs)


def main() -> None:
    """Write all shipped samples for the shipped model."""
    import shutil

    from sttm_core.advice import SHIPPED_MODEL

    from .samples import load_samples

    llm = VideoLLM.load(str(SHIPPED_MODEL), device="cpu", dtype="float32")
    shutil.rmtree(FOLDER, ignore_errors=True)
    for sample in load_samples().values():
        print(save(llm, sample).relative_to(FOLDER.parent.parent), flush=True)
    size = sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file())
    print(f"{size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
