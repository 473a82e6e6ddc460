"""Steps in time whose pixels are those of the step before: their features are too, so they are encoded once.

That holds where nothing in an encoder looks from one step at another: a step is a frame, or a pair of frames that the
encoder joins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

REUSE = ("exact", "off")  # whether that is done


def repeated_steps(inputs: Mapping[str, torch.Tensor], count: int) -> torch.Tensor:
    """``[count]`` bool on the CPU: whether all pixels of a step equal those of the step before, in their dtype.

    Args:
        inputs: of a model; those named ``pixel_...`` are ``[T, ...]``, ``[1, T, ...]`` or ``[T * rows, C]``.
        count: T, steps in time.
    """
    repeated = torch.zeros(count, dtype=torch.bool)
    if count > 1:
        pixels = [_steps(value, count) for name, value in inputs.items() if name.startswith("pixel_")]
        alike = [(values[1:] == values[:-1]).flatten(1).all(1) for values in pixels]
        repeated[1:] = torch.stack(alike).all(0).cpu()
    return repeated


@contextmanager
def encoded_once(
    owner: nn.Module,
    method: str,
    repeated: torch.Tensor,
    closing: Callable[[int, int], int] = lambda rows, steps: 0,
) -> Iterator[None]:
    """Inside the `with`, ``owner``'s ``method`` encodes only the steps that are not ``repeated [T]``.

    It gives features of all steps: those of a repeated one are copies of the step's before.

    Args:
        method: takes tensors of T steps, and perhaps a grid ``[[T, H, W]]``; gives features ``[..., C]`` of steps in a
            row, or an output that holds some.
        closing: of so many rows of features of so many steps, how many stand behind the last step.
    """
    if not repeated.any():
        yield
        return
    original, count = getattr(owner, method), len(repeated)
    kept = (~repeated).nonzero().squeeze(1)
    source = (~repeated).cumsum(0) - 1  # of each step, among those kept

    def only_new(*args, **named):
        args = [_narrowed(value, count, kept) for value in args]
        made = original(*args, **{name: _narrowed(value, count, kept) for name, value in named.items()})
        if isinstance(made, torch.Tensor):
            return _spread(made, source, closing)
        for name in ("pooler_output", "deepstack_features"):
            if getattr(made, name, None) is not None:
                setattr(made, name, _spread(getattr(made, name), source, closing))
        return made

    setattr(owner, method, only_new)
    try:
        yield
    finally:
        delattr(owner, method)


def _steps(values: torch.Tensor, count: int) -> torch.Tensor:
    """``[T, ...]`` a view of what a model takes of T steps, more than one."""
    if len(values) == count:
        return values
    return values[0] if values.shape[:2] == (1, count) else values.unflatten(0, (count, -1))


def _narrowed(given: Any, count: int, kept: torch.Tensor) -> Any:
    """An argument for the steps ``kept`` alone, in the form that it has for ``count`` of them."""
    if not isinstance(given, torch.Tensor):
        return given
    if given.shape == (1, 3) and not given.is_floating_point():
        return given.new_tensor([[len(kept), *given[0, 1:].tolist()]])  # a grid
    chosen = _steps(given, count)[kept.to(given.device)]
    if len(given) == count:
        return chosen
    return chosen[None] if given.shape[:2] == (1, count) else chosen.flatten(0, 1)


def _spread(features: Any, source: torch.Tensor, closing: Callable[[int, int], int]) -> Any:
    """Features of all steps from those of the kept ones, wherever in lists and tuples they are."""
    if isinstance(features, (list, tuple)):
        return type(features)(_spread(part, source, closing) for part in features)
    rows = features.flatten(0, -2)  # [steps * rows a step + closing, C]
    count = int(source[-1]) + 1
    last = len(rows) - closing(len(rows), count)
    body, end = rows[:last], rows[last:]
    steps = body.unflatten(0, (count, -1))[source.to(rows.device)]  # [T, rows a step, C]
    if features.ndim == 3 and len(features) == count > 1:
        return steps  # [T, n, C], which callers flatten
    whole = torch.cat([steps.flatten(0, 1), end])
    return whole[None] if features.ndim == 3 else whole
