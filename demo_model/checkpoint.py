"""Checkpoints in files of at most 16 MiB. A new one replaces the old one only when it is complete."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from pathlib import Path

import torch

PART_BYTES = 16 * 2**20
MANIFEST = "manifest.json"


def save_checkpoint(folder: Path, state: dict) -> None:
    """Write ``state`` (tensors, numbers, strings and containers of these) under ``folder``.

    Args:
        folder: made if missing; older checkpoints in it are removed afterwards.
        state: must hold an int ``step``.
    """
    stream = io.BytesIO()
    torch.save(state, stream)
    data = stream.getbuffer()
    target = folder / f"step-{state['step']:08d}"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    parts = []
    for number, start in enumerate(range(0, len(data), PART_BYTES)):
        piece = data[start : start + PART_BYTES]
        name = f"part-{number:03d}"
        (target / name).write_bytes(piece)
        parts.append({"name": name, "sha256": hashlib.sha256(piece).hexdigest()})
    unfinished = target / (MANIFEST + ".new")
    unfinished.write_text(json.dumps({"parts": parts}))
    unfinished.rename(target / MANIFEST)
    for other in folder.glob("step-*"):
        if other != target:
            shutil.rmtree(other)


def load_checkpoint(folder: Path, device: torch.device | str = "cpu") -> dict | None:
    """The newest complete checkpoint under ``folder``, or None.

    Raises:
        ValueError: a part is missing or damaged.
    """
    complete = sorted(path.parent for path in folder.glob(f"step-*/{MANIFEST}"))
    if not complete:
        return None
    data = io.BytesIO()
    for part in json.loads((complete[-1] / MANIFEST).read_text())["parts"]:
        path = complete[-1] / part["name"]
        piece = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(piece).hexdigest() != part["sha256"]:
            raise ValueError(
                f"{part['name']} of {complete[-1].name} is missing or damaged; delete the folder to start anew."
            )
        data.write(piece)
    data.seek(0)
    return torch.load(data, map_location=device, weights_only=True)
