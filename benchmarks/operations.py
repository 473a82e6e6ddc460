"""Which operations take the time of a piece of work, and how busy the device is with them."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from sttm_core.engine import VideoLLM

TOP_OPERATIONS = 12


def operations(llm: VideoLLM, work: Callable[[], None]) -> str:
    """The operations of ``work`` that take most time on the model's device, as lines of text."""
    on_gpu = llm.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    llm.synchronize()
    with profile(activities=activities, acc_events=True, record_shapes=True) as profiled:
        started = time.perf_counter()
        work()
        llm.synchronize()
        passed = time.perf_counter() - started
    spent = [
        (event.self_device_time_total if on_gpu else event.self_cpu_time_total, event.count, event.key)
        for event in profiled.key_averages()
        if not on_gpu or event.device_type == torch.autograd.DeviceType.CUDA
    ]  # microseconds
    total = sum(time_us for time_us, _, _ in spent)
    device = llm.device.type
    lines = [f"{passed * 1e3:.0f} ms under the profiler, {total / 1e3:.0f} ms of them in operations on {device}"]
    for time_us, count, name in sorted(spent, reverse=True)[:TOP_OPERATIONS]:
        lines.append(f"{time_us / 1e3:9.2f} ms {time_us / max(total, 1e-9):6.1%} {count:6d} x {name[:90]}")
    return "\n".join(lines + (_by_shape(profiled) if on_gpu else []))


def _by_shape(profiled: profile) -> list[str]:
    """Whose kernels those are: operations with the shapes of what they worked on."""
    asked = [event for event in profiled.key_averages(group_by_input_shape=True) if event.key.startswith("aten::")]
    asked.sort(key=lambda event: event.self_device_time_total, reverse=True)
    lines = []
    for event in asked[: 2 * TOP_OPERATIONS]:
        shapes = ", ".join("x".join(map(str, shape)) for shape in event.input_shapes if shape)
        spent = event.self_device_time_total / 1e3
        lines.append(f"{spent:9.2f} ms {event.count:13d} x {event.key} {shapes[:90]}")
    return lines
