"""Runs the cases of the kernels where it can: on the GPU, or in Triton's interpreter. Compiles them without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from sttm_core.methods.sttm import dispatch

HAS_GPU = torch.cuda.is_available()
HAS_TRITON = find_spec("triton") is not None
CASES = ("kernel_cases.py", "cell_cases.py")


def run_cases(name: str, **environment: str) -> str:
    cases = Path(__file__).with_name(name)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(cases)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(command, env=environment, cwd=cases.parents[4], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.skipif(not HAS_TRITON, reason="needs Triton, which is made for Linux")
@pytest.mark.skipif(HAS_GPU, reason="the same cases run on the GPU")
@pytest.mark.parametrize("name", CASES)
def test_kernels_in_the_interpreter(name):
    assert " passed" in run_cases(name, TRITON_INTERPRET="1")


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA device")
@pytest.mark.parametrize("name", CASES)
def test_kernels_on_the_gpu(name):
    assert "skipped" not in run_cases(name)


ALIGNED = {"channels", "frame_stride", "patch_stride", "row_stride", "coarse_stride", "num_rows"}


def compiled(module, name: str, constants: dict[str, object], pointers: str, warps: int = 4, stages: int = 3):
    """Compile a kernel for compute capability 9.0; no GPU is needed for that."""
    from triton import compile as compile_kernel
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = getattr(module, name)
    kinds = dict(pair.split(":") for pair in pointers.split())
    of = {arg: "constexpr" if arg in constants else kinds.get(arg, "i32") for arg in kernel.arg_names}
    places = {arg: (kernel.arg_names.index(arg),) for arg in of}
    values = {places[arg]: value for arg, value in constants.items()}
    aligned = {places[arg]: [["tt.divisibility", 16]] for arg in of if arg in ALIGNED or of[arg].startswith("*")}
    source = ASTSource(kernel, of, values, aligned)
    return compile_kernel(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps, "num_stages": stages})


@pytest.mark.skipif(not HAS_TRITON, reason="needs Triton, which is made for Linux")
@pytest.mark.parametrize(
    ("dtype", "side", "precision", "instruction"),
    [
        ("bf16", 16, "ieee", "mma.sync"),
        ("bf16", 64, "ieee", "wgmma"),
        ("fp32", 16, "ieee", "fma.rn.f32"),
        ("fp32", 16, "tf32x3", "tf32.tf32.f32"),
    ],
)
def test_the_kernel_of_all_cosines_compiles_for_hopper(dtype, side, precision, instruction):
    from sttm_core.methods.sttm import kernels

    wide = dtype == "fp32"
    chosen = (kernels.WIDE_GRAM if wide else kernels.NARROW_GRAM)[side]
    constants = {"SIDE": side, "LEVELS": 3 if side == 16 else 4, "CHANNELS": chosen.channels, "WIDEN": wide}
    constants |= {"PRECISION": precision, "KEEP_LENGTHS": side == 64}
    built = compiled(
        kernels, "_cosine_kernel", constants, f"features:*{dtype} tile_rows:*i32 weights:*fp32 nodes:*i32 pairs:*i32 "
        "child_min:*fp32 pair_cosines:*fp32 not_finite:*i32 lengths:*fp32", chosen.warps, chosen.stages,
    )  # fmt: skip
    assert instruction in built.asm["ptx"] and "cp.async" in built.asm["ptx"]
    assert built.metadata.shared <= 80 * 1024


SMALL_KERNELS = {
    "_mean_kernel": "features:*bf16 tile_rows:*i32 weights:*fp32 means:*fp32 SIDE=64 ROWS=8 CHANNELS=256",
    "_ancestor_kernel": "frames:*bf16 patches:*i32 weights:*fp32 ancestors:*i32 pairs:*i32 coarse:*fp32 lengths:*fp32 "
    "pair_cosines:*fp32 SIDE=64 LEVELS=4 CHANNELS=64",
    "_border_kernel": "frames:*bf16 nodes:*i64 rows:*i64 weights:*fp32 minima:*fp32 ROWS=8 CHANNELS=256",
    "_order_kernel": "keys:*i32 order:*i64 node:*i64 node_ids:*i64 levels:*i64 level_weights:*fp32 weights:*fp32 "
    "starts:*i32 BY_LEVEL=1 ROWS=256",
    "_mark_kernel": "minima:*fp32 pair_cosines:*fp32 ancestors:*i64 top_left:*i64 pair_index:*i64 levels:*i8 tops:*i32 "
    "linked:*i8 labels:*i32 totals:*i32 not_finite:*i32 tau_s:fp32 tau_t:fp32 LEVELS=3 KINDS=3 CHECKED=1 "
    "PLACES=256",
    "_pool_kernel": "rows:*bf16 order:*i64 weights:*fp32 starts:*i32 pooled:*bf16 ROWS=4 CHANNELS=256 WIDE=fp32",
    "_join_kernel": "tops:*i32 linked:*i8 labels:*i32 PLACES=256",
    "_follow_kernel": "tops:*i32 linked:*i8 labels:*i32 found:*i32 counts:*i32 totals:*i32 KINDS=3 PLACES=256",
    "_rank_kernel": "levels:*i8 tops:*i32 linked:*i8 representatives:*i32 counts:*i32 ancestors:*i64 node_boxes:*i64 "
    "ranks:*i32 node_frames:*i64 node_ids:*i64 boxes:*i64 patch_counts:*i64 KINDS=3 BLOCKS=1024 PLACES=256",
    "_assign_kernel": "levels:*i8 tops:*i32 linked:*i8 representatives:*i32 ranks:*i32 pair_index:*i64 "
    "pair_cosines:*fp32 node_tokens:*i64 links:*i64 link_cosines:*fp32 patch_counts:*i64 node_of_patch:*i64 "
    "member_of:*i64 LEVELS=3 PLACES=256",
}


def constant(text: str) -> object:
    from triton import language

    return int(text) if text.isdigit() else getattr(language, {"fp32": "float32", "fp64": "float64"}[text])


@pytest.mark.skipif(not HAS_TRITON, reason="needs Triton, which is made for Linux")
def test_means_are_divided_exactly():
    from sttm_core.methods.sttm import kernels

    words = SMALL_KERNELS["_pool_kernel"].split()
    constants = {key: constant(value) for key, value in (word.split("=") for word in words if "=" in word)}
    pointers = " ".join(word for word in words if ":" in word)
    ptx = compiled(kernels, "_pool_kernel", constants, pointers, warps=1, stages=2).asm["ptx"]
    assert "div.rn.f32" in ptx and "div.full" not in ptx
    assert "bar.sync" not in ptx  # each thread adds up its own channels


@pytest.mark.skipif(not HAS_TRITON, reason="needs Triton, which is made for Linux")
@pytest.mark.parametrize("name", SMALL_KERNELS)
def test_the_small_kernels_compile_for_hopper(name):
    from sttm_core.methods.sttm import kernels, kernels_cells, kernels_plan

    words = SMALL_KERNELS[name].split()
    constants = {key: constant(value) for key, value in (word.split("=") for word in words if "=" in word)}
    module = next(module for module in (kernels, kernels_cells, kernels_plan) if hasattr(module, name))
    built = compiled(module, name, constants, " ".join(word for word in words if ":" in word))
    assert built.asm["cubin"]


def test_cpu_tensors_never_need_triton(monkeypatch):
    monkeypatch.setattr(dispatch, "_kernels", lambda: pytest.fail("imported"))
    assert dispatch.kernels_for(torch.zeros(1)) is None


def test_without_triton_pytorch_does_the_work(monkeypatch):
    monkeypatch.setattr(dispatch, "find_spec", lambda name: None)
    assert dispatch._kernels.__wrapped__() is None
