"""The table as a Markdown page: what was found, where STTM loses, and with which command."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from benchmarks.needle_qa.items import TASKS
from benchmarks.needle_table.summary import PUBLISHED, verdict
from sttm_core.comparison import BUDGET_WORDS

MISSED = "\N{DAGGER}"


def page(report: dict[str, Any], figure: str | None = None) -> str:
    """The whole page.

    Args:
        figure: where the figure lies, without ``-light.svg``; None for none.
    """
    about = report["about"]
    parts = [
        "# Every method at one budget",
        f"`{about['command']}`",
        _rests_on(report),
        _figure(figure) if figure else "",
        *(_section(report, budget) for budget in _budgets(report)),
        _empty_clips(report),
        "## Against STTM",
        _duels_text(report["duels"]),
        _tuning(report.get("tuned")),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _rests_on(report: dict[str, Any]) -> str:
    about = report["about"]
    side_by_side = ", several processes at once on that device" if about["workers"] > 1 else ""
    return (
        f"{report['clips']} held-out clips (seed {about['seed']}) with {report['questions']} questions, "
        f"{about['num_frames']} frames each; model {about['model']}, {about['dtype']}, "
        f"{about['device']}{side_by_side}, torch {about['torch']}, transformers {about['transformers']}. Percent right "
        f"with 95% Wilson intervals.\n\nA budget is a share {BUDGET_WORDS[about['budget']]}. *kept*: video tokens left "
        "in the end; *layer average*: their mean over all layers; *KV*: bytes of the video prefix in the cache, as a "
        f"share of all tokens' and in MB. {MISSED}: the budget could not be reached on some clips. *changed*: answers "
        "other than from all tokens. *LM*: merge, prefill and first token of a clip's first question, medians in "
        f"milliseconds{'; only to be compared with each other' if side_by_side else ''}."
    )


def _figure(name: str) -> str:
    return (
        "<picture>\n"
        f'  <source media="(prefers-color-scheme: dark)" srcset="{name}-dark.svg">\n'
        f'  <img alt="Curves: right answers against tokens kept, one for each method" src="{name}-light.svg">\n'
        "</picture>"
    )


def _budgets(report: dict[str, Any]) -> list[float]:
    return sorted({row["budget"] for row in report["rows"] if row["budget"] is not None}, reverse=True)


def _section(report: dict[str, Any], budget: float) -> str:
    rows = [row for row in report["rows"] if row["budget"] in (None, budget)]
    rows.sort(key=lambda row: (row["budget"] is not None, -row["overall"]["accuracy"]))
    return f"## {budget:.0%}\n\n{table(rows)}"


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Markdown, a line a row."""
    heads = ["method", "kept", "layer average", "KV", "KV MB", "overall", *TASKS]
    heads += ["changed", "vision ms", "LM ms", "merge ms"]
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    for row in rows:
        shares = [f"{row[name]:.1%}" for name in ("kept", "layer_average", "kv_bytes")]
        shares[0] += MISSED if row["missed"] else ""
        cells = [_percent(row["overall"]), *(_percent(row["tasks"].get(task)) for task in TASKS)]
        times = [f"{1e3 * row['seconds'][name]:.0f}" for name in ("vision", "language_model", "merge")]
        changed = f"{row['changed']['accuracy']:.1%}"
        size = f"{row['video_kv_bytes'] / 1e6:.1f}"
        lines.append("| " + " | ".join([row["label"], *shares, size, *cells, changed, *times]) + " |")
    return "\n".join(lines)


def _percent(result: dict[str, float] | None) -> str:
    if result is None:
        return "-"
    return f"{100 * result['accuracy']:.1f} ({100 * result['low']:.0f}-{100 * result['high']:.0f})"


def _empty_clips(report: dict[str, Any]) -> str:
    tasks = [task for task in report["rows"][0]["tasks"] if task not in TASKS]
    if not tasks:
        return ""
    heads = ["method", "budget", *tasks]
    lines = ["## Clips without needles", "", "Asked for a code or a shape that is not there.", ""]
    lines += ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in report["rows"]:
        budget = "-" if row["budget"] is None else f"{row['budget']:.0%}"
        cells = [_percent(row["tasks"][task]) for task in tasks]
        lines.append("| " + " | ".join([row["label"], budget, *cells]) + " |")
    return "\n".join(lines)


def _duels_text(duels: list[dict[str, Any]]) -> str:
    """A line a method and budget, the wins of the others first: STTM's losses are not to be looked for."""
    if not duels:
        return "There is nothing to compare."
    order = {"wins": 0, "loses": 1, "even": 2}
    heads = ("method", "budget", f"right where {PUBLISHED} is wrong", "wrong where it is right", "chance", "verdict")
    lines = [
        "Question by question. *chance*: of a split at least as uneven between two equally good methods (sign test).",
        "",
        "| " + " | ".join(heads) + " |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for duel in sorted(duels, key=lambda duel: (order[verdict(duel)], -duel["budget"], duel["label"])):
        cells = [duel["label"], f"{duel['budget']:.0%}", str(duel["better"]), str(duel["worse"])]
        lines.append("| " + " | ".join([*cells, f"{duel['chance']:.3f}", verdict(duel)]) + " |")
    return "\n".join(lines)


def _tuning(tuned: dict[str, Any] | None) -> str:
    if not tuned:
        return ""
    lines = [
        "## STTM, tuned",
        "",
        f"Found on {tuned['clips']} development clips (seed {tuned['seed']}) at "
        f"{' and '.join(f'{budget:.0%}' for budget in tuned['budgets'])}, one field after the other from the paper's "
        f"setting at the model's own layer and positions on, {tuned['rounds']} rounds; of equally good values the "
        "one that was there stays. No clip of the tables above was looked at.",
        "",
        "| field | paper's | tuned |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {tuned['from'][name]} | {value} |" for name, value in tuned["chosen"].items()]
    lines += ["", "| tried | right of " + str(tuned["asked"]) + " |", "|---|---:|"]
    lines += [f"| {tried['name']} | {tried['right']} |" for tried in tuned["tried"]]
    return "\n".join(lines)
