"""Checkpoints that load, and one sentence for each that does not."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from accelerate import cpu_offload
from accelerate.hooks import ModelHook, add_hook_to_module
from safetensors.torch import load_file, save_file

from sttm_core import loading
from sttm_core.engine import VideoLLM
from sttm_core.loading import ModelError, load_model
from tests.core.test_engine import FIRST, MODEL, plan_for
from tests.core.tiny import clip, tiny


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny(MODEL).model.save_pretrained(folder)
    tiny(MODEL).processor.save_pretrained(folder)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def change_config(folder, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def drop_weight(folder) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    del weights[next(name for name in weights if "layers.1.mlp.up_proj" in name)]
    save_file(weights, path, metadata={"format": "pt"})


def widen_weight(folder) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if "layers.1.mlp.up_proj" in name)
    weights[name] = torch.zeros(3, 3)
    save_file(weights, path, metadata={"format": "pt"})


BROKEN = {
    "folder missing": (shutil.rmtree, "no usable model"),
    "config missing": (lambda folder: (folder / "config.json").unlink(), "config.json"),
    "config garbage": (lambda folder: (folder / "config.json").write_text("{"), "config.json"),
    "config without type": (lambda folder: (folder / "config.json").write_text("{}"), "config.json"),
    "other type": (lambda folder: change_config(folder, model_type="gpt2"), "'gpt2' are not supported"),
    "unheard type": (lambda folder: change_config(folder, model_type="banana"), "'banana' are not supported"),
    "weights missing": (lambda folder: (folder / "model.safetensors").unlink(), "could not be loaded"),
    "weights garbage": (lambda folder: (folder / "model.safetensors").write_bytes(b"1234"), "could not be loaded"),
    "a weight missing": (drop_weight, "up_proj"),
    "a weight of another size": (widen_weight, "could not be loaded"),
    "processor missing": (lambda folder: [p.unlink() for p in folder.glob("*process*")], "could not be loaded"),
    "tokenizer missing": (lambda folder: [p.unlink() for p in folder.glob("token*")], "could not be loaded"),
    "processor garbage": (lambda folder: (folder / "processor_config.json").write_text("["), "could not be loaded"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_checkpoints_are_one_sentence(copy, case):
    breaking, said = BROKEN[case]
    breaking(copy)
    with pytest.raises(ModelError) as caught:
        VideoLLM.load(str(copy), device="cpu")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "options, said",
    [
        ({"device": "cuda:99"}, "cuda:99"),
        ({"device": "banana"}, "'banana'"),
        ({"dtype": "int8"}, "float32, bfloat16 or float16"),
        ({"dtype": "banana"}, "float32, bfloat16 or float16"),
        ({"attention": "banana"}, "banana"),
        ({"max_memory": {0: "1GiB"}}, "device_map='auto'"),
        ({"rope_factor": 0.5}, "rope_factor must be 1 or more, got 0.5"),
        ({"newline": "grid"}, "LLaVA-OneVision"),
        ({"load_in_4bit": True, "load_in_8bit": True}, "not both"),
    ],
)
def test_options_that_make_no_sense_are_one_sentence(saved, options, said):
    with pytest.raises(ModelError) as caught:
        load_model(str(saved), **options)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", torch.float16])
def test_dtypes(saved, dtype):
    model, _, _ = load_model(str(saved), device="cpu", dtype=dtype)
    assert model.dtype == (dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype))
    assert not model.training


def test_a_model_on_a_cpu_is_float32_unless_asked(saved):
    llm = VideoLLM.load(str(saved), device="cpu")
    assert llm.dtype == torch.float32 and llm.device.type == "cpu" and llm.name == saved.name


def spread(saved) -> dict[str, str]:
    """Every second decoder layer, the vision tower and the last norm on disk, the rest in memory."""
    return {
        "model.vision_tower": "disk", "model.multi_modal_projector": "cpu", "model.image_newline": "cpu",
        "model.language_model.embed_tokens": "cpu", "model.language_model.rotary_emb": "cpu",
        "model.language_model.layers.0": "cpu", "model.language_model.layers.1": "disk",
        "model.language_model.layers.2": "cpu", "model.language_model.layers.3": "disk",
        "model.language_model.norm": "disk", "lm_head": "cpu",
    }  # fmt: skip


def all_on_disk(saved) -> dict[str, str]:
    return spread(saved) | {"model.language_model.embed_tokens": "disk", "lm_head": "disk"}


@pytest.mark.parametrize("where", [spread, all_on_disk])
def test_a_model_spread_over_memory_and_disk_answers_the_same(saved, tmp_path, where):
    llm = VideoLLM.load(str(saved), device_map=where(saved), offload_folder=str(tmp_path), dtype="float32")
    assert any(weight.device.type == "meta" for weight in llm.model.parameters())
    found, expected = [], []
    for one, said in ((llm, found), (tiny(MODEL), expected)):
        video = one.encode(clip())
        for plan in (None, plan_for(video)):
            prefix = one.prefill(video, plan)
            said.append((prefix.tokens_after, one.answer(prefix, FIRST, max_new_tokens=5).text))
    assert found == expected


def test_sliding_windows_are_refused(copy):
    text = json.loads((copy / "config.json").read_text())["text_config"]
    kinds = ["full_attention", "sliding_attention"] * (text["num_hidden_layers"] // 2)
    change_config(copy, text_config=text | {"layer_types": kinds, "use_sliding_window": True, "sliding_window": 8})
    with pytest.raises(ModelError, match="uses sliding window attention, which merging does not support."):
        load_model(str(copy), device="cpu")


def test_a_gpu_too_small_for_the_weights_is_one_sentence(saved, monkeypatch):
    def fail(*args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20.00 GiB.")

    monkeypatch.setattr(loading.family_for({"model_type": MODEL}), "load", fail)
    with pytest.raises(ModelError) as caught:
        load_model(str(saved), device="cpu")
    assert str(caught.value) == f"The GPU's memory does not hold {saved}; spread it with device_map='auto'."


@pytest.mark.parametrize("device, index", [(None, None), ("cuda", None), ("cuda:0", 0), ("cuda:1", 1)])
def test_gpus_are_counted_from_zero(saved, monkeypatch, device, index):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert loading._device(device) == torch.device("cuda" if index is None else f"cuda:{index}")
    *_, dtype = loading.load_outline(str(saved), device=device)
    assert dtype == torch.bfloat16
    with pytest.raises(ModelError, match="There is no cuda:2; this machine has 2 GPUs, counted from cuda:0."):
        loading.load_outline(str(saved), device="cuda:2")


@pytest.mark.parametrize("installed, said", [(None, "package bitsandbytes"), ("yes", "needs a CUDA GPU, not cpu")])
@pytest.mark.parametrize("bits", ["load_in_4bit", "load_in_8bit"])
def test_quantising_says_what_is_missing(saved, monkeypatch, bits, installed, said):
    monkeypatch.setattr(loading, "find_spec", lambda name: installed)
    with pytest.raises(ModelError, match=said):
        load_model(str(saved), device="cpu", **{bits: True})


def test_a_rope_factor_stretches_the_text_positions(saved):
    plain, stretched = (VideoLLM.load(str(saved), device="cpu", rope_factor=factor) for factor in (None, 2.0))
    places = torch.arange(0, 40, 2)
    for a, b in zip(stretched._rotary(places), plain._rotary(places // 2), strict=True):
        assert (a - b).abs().max() < 1e-6
    video = clip()
    logits = [one.first_token_logits(one.prefill(one.encode(video)), FIRST) for one in (plain, stretched)]
    assert (logits[0] - logits[1]).abs().max() > 1e-3


def test_max_memory_spreads_a_model(saved, tmp_path):
    limits = {"cpu": "150KB"}
    llm = VideoLLM.load(str(saved), device_map="auto", max_memory=limits, offload_folder=str(tmp_path), device="cpu")
    assert "disk" in llm.model.hf_device_map.values()
    expected = tiny(MODEL).answer(tiny(MODEL).prefill(tiny(MODEL).encode(clip())), FIRST, max_new_tokens=3).text
    assert llm.answer(llm.prefill(llm.encode(clip())), FIRST, max_new_tokens=3).text == expected


def offload_all(model) -> None:
    """As accelerate does it for a part of a model: the model itself gets no hook."""
    cpu_offload(model.model.language_model, execution_device=torch.device("cpu"))


def offload_and_watch(model) -> None:
    """Two hooks on the embeddings: accelerate makes one of them."""
    offload_all(model)
    add_hook_to_module(model.model.language_model.embed_tokens, ModelHook(), append=True)


@pytest.mark.parametrize("place", [lambda model: None, offload_all, offload_and_watch])
def test_inputs_go_where_the_embeddings_are_run(saved, place) -> None:
    plain = VideoLLM.load(str(saved), device="cpu", dtype="float32")
    expected = plain.answer(plain.prefill(plain.encode(clip())), FIRST, max_new_tokens=3).text
    place(plain.model)
    llm = VideoLLM(plain.model, plain.processor, plain.family, "placed")
    assert llm.device == torch.device("cpu")
    assert llm.answer(llm.prefill(llm.encode(clip())), FIRST, max_new_tokens=3).text == expected


def test_a_model_without_weights_is_refused(saved) -> None:
    llm = VideoLLM.load(str(saved), device="cpu", dtype="float32")
    with pytest.raises(ModelError, match="weights are not loaded"):
        VideoLLM(llm.model.to("meta"), llm.processor, llm.family, "empty")
