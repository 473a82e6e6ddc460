"""The table of methods: counts, duels, resuming, tuning, and all of it end to end with a tiny model."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from scipy.stats import binomtest

from benchmarks.needle_qa.asking import Encodings
from benchmarks.needle_qa.held_out import needle_clip
from benchmarks.needle_table import __main__ as command_module
from benchmarks.needle_table import tuning, workers
from benchmarks.needle_table.page import page
from benchmarks.needle_table.rows import FULL, RowFile, Setting, ask_clip
from benchmarks.needle_table.summary import duels, sign_test, summarise, verdict
from benchmarks.needle_table.tuning import TUNED, search
from benchmarks.needle_table.workers import Crew, Loading
from sttm_core.engine import VideoLLM
from sttm_core.method import METHODS, Method
from sttm_core.settings import RunSettings
from tests.benchmarks.commands import command

FRAMES = 4
ITEM, OTHER = needle_clip(0, FRAMES), needle_clip(1, FRAMES)


@dataclass(frozen=True)
class Asker(Method):
    """A method that wants the question."""

    name: ClassVar[str] = "asker"
    title: ClassVar[str] = "Asker"
    acts_on: ClassVar[str] = "layers"
    query_aware: ClassVar[bool] = True
    retention: float = 0.5


def setting(name: str, share: float, label: str = "", **more) -> Setting:
    return Setting(label or METHODS[name].title, share, RunSettings.of(name, retention=share, **more))


def row(item, of: Setting, rights: list[tuple[str, str, bool]], kept: float = 0.3, missed: str = "") -> dict:
    answers = [{"task": task, "question": "?", "said": said, "right": right} for task, said, right in rights]
    shares = {"kept": kept, "layer_average": kept, "kv_bytes": kept}
    times = {"vision_s": 0.1, "merge_s": 0.001, "prefill_s": 0.01, "first_token_s": 0.002}
    about = {"clip": item.name, "seed": 1, "key": of.key, "kv_bytes": 1e6 * kept, "missed": missed}
    return about | {"answers": answers, "shares": shares} | times


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (5, 5), (9, 2), (0, 8), (30, 11)])
def test_the_chance_of_a_split_is_scipys(wins: int, losses: int) -> None:
    expected = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert sign_test(wins, losses) == pytest.approx(expected)


def test_duels_count_questions_that_only_one_answers() -> None:
    mine, theirs = [True] * 10 + [False] * 5, [False] * 8 + [True] * 2 + [True] + [False] * 4
    rights = {("STTM", 0.3): theirs, ("ToMe", 0.3): mine, ("ToMe", 0.1): mine, (FULL, None): mine}
    (duel,) = duels(rights)
    assert (duel["label"], duel["budget"], duel["better"], duel["worse"]) == ("ToMe", 0.3, 8, 1)
    assert verdict(duel) == "wins" and verdict(duel | {"better": 1, "worse": 8}) == "loses"
    assert verdict(duel | {"chance": 0.05}) == "even"


def test_rows_survive_a_stop_in_the_middle_of_a_line(tmp_path: Path) -> None:
    full, tome = Setting(FULL, None, None), setting("tome", 0.3)
    path = tmp_path / "rows.jsonl"
    RowFile(path).add([row(ITEM, full, [("ocr", "A", True)])])
    with path.open("a") as file:
        file.write('\n{"clip": "half')
    again = RowFile(path)
    assert again.missing(ITEM, [full, tome]) == [tome] and again.missing(OTHER, [full]) == [full]
    again.add([row(ITEM, tome, [("ocr", "B", False)])])
    assert RowFile(path).missing(ITEM, [full, tome, setting("tome", 0.1)]) == [setting("tome", 0.1)]
    assert [found["answers"][0]["said"] for found in RowFile(path).of([OTHER, ITEM], tome)] == ["B"]


def test_the_summary_counts_clips_that_all_settings_have(tmp_path: Path) -> None:
    full, tome, sttm = Setting(FULL, None, None), setting("tome", 0.3), setting("sttm", 0.3)
    file = RowFile(tmp_path / "rows.jsonl")
    truth = [("ocr", "A", True), ("ocr", "B", True), ("motion", "left", False), ("no code", "none", True)]
    worse = [("ocr", "A", True), ("ocr", "C", False), ("motion", "up", False), ("no code", "X", False)]
    file.add([row(ITEM, full, truth, 1.0), row(ITEM, tome, worse, 0.3, "missed"), row(ITEM, sttm, truth, 0.29)])
    file.add([row(OTHER, full, truth, 1.0)])
    found = summarise(file, [ITEM, OTHER], [full, tome, sttm])
    assert (found["clips"], found["questions"]) == (1, 4)
    whole, merged, own = found["rows"]
    assert (whole["overall"]["correct"], whole["overall"]["total"], whole["changed"]["correct"]) == (2, 3, 0)
    assert (merged["overall"]["correct"], merged["overall"]["total"], merged["changed"]["correct"]) == (1, 3, 3)
    assert merged["tasks"]["ocr"]["accuracy"] == 0.5 and merged["tasks"]["no code"]["correct"] == 0
    assert merged["missed"] == 1 and own["missed"] == 0 and own["kept"] == 0.29
    assert merged["seconds"]["language_model"] == pytest.approx(0.013)
    assert [(duel["label"], duel["better"], duel["worse"]) for duel in found["duels"]] == [("ToMe", 0, 1)]
    with pytest.raises(ValueError, match="no clip was asked at every setting yet"):
        summarise(file, [OTHER], [full, tome])


@pytest.mark.parametrize("best", [{}, {"prefer": "temporal"}, {"weighting": "patches", "position_rule": "survived"}])
def test_the_search_finds_what_is_best_and_asks_nothing_twice(best: dict) -> None:
    fields = tuning.choices(range(4), 0, "reassigned")
    asked = []

    def count(runs: list[RunSettings]) -> list[int]:
        asked.extend(runs)
        flat = [run.as_dict() for run in runs]
        return [sum(one[name] == value for name, value in best.items()) for one in flat]

    chosen, tried = search(fields, (0.15, 0.1), count)
    assert chosen == {name: values[0] for name, values in fields.items()} | best
    assert len(asked) == len(set(asked)) == 2 * len(tried) and tried[0]["right"] == 2 * len(best)
    assert {run.retention for run in asked} == {0.15, 0.1}
    assert set(fields["merge_layer"]) == {0, 1} and fields["position_rule"][0] == "reassigned"


def test_what_the_question_decides_is_prefilled_for_each_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "asker", Asker)
    made = []

    def timed_prefill(encoded, method, question=None, *, position_rule=None):
        made.append((encoded, method, question, position_rule))
        return SimpleNamespace(question=question)

    llm = SimpleNamespace(
        default_merge_layer=2, default_position_rule="survived", merge_layers=range(4),
        encode=lambda clip, merge_layer: f"{clip} before {merge_layer}",
        fitted=lambda encoded, settings, question: f"for {question}",
        timed_prefill=timed_prefill, answer=lambda prefix, question: f"{prefix.question}: {question}",
    )  # fmt: skip
    settings = RunSettings.of("asker", retention=0.3, merge_layer=1)
    answers = [answer for _, answer in Encodings(llm, "clip").answers(settings, ["who", "when"])]
    assert answers == ["who: who", "when: when"]
    assert made == [("clip before 1", f"for {q}", q, "survived") for q in ("who", "when")]


def test_a_token_method_is_prefilled_once_and_answers_as_the_engine(tiny_model: str, tmp_path: Path) -> None:
    llm = VideoLLM.load(tiny_model)
    encoded = llm.encode(ITEM.clip(tmp_path))
    settings = RunSettings.of("tome", retention=0.3)
    prefix = llm.prefill(encoded, encoded.plan(settings))
    (found,) = ask_clip(llm, ITEM, tmp_path, [setting("tome", 0.3)])
    assert [a["said"] for a in found["answers"]] == [llm.answer(prefix, q.text).text for q in ITEM.questions]
    assert found["shares"] == prefix.shares and found["kv_bytes"] == prefix.video_kv_bytes
    (fewer,) = ask_clip(llm, ITEM, tmp_path, [setting("downsample", 0.3)])
    assert 0 < fewer["shares"]["kept"] <= 0.3 and fewer["vision_s"] > 0 and not fewer["missed"]
    (dycoke,) = ask_clip(llm, ITEM, tmp_path, [setting("dycoke", 0.1)])
    assert dycoke["missed"].startswith("The budget of 10.0% can't be reached: DyCoke") and not found["missed"]


def test_several_workers_write_what_one_writes(tiny_model: str, tmp_path: Path) -> None:
    settings = [Setting(FULL, None, None), setting("random", 0.3)]
    files = []
    for count in (1, 2):
        files.append(RowFile(tmp_path / f"{count}.jsonl"))
        lines: list[str] = []
        crew = Crew(Loading(tiny_model, "cpu", "float32"), count, tmp_path, log=lines.append)
        assert crew.fill(files[-1], [ITEM, OTHER], settings)
        assert lines[-1].startswith("4 of 4 rows, ") and lines[-1].endswith("about 0 s left")
    one, two = (file.rows for file in files)
    assert one.keys() == two.keys() and all(one[key]["answers"] == two[key]["answers"] for key in one)
    late = Crew(crew.loading, 1, tmp_path, deadline=0.0)
    assert not late.fill(RowFile(tmp_path / "late.jsonl"), [ITEM], settings)


def test_the_command_writes_a_page_and_goes_on_where_it_stopped(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "CHOICES", {"prefer": ("balanced", "temporal")})
    options = ["--model", tiny_model, "--clips", "2", "--empty", "1", "--tuned", "1", "--num-frames", str(FRAMES)]
    options += ["--method", "sttm", "--method", "pooling", "--retention", "0.3", "--device", "cpu"]
    options += ["--out", str(tmp_path / "out"), "--folder", str(tmp_path / "clips")]
    result = command("benchmarks.needle_table.__main__", *options)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "table.json").read_text())
    assert [(r["label"], r["budget"]) for r in report["rows"]] == [
        (FULL, None), ("STTM", 0.3), ("Average pooling", 0.3), (TUNED, 0.3)
    ]  # fmt: skip
    assert report["clips"] == 3 and report["finished"] and report["tuned"]["clips"] == 1
    assert {duel["label"] for duel in report["duels"]} == {"Average pooling", TUNED}
    text = (tmp_path / "out" / "README.md").read_text()
    assert text == page(report, "accuracy") and "## 30%" in text and "## STTM, tuned" in text
    assert (tmp_path / "out" / "accuracy-light.svg").read_text().count("Average pooling")
    monkeypatch.setattr(workers, "ask_clip", None)  # nothing is left to be asked
    assert command("benchmarks.needle_table.__main__", *options).exit_code == 0
    assert json.loads((tmp_path / "out" / "table.json").read_text())["rows"] == report["rows"]


def test_clips_are_drawn_for_a_machine_that_can_only_read_them(tmp_path: Path) -> None:
    options = ["--clips", "1", "--empty", "1", "--tuned", "1", "--num-frames", str(FRAMES), "--draw-only"]
    options += ["--folder", str(tmp_path), "--out", str(tmp_path / "none")]
    result = command("benchmarks.needle_table.__main__", *options)
    assert result.exit_code == 0 and result.output.startswith("3 clips, ")
    assert {path.name.split("-")[2] for path in tmp_path.glob("held-out-*.mp4")} == {"1", "2"}
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [(["--method", "toma"], "there is no method 'toma'"), (["--seed", "2"], "seed 2 makes the development clips")],
)
def test_bad_options_are_refused(options: list[str], sentence: str) -> None:
    result = command("benchmarks.needle_table.__main__", *options)
    assert result.exit_code == 2 and sentence in " ".join(result.output.split())


@pytest.mark.parametrize(("tuned", "sentence"), [("0", "no clip was asked at every"), ("1", "before STTM was tuned")])
def test_too_little_time_is_a_sentence(tiny_model: str, tmp_path: Path, tuned: str, sentence: str) -> None:
    options = ["--model", tiny_model, "--clips", "1", "--empty", "0", "--num-frames", str(FRAMES), "--minutes", "0"]
    options += ["--method", "frames", "--tuned", tuned, "--folder", str(tmp_path), "--out", str(tmp_path / "out")]
    result = command("benchmarks.needle_table.__main__", *options, "--device", "cpu")
    assert result.exit_code == 1 and sentence in result.output and "Traceback" not in result.output


def test_it_runs_on_a_machine_without_what_only_the_page_needs(tiny_model: str, tmp_path: Path) -> None:
    """OpenCV reads the files there; the figure waits."""
    ITEM.write(tmp_path)
    arguments = ["x", "--model", tiny_model, "--clips", "1", "--empty", "0", "--num-frames", str(FRAMES)]
    arguments += ["--method", "frames", "--retention", "0.5", "--folder", str(tmp_path), "--out", str(tmp_path / "out")]
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['av', 'decord', 'gradio', 'matplotlib', 'plotly']))\n"
        f"sys.argv = {arguments!r}\n"
        "import runpy; runpy.run_module('benchmarks.needle_table', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "no Matplotlib here" in done.stdout and (tmp_path / "out" / "README.md").is_file()


def test_the_seeds_of_both_splits_differ() -> None:
    assert ITEM.seed != command_module.DEVELOPMENT_SEED
    assert needle_clip(0, FRAMES, command_module.DEVELOPMENT_SEED).name != ITEM.name
