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


def test_cpu_tensors_never_need_triton(monkeypatch):
    monkeypatch.setattr(dispatch, "_kernels", lambda: pytest.fail("imported"))
    assert dispatch.kernels_for(torch.zeros(1)) is None


def test_without_triton_pytorch_does_the_work(monkeypatch):
    monkeypatch.setattr(dispatch, "find_spec", lambda name: None)
    assert dispatch._kernels.__wrapped__() is None
