"""Many visitors at once: every one asks, plans and inspects through the API of a running page, for a while.

python -m benchmarks.visitors --users 20 --seconds 150
"""

from __future__ import annotations

import json
import os
import platform
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import httpx
import typer
from gradio_client import Client

ROOT = Path(__file__).parents[1]
STARTS_WITHIN_S, SAMPLED_EVERY_S = 180, 1.0
FRAMES, RETENTIONS = (8, 16, 24), (0.1, 0.2, 0.3, 0.5)


@dataclass
class Log:
    """What happened: seconds of every request by endpoint, sentences of those that failed."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, endpoint: str, seconds: float, error: str = "") -> None:
        with self.lock:
            self.seconds[endpoint].append(seconds)
            if error:
                self.errors.append(f"{endpoint}: {error}")


def visit(url: str, until: float, number: int, log: Log) -> None:
    """One visitor: a client of its own, and one request after the other until the time is over."""
    rng, client = random.Random(number), Client(url, verbose=False)
    samples = client.predict(api_name="/samples")
    while time.perf_counter() < until:
        endpoint, arguments = request(rng, samples)
        started, error = time.perf_counter(), ""
        try:
            client.predict(**arguments, api_name=endpoint)
        except Exception as failure:  # whatever a visitor would see
            error = str(failure)
        log.add(endpoint, time.perf_counter() - started, error)


def request(rng: random.Random, samples: list[dict]) -> tuple[str, dict]:
    """An endpoint with its arguments: half of the visitors' requests are questions."""
    sample = rng.choice(samples)
    arguments = {"sample": sample["id"], "num_frames": rng.choice(FRAMES)}
    kind = rng.choice(("/ask", "/ask", "/plan", "/inspect"))
    if kind == "/ask":
        arguments["question"] = rng.choice(sample["questions"])
    if kind != "/inspect":
        arguments["retention"] = rng.choice(RETENTIONS)
    return kind, arguments


@contextmanager
def application(cache_gb: float) -> Iterator[tuple[str, int]]:
    """The page on the shipped model in a process of its own: its address and process number."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "app.py", "--port", str(port), "--cache-gb", str(cache_gb)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(url, process)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(30)


def wait_for(url: str, process: subprocess.Popen) -> None:
    """Until the page answers.

    Raises:
        RuntimeError: if its process ends before, or it takes longer than `STARTS_WITHIN_S`.
    """
    until = time.perf_counter() + STARTS_WITHIN_S
    while process.poll() is None and time.perf_counter() < until:
        with suppress(httpx.TransportError):
            httpx.get(url)
            return
        time.sleep(SAMPLED_EVERY_S)
    raise RuntimeError("the page did not start; run python app.py to see why.")


def resident_gb(process: int) -> float | None:
    """Memory that a process holds now; None where the system does not tell."""
    status = Path(f"/proc/{process}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1e6 for line in lines if line.startswith("VmRSS:")), None)


def measure(url: str, process: int, users: int, seconds: float) -> dict:
    """Let ``users`` visitors at a page for so long; figures by endpoint, errors, and the memory of its process."""
    log, until = Log(), time.perf_counter() + seconds
    memory: list[float] = []
    with ThreadPoolExecutor(users) as pool:
        visitors = [pool.submit(visit, url, until, number, log) for number in range(users)]
        while not all(visitor.done() for visitor in visitors):
            if (held := resident_gb(process)) is not None:
                memory.append(round(held, 3))
            time.sleep(SAMPLED_EVERY_S)
        for visitor in visitors:
            visitor.result()
    return {
        "users": users,
        "seconds": seconds,
        "requests": sum(map(len, log.seconds.values())),
        "errors": log.errors,
        "endpoints": {name: summary(taken) for name, taken in sorted(log.seconds.items())},
        "memory_gb": levels(memory),
    }


def levels(memory: list[float]) -> dict[str, float] | None:
    """First, median, last and highest of what a process held; None where the system did not tell."""
    if not memory:
        return None
    return {
        "first": memory[0], "median": statistics.median(memory), "last": memory[-1], "highest": max(memory),
    }  # fmt: skip


def summary(taken: list[float]) -> dict:
    """Count, median and 95th percentile of seconds."""
    ranked = sorted(taken)
    return {
        "requests": len(ranked),
        "p50_s": round(statistics.median(ranked), 3),
        "p95_s": round(ranked[min(len(ranked) - 1, int(0.95 * len(ranked)))], 3),
    }


def main(
    users: Annotated[int, typer.Option(min=1, help="Visitors at the same time.")] = 20,
    seconds: Annotated[float, typer.Option(min=1, help="For how long each goes on asking.")] = 150,
    cache_gb: Annotated[float, typer.Option(min=0.1, help="As of app.py.")] = 4.0,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Start the page on the shipped model and let many visitors at it."""
    with application(cache_gb) as (url, process):
        found = measure(url, process, users, seconds)
    found["machine"] = {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    print(f"{found['requests']} requests of {users} visitors, {len(found['errors'])} errors")
    for name, row in found["endpoints"].items():
        print(f"{name:9} {row['requests']:5d} requests, p50 {row['p50_s']:.2f} s, p95 {row['p95_s']:.2f} s")
    if found["memory_gb"]:
        print("memory of the page, GB: " + ", ".join(f"{name} {held:.2f}" for name, held in found["memory_gb"].items()))
    for sentence in found["errors"][:5]:
        print(sentence)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    raise typer.Exit(int(bool(found["errors"])))


if __name__ == "__main__":
    typer.run(main)
