"""The answer columns as HTML."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from sttm_core.timing import Timings
from tests.core.test_scoring import VERDICTS
from tests.viz.columns import TIMES, answer, column
from viz.cards import answer_card, bytes_text, empty_cards, marked_words, working_cards


class Balanced(HTMLParser):
    """Fails on a tag that is closed without having been opened."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def cards(left, right, **options) -> tuple[str, str]:
    both = answer_card(left, right, **options), answer_card(right, left, **options)
    for html in both:
        Balanced(html)
    return both


def test_same_answer_and_the_ratio_of_both_times():
    left, right = cards(column(None, answer("K7P2")), column(10, answer("K7P2", TIMES / 2)))
    assert "same answer" in right and "same answer" not in left
    assert "×2.00" in right and "×" not in left
    assert "<mark>" not in right


def test_changed_words_are_marked_in_the_merged_column_only():
    left, right = cards(column(None, answer("a red circle")), column(10, answer("a blue circle")))
    assert "▲ changed" in right and "<mark>blue</mark>" in right
    assert "mark" not in left and "changed" not in left


def test_nothing_is_called_changed_while_it_streams():
    left, right = cards(column(None, answer("a red circle")), column(10, replace(answer("a blue"), finished=False)))
    assert "badge" not in right and "<mark>" not in right and "cursor" in right


def test_a_failed_column_says_why_and_the_other_one_is_complete():
    failed = column(None, None)
    failed.error = "The GPU's memory did not suffice for <prefilling>."
    left, right = cards(failed, column(10, answer("K7P2")))
    assert "did not suffice for &lt;prefilling&gt;" in left and 'role="alert"' in left
    assert "K7P2" in right and "TTFT" in right and "×" not in right


@pytest.mark.parametrize(
    "kept, said",
    [(10, "engaged at layer 2: 103 → 13 tokens"), (100, "not engaged: nothing merges at these thresholds")],
)
def test_merging_is_proved_by_token_counts(kept, said):
    _, right = cards(column(None, answer("x")), column(kept, answer("x")))
    assert said in right


def test_truth_is_compared():
    left, right = cards(column(None, answer('"K7P2".')), column(10, answer("nothing")), truth="K7P2")
    assert "✓ truth: K7P2" in left and "✗ truth: K7P2" in right
    early = replace(answer("K7"), finished=False)
    assert "truth" not in "".join(cards(column(None, early), column(10, None), truth="K7P2"))


@pytest.mark.parametrize(("said", "truth", "right"), VERDICTS)
def test_truth_is_judged_as_everywhere(said, truth, right):
    left, _ = cards(column(None, answer(said)), column(10, answer(said)), truth=truth)
    assert ("✓ truth" in left, "✗ truth" in left) == (right, not right)


def test_who_waits_for_whom():
    left, right = cards(column(None, None), column(10, None))
    assert "reading all tokens" in left and "next, after all tokens" in right
    _, right = cards(column(None, answer("x")), column(10, None))
    assert "reading 10 merged tokens" in right
    failed = column(None, None)
    failed.error = "no memory"
    assert "reading 10 merged tokens" in cards(failed, column(10, None))[1]


def test_medians_cached_prefixes_and_what_goes_on():
    done = column(None, answer("x"))
    done.runs = [Timings(prefill=1), Timings(prefill=3), Timings(prefill=2)]
    done.cached = True
    html, _ = cards(done, column(10, answer("x")))
    assert "TTFT <b>2.00 s</b>" in html and "median of 3" in html
    assert "this question from the cached prefix: 100 ms" in html
    html, _ = cards(done, column(10, answer("x")), busy="timing run 2 of 3")
    assert "timing run 2 of 3" in html and "median" not in html


def test_bars_share_one_scale():
    left, right = cards(column(None, answer("x")), column(10, answer("x", TIMES / 2)))
    widths = [[float(part.split("%")[0]) for part in html.split("width:")[1:]] for html in (left, right)]
    assert sum(widths[0]) == pytest.approx(100, abs=0.1)
    assert sum(widths[1]) == pytest.approx(50, abs=0.1)


def test_text_is_never_html():
    bad = "<script>alert(1)</script>"
    for html in cards(column(None, answer(bad)), column(10, answer(bad + " x")), truth=bad):
        assert "<script>" not in html
    assert "<b>" not in "".join(working_cards("<b>"))


@pytest.mark.parametrize(
    "text, reference, marked",
    [
        ("one two", "one two", "one two"),
        ("one new two", "one two", "one <mark>new</mark> two"),
        ("one", "one two", "one"),
        ("", "one", ""),
        ("a < b", "a", "a <mark>&lt; b</mark>"),
    ],
)
def test_marked_words(text, reference, marked):
    assert marked_words(text, reference) == marked


@pytest.mark.parametrize(
    "count, text", [(None, "-"), (12, "12 B"), (1500, "1.5 kB"), (77_000_000, "77 MB"), (1_240_000_000, "1.2 GB")]
)
def test_bytes(count, text):
    assert bytes_text(count) == text


def test_cards_before_and_between():
    for left, right in (empty_cards(), working_cards("encoding 4 frames"), working_cards("")):
        Balanced(left)
        Balanced(right)
        assert "All tokens" in left and "Merged" in right
    assert "stopped" in working_cards("")[0]


def test_an_answer_without_text_is_said_to_be_empty():
    for html in cards(column(None, answer("")), column(10, answer(""))):
        assert "(empty)" in html
