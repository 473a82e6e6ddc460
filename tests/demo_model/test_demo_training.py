"""Training end to end on a CPU with a tiny model: masks, equality with the library, resuming, export, card."""

from __future__ import annotations

import ast
import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from transformers import AutoModelForImageTextToText, AutoProcessor
from typer.testing import CliRunner

from demo_model.__main__ import app
from demo_model.checkpoint import PART_BYTES, load_checkpoint, save_checkpoint
from demo_model.evaluate import (
    MEASURED_LAYER,
    answered,
    evaluate,
    evaluate_rows,
    reductions,
    score,
    wilson,
    write_evaluation,
)
from demo_model.export import export_checkpoint, export_model, write_card
from demo_model.losses import (
    LOWEST_LIMIT,
    NEIGHBOUR_SCALE,
    PARENT_SCALE,
    common_share,
    dense_loss,
    neighbour_excess,
    parent_excess,
)
from demo_model.model import DEFAULT_SIZE, MERGE_LAYER, TINY_SIZE, Reduction, config_of, size_of, weights_sha256
from demo_model.questions import Slot
from demo_model.reduction import merged, merged_to_budget, pooled_space, random_tokens, uniform_frames
from demo_model.schedule import CONTINUED_PEAK, STAGES, rate_at, stage_at
from demo_model.sequence import IGNORED, pack_slots, slot_ids, slot_mask
from demo_model.train import Trainer, TrainSettings, average_gradients, continued, tiny_settings
from sttm_core import thresholds_for_retention
from sttm_core.engine import VideoLLM
from sttm_core.video import VideoClip

