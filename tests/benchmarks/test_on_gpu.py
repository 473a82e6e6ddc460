"""What runs differently on a GPU gives what it gives on a CPU. Skipped where there is none."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from benchmarks.merge_cases import drifting_video
from benchmarks.operations import operations
from benchmarks.shapes import SHAPES, random_model
from benchmarks.ttft import bench, synthetic_clip
from sttm_core import Quadtree
from sttm_core.decoder import attention_after_prefix
from sttm_core.host_to_device import frames_on
from sttm_core.methods.sttm.tiles import tile_side
from sttm_core.packed_attention import packed_attention
from sttm_core.vision import halve_bilinear

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
TINY = [name for name in SHAPES if name.startswith("tiny")]
CUDA, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.mark.parametrize("shape", [(1, 4, 5, 3), (9, 1080, 1920, 3), (300, 224, 224, 3)])
def test_frames_arrive_as_they_are(shape: tuple[int, ...]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for _ in range(2):  # pinned memory is used again
        assert torch.equal(frames_on(CUDA, frames).cpu(), frames_on(CPU, frames))


@pytest.mark.parametrize("name", TINY)
def test_preprocessed_pixels_are_the_exact_ones_within_rounding(name: str) -> None:
    """A GPU resizes in float32, rounds once and clips once; the reference is the same resize in float64, not rounded.

    The CPU's own pixels are no reference: it resizes bytes, rounded and clipped between rows and columns, which puts
    them up to 19 of 256 levels from the exact ones at the hard edges of this clip.
    """
    llm, shown = random_model(name, "cpu"), synthetic_clip(4, (240, 320))
    processor = llm.processor.video_processor
    processor.image_mean = processor.image_std = (0.5, 0.5, 0.5)  # black is -1 and white 1 in all channels
    text = llm.family.parts(llm.processor).head

    def inputs(frames: torch.Tensor) -> dict[str, torch.Tensor]:
        return llm.family.inputs(llm.processor, text, frames, shown.times, llm.frame_tokens)

    there, here = inputs(frames_on(CUDA, shown.frames)), inputs(frames_on(CPU, shown.frames).double())
    pixels, exact = there["pixel_values_videos"], here["pixel_values_videos"].clamp(-1, 1)
    assert pixels.device.type == CUDA.type and pixels.std() > 0.1
    level = 2 / 255
    # places in float32 are off by this share of the longer side; between a black and a white pixel that is 2 times it
    arithmetic = 2 * 320 * torch.finfo(torch.float32).eps
    assert arithmetic < level / 50  # the allowance is for sums, not for levels
    assert (pixels.cpu() - exact).abs().max() <= level / 2 + arithmetic
    assert torch.equal(here["input_ids"], there["input_ids"].cpu())


@pytest.mark.parametrize("lengths", [[64] * 50, [64, 32, 64, 16]])
def test_packed_attention_is_that_of_the_cpu(lengths: list[int]) -> None:
    parts = torch.randn(3, 1, 4, sum(lengths), 80)
    starts = torch.tensor([0, *lengths]).cumsum(0).int()
    here, _ = packed_attention(torch.nn.Module(), *parts, cu_seq_lens_q=starts)
    there, _ = packed_attention(torch.nn.Module(), *parts.cuda().bfloat16(), cu_seq_lens_q=starts.cuda())
    assert (here - there.float().cpu()).abs().max() < 0.05


@pytest.mark.parametrize("count, length", [(2, 3), (20, 25088), (70, 4001)])
def test_attention_after_a_prefix_is_that_of_the_cpu(count: int, length: int) -> None:
    query, (key, value) = torch.randn(1, 28, count, 128), torch.randn(2, 1, 4, length, 128)
    here, _ = attention_after_prefix(torch.nn.Module(), query, key, value)
    wide, _ = attention_after_prefix(torch.nn.Module(), query.cuda(), key.cuda(), value.cuda())
    assert (here - wide.cpu()).abs().max() < 1e-3
    there, _ = attention_after_prefix(torch.nn.Module(), *(part.cuda().bfloat16() for part in (query, key, value)))
    assert (here - there.float().cpu()).abs().max() < 0.05


@pytest.mark.parametrize("side", [27, 14])
def test_pooling_is_that_of_interpolate(side: int) -> None:
    grid = torch.randn(20, side, side, 64, device=CUDA)
    for made in (grid, grid.bfloat16()):
        known = torch.nn.functional.interpolate(
            made.float().permute(0, 3, 1, 2), size=[-(-side // 2)] * 2, mode="bilinear"
        )
        apart = (halve_bilinear(made).float() - known.permute(0, 2, 3, 1)).abs()
        assert apart.max() < (1e-5 if made.dtype == torch.float32 else 0.02)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("grid", [(14, 14), (20, 36)])
def test_cosines_are_exact_with_every_setting_that_is_tried(grid: tuple[int, int], dtype: torch.dtype) -> None:
    from benchmarks import merge_tuning as tuning  # needs Triton

    tree = Quadtree(*grid)
    tokens = drifting_video(3, *grid, 1000, CUDA).to(dtype)
    wide = dtype == torch.float32
    tried = {
        16: tuning.SMALL_WIDE_TILES if wide else tuning.SMALL_TILES,
        64: tuning.LARGE_WIDE_TILES if wide else tuning.LARGE_TILES,
    }[tile_side(tree.num_levels)]
    error = tuning.cosine_error(tokens, tree, tuning.tables_of)
    rows = [row for row in tuning.ranked(tried, error, error) if "error" not in row]
    assert len(rows) > len(tried) / 2  # the others want more shared memory than there is
    assert max(row["largest_error"] for row in rows) < 2e-5
    error = tuning.cosine_error(tokens, tree, tuning.splits_of)
    assert max(error(split) for split in tuning.SPLITS) < 2e-5


@pytest.mark.parametrize("name", TINY)
def test_the_benchmark_runs(name: str) -> None:
    llm, shown = random_model(name), synthetic_clip(6, SHAPES[name].clip_size)
    whole, merged = bench(llm, shown, [0.6], runs=1)
    assert merged.video_tokens < whole.video_tokens and merged.peak_bytes > 0
    assert len(operations(llm, partial(llm.encode, shown)).splitlines()) > 1
