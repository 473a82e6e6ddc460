"""Videos whose patches stand in for features, exported as pages for the browser tests."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import torch
from playwright.sync_api import Page

from sttm_core import Quadtree, SimilarityTables, similarity_tables
from viz.inspector import InspectorData, export_html

GET = 'window.sttmInspector.get("inspector")'


def scene(frames: int, height: int = 180, width: int = 320, seed: int = 0) -> np.ndarray:
    """uint8 ``[T, H, W, 3]``: a smooth landscape that drifts, a moving box, a scene cut and a caption that changes."""
    rng = np.random.default_rng(seed)
    out = np.empty((frames, height, width, 3), dtype=np.uint8)
    grounds = [
        cv2.resize(rng.uniform(20, 235, (4, 6, 3)).astype(np.float32), (width + frames, height)) for _ in range(2)
    ]
    for t in range(frames):
        ground = grounds[t >= frames // 2][:, t : t + width]
        noise = rng.normal(0, 1.5, (height, width, 1)) * (np.arange(width)[None, :, None] > width // 2)
        out[t] = np.clip(ground + noise, 0, 255)
        x = 10 + (t * 7) % (width - 60)
        cv2.rectangle(out[t], (x, height // 3), (x + 40, height // 3 + 40), (250, 240, 60), -1)
        cv2.putText(out[t], f"K{t // 3}P", (width // 2, height - 20), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (255, 255, 255), 2)
    return out


def patch_features(frames: np.ndarray, height: int, width: int, channels: int = 16) -> torch.Tensor:
    """``[T, height, width, channels]``: 2 x 2 colours of each patch, mixed into more dimensions."""
    mix = np.random.default_rng(7).normal(size=(12, channels)).astype(np.float32)
    small = [cv2.resize(frame, (2 * width, 2 * height), interpolation=cv2.INTER_AREA) for frame in frames]
    cells = np.stack(small).astype(np.float32).reshape(len(frames), height, 2, width, 2, 3) / 255 - 0.2
    return torch.from_numpy(cells.transpose(0, 1, 3, 2, 4, 5).reshape(len(frames), height, width, 12) @ mix)


def tables_of(frames: np.ndarray, height: int, width: int) -> SimilarityTables:
    return similarity_tables(patch_features(frames, height, width), Quadtree(height, width, 1))


def inspector_data(frames: np.ndarray, height: int = 14, width: int = 14, **options: object) -> InspectorData:
    options.setdefault("tau_spatial", 0.97)
    options.setdefault("tau_temporal", 0.98)
    return InspectorData.of(frames, np.arange(len(frames)) / 2, tables_of(frames, height, width), **options)


def write_page(folder: Path, data: InspectorData, **options: object) -> str:
    """The exported page's file:// address."""
    path = folder / "inspector.html"
    path.write_text(export_html(data, **options), "utf-8")
    return path.as_uri()


def until(page: Page, expression: str, seconds: float = 10) -> None:
    """Wait for a condition; `Page.wait_for_function` would need `eval`, which the exported page forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"never came true: {expression}"
        page.wait_for_timeout(20)


def state(page: Page) -> dict:
    return page.evaluate(f"({{...{GET}.settings(), ...{GET}.stats()}})")
