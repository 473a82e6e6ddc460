"""The vision encoders' Triton kernels against PyTorch: on the GPU if there is one, else in Triton's interpreter.

Run by `test_kernels.py` in a process of its own: the interpreter is chosen when Triton is imported.
"""

from __future__ import annotations

import pytest
import torch

from sttm_core.vision import kernels, operations
from tests.core.vision.test_layers import features, fresh

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
ROUNDING = {torch.float32: 2e-6, torch.float16: 2**-10, torch.bfloat16: 2**-7}  # of one step in each dtype
if DEVICE == "cpu":
    ROUNDING[torch.bfloat16] = 2**-5  # the interpreter cuts float32 off where a GPU rounds it, up to three times


def drawn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def by_torch(monkeypatch) -> None:
    monkeypatch.setattr(operations, "kernels_for", lambda tensor: None)


def assert_close(found: torch.Tensor, known: torch.Tensor) -> None:
    assert found.dtype == known.dtype and found.shape == known.shape
    rounding = ROUNDING[known.dtype]
    torch.testing.assert_close(found.float(), known.float(), rtol=rounding, atol=rounding / 4)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("heads, channels", [(2, 16), (3, 72), (16, 80)])
def test_heads_are_turned_where_they_are(monkeypatch, dtype, heads, channels):
    """In the first two thirds of rows that hold queries, keys and values; exactly as PyTorch does where it rounds."""
    by_torch(monkeypatch)
    whole, known = (drawn(5, 3 * heads * channels, dtype=dtype) for _ in range(2))
    cos, sin = drawn(5, channels, seed=1).cos(), drawn(5, channels, seed=2).sin()
    for of, turn in ((whole, kernels.turn_), (known, operations.turn_)):
        parts = of.view(5, 3, heads, channels)
        assert turn(parts[:, :2].flatten(1, 2), cos, sin).data_ptr() == of.data_ptr()
    assert_close(whole, known)
    assert torch.equal(whole, known) or (dtype == torch.bfloat16 and DEVICE == "cpu")
    values = 2 * heads * channels
    assert torch.equal(whole[:, values:], drawn(5, 3 * heads * channels, dtype=dtype)[:, values:])


def test_heads_apart_are_refused():
    with pytest.raises(ValueError, match="next to each other"):
        kernels.turn_(drawn(4, 6, 8)[:, ::2], drawn(4, 8), drawn(4, 8))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(7, 32), (2, 3, 1280), (1, 5)])
def test_rms_norm(monkeypatch, dtype, shape):
    by_torch(monkeypatch)
    rows, weight = drawn(*shape, dtype=dtype), drawn(shape[-1], dtype=dtype, seed=1)
    assert_close(kernels.rms_norm(rows, weight, 1e-6), operations.rms_norm(rows, weight, 1e-6))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(3, 7), (4, 3456)])
def test_activations(monkeypatch, dtype, shape):
    by_torch(monkeypatch)
    values, up = 4 * drawn(*shape, dtype=dtype), drawn(*shape, dtype=dtype, seed=1)
    assert_close(kernels.quick_gelu_(values.clone()), operations.quick_gelu_(values.clone()))
    assert_close(kernels.silu_times_(values.clone(), up), operations.silu_times_(values.clone(), up))


def test_large_values_stay_finite():
    values = torch.tensor([-500.0, -100.0, 0.0, 100.0, 500.0], device=DEVICE)
    assert kernels.silu_times_(values.clone(), torch.ones_like(values)).tolist() == [0, 0, 0, 100, 500]
    assert kernels.quick_gelu_(values.clone()).tolist() == [0, 0, 0, 100, 500]


@pytest.mark.parametrize("model_type", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_encoders_give_the_same_with_kernels(monkeypatch, model_type):
    """On a GPU also with GELU in the matrix product."""
    used = []
    monkeypatch.setattr(operations, "kernels_for", lambda tensor: used.append(tensor) or kernels)
    plain, llm = fresh(model_type)
    plain, llm.model = plain.to(DEVICE), llm.model.to(DEVICE)
    known = features(llm, plain)
    with llm.family.fast_vision(llm.model):
        found = features(llm, llm.model)
    assert len(used) >= 4 and (known - found).abs().max() < (1e-3 if DEVICE == "cuda" else 2e-5)
