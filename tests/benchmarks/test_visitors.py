"""Visitors of a page that counts what it is asked: every request is logged, errors in the words that a visitor sees."""

from __future__ import annotations

import os
import random

import gradio as gr
import pytest

from benchmarks.visitors import measure, request, summary

SAMPLES = [{"id": "one", "questions": ["What?", "Where?"]}, {"id": "two", "questions": ["Who?"]}]


def page(calls: list, fails: bool):
    def ask(sample: str = "", question: str = "", num_frames: int = 16, retention: float | None = None) -> dict:
        calls.append((sample, question))
        if fails:
            raise gr.Error("no memory for this")
        return {"question": question}

    def samples() -> list:
        return SAMPLES

    def plan(sample: str = "", num_frames: int = 16, retention: float | None = None) -> dict:
        return {"kept": 1}

    def inspect(sample: str = "", num_frames: int = 16) -> dict:
        return {"tables": 2}

    with gr.Blocks() as app:
        gr.api(samples, api_name="samples")
        gr.api(ask, api_name="ask")
        gr.api(plan, api_name="plan")
        gr.api(inspect, api_name="inspect")
    return app


@pytest.mark.parametrize("fails", [False, True])
def test_all_requests_are_counted_and_errors_are_told(fails):
    calls: list = []
    app = page(calls, fails)
    _, url, _ = app.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    try:
        found = measure(url, os.getpid(), users=3, seconds=2)
    finally:
        app.close()
    assert found["requests"] == sum(row["requests"] for row in found["endpoints"].values()) >= 3
    assert found["endpoints"]["/ask"]["requests"] == len(calls) > 0
    assert len(found["errors"]) == (len(calls) if fails else 0)
    assert all("no memory for this" in sentence for sentence in found["errors"])
    assert set(calls) <= {("one", "What?"), ("one", "Where?"), ("two", "Who?")}


def test_requests_ask_only_what_a_sample_suggests_and_an_endpoint_takes():
    rng = random.Random(0)
    for endpoint, arguments in (request(rng, SAMPLES) for _ in range(200)):
        asked = {sample["id"]: sample["questions"] for sample in SAMPLES}[arguments["sample"]]
        assert ("question" in arguments) == (endpoint == "/ask")
        assert arguments.get("question", asked[0]) in asked and ("retention" in arguments) == (endpoint != "/inspect")


def test_percentiles():
    assert summary([0.01 * n for n in range(100, 0, -1)]) == {"requests": 100, "p50_s": 0.505, "p95_s": 0.96}
