"""What every method costs from features to the tokens that are left, beside STTM: time and memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from sttm_core.methods import METHODS
from sttm_core.settings import RunSettings

ON_TOKENS = tuple(name for name, method in METHODS.items() if method.acts_on == "tokens")
Timer = Callable[[Callable[[torch.Tensor], object]], dict[str, float]]
Memory = Callable[[Callable[[], object]], float | None]


def costs(tokens: torch.Tensor, names: Sequence[str], retention: float, timer: Timer, memory: Memory) -> dict[str, Any]:
    """A line a method, STTM always the first: ``median_ms`` and so on, ``extra_mib``, what it kept, ``to_sttm``.

    The knobs for the budget are found before; measured is what a run with them does, from features to averaged tokens.

    Args:
        tokens: ``[T, H, W, C]``.
        timer: milliseconds of a function of the features; ``memory``: MiB that a call needs at the peak.
    """
    found: dict[str, Any] = {}
    for name in dict.fromkeys(("sttm", *names)):
        method = RunSettings.of(name, retention=retention).plan(tokens, None).method

        def work(features: torch.Tensor, method=method) -> torch.Tensor:
            return method.plan(features).apply(features).tokens

        kept = len(work(tokens)) / tokens[..., 0].numel()
        line = timer(work) | {"extra_mib": memory(lambda work=work: work(tokens)), "retention": kept}
        found[name] = line | {"to_sttm": line["median_ms"] / found.get("sttm", line)["median_ms"]}
    return found


def cost_table(found: dict[str, Any]) -> str:
    """Markdown, a line a method."""
    heads = ("method", "kept", "median", "fastest", "slowest", "times STTM's", "extra memory")
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    for name, line in found.items():
        times = [f"{line[key]:.2f} ms" for key in ("median_ms", "min_ms", "max_ms")]
        extra = "-" if line["extra_mib"] is None else f"{line['extra_mib']:.0f} MiB"
        cells = [METHODS[name].title, f"{line['retention']:.1%}", *times, f"{line['to_sttm']:.2f}", extra]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
