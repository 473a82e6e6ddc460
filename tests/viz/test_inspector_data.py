"""What Python hands to the browser: payload, files on disk, sliders, the single page."""

from __future__ import annotations

import base64
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

import viz
from sttm_core import Quadtree, similarity_tables
from viz.inspector import InspectorData, export_html, threshold_ranges
from viz.inspector.bundle import MODULES, embed_json, script
from viz.inspector.images import MOST_BYTES, encode_frames

NEEDLE = {"label": "code", "frames": [1, 2], "box": [0, 0, 2, 3]}


def tokens(frames: int = 4, height: int = 5, width: int = 8) -> torch.Tensor:
    return 1 + 0.5 * torch.randn(frames, height, width, 6, generator=torch.Generator().manual_seed(0))


def pictures(frames: int = 4, height: int = 90, width: int = 1200) -> np.ndarray:
    ramp = np.linspace(0, 255, width).astype(np.uint8)
    return np.broadcast_to(ramp[None, None, :, None], (frames, height, width, 3)).copy()


def data(**options: object) -> InspectorData:
    return InspectorData.of(pictures(), [0, 0.5, 1, 1.5], similarity_tables(tokens()), **options)


def decoded(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype)


def test_the_payload_holds_geometry_and_tables():
    made = data(title="clip", needles=[NEEDLE])
    payload = json.loads(json.dumps(made.payload()))
    tree, tables = Quadtree(5, 8), made.tables
    assert np.array_equal(decoded(payload["tree"]["pair_index"], "<i4"), tree.pair_index.ravel())
    assert np.array_equal(decoded(payload["tree"]["boxes"], "<i4"), tree.boxes.ravel())
    for name in ("child_min", "child_min_released", "pair_cosines"):
        assert np.array_equal(decoded(payload["tables"][name], "<f4"), getattr(tables, name).numpy().ravel())
    assert payload["needles"] == [NEEDLE]
    assert payload["times"] == [0, 0.5, 1, 1.5]


def test_frames_are_small_and_in_order():
    frames = pictures()
    frames[2] = 200
    images = InspectorData.of(frames, range(4), similarity_tables(tokens())).payload()["images"]
    large = [cv2.imdecode(decoded(url.split(",")[1], "u1"), cv2.IMREAD_COLOR) for url in images["stage"]]
    sheet = cv2.imdecode(decoded(images["sheet"].split(",")[1], "u1"), cv2.IMREAD_COLOR)
    assert [image.shape for image in large] == [(48, 640, 3)] * 4
    width, height = images["thumb"]
    assert (width, sheet.shape) == (112, (height, 4 * 112, 3))
    assert [abs(int(image[0, 0, 0]) - 200) < 4 for image in large] == [False, False, True, False]
    assert abs(int(sheet[0, 2 * width + 3, 0]) - 200) < 4


def test_saved_and_loaded(tmp_path):
    made = data(title="clip", needles=[NEEDLE], curve={"tokens": [1, 2], "seconds": [3, 4]}, rules="as_released")
    loaded = InspectorData.load(made.save(tmp_path / "clip"))
    assert loaded.payload() == made.payload()
    payload = loaded.payload("files/clip/")
    assert payload["images"]["stage"][3] == "files/clip/frames/0003.jpg"
    assert (tmp_path / "clip" / "frames" / "0003.jpg").read_bytes() == made.files.stage[3]
    assert payload["images"]["sheet"] == "files/clip/strip.jpg"
    plans = [one.tables.plan(0.8, 0.7, "as_released").member_of for one in (made, loaded)]
    assert torch.equal(*plans)


def test_even_grids_share_one_table(tmp_path):
    even = similarity_tables(tokens(2, 8, 8))
    made = InspectorData.of(pictures(2), [0, 1], even)
    assert "child_min_released" not in made.payload()["tables"]
    assert torch.equal(InspectorData.load(made.save(tmp_path)).tables.child_min_released, even.child_min)


@pytest.mark.parametrize("count", [7, 8])
def test_frames_joined_in_pairs_show_the_first(count):
    frames = pictures(count)
    frames[::2] //= 2
    made = InspectorData.of(frames, np.arange(count) / 4, similarity_tables(tokens()))
    assert made.times == (0, 0.5, 1, 1.5)
    assert len(set(made.files.stage)) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": pictures(3), "times": [0, 1, 2]}, "3 frames do not make 4 steps"),
        ({"frames": pictures(5), "times": range(5)}, "5 frames do not make 4 steps"),
        ({"frames": pictures(0), "times": []}, "0 frames do not make"),
        ({"frames": pictures().astype(np.float32)}, "must be uint8"),
        ({"times": [0, 1]}, "as many times, got 2"),
        ({"needles": [{"label": "x"}]}, "a needle needs label"),
        ({"needles": [{**NEEDLE, "box": [0, 0, 6, 3]}]}, "lies outside the 4 frames of 5x8"),
        ({"needles": [{**NEEDLE, "frames": [2, 4]}]}, "lies outside"),
        ({"curve": {"tokens": [5, 5], "seconds": [1, 2]}}, "ascending tokens"),
        ({"curve": {"tokens": [5]}}, "as many seconds"),
    ],
)
def test_what_does_not_belong_together_is_refused(change, message):
    arguments = {"frames": pictures(), "times": [0, 0.5, 1, 1.5], "tables": similarity_tables(tokens()), **change}
    with pytest.raises(ValueError, match=message):
        InspectorData.of(arguments.pop("frames"), arguments.pop("times"), arguments.pop("tables"), **arguments)


