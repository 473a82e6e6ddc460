"""The README's figures: what is drawn is what the JSON says, whatever else the JSON says."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchmarks import figures
from benchmarks.figures import FIGURES, draw, merge_figure, read, ttft_figure
from benchmarks.ttft import STAGES
from viz.palette import theme

RESULTS = figures.FOLDER / "results"


def ttft_row(frames: int, retention: float, **stages: float) -> dict:
    total = sum(stages.values())
    whole = {"ttft": total, "ttft_ratio": 4.0 / total, "new_key": [1]}
    return {"frames": frames, "retention": retention, **whole, **stages}


def ttft_json() -> dict:
    baseline = {"vision": 1.0, "merge": 0.0, "prefill": 2.5, "first_token": 0.5}
    merged = {"vision": 1.0, "merge": 0.125, "prefill": 0.75, "first_token": 0.125}
    rows = [ttft_row(frames, share, **of) for frames in (64, 128) for share, of in ((1.0, baseline), (0.3, merged))]
    failed = {"frames": 256, "retention": 1.0, "ttft": None, "error": "out of memory"}
    return {"machine": {"model": "a-7b", "device": "Some GPU", "dtype": "bfloat16"}, "rows": [*rows, failed]}


def merge_json(frames: int, floor: float, **stages: float) -> dict:
    about = {"device": "Some GPU", "frames": frames, "grid": "14x14", "channels": 3584, "dtype": "bfloat16"}
    rows = {name: {"median_ms": ms, "extra_mib": None, "p90_ms": 2 * ms} for name, ms in stages.items()}
    return {**about, "stages": rows, "floor_ms": floor, "ratios": {"to_floor": 2.0}}


def write(folder: Path, **files: object) -> Path:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def texts(axis) -> list[str]:
    return [text.get_text() for text in axis.texts]


def test_ttft_bars_have_the_length_of_their_stages(tmp_path) -> None:
    figure = ttft_figure(read(write(tmp_path, gpu=ttft_json()), FIGURES["ttft"][0]), theme())
    (axis,) = figure.axes
    assert [bars.get_label() for bars in axis.containers] == [*STAGES] * 4
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == ["64 frames, 100% kept", "64 frames, 30% kept", "128 frames, 100% kept", "128 frames, 30% kept"]
    by_row = {}
    for bars in axis.containers:
        for bar in bars:
            by_row.setdefault(round(bar.get_y() + bar.get_height() / 2, 3), []).append((bar.get_x(), bar.get_width()))
    assert list(by_row) == pytest.approx(axis.get_yticks().tolist())
    assert list(by_row.values())[::2] == [[(0, 1), (1, 0), (1, 2.5), (3.5, 0.5)]] * 2
    assert list(by_row.values())[1::2] == [[(0, 1), (1, 0.125), (1.125, 0.75), (1.875, 0.125)]] * 2
    assert [text for text in texts(axis) if "×" in text] == ["2.00 s (2.00×)"] * 2
    assert axis.get_title(loc="left") == "a-7b, Some GPU, bfloat16 (gpu.json)"


def test_each_machine_and_file_has_a_panel(tmp_path) -> None:
    other = ttft_json()
    other["machine"]["device"] = "Another GPU"
    rows = read(write(tmp_path, one=ttft_json(), two=[ttft_json(), other]), FIGURES["ttft"][0])
    titles = [axis.get_title(loc="left") for axis in ttft_figure(rows, theme()).axes]
    assert titles == [
        "a-7b, Some GPU, bfloat16 (one.json)",
        "a-7b, Some GPU, bfloat16 (two.json)",
        "a-7b, Another GPU, bfloat16 (two.json)",
    ]


def test_merge_dots_stand_at_their_milliseconds(tmp_path) -> None:
    first = merge_json(128, 0.25, tables=0.5, plan=0.125, replan=0.0625, **{"all of it": 1.0})
    second = merge_json(64, 0.125, tables=0.25, **{"pairwise transcription": 16.0})
    figure = merge_figure(read(write(tmp_path, some={"machine": {}, "rows": [first, second]}), {"stages"}), theme(True))
    fewer, more = figure.axes
    for axis, times in ((fewer, [0.125, 0.25, 16]), (more, [0.25, 0.5, 0.125, 0.0625, 1])):
        (dots,) = (part for part in axis.collections if part.get_offsets().tolist()[0][0] == times[0])
        assert dots.get_offsets().tolist() == [[ms, place] for place, ms in enumerate(times)]
        assert axis.get_xscale() == "log" and axis.get_xlim()[0] < min(times) and max(times) < axis.get_xlim()[1]
    labels = [label.get_text() for label in more.get_yticklabels()]
    assert labels == ["floor: read and write once", "tables", "plan", "replan", "all of it"]
    assert texts(fewer) == ["0.12 ms", "0.25 ms", "16 ms"]
    assert fewer.get_title(loc="left").startswith("64 frames of 14x14, 3584 channels, bfloat16\nSome GPU")


def test_the_command_writes_small_files_that_are_the_same_for_the_same_numbers(tmp_path, capsys) -> None:
    results = tmp_path / "results"
    results.mkdir()
    write(results, gpu=ttft_json(), merge=merge_json(128, 0.25, tables=0.5), other=[{"clip": "a", "frames": 3}])
    draw(results, tmp_path / "first")
    draw(results, tmp_path / "second")
    names = {path.name for path in (tmp_path / "first").iterdir()}
    assert names == {f"{name}-{background}.svg" for name in FIGURES for background in ("light", "dark")}
    for name in names:
        content = (tmp_path / "first" / name).read_bytes()
        assert content == (tmp_path / "second" / name).read_bytes() and len(content) < 60_000
    light, dark = ((tmp_path / "first" / f"ttft-{of}.svg").read_text() for of in ("light", "dark"))
    assert theme().text.lower() in light and theme(True).text.lower() in dark and "2.00 s (2.00×)" in light


def test_a_folder_without_numbers_draws_nothing_and_says_so(tmp_path, capsys) -> None:
    draw(tmp_path, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    assert capsys.readouterr().out.count("no numbers for") == len(FIGURES)


def test_a_damaged_file_is_named(tmp_path) -> None:
    (tmp_path / "half.json").write_text('{"rows": [')
    with pytest.raises(ValueError, match="half.json is not valid JSON"):
        read(tmp_path, {"ttft"})


@pytest.mark.parametrize("name", FIGURES)
def test_the_figures_in_the_readme_show_the_results_in_the_repository(name) -> None:
    """Run `python -m benchmarks.figures` after a change of benchmarks/results."""
    wanted, figure_of = FIGURES[name]
    numbers = {text for axis in figure_of(read(RESULTS, wanted), theme()).axes for text in texts(axis)}
    for background in ("light", "dark"):
        file = f"{name}-{background}.svg"
        drawn = {part.text for part in ElementTree.parse(figures.FOLDER / "figures" / file).iter() if part.text}
        assert numbers <= drawn
        assert f"figures/{file}" in (figures.FOLDER / "README.md").read_text()
