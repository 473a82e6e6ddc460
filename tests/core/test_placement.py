"""A model whose layers are spread over GPUs, or over memory and disk, answers as it does on one device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sttm_core import merge_tokens, thresholds_for_retention
from sttm_core.engine import EncodedVideo, VideoLLM
from sttm_core.methods import Downsample, FastV, FrameFusion
from sttm_core.methods.sttm.plan import RULES, MergePlan
from tests.core.tiny import clip, tiny
from tests.core.videos import smooth_video

FAMILIES = ("llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl", "smolvlm")
QUESTION = "What is it?"
THRESHOLDS = (0.8, 0.7)
TWO_GPUS = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA GPUs")


@pytest.fixture(scope="module", params=FAMILIES)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    tiny(request.param).model.save_pretrained(folder)
    tiny(request.param).processor.save_pretrained(folder)
    return folder


def weight_bytes(llm: VideoLLM) -> int:
    return sum(weight.nbytes for weight in llm.model.parameters())


def spread(folder: Path, offload_folder: Path, share: float, *devices: int | str) -> VideoLLM:
    """Loaded by ``device_map="auto"``, each device holding at most this share of the weights; the rest is on disk."""
    limit = int(share * weight_bytes(VideoLLM.load(str(folder), device="cpu", dtype="float32")))
    limits = dict.fromkeys(devices, limit)
    return VideoLLM.load(
        str(folder), dtype="float32", device_map="auto", max_memory=limits, offload_folder=str(offload_folder)
    )  # fmt: skip


def half(encoded: EncodedVideo) -> MergePlan:
    """A plan that merges about half of the tokens away."""
    found = thresholds_for_retention(encoded.tables, 0.5)
    plan = encoded.tables.plan(found.tau_spatial, found.tau_temporal)
    assert plan.retention < 0.6
    return plan


def answers(llm: VideoLLM) -> list[tuple[torch.Tensor, str]]:
    """Logits of the first token and the text, from all tokens, from merged ones, inside layers and of fewer pixels."""
    encoded, found = llm.encode(clip()), []
    for plan in (None, half(encoded)):
        prefix = llm.prefill(encoded, plan)
        logits = llm.first_token_logits(prefix, QUESTION).cpu()
        found.append((logits, llm.answer(prefix, QUESTION, max_new_tokens=5).text))
    for method in (FastV(ratio=0.7), FrameFusion(cost=0.5), Downsample(0.3)):
        prefix = llm.timed_prefill(encoded, method, QUESTION)
        logits = llm.first_token_logits(prefix, QUESTION).cpu()
        found.append((logits, llm.answer(prefix, QUESTION, max_new_tokens=5).text))
    return found


def assert_same(spread_out: VideoLLM, whole: VideoLLM) -> None:
    plans = [half(llm.encode(clip())).boxes.cpu() for llm in (spread_out, whole)]
    assert torch.equal(*plans)
    for (logits, text), (expected, expected_text) in zip(answers(spread_out), answers(whole), strict=True):
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
        assert text == expected_text


def test_weights_in_memory_and_on_disk(saved: Path, tmp_path: Path) -> None:
    offloaded = spread(saved, tmp_path, 0.6, "cpu")
    assert set(offloaded.model.hf_device_map.values()) == {"cpu", "disk"}
    assert_same(offloaded, VideoLLM.load(str(saved), device="cpu", dtype="float32"))


@TWO_GPUS
def test_layers_on_two_gpus(saved: Path, tmp_path: Path) -> None:
    both = spread(saved, tmp_path, 0.7, 0, 1)
    assert set(both.model.hf_device_map.values()) == {0, 1}
    assert_same(both, VideoLLM.load(str(saved), device="cuda:0", dtype="float32"))


@TWO_GPUS
@pytest.mark.parametrize("rules", RULES)
def test_merging_where_the_tokens_are(rules: str) -> None:
    """Kernels run on the tokens' GPU, though another one is the current."""
    tokens = torch.from_numpy(smooth_video(0, 6, 14, 14))
    on_second = merge_tokens(tokens.to("cuda:1"), *THRESHOLDS, rules=rules)
    expected = merge_tokens(tokens, *THRESHOLDS, rules=rules)
    assert on_second.tokens.device == torch.device("cuda:1") and torch.cuda.current_device() == 0
    assert torch.equal(on_second.boxes.cpu(), expected.boxes)
    torch.testing.assert_close(on_second.tokens.cpu(), expected.tokens)


@TWO_GPUS
def test_the_second_gpu_alone(saved: Path) -> None:
    """Nothing goes to the first GPU by itself."""
    second = VideoLLM.load(str(saved), device="cuda:1", dtype="float32")
    torch.cuda.reset_peak_memory_stats(0)
    before = torch.cuda.memory_allocated(0)
    answers(second)
    assert torch.cuda.max_memory_allocated(0) <= before
