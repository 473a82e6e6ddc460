"""Runs the cases of the vision kernels on the GPU, or in Triton's interpreter. Compiles them without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from sttm_core.vision import operations
from tests.core.methods.sttm.test_kernels import compiled

HAS_GPU = torch.cuda.is_available()
HAS_TRITON = find_spec("triton") is not None
needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="needs Triton, which is made for Linux")


def run_cases(**environment: str) -> str:
    cases = Path(__file__).with_name("kernel_cases.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(cases)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(command, env=environment, cwd=cases.parents[3], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


@needs_triton
@pytest.mark.skipif(HAS_GPU, reason="the same cases run on the GPU")
def test_kernels_in_the_interpreter():
    assert " passed" in run_cases(TRITON_INTERPRET="1")


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA device")
def test_kernels_on_the_gpu():
    assert "skipped" not in run_cases()


@needs_triton
@pytest.mark.parametrize("kind", ["bf16", "fp32"])
@pytest.mark.parametrize(
    ("name", "constants", "pointers", "warps"),
    [
        ("_turn_kernel", {"HEADS": 32, "HALF": 40, "HEAD_BLOCK": 32, "BLOCK": 64}, "heads cos:*fp32 sin:*fp32", 4),
        ("_turn_kernel", {"HEADS": 32, "HALF": 36, "HEAD_BLOCK": 32, "BLOCK": 64}, "heads cos:*fp32 sin:*fp32", 4),
        ("_rms_kernel", {"BLOCK": 2048}, "rows weight made epsilon:fp32", 4),
        ("_silu_kernel", {"BLOCK": 4096}, "gate up", 8),
        ("_quick_gelu_kernel", {"BLOCK": 4096}, "values", 8),
    ],
)
def test_kernels_compile_for_hopper(kind, name, constants, pointers, warps):
    from sttm_core.vision import kernels

    of = " ".join(part if ":" in part else f"{part}:*{kind}" for part in pointers.split())
    built = compiled(kernels, name, constants, of, warps=warps)
    assert "ld.global" in built.asm["ptx"] and ".local" not in built.asm["ptx"]  # nothing spills


def test_without_a_gpu_or_triton_pytorch_does_it(monkeypatch):
    assert operations.kernels_for(torch.zeros(1)) is None
    operations._kernels.cache_clear()
    monkeypatch.setattr(operations, "find_spec", lambda name: None)
    assert operations._kernels() is None
    operations._kernels.cache_clear()
