"""Runs kernel_cases.py where it can: on the GPU, or in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from sttm_core import dispatch

HAS_GPU = torch.cuda.is_available()
HAS_TRITON = find_spec("triton") is not None
CASES = Path(__file__).with_name("kernel_cases.py")


def run_cases(**environment: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CASES)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    root = CASES.parents[2]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.skipif(not HAS_TRITON, reason="needs Triton, which is made for Linux")
@pytest.mark.skipif(HAS_GPU, reason="the same cases run on the GPU")
def test_kernels_in_the_interpreter():
    assert " passed" in run_cases(TRITON_INTERPRET="1")


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA device")
def test_kernels_on_the_gpu():
    assert "skipped" not in run_cases()


def compiled(name: str, constants: dict[str, object], pointers: dict[str, str], warps: int = 4, stages: int = 3):
    """Compile a kernel for compute capability 9.0; no GPU is needed for that."""
    from triton import compile as compile_kernel
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from sttm_core import kernels

    kernel = getattr(kernels, name)
    names = kernel.arg_names
    signature = {arg: "constexpr" if arg in constants else pointers.get(arg, "i32") for arg in names}
    values = {(names.index(arg),): value for arg, value in constants.items()}
    aligned = {(names.index(arg),): [["tt.divisibility", 16]] for arg in pointers}
    source = ASTSource(kernel, signature, values, aligned)
    return compile_kernel(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps, "num_stages": stages})


@pytest.mark.skipif(not HAS_TRITON, reason="needs Triton, which is made for Linux")
@pytest.mark.parametrize(
    ("dtype", "side", "channels", "stages", "instruction"),
    [("bf16", 16, 64, 4, "mma.sync"), ("bf16", 64, 64, 3, "wgmma"), ("fp32", 32, 32, 2, "fma.rn.f32")],
)
def test_the_gram_kernel_compiles_for_hopper(dtype, side, channels, stages, instruction):
    pointers = {"frames": f"*{dtype}", "cell_patches": "*i64", "within": "*fp32", "between": "*fp32"}
    strides = {"channels": "i32", "frame_stride": "i32", "patch_stride": "i32"}
    constants = {"SIDE": side, "CHANNELS": channels, "WIDEN": dtype == "fp32"}
    built = compiled("_gram_kernel", constants, pointers | strides, warps=1 if side == 16 else 4, stages=stages)
    assert instruction in built.asm["ptx"] and "cp.async" in built.asm["ptx"]
    assert built.metadata.shared <= 80 * 1024


@pytest.mark.skipif(not HAS_TRITON, reason="needs Triton, which is made for Linux")
def test_the_chain_kernels_compile_for_hopper():
    joined = compiled("_join_kernel", {"LINKS": 128}, {"first": "*i64", "second": "*i64", "labels": "*i64"})
    assert "atom" in joined.asm["ptx"]
    assert compiled("_follow_kernel", {"NODES": 128}, {"labels": "*i64", "found": "*i64"}).asm["cubin"]


def test_cpu_tensors_never_need_triton(monkeypatch):
    monkeypatch.setattr(dispatch, "_kernels", lambda: pytest.fail("imported"))
    assert dispatch.kernels_for(torch.zeros(1)) is None


def test_without_triton_pytorch_does_the_work(monkeypatch):
    monkeypatch.setattr(dispatch, "find_spec", lambda name: None)
    assert dispatch._kernels.__wrapped__() is None
