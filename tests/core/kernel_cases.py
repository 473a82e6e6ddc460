"""The Triton kernels against PyTorch: on the GPU if there is one, else in Triton's interpreter on the CPU.

Run by `test_kernels.py` in a process of its own: the interpreter is chosen when Triton is imported.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sttm_core import Quadtree, dispatch, kernels, merge_tokens, similarity_tables
from sttm_core.components import smallest_labels
from sttm_core.merge import pool_members
from tests.core import naive
from tests.core.videos import safe_threshold, smooth_video

HAS_GPU = torch.cuda.is_available()
DEVICE = "cuda" if HAS_GPU else "cpu"
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
ROUNDING = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3, torch.float64: 1e-6}
GRIDS = ((4, 4, 1), (5, 7, 1), (14, 14, 1), (3, 20, 0), (1, 6, 1), (9, 11, 0))


def random_frames(count: int, patches: int, channels: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count * patches + channels)
    return torch.randn(count, patches, channels, generator=generator).to(DEVICE, dtype)


def use_kernels(monkeypatch, wanted: bool) -> None:
    monkeypatch.setattr(dispatch, "kernels_for", lambda tensor: kernels if wanted else None)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("height", "width", "root_level"), [(5, 7, 1), (14, 14, 1), (20, 24, 1)])
def test_gram_matrices_are_dot_products_within_and_between_frames(height, width, root_level, dtype):
    cells = torch.tensor(Quadtree(height, width, root_level).cell_patches, device=DEVICE)
    frames = random_frames(3, height * width, 70, dtype)
    within, between = kernels.gram_matrices(frames, cells)
    x = frames[:, cells].double()
    torch.testing.assert_close(within.double(), x @ x.mT, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(between.double(), x[:-1] @ x[1:].mT, rtol=1e-5, atol=1e-4)


def test_cells_larger_than_a_block_are_written_in_blocks():
    tree = Quadtree(20, 24, 0)
    cells = torch.tensor(tree.cell_patches, device=DEVICE)
    assert cells.shape[1] > kernels.MAX_DOT
    frames = random_frames(2, 480, 20)
    within, between = kernels.gram_matrices(frames, cells)
    x = frames[:, cells]
    torch.testing.assert_close(within, x @ x.mT, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(between, x[:1] @ x[1:].mT, rtol=1e-5, atol=1e-4)


def test_one_frame_has_no_next_one():
    frames, cells = random_frames(1, 16, 8), torch.arange(16, device=DEVICE).view(4, 4)
    within, between = kernels.gram_matrices(frames, cells)
    x = frames[:, cells]
    assert between.shape == (0, 4, 4, 4)
    torch.testing.assert_close(within, x @ x.mT, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [1, 130])
def test_pooling_adds_up_the_members(dtype, channels):
    rows = random_frames(1, 90, channels, dtype)[0]
    token = torch.randint(0, 7, (90,), generator=torch.Generator().manual_seed(1)).to(DEVICE)
    token[:7] = torch.arange(7)
    weights = torch.rand(90, generator=torch.Generator().manual_seed(2)).to(DEVICE)
    pooled = kernels.pool_rows(rows, token, weights, torch.bincount(token, minlength=7))
    assert pooled.dtype == dtype
    expected = pool_members(rows, token, weights, 7).double()
    torch.testing.assert_close(pooled.double(), expected, rtol=ROUNDING[dtype], atol=ROUNDING[dtype])
    assert torch.equal(pooled, kernels.pool_rows(rows, token, weights, torch.bincount(token, minlength=7)))


def as_tensors(links: list[tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(links, dtype=torch.int64, device=DEVICE).reshape(-1, 2).unbind(1)  # with gaps, as in plans


@pytest.mark.parametrize(
    ("links", "count"),
    [
        ([], 5),
        ([(0, 1)], 2),
        ([(i, i + 1) for i in range(299)], 300),
        ([(i, i + 1) for i in reversed(range(299))], 300),
        ([(0, 3), (1, 3), (2, 3), (1, 4), (0, 4)], 6),  # a loop through two frames
        ([(8, 9), (7, 9), (6, 8), (5, 7), (0, 6), (5, 6)], 10),
    ],
)
def test_chains_get_their_smallest_node(links, count):
    labels = kernels.chain_labels(*as_tensors(links), count)
    assert labels.tolist() == naive.true_labels(links, count)


@pytest.mark.parametrize("seed", range(3))
def test_random_chains_are_those_of_the_other_path(seed):
    drawn = np.random.default_rng(seed).integers(0, 500, size=(400, 2))
    first, second = as_tensors(np.sort(drawn, axis=1).tolist())
    expected = smallest_labels(first.cpu(), second.cpu(), 500)
    assert torch.equal(kernels.chain_labels(first, second, 500).cpu(), expected)


@pytest.mark.parametrize("rules", naive.RULES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_whole_line_gives_equal_results_on_odd_grids(monkeypatch, dtype, rules):
    tokens = torch.from_numpy(smooth_video(5, 4, 9, 11, 20)).to(DEVICE, dtype)
    use_kernels(monkeypatch, False)
    tables = similarity_tables(tokens)
    tau_s = safe_threshold(tables.split_minima(rules).cpu().numpy(), 0.93, margin=1e-4)
    tau_t = safe_threshold(tables.pair_cosines.cpu().numpy(), 0.95, margin=1e-4)
    expected = merge_tokens(tokens, tau_s, tau_t, rules=rules)
    use_kernels(monkeypatch, True)
    merged = merge_tokens(tokens, tau_s, tau_t, rules=rules)
    assert 1 < len(expected.tokens) < tokens.shape[0] * 99
    assert torch.equal(merged.boxes, expected.boxes) and torch.equal(merged.patch_counts, expected.patch_counts)
    torch.testing.assert_close(merged.tokens, expected.tokens, rtol=ROUNDING[dtype], atol=ROUNDING[dtype])


@pytest.mark.parametrize(("height", "width", "root_level"), GRIDS)
def test_tables_are_equal_on_many_grids(monkeypatch, height, width, root_level):
    tree = Quadtree(height, width, root_level)
    tokens = torch.from_numpy(smooth_video(7, 3, height, width, 10)).to(DEVICE)
    use_kernels(monkeypatch, False)
    expected = similarity_tables(tokens, tree)
    use_kernels(monkeypatch, True)
    tables = similarity_tables(tokens, tree)
    for name in ("child_min", "child_min_released", "pair_cosines"):
        torch.testing.assert_close(getattr(tables, name), getattr(expected, name), rtol=0, atol=2e-5)


def test_tokens_that_lie_otherwise_in_memory(monkeypatch):
    tokens = torch.from_numpy(smooth_video(2, 3, 6, 8, 12)).to(DEVICE)
    apart = tokens.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    use_kernels(monkeypatch, True)
    expected, merged = merge_tokens(tokens, 0.9, 0.9), merge_tokens(apart, 0.9, 0.9)
    assert torch.equal(merged.tokens, expected.tokens)


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", DTYPES[:3], ids=str)
@pytest.mark.parametrize("grid", [(14, 14), (27, 27), (20, 36), (64, 63)])
def test_large_videos_on_the_gpu(monkeypatch, grid, dtype):
    tokens = torch.from_numpy(smooth_video(11, 16, *grid, 256)).to(DEVICE, dtype)
    use_kernels(monkeypatch, False)
    tables = similarity_tables(tokens)
    taus = (
        safe_threshold(tables.child_min.cpu().numpy(), 0.93, margin=1e-5),
        safe_threshold(tables.pair_cosines.cpu().numpy(), 0.95, margin=1e-5),
    )
    expected = merge_tokens(tokens, *taus)
    use_kernels(monkeypatch, True)
    merged = merge_tokens(tokens, *taus)
    assert torch.equal(merged.boxes, expected.boxes) and torch.equal(merged.patch_counts, expected.patch_counts)
    torch.testing.assert_close(merged.tokens, expected.tokens, rtol=ROUNDING[dtype], atol=ROUNDING[dtype])


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA device")
def test_kernels_are_chosen_for_cuda_tensors():
    assert dispatch.kernels_for(torch.zeros(1, device="cuda")) is kernels
