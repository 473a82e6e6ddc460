"""How long a slider tick takes in the browser: re-plan and redraw of the inspector in headless Chromium.

python benchmarks/interactive.py --out benchmarks/results/interactive.json
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from playwright.sync_api import Browser, sync_playwright

from sttm_core import Quadtree, similarity_tables
from viz.inspector import InspectorData, export_html

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
WARM_UP = 20
TICK = """async ticks => {
  const view = window.sttmInspector.get("inspector");
  const { tauSpatial, tauTemporal } = view.video.ranges;
  const between = ({ min, max }, share) => min + (max - min) * share;
  const plan = [], total = [];
  for (let i = 0; i < ticks; i++) {
    await new Promise(requestAnimationFrame);
    const share = 0.5 + 0.5 * Math.sin(i / 7);
    view.set({ tauSpatial: between(tauSpatial, share), tauTemporal: between(tauTemporal, 1 - share) });
    const begin = performance.now();
    view.planner.run(view.state.tauSpatial, view.state.tauTemporal, view.state.rules);
    const planned = performance.now();
    view.flush();
    view.refs.stageCanvas.getContext("2d").getImageData(0, 0, 1, 1); // waits until the picture is painted
    plan.push(planned - begin);
    total.push(performance.now() - planned); // flush() makes the plan itself
  }
  return { plan, total };
}"""


def drifting_scene(frames: int, height: int, width: int) -> tuple[np.ndarray, torch.Tensor]:
    """Pictures ``[T, h, w, 3]`` and features ``[T, height, width, C]`` that change slowly, with cuts."""
    rng = np.random.default_rng(0)
    scenes = rng.normal(size=(1 + frames // 24, height, width, 24)).astype(np.float32)
    drift = np.cumsum(rng.normal(size=(frames, height, width, 24), scale=0.05).astype(np.float32), axis=0)
    features = 1 + np.kron(scenes[:, ::2, ::2], np.ones((1, 2, 2, 1), np.float32))[:, :height, :width]
    features = features[np.arange(frames) // 24] + drift
    colours = (255 * (features[..., :3] - features.min()) / np.ptp(features)).astype(np.uint8)
    return colours.repeat(640 // width, axis=2).repeat(360 // height, axis=1), torch.from_numpy(features)


def measure(browser: Browser, frames: int, height: int, width: int, ticks: int) -> dict[str, float]:
    """Milliseconds per tick at ``frames`` frames: median and 95th percentile of the plan and of plan and redraw."""
    pictures, features = drifting_scene(frames, height, width)
    tables = similarity_tables(features, Quadtree(height, width))
    data = InspectorData.of(pictures, np.arange(frames), tables)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inspector.html"
        path.write_text(export_html(data, {"overlays": ["outlines", "ghost", "chains"]}), "utf-8")
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(path.as_uri())
        page.wait_for_timeout(500)
        times = page.evaluate(TICK, WARM_UP + ticks)
        page.close()
    result: dict[str, float] = {"frames": frames, "html_mb": round(len(export_html(data)) / 1e6, 2)}
    for name, values in (("replan", times["plan"]), ("replan_and_redraw", times["total"])):
        kept = values[WARM_UP:]
        result[f"{name}_ms_median"] = round(statistics.median(kept), 2)
        result[f"{name}_ms_p95"] = round(float(np.percentile(kept, 95)), 2)
    return result


def main(
    frames: Annotated[list[int] | None, typer.Option(help="Frames of the video; may be given several times.")] = None,
    height: Annotated[int, typer.Option(help="Patches per frame, down.")] = 14,
    width: Annotated[int, typer.Option(help="Patches per frame, across.")] = 14,
    ticks: Annotated[int, typer.Option(help="Slider positions measured.")] = 100,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Print median and 95th percentile of a slider tick, in milliseconds."""
    names = ("chromium", "chromium-browser", "google-chrome")
    with sync_playwright() as playwright:
        executable = next(filter(None, map(shutil.which, names)), None)
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        rows = [measure(browser, count, height, width, ticks) for count in frames or (16, 64, 128, 512)]
        version = browser.version
        browser.close()
    print("frames   re-plan median / p95 ms   re-plan + redraw median / p95 ms")
    for row in rows:
        plan = f"{row['replan_ms_median']:.2f} / {row['replan_ms_p95']:.2f}"
        whole = f"{row['replan_and_redraw_ms_median']:.2f} / {row['replan_and_redraw_ms_p95']:.2f}"
        print(f"{row['frames']:6d}   {plan:>23s}   {whole:>32s}")
    if out:
        machine = {"chromium": version, "cpus": os.cpu_count(), "machine": platform.machine()}
        report = {"grid": [height, width], "viewport": [1440, 900], "ticks": ticks, **machine, "results": rows}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    typer.run(main)
