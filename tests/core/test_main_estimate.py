"""`python -m sttm_core estimate`: memory from a config alone, as docs/large-models.md shows it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from sttm_core.__main__ import main
from sttm_core.advice import SHIPPED_MODEL
from sttm_core.loading import load_model, load_outline, weight_bytes
from tests.core.test_llava_video import write_original
from tests.core.tiny import TINY, tiny, tokenizer

DOCS = Path(__file__).parents[2] / "docs" / "large-models.md"
QWEN2_72B = {
    "hidden_size": 8192, "intermediate_size": 29568, "num_hidden_layers": 80, "num_attention_heads": 64,
    "num_key_value_heads": 8, "vocab_size": 152064, "tie_word_embeddings": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder_72b(tmp_path_factory) -> Path:
    """Config and tokenizer of a LLaVA-Video-72B, without any weights."""
    folder = tmp_path_factory.mktemp("72b")
    tokenizer("<image>\n").save_pretrained(folder)
    original = {"architectures": ["LlavaQwenForCausalLM"], "model_type": "llava"}
    original["mm_vision_tower"] = "google/siglip-so400m-patch14-384"
    (folder / "config.json").write_text(json.dumps(QWEN2_72B | original))
    return folder


@pytest.fixture
def table(capsys):
    """Run the command and return its table: rows of cells by the name in front."""

    def run(*arguments) -> dict[str, list[str]]:
        code = main(["estimate", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert code == 0, err
        rows = [re.split(r"\s{2,}", line.strip()) for line in out.splitlines() if line.strip()]
        return {row[0]: row[1:] for row in rows}

    return run


def test_a_72b_model_worked_out_by_hand(table, folder_72b) -> None:
    options = ("--num-frames", 128, "--merge-layer", 0, "--retention", 0.3, "--gpus", 4, "--dtype", "bfloat16")
    found = table("--model", folder_72b, *options)
    hidden, inner, keys = 8192, 29568, 8 * 128
    layer = 2 * hidden * hidden + hidden + 2 * (hidden * keys + keys) + 3 * hidden * inner + 2 * hidden
    decoder = 80 * layer + 2 * 152064 * hidden + hidden
    weights = float(found["weights"][0].split()[0])
    assert 2 * decoder / 1e9 + 0.7 < weights < 2 * decoder / 1e9 + 1.2  # vision tower and projector
    assert found["video tokens"] == ["25088", "7526"]
    token = 80 * 2 * keys * 2
    assert found["KV cache"] == [f"{25088 * token / 1e9:.1f} GB", f"{7526 * token / 1e9:.1f} GB"]
    working = 7526 * 3 * (hidden + inner) * 2 / 1e9
    assert found["a layer's activations"][1] == f"{working:.1f} GB"
    one = (weights + 7526 * token / 1e9) / 4 + working
    assert float(found["each of 4 GPUs"][1].split()[0]) == pytest.approx(one, abs=0.1)


def test_the_docs_show_what_the_command_prints(table, folder_72b) -> None:
    blocks = re.findall(r"```sh\n\$ python -m sttm_core (estimate .*?)\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(blocks) == 2
    for command, shown in blocks:
        found = table(*command.replace("lmms-lab/LLaVA-Video-72B-Qwen2", str(folder_72b)).split()[1:])
        rows = [re.split(r"\s{2,}", line.strip()) for line in shown.splitlines() if line.strip()]
        assert {row[0]: row[1:] for row in rows if "──" not in row[0]} == {
            name: cells for name, cells in found.items() if "──" not in name
        }


@pytest.mark.parametrize("options, warned", [((), True), (("--rope-factor", "2"), False)])
def test_a_video_beyond_the_context_is_said_on_stderr(capsys, options, warned) -> None:
    assert main(["estimate", "--num-frames", "128", *options]) == 0
    said = "the video takes 25088 positions, and this model's context has 16384; use fewer frames"
    assert capsys.readouterr().err.startswith(said) == warned


def test_one_token_at_least_is_kept(table) -> None:
    assert table("--num-frames", 2, "--retention", "1e-9")["video tokens"] == [str(2 * 14 * 14), "1"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_outline_has_the_weights_of_the_loaded_model(tmp_path, dtype) -> None:
    write_original(tmp_path)
    for path in (tmp_path, SHIPPED_MODEL):
        loaded, _, family = load_model(str(path), device="cpu", dtype=dtype)
        outline, _, same, chosen = load_outline(str(path), device="cpu", dtype=dtype)
        assert family is same and chosen == loaded.dtype
        assert weight_bytes(outline, chosen) == sum(weight.nbytes for weight in loaded.parameters())
        assert all(weight.is_meta for weight in outline.parameters())


@pytest.mark.parametrize("model_type", sorted(TINY))
def test_every_family_has_an_outline(model_type) -> None:
    llm = tiny(model_type)
    shapes = {name: weight.shape for name, weight in llm.model.named_parameters()}
    config = type(llm.model.config).from_dict(llm.model.config.to_dict())  # as from a file
    outline = llm.family.empty(config)
    assert {name: weight.shape for name, weight in outline.named_parameters()} == shapes
    grid = (llm.processor, 4, (64, 64), llm.frame_tokens)
    assert llm.family.grid(outline, *grid) == llm.family.grid(llm.model, *grid)


def test_quantised_matrices_are_those_of_the_decoder() -> None:
    outline, _, family, _ = load_outline(str(SHIPPED_MODEL), device="cpu")
    matrices = [p for n, p in family.decoder(outline).named_parameters() if n.endswith("proj.weight")]
    whole, count = weight_bytes(outline, torch.bfloat16), sum(matrix.numel() for matrix in matrices)
    assert weight_bytes(outline, torch.bfloat16, 4) == whole - 2 * count + count / 2 + 4 * count / 64
    rows = sum(len(matrix) for matrix in matrices)
    assert weight_bytes(outline, torch.bfloat16, 8) == whole - count + 4 * rows


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--merge-layer", "99"], "the merge layer must lie between 0 and 11"),
        (["--retention", "0"], "retention must be above 0 and at most 1, got 0.0."),
        (["--model", "no/such-folder/here"], "There is no usable model"),
        (["--num-frames", "0"], "Invalid value for '--num-frames'"),
        (["--newline", "grid"], "newline tokens can't be chosen for LLaVA-OneVision"),
    ],
)
def test_bad_options_are_one_sentence(options, sentence, capsys, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["estimate", *options]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and sentence in err
