"""The few words under every picture: a time, a frame's kept tokens, the plan's numbers."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sttm_core.method import Plan

RULE_NAMES = {"paper": "paper rules", "as_released": "as released"}
STAGE_NAMES = {
    "decode": "decode",
    "vision": "vision encoder",
    "merge": "merge",
    "prefill": "prefill",
    "first_token": "first token",
}


def clock(seconds: float) -> str:
    """``75.52`` -> ``"1:15.5"``."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths % 600 // 10:02d}.{tenths % 10}"


def duration(seconds: float) -> str:
    """A measured time with the precision that it deserves: ``"1.36 s"``, ``"43 ms"``, ``"0.8 ms"``."""
    if seconds >= 0.9995:
        return f"{seconds:.2f} s" if seconds < 99.995 else f"{seconds:.0f} s"
    milliseconds = seconds * 1e3
    return f"{milliseconds:.0f} ms" if milliseconds >= 9.95 or milliseconds == 0 else f"{milliseconds:.1f} ms"


def frame_name(frame_index: int, times=None) -> str:
    """``"frame 7, 0:03.5"``; frames are counted from 1 for people."""
    name = f"frame {frame_index + 1}"
    return name if times is None else f"{name}, {clock(float(times[frame_index]))}"


def plan_summary(plan: Plan) -> str:
    """``"22.4% kept   702 / 3136 tokens"``."""
    return f"{plan.retention:.1%} kept   {plan.num_tokens} / {plan.num_patches} tokens"


def plan_settings(plan: Plan) -> str:
    """``"τ_S 0.85   τ_T 0.65   paper rules"``; of other methods ``"DyCoke   ratio 0.7   paper rules"``."""
    knobs = {name: value for name, value in asdict(plan.method).items() if value is not None and name != "retention"}
    rules = [RULE_NAMES[knobs.pop("rules")]] if "rules" in knobs else []
    if plan.method.name == "sttm":
        knobs = {"τ_S": knobs["tau_spatial"], "τ_T": knobs["tau_temporal"]}
    title = [] if plan.method.name == "sttm" else [plan.method.title]
    words = [f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in knobs.items()]
    return "   ".join([*title, *words, *rules])


def check_times(times, count: int):
    """``times`` unless there is not one for each frame (ValueError); None stays None."""
    if times is not None and len(times) != count:
        raise ValueError(f"times must hold one time for each of the {count} frames, got {len(times)}.")
    return times
