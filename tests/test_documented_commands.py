"""Every command of the documentation is accepted by the program that it calls, and the Python in it runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.main import get_command

import demo_model.__main__
from tests.documented import LANGUAGES, ROOT, Documented, blocks, check, check_python, commands, documents

FILES = {str(path.relative_to(ROOT)): path.read_text() for path in documents()}
BLOCKS = [block for file, text in FILES.items() for block in blocks(text, file)]
COMMANDS = [command for file, text in FILES.items() for command in commands(text, file)]
GRAMMAR = """
```sh
$ make run ARGS="--port 1 \\
    --host x"                       # a remark
what it printed
```
Here `torchrun -m x` is a mention and `clip.mp4` is none; `python` alone neither.
```sh
python -m a ask "b c" --model d
python -m a ask ... --attn e
```
"""


def test_commands_are_found_in_blocks_and_in_sentences() -> None:
    found = [(list(command.words), command.whole) for command in commands(GRAMMAR, "x.md")]
    assert found == [
        (["make", "run", "ARGS=--port 1      --host x"], True),
        (["python", "-m", "a", "ask", "b c", "--model", "d"], True),
        (["python", "-m", "a", "ask", "b c", "--model", "d", "--attn", "e"], True),
        (["torchrun", "-m", "x"], False),
    ]


def test_the_documentation_was_read() -> None:
    assert {"README.md", "benchmarks/README.md", "demo_model/README.md", "docs/large-models.md"} <= set(FILES)
    programs = {command.words[0] for command in COMMANDS}
    assert {"make", "python", "torchrun"} <= programs and len(COMMANDS) > 40


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_documented_command_is_accepted(command: Documented) -> None:
    check(command)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("python -m sttm_core ask clip.mp4 What --retain 0.3", "No such option"),
        ("python -m viz render --out x.mp4", "Missing argument"),
        ("python -m sttm_core answer clip.mp4 What", "No such command"),
        ("python -m sttm_core ask clip.mp4 What --model lmms-lab/LLaVA-Video-7B-Qwen2 --preset x-51", "x-51"),
        ("python -m sttm_core ask clip.mp4 What --max-memory 70GiB", "max-memory"),
        ("python app.py --dtype int8", "--dtype"),
        ("python -m benchmarks ttft --framez 16", "No such option"),
        ("python -m benchmarks tttf", "no module"),
        ("python -m viz.precomputed --all", "no options"),
        ("python -m demo_model train --minutes 3", "Missing option"),
        ("make run ARGS='--prt 8000'", "No such option"),
        ("make tset", "No rule to make target"),
        ("torchrun --nproc-per-node 2 -m demo_model train --start MODEL --resume RUN", "ambiguous"),
        ("torchrun -m demo_model train --resume RUN --wieghts MODEL", "No such option"),
        ("curl example", "curl"),
    ],
)
def test_a_wrong_command_is_found(words: str, said: str) -> None:
    (command,) = commands(f"```sh\n{words}\n```\n", "x.md")
    with pytest.raises(ValueError, match=said):
        check(command)


def test_a_mention_may_be_incomplete_but_not_wrong() -> None:
    mention, wrong = commands("`python -m sttm_core ask` and `python -m sttm_core ask --retain 1`", "x.md")
    check(mention)
    with pytest.raises(ValueError, match="No such option"):
        check(wrong)


def test_no_option_of_train_is_taken_by_torchrun() -> None:
    train = get_command(demo_model.__main__.app).commands["train"]
    for option in train.params:
        for flag in [*option.opts, *option.secondary_opts]:
            value = [] if option.is_flag else ["1"]
            words = ["torchrun", "-m", "demo_model", "train", "--resume", "RUN", flag, *value]
            check(Documented("x.md", tuple(words), whole=True))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.file}: {block.text.splitlines()[0]}")
def test_every_block_names_its_language_and_is_written_in_it(block) -> None:
    assert block.language in LANGUAGES, "say sh, python or text after the ```"
    if block.language == "python":
        compile(block.text, block.file, "exec")
    elif block.language == "sh" and not block.text.startswith("$ "):
        subprocess.run(["sh", "-n"], input=block.text, text=True, check=True)


@pytest.mark.parametrize("file", sorted({block.file for block in BLOCKS if block.language == "python"}))
def test_the_python_of_a_document_runs(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    (tmp_path / "clip.mp4").symlink_to(ROOT / "assets/clips/code-short.mp4")
    monkeypatch.chdir(tmp_path)
    names = {"tokens": torch.rand(3, 8, 8, 16, generator=torch.Generator().manual_seed(0))}
    for block in BLOCKS:
        if (block.file, block.language) == (file, "python"):
            exec(compile(block.text, file, "exec"), names)


def test_python_lines_are_compiled() -> None:
    check_python(["-c", "print(1)"])
    with pytest.raises(SyntaxError):
        check_python(["-c", "print(1"])


def test_a_checked_command_leaves_nothing_behind() -> None:
    before = list(sys.argv), sys.modules["__main__"]
    check(Documented("x.md", ("python", "app.py", "--help"), whole=True))
    assert (sys.argv, sys.modules["__main__"]) == before
