"""Training on a CPU with a tiny model: moving, resuming, continuing, two processes, the command line."""

from __future__ import annotations

import ast
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from typer.testing import CliRunner

from demo_model.__main__ import app
from demo_model.export import export_checkpoint
from demo_model.model import DEFAULT_SIZE, config_of, size_of, weights_sha256
from demo_model.schedule import CONTINUED_PEAK, STAGES, rate_at, stage_at
from demo_model.train import Trainer, TrainSettings, average_gradients, continued, tiny_settings

ROOT = Path(__file__).resolve().parents[2]


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
    options += ["--weights", str(tmp_path / "m")]
    result = run(app, ["train", "--resume", str(tmp_path / "d"), *options], catch_exceptions=False)
    assert result.exit_code == 0 and "[2, 4 frames]" in result.output
    result = run(app, ["train", "--resume", str(tmp_path / "c"), *options])
    assert "another seed, size or start" in str(result.exception)
    result = run(app, ["train", "--resume", str(tmp_path / "c"), "--size", "huge"])
    assert result.exit_code != 0
