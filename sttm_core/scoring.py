"""When an answer is right: one definition, for the page, its needle check and the benchmarks.

An answer is right if it says the known answer and nothing else. These differences do not count:

- white space around it, and how much of it stands between words;
- quotes, brackets and asterisks around it, and ``. , ; : ! ?`` at its end (a sign in front, as in ``-3``, does count);
- capital or small letters, unless the known answer has letters and all of them are capitals: that is a code or a sign
  to be read, such as ``K7P2`` or ``EXIT``, and ``k7p2`` is another one;
- how Unicode composes a letter (NFC).

Words more or less, another order and synonyms do count: "a red circle" is not "red". A text of nothing but such marks
stands for itself.
"""

from __future__ import annotations

import unicodedata

_AROUND = "\"'`*()[]{}<>" + "\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}" + (
    "\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}"
    "\N{LEFT-POINTING DOUBLE ANGLE QUOTATION MARK}\N{RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK}"
)  # fmt: skip
_AT_THE_END = ".,;:!?"


def is_right(answer: str, truth: str) -> bool:
    """Whether ``answer`` is ``truth``, as this module defines it."""
    said, known = bare(answer), bare(truth)
    if not known.isupper():
        said, known = said.casefold(), known.casefold()
    return said == known


def bare(text: str) -> str:
    """``text`` without what does not count whatever the truth is: everything above but the letters' case."""
    words = " ".join(unicodedata.normalize("NFC", text).split())
    return words.lstrip(_AROUND + " ").rstrip(_AROUND + _AT_THE_END + " ") or words
