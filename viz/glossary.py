"""The five words that a newcomer needs, each in a sentence or two, with where the method says it."""

from __future__ import annotations

from html import escape

PAPER = "https://arxiv.org/abs/2507.07990"

WORDS = {
    "retention": (
        "The share of video tokens that are left after merging: kept tokens divided by all tokens.",
        "paper, section 4",
    ),
    "τ_S": (
        "Spatial threshold. A box of the quadtree stays one token if its cosine similarity to all of its parts is at "
        "least this; otherwise it is split. Lower merges more.",
        "paper, section 3.1",
    ),
    "τ_T": (
        "Temporal threshold. Overlapping boxes of neighbouring frames with a cosine similarity of at least this are "
        "linked and become one token. Lower merges more; 0 switches it off.",
        "paper, section 3.2",
    ),
    "chain": (
        "All boxes that links join through time. A chain becomes one token, in the place of its first box.",
        "paper, section 3.2",
    ),
    "TTFT": (
        "Time to first token: from opening the video file to the first word of the answer. Papers often count the "
        "language model alone; here decoding and the vision encoder are in it, and shown apart.",
        "README, How TTFT is measured",
    ),
}


def glossary_html() -> str:
    """A line of small disclosure buttons, one a word."""
    items = "".join(
        f"<details><summary>{escape(word)}</summary>"
        f'<div role="note">{escape(text)} <a href="{PAPER}" target="_blank" rel="noreferrer">{escape(source)}</a></div>'
        "</details>"
        for word, (text, source) in WORDS.items()
    )
    return f'<div class="glossary" aria-label="What the words mean"><span>What is</span>{items}</div>'
