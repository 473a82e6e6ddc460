"""The two answer columns as HTML: baseline left and grey, merged right and accent."""

from __future__ import annotations

from difflib import SequenceMatcher
from html import escape

from sttm_core.budgets import KEPT, KV_BYTES, LAYER_AVERAGE
from sttm_core.method import Method
from sttm_core.methods import Sttm
from sttm_core.scoring import is_right
from sttm_core.timing import Timings

from .labels import STAGE_NAMES, duration
from .studio import Column

MERGED = "Merged"
WAITING = "Ask a question: both columns answer it, one from all tokens and one from the merged ones."


def answer_card(column: Column | None, other: Column | None, *, truth: str | None = None, busy: str = "") -> str:
    """One column.

    Args:
        column: what is known so far, None before the first question.
        other: the other column, for the common scale of the bars and to mark words that differ.
        truth: the known answer, shown beside the model's.
        busy: what is still going on although the answer is there, in a few words.
    """
    merged = column is not None and not column.is_baseline
    kind, title = ("merged", merged_title(column.reduces)) if merged else ("baseline", "All tokens")
    if column is None:
        return _card(kind, title, "", f'<p class="hint">{escape(WAITING)}</p>')
    if column.error:
        return _card(kind, title, "", f'<p class="failed" role="alert">{escape(column.error)}</p>')
    parts = [_text(column, other)]
    if truth and column.answer and column.answer.finished:
        parts.append(_truth(column.answer.text, truth))
    if column.timings:
        parts.append(_ttft(column, other, busy))
        parts.append(_facts(column))
    return _card(kind, title, _badge(column, other) if merged else "", "".join(parts))


def empty_cards(title: str = MERGED) -> tuple[str, str]:
    """Both columns before the first question; ``title`` of the right one, see `merged_title`."""
    hint = '<p class="hint">The same question, answered from the tokens that merging leaves.</p>'
    return answer_card(None, None), _card("merged", title, "", hint)


def working_cards(doing: str, title: str = MERGED) -> tuple[str, str]:
    """Both columns while something goes on that concerns both of them; stopped if ``doing`` is empty."""
    words = f'{escape(doing)}<span class="dots"></span>' if doing else "stopped"
    text = f'<p class="text waiting" role="status">{words}</p>'
    return _card("baseline", "All tokens", "", text), _card("merged", title, "", text)


def bytes_text(count: int | None) -> str:
    """``78 MB``, ``1.2 GB``; a dash where it is not known."""
    if count is None:
        return "-"
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            value = count / size
            return f"{value:.1f} {unit}" if value < 9.95 else f"{value:,.0f} {unit}"
    return f"{count} B"


def marked_words(text: str, reference: str) -> str:
    """``text`` as HTML, words that ``reference`` does not have at that place in ``<mark>``."""
    words, others = text.split(), reference.split()
    pieces = []
    for tag, _, _, start, end in SequenceMatcher(None, others, words, autojunk=False).get_opcodes():
        chunk = escape(" ".join(words[start:end]))
        if chunk:
            pieces.append(f"<mark>{chunk}</mark>" if tag in ("insert", "replace") else chunk)
    return " ".join(pieces)


def merged_title(method: Method) -> str:
    """The right column's: named after the method, where that is not STTM."""
    return MERGED if method.name == Sttm.name else method.title


def _card(kind: str, title: str, badge: str, body: str) -> str:
    return (
        f'<section class="answer {kind}" aria-label="{title}"><header><h3>{title}</h3>{badge}</header>{body}</section>'
    )


def _text(column: Column, other: Column | None) -> str:
    if column.answer is None:
        return f'<p class="text waiting">{_waiting(column, other)}<span class="dots"></span></p>'
    done = column.answer.finished and other is not None and other.answer is not None and other.answer.finished
    if not column.is_baseline and done:
        text = marked_words(column.answer.text, other.answer.text)
    else:
        text = escape(column.answer.text)
    cursor = "" if column.answer.finished else '<span class="cursor"></span>'
    stopped = f"<small>{escape(column.answer.stopped)}</small>" if column.answer.stopped else ""
    return f'<p class="text" aria-live="polite">{text or "<em>(empty)</em>"}{cursor}</p>{stopped}'