def test_a_folder_that_is_not_one(tmp_path):
    with pytest.raises(ValueError, match="holds no inspector.json"):
        InspectorData.load(tmp_path)
    (tmp_path / "inspector.json").write_text('{"format": 0}')
    with pytest.raises(ValueError, match="save it again"):
        InspectorData.load(tmp_path)


@pytest.mark.parametrize("spread", [0.5, 0.02])
def test_sliders_span_what_changes_something(spread):
    tables = similarity_tables(1 + spread * torch.randn(6, 8, 8, 16, generator=torch.Generator().manual_seed(1)))
    ranges = threshold_ranges(tables)
    for name, values in (("tauSpatial", tables.child_min), ("tauTemporal", tables.pair_cosines)):
        low, high, step = (ranges[name][key] for key in ("min", "max", "step"))
        assert (values < low).float().mean() <= 0.06
        assert 1 < high <= 1 + 2 * step
        assert 60 <= (high - low) / step <= 210
        assert low <= ranges["start"][name] <= high
    assert tables.plan(ranges["tauSpatial"]["max"], ranges["tauTemporal"]["max"]).retention == 1
    widened = threshold_ranges(tables, tau_spatial=0.1, tau_temporal=0.2)
    assert (widened["tauSpatial"]["min"], widened["tauTemporal"]["min"]) <= (0.1, 0.2)
    assert widened["start"] == {"tauSpatial": 0.1, "tauTemporal": 0.2}
    assert threshold_ranges(tables, tau_spatial=1.5)["tauSpatial"]["max"] == 1.5


def test_a_single_frame_of_one_patch():
    made = InspectorData.of(pictures(1), [0], similarity_tables(torch.ones(1, 1, 1, 3)))
    assert made.payload()["tree"]["pairs"] == 1
    assert 'id="payload"' in export_html(made)


def test_markup_cannot_break_out_of_the_page():
    page = export_html(data(title="</script><script>alert(1)</script>\u2028"))
    assert "<script>alert" not in page
    page = export_html(data(), runs=[{"answer <b>": "<script>alert(2)</script>"}, {"kept": "12%"}])
    assert "<script>alert" not in page and "<b>" not in page.split("<h2>Runs</h2>")[1].split("</table>")[0]
    assert "<td>&lt;script&gt;alert(2)&lt;/script&gt;</td><td></td>" in page and "<td></td><td>12%</td>" in page
    page = export_html(data(), seen=[("Prompt <i>", "<script>alert(3)</script>")])
    assert "<script>alert" not in page and "<h2>What the model saw</h2>" in page and "Prompt &lt;i&gt;" in page
    assert json.loads(embed_json({"a": "</script>\u2028"})) == {"a": "</script>\u2028"}


def test_modules_name_everything_differently():
    text = script()
    assert "import {" not in text and "\nexport " not in text
    names = [
        line.split()[1].split("(")[0]
        for line in text.splitlines()
        if line.startswith(("class ", "function ", "const "))
    ]
    plain = [name for name in names if name[0].isalpha()]
    assert len(plain) == len(set(plain)) > 30
    assert "mountInspector" in plain and len(MODULES) > 10


def test_in_a_notebook(tmp_path):
    view = viz.inspect(tokens(), pictures(), title='a "clip"', settings={"frame": 2})
    markup = view._repr_html_()
    assert markup.startswith("<iframe srcdoc=") and markup.count("<") == 2
    page = view.save(tmp_path / "view.html").read_text("utf-8")
    assert '"frame":2' in page and '"times":[0.0,1.0,2.0,3.0]' in page and '"levels":2' in page
    options = {"times": [0, 0.5, 1, 4], "root_level": 0, "weighting": "patches"}
    other = viz.inspect(tokens(), pictures(), **options).page
    assert '"times":[0.0,0.5,1.0,4.0]' in other and '"levels":3' in other
    tables = similarity_tables(tokens(), Quadtree(5, 8, 0), weighting="patches")
    assert base64.b64encode(tables.pair_cosines.numpy().tobytes()).decode() in other


def test_pictures_that_compress_badly_stay_small():
    noise = np.random.default_rng(0).integers(0, 256, (2, 360, 640, 3), dtype=np.uint8)
    flat = np.full_like(noise, 90)
    for frames, quality in ((noise, 82), (flat, 82)):
        files = encode_frames(frames, quality=quality)
        assert max(map(len, files.stage)) <= MOST_BYTES and files.size == (640, 360)
    assert len(encode_frames(noise, quality=20).stage[0]) <= len(encode_frames(noise).stage[0])


def test_importing_viz_brings_in_nothing_heavy():
    code = "import sys, viz; print([m for m in ('torch', 'cv2', 'gradio', 'IPython') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