ROOT = Path(__file__).resolve().parents[2]
SLOTS = [Slot("ocr", "What code is shown?", "AB7"), Slot("colour", "What color is the circle?", "red")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny trainer after four steps, and its folder of checkpoints."""
    folder = tmp_path_factory.mktemp("checkpoints")
    trainer = Trainer(tiny_settings(max_steps=4), log=lambda line: None)
    trainer.run(folder)
    return trainer, folder


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    export_model(trained[0].model, TINY_SIZE, trained[0].tokenizer, folder, torch.float32)
    return folder


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)


def floats(frames: np.ndarray) -> torch.Tensor:
    return (torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255)[None]


def test_mask_by_hand():
    slot = torch.tensor([[0, 0, 1, -1]])
    mask = slot_mask(slot, prefix=3, lengths=torch.tensor([2]))[0, 0]
    expected = ["1101000", "1101100", "1100010", "0000001"]
    assert ["".join(str(int(v)) for v in row) for row in mask] == expected


def test_no_slot_sees_another(trained, frames):
    trainer = trained[0]
    other = [Slot("shape", "What shape is blue?", "star"), SLOTS[1]]
    packed = [pack_slots([slots], trainer.tokenizer, 64, 2) for slots in (SLOTS, other)]
    with torch.no_grad():
        logits = [trainer.model(floats(frames), slots).logits[0][slots.slot[0] == 1] for slots in packed]
    torch.testing.assert_close(logits[0], logits[1], atol=1e-5, rtol=0)


def test_export_answers_as_training_did(trained, exported, frames):
    trainer = trained[0]
    model = AutoModelForImageTextToText.from_pretrained(exported, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(exported)
    packed = pack_slots([SLOTS], trainer.tokenizer, 64, 2)
    with torch.no_grad():
        ours = trainer.model(floats(frames), packed).logits[0]
        for number, slot in enumerate(SLOTS):
            turn = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": slot.question}]}
            prompt = processor.apply_chat_template([turn], add_generation_prompt=True)
            inputs = processor(text=prompt + slot.answer + "<|im_end|>", videos=[frames], return_tensors="pt")
            question, answer = slot_ids(slot, trainer.tokenizer)
            size = len(question) + len(answer)
            assert inputs["input_ids"][0, -size:].tolist() == question + answer
            theirs = model(**inputs).logits[0, -size:]
            torch.testing.assert_close(ours[packed.slot[0] == number], theirs, atol=1e-3, rtol=0)


def test_tied_weights_and_size_survive_the_export(exported):
    assert sum(path.stat().st_size for path in exported.iterdir()) < 30e6
    config = json.loads((exported / "config.json").read_text())
    assert config["model_type"] == "llava_onevision" and config["text_config"]["model_type"] == "qwen2"


def test_training_moves_every_parameter_that_the_answers_use(trained):
    fresh = Trainer(tiny_settings(), log=lambda line: None)
    before, after = fresh.model.model.state_dict(), trained[0].model.model.state_dict()
    still = [name for name in before if torch.equal(before[name], after[name])]
    assert [name for name in still if "post_layernorm" not in name] == []  # the tower's last norm is not used


def test_a_resumed_run_equals_an_uninterrupted_one(trained, tmp_path):
    first = Trainer(tiny_settings(max_steps=4), log=lambda line: None)
    first.resume(tmp_path)  # nothing there: starts anew
    first.run(tmp_path)
    for (name, one), (_, two) in zip(
        first.model.state_dict().items(), trained[0].model.state_dict().items(), strict=True
    ):
        assert torch.equal(one, two), name
    lines: list[str] = []
    again = Trainer(tiny_settings(max_steps=5), log=lines.append)
    again.run(tmp_path)
    assert again.step == 5 and "resumed at step 4" in lines[0]


def test_a_paused_run_is_resumed(tmp_path):
    trainer = Trainer(tiny_settings(max_steps=None, minutes=10), log=lambda line: None)
    trainer.run(tmp_path, pause_after=0.01)
    assert 0.01 <= trainer.used < 60 and trainer.part < 1
    lines: list[str] = []
    again = Trainer(tiny_settings(max_steps=trainer.step + 1), log=lines.append)
    again.run(tmp_path)
    assert again.step == trainer.step + 1 and lines[0].startswith(f"resumed at step {trainer.step}")


def test_a_checkpoint_of_another_seed_or_start_is_refused(trained, exported):
    for settings in (tiny_settings(seed=3), continued(tiny_settings(), exported)):
        with pytest.raises(ValueError, match="another seed, size or start"):
            Trainer(settings, log=lambda line: None).run(trained[1])


def test_a_continued_run_starts_from_the_exported_weights_and_moves_its_heads_first(trained, exported, tmp_path):
    settings = continued(tiny_settings(max_steps=2), exported, heads_steps=2)
    trainer = Trainer(settings, log=lambda line: None)
    fresh = {name: value.clone() for name, value in trainer.heads.state_dict().items()}
    trainer.run(tmp_path)
    before, after = trained[0].model.model.state_dict(), trainer.model.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    still = [name for name, value in trainer.heads.state_dict().items() if torch.equal(fresh[name], value)]
    assert still == [] and trainer.tokenizer.get_vocab() == trained[0].tokenizer.get_vocab()

    lines: list[str] = []
    again = Trainer(replace(settings, max_steps=4), log=lines.append)
    again.run(tmp_path)
    assert again.step == 4 and lines[0].startswith("resumed at step 2")
    after = again.model.model.state_dict()
    still = [name for name, value in before.items() if torch.equal(after[name], value)]
    assert [name for name in still if "post_layernorm" not in name] == []
    facts = export_checkpoint(tmp_path, tmp_path / "model")
    assert weights_sha256(exported) in facts["Started from"] and "4 steps of 4 frames" in facts["Compute"]
    assert weights_sha256(tmp_path / "model") != weights_sha256(exported)
    assert (tmp_path / "model" / "tokenizer.json").read_bytes() == (exported / "tokenizer.json").read_bytes()


def test_a_start_of_another_size_is_refused(exported):
    assert size_of(config_of(DEFAULT_SIZE)) == DEFAULT_SIZE
    with pytest.raises(ValueError, match="picture=128"):
        Trainer(continued(TrainSettings(), exported), log=lambda line: None)


def test_checkpoints_come_in_small_files_and_damage_is_noticed(tmp_path):
    tensor = torch.randn(6 * 2**20)
    for step in (1, 2):
        save_checkpoint(tmp_path, {"step": step, "tensor": tensor})
    parts = sorted(tmp_path.glob("step-*/part-*"))
    assert len(parts) == 2 and all(part.stat().st_size <= PART_BYTES for part in parts)
    loaded = load_checkpoint(tmp_path)
    assert loaded["step"] == 2 and torch.equal(loaded["tensor"], tensor)
    parts[0].write_bytes(b"damaged")
    with pytest.raises(ValueError, match="missing or damaged"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("reduce", "low", "high"),
    [
        (merged(0.4), 0.05, 0.4),
        (merged_to_budget(0.4), 0.2, 0.4),
        (uniform_frames(0.5), 0.5, 0.5),
        (pooled_space(4), 0.25, 0.25),
    ],
    ids=["merged", "budget", "frames", "pooled"],
)
def test_reductions_keep_what_they_say(reduce, low, high):
    tokens = torch.randn(2, 4, 8, 8, 16, generator=torch.Generator().manual_seed(0)) * 0.3 + 1
    kept = reduce(tokens)
    assert low <= sum(len(clip.tokens) for clip in kept) / tokens[..., 0].numel() <= high + 1e-9
    assert all(clip.tokens.shape == (len(clip.places), 16) for clip in kept)
    assert all((clip.places.diff() > 0).all() and clip.places.max() < 4 * 8 * 8 for clip in kept)


def test_merging_a_batch_at_once_equals_merging_each_clip():
    from sttm_core import merge_tokens

    tokens = torch.randn(3, 4, 8, 8, 16, generator=torch.Generator().manual_seed(1)) * 0.4 + 1
    tokens[:, 0] = tokens[0, -1]  # equal frames on both sides of the border between two clips
    whole = merged(0.3)(tokens)
    low, high = 0.0, 1.0
    for _ in range(10):
        tau = (low + high) / 2
        alone = [merge_tokens(clip, tau, tau).tokens for clip in tokens]
        too_many = sum(map(len, alone)) > 0.3 * tokens[..., 0].numel()
        low, high = (low, tau) if too_many else (tau, high)
    assert [len(clip) for clip in alone] == [len(clip.tokens) for clip in whole]
    for one, two in zip(whole, alone, strict=True):
        torch.testing.assert_close(one.tokens, two)


def test_dropping_spares_the_needles():
    tokens = torch.arange(2 * 2 * 4 * 4.0).view(2, 2, 4, 4, 1)
    needles = torch.zeros(2, 2, 4, 4, dtype=torch.bool)
    needles[:, 1, 2, 3] = True
    kept = random_tokens(0.25, torch.Generator().manual_seed(0), needles)(tokens)
    for clip, rest in zip(tokens, kept, strict=True):
        assert len(rest.tokens) == 8 and clip[1, 2, 3] in rest.tokens
        assert torch.equal(clip.flatten()[rest.places], rest.tokens.flatten())
        assert rest.places.tolist() == sorted(rest.places.tolist())


def test_reducing_here_equals_merging_in_the_engine(trained, exported, frames):
    """The table of methods and the app give the same first token's logits, before layer 0 with surviving positions."""
    keep, question = 0.4, "What code is shown?"
    llm = VideoLLM.load(str(exported), dtype="float32")
    encoded = llm.encode(VideoClip.from_frames(frames))
    assert (encoded.merge_layer, llm.default_position_rule) == (MEASURED_LAYER, "survived")
    found = thresholds_for_retention(encoded.tables, keep, prefer="temporal")
    plan = encoded.tables.plan(found.tau_spatial, found.tau_temporal, "paper")
    assert 0 < plan.retention <= keep
    theirs = llm.first_token_logits(llm.prefill(encoded, plan), question)
    packed = pack_slots([[Slot("ocr", question, "A")]], trained[0].tokenizer, 64, 1)
    with torch.no_grad():
        patches = trained[0].model.see(floats(frames))
        reduction = Reduction(merged_to_budget(keep), MEASURED_LAYER, survived=True)
        ours = trained[0].model.answer(patches, packed, reduction).logits[0]
    given = len(slot_ids(Slot("ocr", question, "A"), trained[0].tokenizer)[0])
    torch.testing.assert_close(ours[given - 1], theirs, atol=1e-3, rtol=0)


def test_gradients_flow_through_merging(trained, frames):
    packed = pack_slots([SLOTS], trained[0].tokenizer, 64, 2)
    outputs = trained[0].model(floats(frames), packed, Reduction(merged(0.3), layer=0))
    outputs.logits.sum().backward()
    projector = trained[0].model.model.model.multi_modal_projector.linear_1.weight
    assert projector.grad.abs().sum() > 0 and outputs.late is outputs.at_merge is None
    trained[0].model.zero_grad(set_to_none=True)


def test_answered_needs_every_token():
    labels = torch.tensor([[IGNORED, 3, 2, IGNORED, 5, 2]])
    slot = torch.tensor([[0, 0, 0, 1, 1, 1]])
    logits = torch.nn.functional.one_hot(torch.tensor([[0, 3, 2, 0, 4, 2]]), 6).float()
    assert answered(logits, labels, slot, 3).tolist() == [[True, False, True]]


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"), [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0)]
)
def test_wilson_against_published_values(correct, total, low, high):
    assert wilson(correct, total) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("correct", "total"), [(1, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_what_is_no_share(correct, total):
    with pytest.raises(ValueError, match="not a share"):
        wilson(correct, total)


def test_losses_by_hand():
    same = torch.ones(1, 2, 4, 4, 3)
    assert common_share(same).item() == pytest.approx(1)
    spread = torch.eye(3)[torch.arange(3)].view(1, 1, 1, 3, 3)
    assert common_share(spread).item() == pytest.approx(1 / 3)
    logits, target = torch.zeros(1, 100, 4), torch.zeros(1, 100, dtype=torch.int64)
    target[0, 0] = 2  # one thing weighs as much as 99 tokens of background
    logits[0, 0, 1] = 50.0
    assert dense_loss(logits, target).item() == pytest.approx((50 + math.log(4)) / 2, rel=1e-3)


def test_spreading_losses_against_a_loop():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 3, 5, 5, 8, generator=generator) + 0.8
    colours = torch.rand(2, 3, 5, 5, 12, generator=generator) * 0.1
    colours[:, 1] = colours[:, 0]

    def excess(one, two, own, other, scale: float) -> float:
        distance = math.sqrt(sum((a - b) ** 2 for a, b in zip(own.tolist(), other.tolist(), strict=True)) / 12)
        limit = max(LOWEST_LIMIT, math.exp(-distance / scale))
        return max(0.0, float(one @ two / (one.norm() * two.norm())) - limit) ** 2

    parents, neighbours = [], []
    for b, t, y, x in np.ndindex(2, 3, 5, 5):
        here = (b, t, y, x)
        if y < 4 and x < 4:
            block = (b, t, slice(y // 2 * 2, y // 2 * 2 + 2), slice(x // 2 * 2, x // 2 * 2 + 2))
            parent, shared = (planes[block].mean(dim=(0, 1)) for planes in (tokens, colours))
            parents.append(excess(tokens[here], parent, colours[here], shared, PARENT_SCALE))
        if t < 2:
            later = (b, t + 1, y, x)
            neighbours.append(excess(tokens[here], tokens[later], colours[here], colours[later], NEIGHBOUR_SCALE))
    assert sum(parents) > 0 and sum(neighbours) > 0
    assert parent_excess(tokens, colours).item() == pytest.approx(np.mean(parents), rel=1e-4)
    assert neighbour_excess(tokens, colours).item() == pytest.approx(np.mean(neighbours), rel=1e-4)
    assert neighbour_excess(tokens[:, :2], colours[:, :2]).item() == 0  # equal pictures may have equal tokens
    colours[:] = 0
    assert parent_excess(tokens, colours).item() == pytest.approx(0, abs=1e-9)


def test_spreading_lowers_the_cosines_of_what_looks_different_alone():
    colours = torch.zeros(1, 2, 2, 2, 12)
    colours[0, 1, :, 0] = 0.5  # the left half changes
    tokens = torch.ones(1, 2, 2, 2, 8) + torch.randn(1, 2, 2, 2, 8, generator=torch.Generator().manual_seed(0)) * 0.1
    tokens.requires_grad_()
    for _ in range(300):
        (gradient,) = torch.autograd.grad(neighbour_excess(tokens, colours), tokens)
        tokens = (tokens - gradient).detach().requires_grad_()
    cosines = torch.cosine_similarity(tokens[0, 0], tokens[0, 1], dim=-1)
    assert cosines[:, 0].max() < LOWEST_LIMIT + 0.02 and cosines[:, 1].min() > 0.95


def test_schedule():
    assert sum(stage.share for stage in STAGES) == pytest.approx(1)
    assert {frames * clips for stage in STAGES for frames, clips in stage.cycle} == {512}
    assert [stage_at(STAGES, part).name for part in (0, 0.2, 0.5, 0.9, 1.0)] == [
        "single frames", "4 frames", "4, 8, 16 frames", "8 to 64 frames", "8 to 64 frames"
    ]  # fmt: skip
    assert stage_at(STAGES[-1:], 0) == stage_at(STAGES[-1:], 0.9) == STAGES[-1]
    assert rate_at(0.2, 100, CONTINUED_PEAK) == CONTINUED_PEAK and rate_at(1.0, 100, 0.5) == 0.01
    assert rate_at(0.0, 0) == pytest.approx(1 / 60)
    assert rate_at(0.3, 100) == 1 and rate_at(0.69, 100) == pytest.approx(0.5) and rate_at(1.0, 100) == 0.02


def test_the_card_has_its_figures_from_the_evaluation(exported, tmp_path, monkeypatch):
    monkeypatch.setattr("demo_model.evaluate.FRAMES_A_BATCH", {"cpu": 24})
    report = write_evaluation(exported, tmp_path / "e.json", (3,), 1, log=lambda line: None)
    assert report == json.loads((tmp_path / "e.json").read_text())
    rows = {"every other frame": report["paraphrases"] | {"kept": 0.5}}
    report["methods"] = {"layer": 0, "device": "one CPU", "rows": rows}
    report["frames"]["3"]["tasks"]["ocr"] = score(37, 41)
    report["frames"]["3"]["overall"] = score(123, 456)
    (tmp_path / "e.json").write_text(json.dumps(report))
    write_card(tmp_path / "e.json", tmp_path / "card.md", {"Device": "one CPU"})
    card = (tmp_path / "card.md").read_text()
    assert re.search(r"\| ocr \| 90\.2 \(77\.5-96\.1\)", card)
    assert "| overall | 27.0 (23.1-31.2)" in card
    assert report["weights_sha256"] in card and "- Device: one CPU" in card and "| every other frame | 50.0% |" in card


def test_reduced_steps_merge_only_where_merging_is_on():
    needles = torch.zeros(1, 4, 8, 8, dtype=torch.bool)
    for merging, expected in ((True, {"merged", "random_tokens", None}), (False, {"random_tokens", None})):
        trainer = Trainer(tiny_settings(merging=merging), log=lambda line: None)
        made, places = set(), set()
        for trainer.step in range(60):
            reduction = trainer.reduction(4, needles)
            made.add(reduction and reduction.reduce.__qualname__.split(".")[0])
            places |= {(reduction.layer, reduction.survived)} if reduction else set()
        assert made == expected and places == {(0, True), (MERGE_LAYER, False)}
        assert trainer.reduction(1, needles) is None


def module_level_imports(name: str) -> set[str]:
    tree = ast.parse((ROOT / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8"))
    found = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    found |= {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    if "demo_model" in found:  # from demo_model import NAME
        nodes = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "demo_model"]
        found |= {f"demo_model.{alias.name}" for node in nodes for alias in node.names}
    return found - {"demo_model"}


def test_training_imports_no_decoder_and_no_interface():
    todo, seen, others = (
        {"demo_model.train", "demo_model.evaluate", "demo_model.export", "demo_model.__main__"},
        set(),
        set(),
    )
    while todo:
        seen.add(name := todo.pop())
        for found in module_level_imports(name):
            if found.startswith("demo_model."):
                todo |= {found} - seen
            else:
                others.add(found.split(".")[0])
    assert "demo_model.backgrounds" in seen
    assert others - sys.stdlib_module_names == {"torch", "transformers", "tokenizers", "numpy", "typer"}


def test_evaluation_counts_questions_and_kept_tokens(trained):
    model, tokenizer = trained[0].model, trained[0].tokenizer
    rows = evaluate_rows(model, tokenizer, 2, 1, {"full": None, "half": uniform_frames(0.5)})
    assert rows["full"] == evaluate(model, tokenizer, 2, 1)
    result = rows["half"]
    assert result["kept"] == 0.5 and rows["full"]["kept"] == 1
    assert {row["total"] for row in result["tasks"].values()} == {1} and len(result["tasks"]) == result["overall"][
        "total"
    ]


def test_table_of_methods_names_every_row():
    names = list(reductions(16, 14, (0.3,)))
    assert names == [
        f"{name} 30%" for name in ("sttm paper", "sttm as_released", "random", "uniform frames", "spatial pooling")
    ]


def test_two_processes_train_as_one(exported, tmp_path):
    """Each draws its own clips; both end with the same weights, which are those of the averaged gradients."""
    context = torch.multiprocessing.get_context("spawn")
    both = [context.Process(target=_train_together, args=(rank, 2, exported, tmp_path)) for rank in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
        assert process.exitcode == 0
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for part in ("weights", "heads"):
        assert all(torch.equal(one[part][name], two[part][name]) for name in one[part])
    assert one["loss"] != two["loss"]
    assert one["average"] == two["average"] == [1.5, None, 3.0]


def _train_together(rank: int, ranks: int, start: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=ranks)
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(3)]
    parameters[0].grad, parameters[2].grad = torch.tensor([1.0 + rank]), torch.tensor([2.0 + 2 * rank])
    average_gradients(parameters)
    average = [None if p.grad is None else p.grad.item() for p in parameters]
    losses: list[str] = []
    trainer = Trainer(continued(tiny_settings(max_steps=2), start, heads_steps=1), log=losses.append)
    trainer.run(folder / "checkpoints")
    parts = {"weights": trainer.model.model.state_dict(), "heads": trainer.heads.state_dict()}
    torch.save(parts | {"loss": losses[0].split("|")[0], "average": average}, folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_command_line_trains_and_exports(tmp_path):
    run = CliRunner().invoke
    options = ["--size", "tiny", "--minutes", "0.03", "--workers", "1", "--device", "cpu"]
    result = run(app, ["train", "--resume", str(tmp_path / "c"), *options], catch_exceptions=False)
    assert result.exit_code == 0 and "s left" in result.output
    facts = ["--facts", str(tmp_path / "facts.json")]
    result = run(app, ["export", "--resume", str(tmp_path / "c"), "--out", str(tmp_path / "m"), *facts])
    assert result.exit_code == 0 and (tmp_path / "m" / "model.safetensors").is_file()
    made = json.loads((tmp_path / "facts.json").read_text())
    assert "1 x CPU" in made["Compute"] and "8x8 = 64 tokens" in made["Architecture"] and "Started from" not in made
    options += ["--start", str(tmp_path / "m")]
    result = run(app, ["train", "--resume", str(tmp_path / "d"), *options], catch_exceptions=False)
    assert result.exit_code == 0 and "[2, 4 frames]" in result.output
    result = run(app, ["train", "--resume", str(tmp_path / "c"), *options])
    assert "another seed, size or start" in str(result.exception)
    result = run(app, ["train", "--resume", str(tmp_path / "c"), "--size", "huge"])
    assert result.exit_code != 0
