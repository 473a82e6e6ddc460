"""`python -m viz render` as a person at a shell uses it: the files it writes open and hold every frame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sttm_core.advice import SHIPPED_MODEL
from sttm_core.engine import VideoLLM
from sttm_core.settings import RunSettings
from sttm_core.video import VideoClip, write_mp4
from tests.viz.hand_plan import hand_plan, noise_frames
from viz.__main__ import Overlay, check_out, draw, main
from viz.overlay import HeatOverlay, Mixed, QuadtreeOverlay, render_strip

FRAMES = 3
THRESHOLDS = ["--tau-spatial", "0.9", "--tau-temporal", "0.8", "--num-frames", str(FRAMES)]


@pytest.fixture(scope="module")
def llm() -> VideoLLM:
    return VideoLLM.load(str(SHIPPED_MODEL), device="cpu")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five frames with a blue square that moves over a ramp."""
    frames = np.linspace(0, 255, 96, dtype=np.uint8)[None, None, :, None].repeat(5, 0).repeat(64, 1).repeat(3, 3)
    for index, frame in enumerate(frames):
        frame[10:34, 8 * index : 8 * index + 24] = (30, 60, 220)
    return write_mp4(frames, tmp_path_factory.mktemp("clips") / "moving.mp4", fps=5)


@pytest.fixture
def render(llm: VideoLLM, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable:
    """Run the command with the shipped model from memory."""
    monkeypatch.setattr(VideoLLM, "load", lambda path, **options: llm)

    def call(*arguments) -> tuple[int, str, str]:
        code = main(["render", *map(str, arguments)])
        return code, *capsys.readouterr()

    return call


def test_a_video_has_one_picture_a_sampled_frame(render: Callable, video: Path, tmp_path: Path) -> None:
    out = tmp_path / "overlay.mp4"
    code, said, progress = render(video, "--out", out, "--fps", "4", *THRESHOLDS)
    assert code == 0
    assert said.startswith(f"{out}: {FRAMES} frames, ") and said.count("\n") == 1
    assert progress.splitlines() == ["encoding 3 frames", "drawing overlay.mp4"]
    made = VideoClip.open(out, 100)
    assert made.num_source_frames == FRAMES
    assert made.fps == pytest.approx(4)
    source = VideoClip.open(video, FRAMES)
    assert made.size[1] >= source.size[1]
    assert len({frame.tobytes() for frame in made.frames}) == FRAMES


@pytest.mark.parametrize("order", [["heat", "quadtree"], ["quadtree", "heat"]])
def test_a_contact_sheet_is_what_the_overlays_draw(
    render: Callable, llm: VideoLLM, video: Path, tmp_path: Path, order: list[str]
) -> None:
    out = tmp_path / "sheet.PNG"
    overlays = [part for name in order for part in ("--overlay", name)]
    assert render(video, "--out", out, "--columns", "2", *overlays, *THRESHOLDS)[0] == 0
    clip = VideoClip.open(video, FRAMES)
    plan = llm.encode(clip).plan(RunSettings.of(tau_spatial=0.9, tau_temporal=0.8))
    wanted = render_strip(clip.frames, plan, Mixed([HeatOverlay(), QuadtreeOverlay()]), 2, times=clip.times)
    assert np.array_equal(np.asarray(Image.open(out)), wanted)


@pytest.mark.parametrize("count", [3, 4])
def test_of_frames_that_a_model_joins_the_first_is_drawn(tmp_path: Path, count: int) -> None:
    clip = VideoClip.from_frames(noise_frames(60, 80, count), np.arange(count) / 2)
    out = tmp_path / "sheet.png"
    draw(clip, hand_plan(), [Overlay.quadtree], out, 2, 2.0)  # a plan of two steps
    wanted = render_strip(clip.frames[[0, 2]], hand_plan(), QuadtreeOverlay(), 2, times=[0.0, 1.0])
    assert np.array_equal(np.asarray(Image.open(out)), wanted)


def test_each_overlay_draws_another_picture(render: Callable, video: Path, tmp_path: Path) -> None:
    pictures = set()
    for name in ("quadtree", "ghost", "chains", "heat"):
        out = tmp_path / f"{name}.png"
        assert render(video, "--out", out, "--overlay", name, *THRESHOLDS)[0] == 0
        pictures.add(Image.open(out).tobytes())
    assert len(pictures) == 4


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--out", "{folder}/overlay.gif"], "The picture can be written as .mp4 or .png; --out is overlay.gif."),
        (["--out", "{folder}/none/overlay.png"], "choose another one for --out."),
        (["--out", "{folder}/folder.png"], "is a folder; give --out the name of a file."),
        (["--out", "{folder}/a.png", "--tau-spatial", "5"], "The spatial threshold τ_S must lie between -1 and 2"),
        (["--out", "{folder}/a.png", "--retention", "0"], "The budget must lie above 0%"),
        (["--out", "{folder}/a.png", "--columns", "0"], "Invalid value for '--columns'"),
        (["--out", "{folder}/a.png", "--overlay", "sparkle"], "Invalid value for '--overlay'"),
        (["--out", "{folder}/a.png", "--merge-layer", "99"], "the merge layer must lie between 0 and"),
        (["--out", "{folder}/a.mp4", "--fps", "0"], "fps is 0.0: give a number above 0"),
        ([], "Missing option '--out'"),
    ],
)
def test_bad_options_are_one_sentence_and_leave_no_file(
    render: Callable, video: Path, tmp_path: Path, options: list[str], sentence: str
) -> None:
    (tmp_path / "folder.png").mkdir()
    code, out, err = render(video, "--num-frames", "1", *(option.format(folder=tmp_path) for option in options))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert sentence in err
    assert [file.name for file in tmp_path.iterdir()] == ["folder.png"]


def test_a_folder_of_somebody_else_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_out(tmp_path / "a.png")
    monkeypatch.setattr("viz.__main__.os.access", lambda path, mode: False)
    with pytest.raises(ValueError, match="does not exist or can't be written to; choose another one for --out."):
        check_out(tmp_path / "a.png")


def test_a_broken_video_is_one_sentence(render: Callable, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 99)
    code, out, err = render(tmp_path / "broken.mp4", "--out", tmp_path / "a.png")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("broken.mp4 is not a video that can be read")
