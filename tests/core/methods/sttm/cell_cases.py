"""Cells of more than 64 patches: the Triton kernels against PyTorch and the oracle, as `kernel_cases.py`."""

from __future__ import annotations

import pytest
import torch

from benchmarks import merge_tuning
from sttm_core import Quadtree, merge_tokens, similarity_tables
from sttm_core.methods.sttm import dispatch, kernels, kernels_cells
from tests.core import naive
from tests.core.videos import safe_threshold

HAS_GPU = torch.cuda.is_available()
DEVICE = "cuda" if HAS_GPU else "cpu"
FULL_SIZE = ((24, 24, 0), (27, 27, 0), (20, 36, 0), (54, 72, 1), (64, 63, 0), (64, 64, 0), (64, 64, 1))
TABLES = ("child_min", "child_min_released", "pair_cosines")
on_a_gpu = pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA device")


@pytest.fixture
def torch_path(monkeypatch):
    """Calls the function that it gets without the kernels, everything else runs with them."""

    def call(work, *args, **kwargs):
        with monkeypatch.context() as patch:
            patch.setattr(dispatch, "kernels_for", lambda tensor: None)
            return work(*args, **kwargs)

    monkeypatch.setattr(dispatch, "kernels_for", lambda tensor: kernels)
    return call


def noisy_video(frames: int, tree: Quadtree, channels: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Noise around a common feature: cosines of coarse and fine nodes differ much, no two patches are alike."""
    draw = torch.Generator().manual_seed(3)
    common = torch.randn(channels, generator=draw)
    noise = torch.randn(frames, tree.height, tree.width, channels, generator=draw)
    return (0.5 * common + noise).to(DEVICE, dtype)


def flat_and_noisy_frames(tree: Quadtree, channels: int) -> torch.Tensor:
    """Three frames: one feature all over, that feature with noise, again the one feature."""
    video = noisy_video(3, tree, channels)
    video[::2] = 0.01 * video[::2] + video[1].mean((0, 1))
    return video


@pytest.mark.parametrize(
    ("grid", "frames", "channels", "weighting", "split"),
    [
        ((17, 17, 0), 3, 7, "nodes", 3),  # one level above those of 64 patches
        ((17, 18, 0), 2, 300, "patches", 3),
        ((17, 17, 0), 2, 7, "nodes", 2),  # two levels above those of 16 patches
        ((33, 34, 0), 2, 5, "patches", 3),  # two levels above those of 64 patches
        ((17, 17, 0), 1, 7, "nodes", 3),
    ],
)
def test_all_cosines_of_large_cells(torch_path, grid, frames, channels, weighting, split):
    tree = Quadtree(*grid)
    assert max(tree.patch_counts) > kernels.LARGEST_SIDE and kernels_cells.fits(tree, split)
    tokens = noisy_video(frames, tree, channels)
    expected = torch_path(similarity_tables, tokens, tree, weighting=weighting)
    child_min, pair_cosines, not_finite = kernels_cells.cosine_tables(tokens.flatten(1, 2), tree, weighting, split)
    assert not not_finite.item()
    torch.testing.assert_close(child_min, expected.child_min, rtol=0, atol=3e-6)
    torch.testing.assert_close(pair_cosines, expected.pair_cosines, rtol=0, atol=3e-6)


def test_half_precision_gives_the_cosines_of_its_values(torch_path):
    tree = Quadtree(17, 17, 0)
    tokens = noisy_video(2, tree, 33, torch.bfloat16)
    expected, tables = torch_path(similarity_tables, tokens.float(), tree), similarity_tables(tokens, tree)
    for name in TABLES:
        torch.testing.assert_close(getattr(tables, name), getattr(expected, name), rtol=0, atol=3e-6)


@pytest.mark.parametrize("rules", naive.RULES)
def test_tokens_of_large_cells_are_those_of_the_oracle(torch_path, rules):
    tree = Quadtree(17, 18, 0)
    tokens = flat_and_noisy_frames(tree, 8)
    exact = torch_path(similarity_tables, tokens, tree)
    tau_s = safe_threshold(exact.split_minima(rules).cpu().numpy(), 0.98, margin=1e-4)
    tau_t = safe_threshold(exact.pair_cosines.cpu().numpy(), 0.4, margin=1e-4)
    expected = naive.merge(tokens.cpu().numpy(), tau_s, tau_t, 0, rules)
    linked = [tuple(expected.kept[end][1].level for end in link) for link in expected.links]
    assert linked.count((4, 0)) > 10 and linked.count((0, 4)) > 10 and 4 < len(expected.tokens) < 3 * 306
    merged = merge_tokens(tokens, tau_s, tau_t, root_level=0, rules=rules)
    assert merged.boxes.tolist() == expected.boxes.tolist()
    assert merged.patch_counts.tolist() == expected.patch_counts.tolist()
    torch.testing.assert_close(merged.tokens.cpu(), torch.from_numpy(expected.tokens).float(), rtol=0, atol=5e-6)


def test_one_bad_value_in_a_large_cell_is_found(torch_path):
    tokens = torch.ones(1, 17, 17, 3, device=DEVICE)
    tokens[0, 16, 16, 2] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinite"):
        similarity_tables(tokens, Quadtree(17, 17, 0))


def test_cells_that_no_two_tiles_cover_are_left_to_pytorch(torch_path, monkeypatch):
    assert kernels_cells.fits(Quadtree(128, 128, 0)) and not kernels_cells.fits(Quadtree(129, 129, 0))
    monkeypatch.setattr(kernels_cells, "fits", lambda tree: False)
    monkeypatch.setattr(kernels_cells, "cosine_tables", lambda *args: pytest.fail("called"))
    assert (similarity_tables(torch.ones(1, 4, 4, 1, device=DEVICE), Quadtree(4, 4, 0)).child_min > 0.999).all()


def test_errors_of_settings_are_those_against_float64():
    tree = Quadtree(4, 6, 0)
    tokens = noisy_video(2, tree, 40)
    settings = kernels.GramSettings(32, 1, 2, "tf32x3")
    assert 0 <= merge_tuning.cosine_error(tokens, tree, merge_tuning.tables_of)(settings) < 3e-6
    error_of_split = merge_tuning.cosine_error(tokens, tree, merge_tuning.splits_of)
    assert 0 <= error_of_split(merge_tuning.Split(2)) < 3e-6
    tokens.mul_(torch.linspace(0, 1, 24, device=DEVICE).view(4, 6, 1)).add_(1)
    assert error_of_split(merge_tuning.Split(2)) > 0.1  # of tokens that are others by now


@pytest.mark.gpu
@on_a_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("grid", FULL_SIZE)
def test_large_grids_on_the_gpu(torch_path, grid, dtype):
    tree = Quadtree(*grid)
    tokens = noisy_video(6, tree, 520, dtype)
    expected, tables = torch_path(similarity_tables, tokens.float(), tree), similarity_tables(tokens, tree)
    again = similarity_tables(tokens, tree)
    for name in TABLES:
        torch.testing.assert_close(getattr(tables, name), getattr(expected, name), rtol=0, atol=2e-5)
        assert torch.equal(getattr(tables, name), getattr(again, name))


@pytest.mark.gpu
@on_a_gpu
def test_no_copy_of_the_features_is_made(torch_path):
    tree = Quadtree(64, 64, 1)
    tokens = noisy_video(16, tree, 1024, torch.bfloat16)
    similarity_tables(tokens, tree)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    tables = similarity_tables(tokens, tree)
    assert torch.cuda.max_memory_allocated() - before < tables.nbytes + tokens.nbytes / 10
