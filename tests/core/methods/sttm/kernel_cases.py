"""The Triton kernels against PyTorch: on the GPU if there is one, else in Triton's interpreter on the CPU.

Run by `test_kernels.py` in a process of its own: the interpreter is chosen when Triton is imported.
"""

from __future__ import annotations

import pytest
import torch

from sttm_core import Quadtree, SimilarityTables, merge_tokens, similarity_tables
from sttm_core.method import pool_members
from sttm_core.methods.sttm import dispatch, kernels
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


def order_of(token: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows of `pool_members` that weigh alike."""
    nodes = torch.zeros_like(token)
    return kernels.sort_members(token, nodes, nodes[:1], nodes[:1], None, count)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [1, 130])
def test_pooling_takes_weighted_means_of_the_members(dtype, channels):
    rows = random_frames(1, 90, channels, dtype)[0]
    token = torch.randint(0, 7, (90,), generator=torch.Generator().manual_seed(1)).to(DEVICE)
    token[:7] = torch.arange(7)
    order, _, starts = order_of(token, 7)
    weights = torch.rand(90, generator=torch.Generator().manual_seed(2)).to(DEVICE)
    pooled = kernels.pool_members(rows, order, weights[order], starts)
    assert pooled.dtype == dtype
    shares = weights / torch.zeros(7, device=DEVICE).index_add(0, token, weights)[token]
    expected = pool_members(rows, token, shares, 7).double()
    torch.testing.assert_close(pooled.double(), expected, rtol=ROUNDING[dtype], atol=ROUNDING[dtype])
    assert torch.equal(pooled, kernels.pool_members(rows, order, weights[order], starts))


def test_members_are_sorted_by_token_and_then_in_scan_order():
    token = torch.tensor([2, 0, 0, 1, 2, 0], device=DEVICE)
    order, weights, starts = order_of(token, 3)
    assert order.tolist() == [1, 2, 5, 3, 0, 4] and starts.tolist() == [0, 3, 4, 6] and weights.tolist() == [1] * 6


def long_chain_tokens(frames: int) -> torch.Tensor:
    """Patches that stay as they are through all frames, each at a right angle to the others."""
    return torch.eye(16, device=DEVICE).view(1, 4, 4, 16).expand(frames, -1, -1, -1).contiguous()


def test_chains_through_many_frames_get_their_first_node(monkeypatch):
    use_kernels(monkeypatch, True)
    frames = 300 if HAS_GPU else 12
    merged = merge_tokens(long_chain_tokens(frames), 0.9, 0.9)
    assert merged.boxes[:, 0].tolist() == [0] * 16 and merged.patch_counts.tolist() == [frames] * 16
    assert torch.equal(merged.tokens, long_chain_tokens(1).view(16, 16))


def random_tables(seed: int, tree: Quadtree, frames: int) -> SimilarityTables:
    """Cosines that belong to no features: many chains that fork and meet again."""
    draw = torch.Generator().manual_seed(seed)
    minima = torch.rand(frames, tree.num_internal, generator=draw)
    pairs = torch.rand(frames - 1, len(tree.pairs), generator=draw)
    return SimilarityTables(tree, minima, minima.flip(0), pairs)


@pytest.mark.parametrize("rules", naive.RULES)
@pytest.mark.parametrize("grid", [(14, 14, 1), (14, 14, 0), (9, 11, 0), (1, 6, 1), (27, 13, 0)])
@pytest.mark.parametrize("taus", [(0.3, 0.5), (0.6, 0.2), (0.5, 0.9), (2.0, 2.0), (0.5, 0.0), (-1.0, 0.1)])
def test_plans_are_equal_array_by_array(monkeypatch, grid, taus, rules):
    tables = random_tables(len(grid), Quadtree(*grid), frames=40 if HAS_GPU else 4)
    use_kernels(monkeypatch, False)
    expected = tables.plan(*taus, rules=rules)
    use_kernels(monkeypatch, True)
    plan = tables.to(DEVICE).plan(*taus, rules=rules)
    for name, value in vars(expected).items():
        if isinstance(value, torch.Tensor):
            found = getattr(plan, name)
            assert found.dtype == value.dtype and torch.equal(found.cpu(), value), name


def test_a_single_frame_has_no_links(monkeypatch):
    use_kernels(monkeypatch, True)
    merged = merge_tokens(torch.ones(1, 14, 14, 8, device=DEVICE), 0.9, 0.9)
    assert len(merged.plan.links) == 0 and len(merged.tokens) == 16


@pytest.mark.parametrize("value", [float("nan"), -float("inf")])
def test_values_that_are_not_finite_are_found(monkeypatch, value):
    use_kernels(monkeypatch, True)
    tokens = torch.ones(2, 6, 6, 40, device=DEVICE)
    tokens[1, 5, 4, 39] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        similarity_tables(tokens)
    with pytest.raises(ValueError, match="NaN or infinite"):
        merge_tokens(tokens, 0.9, 0.9)


@pytest.mark.parametrize(
    ("dtype", "rules"), [*((dtype, "paper") for dtype in DTYPES), (torch.bfloat16, "as_released")], ids=str
)
def test_the_whole_line_gives_equal_results_on_odd_grids(monkeypatch, dtype, rules):
    tokens = torch.from_numpy(smooth_video(5, 3, 9, 11, 20)).to(DEVICE, dtype)
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
@pytest.mark.parametrize("weighting", naive.WEIGHTINGS)
def test_tables_are_equal_on_many_grids(monkeypatch, height, width, root_level, weighting):
    tree = Quadtree(height, width, root_level)
    tokens = torch.from_numpy(smooth_video(7, 3, height, width, 10)).to(DEVICE)
    use_kernels(monkeypatch, False)
    expected = similarity_tables(tokens, tree, weighting=weighting)
    use_kernels(monkeypatch, True)
    tables = similarity_tables(tokens, tree, weighting=weighting)
    assert max(tree.patch_counts) <= kernels.LARGEST_SIDE
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
@pytest.mark.parametrize("grid", [(14, 14), (27, 27), (20, 36)])
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
