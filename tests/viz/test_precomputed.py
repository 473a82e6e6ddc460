"""Tables that ship: those of the shipped model, and never those of another one."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch

from sttm_core.advice import SHIPPED_MODEL
from sttm_core.engine import VideoLLM
from sttm_core.settings import RunSettings
from viz.precomputed import FOLDER, Precomputed, file_hash, fingerprint, same_tables, save
from viz.samples import load_samples
from viz.studio import Studio

STALE = "the model or a clip has changed: run `python -m viz.precomputed`"


@pytest.fixture(scope="module")
def llm() -> VideoLLM:
    return VideoLLM.load(str(SHIPPED_MODEL), device="cpu")


def test_every_sample_ships_with_tables_of_the_shipped_model(llm):
    precomputed = Precomputed(llm)
    for name, sample in load_samples().items():
        assert precomputed.get(name, file_hash(sample.path), sample.num_frames), f"{name}: {STALE}"
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) < 4_000_000


def test_what_ships_is_what_the_model_makes_now(llm, tmp_path):
    name, sample = next(iter(load_samples().items()))
    save(llm, sample, tmp_path)
    found = Precomputed(llm, tmp_path).get(name, file_hash(sample.path), sample.num_frames)
    ready = Precomputed(llm).get(name, file_hash(sample.path), sample.num_frames)
    assert same_tables(found.data, ready.data), STALE
    moved = replace(ready.data.tables, pair_cosines=ready.data.tables.pair_cosines + 1e-2)
    assert not same_tables(found.data, replace(ready.data, tables=moved))


def test_another_model_video_layer_or_number_of_frames_finds_nothing(llm, tmp_path):
    sample = load_samples()["code-short"]
    folder = tmp_path / "copies"
    shutil.copytree(FOLDER / sample.id, folder / sample.id)
    precomputed, video = Precomputed(llm, folder), file_hash(sample.path)
    assert precomputed.get(sample.id, video, 16)
    assert not precomputed.get(sample.id, "0" * 64, 16)
    assert not precomputed.get(sample.id, video, 8)
    assert not precomputed.get(sample.id, video, 16, merge_layer=1)
    assert not precomputed.get(sample.id, video, 16, root_level=0)
    assert not precomputed.get("missing", video, 16)
    before = fingerprint(llm)
    weight = next(iter(llm.model.parameters()))
    with torch.no_grad():
        weight.mul_(1.001)
    try:
        assert fingerprint(llm) != before
        assert not Precomputed(llm, folder).get(sample.id, video, 16)
    finally:
        with torch.no_grad():
            weight.div_(1.001)


def test_a_sample_opens_without_decoding_or_encoding(llm, monkeypatch):
    studio = Studio(llm, precomputed=Precomputed(llm))
    monkeypatch.setattr("viz.studio.VideoClip.open", lambda *a, **k: pytest.fail("decoded"))
    monkeypatch.setattr(llm, "encode", lambda *a, **k: pytest.fail("encoded"))
    ref = studio.open_sample("code-short")
    settings = RunSettings.of(tau_spatial=0.95, tau_temporal=0.97, retention=0.3)
    data = studio.inspector_data(ref, settings)
    assert (ref.num_frames, data.num_frames, data.title) == (16, 16, "A code for one second")
    assert data.plan(settings).retention <= 0.3
    assert data.needles
