"""Plans of any method as pictures and files: what was dropped looks dropped, what was merged keeps together."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sttm_core.advice import SHIPPED_MODEL
from sttm_core.engine import VideoLLM
from sttm_core.method import Plan, TokenPlan
from sttm_core.methods import METHODS, RandomTokens, make_method
from sttm_core.settings import RunSettings
from sttm_core.video import VideoClip, write_mp4
from tests.viz.hand_plan import noise_frames
from viz import inspect
from viz.__main__ import main
from viz.canvas import DROPPED_DIM, HATCH
from viz.charts import retention_per_frame
from viz.figures import merge_figure
from viz.labels import plan_settings
from viz.overlay import ChainOverlay, GhostOverlay, HeatOverlay, Mixed, QuadtreeOverlay, render_strip, render_video
from viz.palette import CHAINS, LEVELS, rgb
from viz.plan_files import plan_dict

ON_TOKENS = [name for name, method in METHODS.items() if method.acts_on == "tokens"]
CELL = 20  # pixels a patch
#       frame 0: an L of three patches, one alone   frame 1: one of the L, one dropped, one alone
MEMBERS = [[[0, 0], [0, 1]], [[0, -1], [2, 2]]]


def hand_made() -> TokenPlan:
    """Two frames of 2x2 patches; token 0 joins both frames, token 2 is two patches of frame 1."""
    return TokenPlan(RandomTokens(), torch.tensor([0, 3, 6]), torch.tensor(MEMBERS))


def frames() -> np.ndarray:
    return noise_frames(2 * CELL, 2 * CELL)


def patch(y: int, x: int) -> tuple[slice, slice]:
    return slice(y * CELL, (y + 1) * CELL), slice(x * CELL, (x + 1) * CELL)


def near_another(frame: int, width: int) -> np.ndarray:
    """Pixels at most ``width`` from a patch of another token or the picture's end, by looking at every pixel's square.

    Dropped patches have none."""
    labels = np.kron(np.array(MEMBERS[frame]), np.ones((CELL, CELL), int))
    found = np.zeros(labels.shape, bool)
    for y, x in np.ndindex(labels.shape):
        ys, xs = range(y - width, y + width + 1), range(x - width, x + width + 1)
        inside = min(ys) >= 0 and min(xs) >= 0 and max(ys) < len(labels) and max(xs) < len(labels)
        alike = inside and (labels[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1] == labels[y, x]).all()
        found[y, x] = labels[y, x] >= 0 and not alike
    return found


@pytest.mark.parametrize("frame", [0, 1])
@pytest.mark.parametrize("width", [1, 3])
def test_the_members_of_a_token_are_outlined_together(frame: int, width: int) -> None:
    picture = frames()[frame]
    drawn = QuadtreeOverlay(seam=False, line_width=width, min_width=1).annotate(picture, hand_made(), frame)
    expected = near_another(frame, width)
    assert np.array_equal((drawn != picture).any(axis=-1), expected)
    alone = np.kron(np.array(MEMBERS[frame]) == 1, np.ones((CELL, CELL), bool))
    lines = np.where(alone[..., None], rgb(LEVELS[0]), rgb(LEVELS[1]))  # a patch, or two to four
    if frame == 1:  # one patch of the L is left there
        lines[patch(0, 0)] = rgb(LEVELS[0])
    assert np.array_equal(drawn[expected], lines[expected])


def test_dropped_is_hatched_merged_is_dimmed_kept_is_bright() -> None:
    picture = frames()[1]
    drawn = GhostOverlay(dim=0.3, min_width=1).annotate(picture, hand_made(), 1)
    assert np.array_equal(drawn[CELL:], picture[CELL:]), "token 2 stands here"
    merged, dropped = drawn[patch(0, 0)], drawn[patch(0, 1)]
    assert merged.max() < 0.31 * 251 and not (merged == HATCH).all(axis=-1).any()
    hatched = (dropped == HATCH).all(axis=-1)
    assert 0.05 < hatched.mean() < 0.4
    rest = dropped[~hatched]
    assert (rest.max(axis=-1) == rest.min(axis=-1)).all() and rest.max() <= DROPPED_DIM * 251 + 1
    assert np.array_equal(GhostOverlay(min_width=1).annotate(frames()[0], hand_made(), 0), frames()[0])


def test_chains_are_tokens_of_more_than_one_frame() -> None:
    for frame, others in ((0, [(1, 1)]), (1, [(0, 1), (1, 0), (1, 1)])):
        picture = frames()[frame]
        drawn = ChainOverlay(min_width=1).annotate(picture, hand_made(), frame)
        assert all(np.array_equal(drawn[patch(*at)], picture[patch(*at)]) for at in others)
        assert tuple(drawn[1, 1]) == rgb(CHAINS[0]), "the line inside the seam"


def test_heat_counts_the_patches_of_a_token_and_hatches_what_is_gone() -> None:
    drawn = HeatOverlay(opacity=1.0, min_width=1).annotate(frames()[1], hand_made(), 1)
    four, two = drawn[5, 5].astype(int).sum(), drawn[CELL + 5, 5].astype(int).sum()
    assert four > two > 0 and (drawn[patch(0, 1)] == HATCH).all(axis=-1).any()
    assert not (drawn[patch(0, 0)] == HATCH).all(axis=-1).any()


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    coarse = torch.randn(1, 2, 3, 16, generator=generator).repeat(5, 1, 1, 1)
    smooth = coarse.repeat_interleave(4, 1).repeat_interleave(4, 2)
    return smooth + 0.4 * torch.randn(5, 8, 12, 16, generator=generator)  # [T, H, W, C]


@pytest.fixture(scope="module", params=ON_TOKENS)
def plan(request: pytest.FixtureRequest, tokens: torch.Tensor) -> Plan:
    return RunSettings.of(request.param, retention=0.4).plan(tokens, None)


def test_every_method_is_drawn_everywhere(plan: Plan) -> None:
    pictures = noise_frames(64, 96, 5)
    overlays = [QuadtreeOverlay(), GhostOverlay(), ChainOverlay(), HeatOverlay(), ChainOverlay(highlight=[0])]
    for overlay in overlays:
        assert overlay.annotate(pictures[4], plan, 4).shape == (213, 320, 3)
    assert len(list(render_video(pictures, plan, GhostOverlay()))) == 5
    figure = merge_figure(pictures, plan, [0, 4])
    assert f"{plan.retention:.1%} kept" in figure.get_suptitle()
    assert list(retention_per_frame(plan).data[0].y) == plan.tokens_per_frame.tolist()


def test_hatching_covers_exactly_what_was_dropped(plan: Plan) -> None:
    gray = np.full((8 * CELL, 12 * CELL, 3), 200, np.uint8)
    for frame in range(5):
        drawn = GhostOverlay(min_width=1).annotate(gray, plan, frame)
        hatched = (drawn == HATCH).all(axis=-1).reshape(8, CELL, 12, CELL).any(axis=(1, 3))
        assert np.array_equal(hatched, (plan.member_of[frame] < 0).numpy())


def test_the_json_of_any_plan_rebuilds_its_tokens(plan: Plan, tokens: torch.Tensor) -> None:
    found = json.loads(json.dumps(plan_dict(plan), allow_nan=False))
    assert found["method"] == plan.method.name and found["grid"] == [5, 8, 12]
    assert found["tokens"] == {"all": 480, "kept": plan.num_tokens}
    flat, made = tokens.reshape(480, -1).double(), torch.zeros(plan.num_tokens, 16, dtype=torch.float64)
    for patch_at, (token, share) in enumerate(zip(found["member_of"], found["shares"], strict=True)):
        if token >= 0:
            made[token] += share * flat[patch_at]
    torch.testing.assert_close(made.float(), plan.apply(tokens).tokens, rtol=1e-4, atol=1e-5)
    gone = [patch_at for patch_at, token in enumerate(found["member_of"]) if token < 0]
    assert found["patches_dropped"] == len(gone) == 480 - sum(found["patch_counts"])
    corners = [(t * 8 + y) * 12 + x for t, y, x, *_ in found["boxes"]]
    assert found["places"] == plan.places.tolist() == corners


@pytest.mark.parametrize(
    ("name", "knobs", "words"),
    [
        ("sttm", {"tau_spatial": 0.5, "tau_temporal": 0.75}, "τ_S 0.5   τ_T 0.75   paper rules"),
        ("dycoke", {"ratio": 0.7, "rules": "as_released"}, "DyCoke   ratio 0.7   as released"),
        ("random", {"retention": 0.3}, "Random tokens   seed 0"),
    ],
)
def test_captions_name_method_and_knobs(name: str, knobs: dict, words: str, tokens: torch.Tensor) -> None:
    assert plan_settings(make_method(name, **knobs).plan(tokens)) == words


@pytest.fixture
def render(monkeypatch: pytest.MonkeyPatch) -> Callable:
    llm = VideoLLM.load(str(SHIPPED_MODEL), device="cpu")
    monkeypatch.setattr(VideoLLM, "load", lambda path, **options: llm)

    def call(*arguments) -> VideoLLM:
        assert main(["render", *map(str, arguments)]) == 0
        return llm

    return call


def test_a_shell_draws_any_method(render: Callable, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    video, out = write_mp4(noise_frames(64, 64, 3), tmp_path / "clip.mp4", 2), tmp_path / "sheet.png"
    llm = render(video, "--out", out, "--num-frames", 3, "--overlay", "ghost", "--method", "evs", "--retention", 0.5)
    clip = VideoClip.open(video, 3)
    plan = llm.encode(clip).plan(RunSettings.of("evs", retention=0.5))
    assert plan.num_dropped > 0 and f"({plan.num_tokens} of {plan.num_patches} tokens)" in capsys.readouterr().out
    wanted = render_strip(clip.frames, plan, GhostOverlay(), 4, times=clip.times)
    assert np.array_equal(np.asarray(Image.open(out)), wanted)


@pytest.mark.parametrize(("method", "layer"), [("fastv", 2), ("downsample", 0)])
def test_a_method_that_has_to_run_is_drawn_from_its_run(
    render: Callable, tmp_path: Path, method: str, layer: int
) -> None:
    video, out = write_mp4(noise_frames(64, 64, 3), tmp_path / "clip.mp4", 2), tmp_path / "sheet.png"
    question = "What code is shown?"
    given = ["--num-frames", 3, "--overlay", "ghost", "--method", method, "--retention", 0.3]
    llm = render(video, "--out", out, *given, "--question", question)
    clip = VideoClip.open(video, 3)
    encoded = llm.encode(clip, merge_layer=layer)
    settings = RunSettings.of(method, retention=0.3)
    plan = llm.timed_prefill(encoded, llm.fitted(encoded, settings, question), question).plan
    wanted = render_strip(clip.frames, plan, GhostOverlay(), 4, times=clip.times)
    assert np.array_equal(np.asarray(Image.open(out)), wanted)


def test_a_method_that_reads_the_question_asks_for_one(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["render", "none.mp4", "--out", str(tmp_path / "a.png"), "--method", "fastv"]) == 2
    assert capsys.readouterr().err == "FastV keeps what the question asks for; give --question.\n"


def test_a_notebook_shows_what_any_method_left(plan: Plan, tokens: torch.Tensor) -> None:
    pictures = noise_frames(64, 96, 5)
    page = inspect(tokens, pictures, plan=plan).page
    if plan.method.name == "sttm":
        begins = {"tauSpatial": plan.tau_spatial, "tauTemporal": plan.tau_temporal, "rules": plan.rules}
        assert page == inspect(tokens, pictures, settings=begins).page
        return
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(page.split("base64,")[1].split('"')[0]))))
    wanted = render_strip(pictures, plan, Mixed([GhostOverlay(), QuadtreeOverlay()]), 4)
    assert np.array_equal(shown, wanted) and f"{plan.method.title}: {plan.retention:.1%} kept" in page
    with pytest.raises(ValueError, match="the plan is for"):
        inspect(tokens[1:], pictures[1:], plan=plan)