def _waiting(column: Column, other: Column | None) -> str:
    if column.is_baseline:
        return "reading all tokens"
    before_it = other is not None and not other.error and not (other.answer and other.answer.finished)
    if before_it:
        return "next, after all tokens"
    return f"reading {column.plan.num_tokens:,} merged tokens" if column.plan else "choosing tokens"


def _badge(column: Column, other: Column | None) -> str:
    answers = [c.answer for c in (column, other) if c is not None and c.answer is not None]
    if len(answers) < 2 or not all(answer.finished for answer in answers):
        return ""
    same = answers[0].text == answers[1].text
    return f'<span class="badge {"same" if same else "changed"}">{"same answer" if same else "▲ changed"}</span>'


def _truth(text: str, truth: str) -> str:
    right = is_right(text, truth)
    return f'<p class="truth {"right" if right else "wrong"}">{"✓" if right else "✗"} truth: {escape(truth)}</p>'


def _ttft(column: Column, other: Column | None, busy: str) -> str:
    scale = max(c.timings.ttft for c in (column, other) if c is not None and c.timings)
    runs = len(column.runs)
    count = f"median of {runs}" if runs > 1 else "1 run"
    first = column.answer.timings.first_token if column.answer else 0.0
    notes = [busy or count]
    if column.cached:
        notes.append(f"this question from the cached prefix: {duration(first)}")
    ratio = ""
    if not column.is_baseline and other is not None and other.timings:
        ratio = f'<b class="ratio">×{other.timings.ttft / column.timings.ttft:.2f}</b>'
    return (
        f'<div class="ttft"><span>TTFT <b>{duration(column.timings.ttft)}</b></span>{ratio}'
        f"<small>{' · '.join(notes)}</small></div>{_bar(column.timings, scale)}"
    )


def _bar(timings: Timings, scale: float) -> str:
    stages = [(name, seconds) for name, seconds in timings.as_dict().items() if seconds > 0]
    words = ", ".join(f"{STAGE_NAMES[name]} {duration(seconds)}" for name, seconds in stages)
    pieces = "".join(
        f'<i class="{name}" style="width:{100 * seconds / scale:.2f}%" title="{STAGE_NAMES[name]}"></i>'
        for name, seconds in stages
    )
    legend = "".join(f'<span><i class="{n}"></i>{STAGE_NAMES[n]} {duration(s)}</span>' for n, s in stages)
    return f'<div class="bar" role="img" aria-label="{words}">{pieces}</div><div class="stages">{legend}</div>'


def _facts(column: Column) -> str:
    answer = column.answer
    facts = [
        f"{answer.prompt_tokens:,} tokens",
        f"{bytes_text(answer.kv_bytes)} KV cache",
        f"{bytes_text(answer.peak_bytes)} peak",
    ]
    if column.is_baseline:
        return f'<p class="facts">{" · ".join(facts)}</p>'
    shares = answer.shares
    of_all = (
        f"{shares[KEPT]:.1%} kept · {shares[LAYER_AVERAGE]:.1%} layer average · {shares[KV_BYTES]:.1%} of the KV bytes"
    )
    missed = f'<p class="missed" role="status">{escape(column.missed)}</p>' if column.missed else ""
    return f'<p class="facts">{" · ".join(facts)}</p><p class="facts shares">{of_all}</p>{_engaged(column)}{missed}'


def _engaged(column: Column) -> str:
    """Where the method acted, and on how many tokens."""
    method, prefix = column.reduces, column.prefix
    before, after = prefix.tokens_before, prefix.tokens_after
    if method.acts_on == "pixels":
        before = column.video.layout.length
    where = {
        "tokens": f"engaged at layer {prefix.encoded.merge_layer}",
        "layers": f"engaged inside the layers, from {prefix.encoded.merge_layer} on",
        "pixels": "engaged before the vision encoder",
    }[method.acts_on]
    if before != after:
        return f'<p class="engaged">{where}: {before:,} → {after:,} tokens</p>'
    why = "nothing merges at these thresholds" if method.name == Sttm.name else "this budget leaves all tokens"
    return f'<p class="engaged off">not engaged: {why}</p>'
