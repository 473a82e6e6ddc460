"""What people write, as tokens: words that look like control tokens stay words.

A chat template is rendered around `PLACE`, never around a person's text, and only the template's own text may hold
control tokens. (transformers 5.24 has `sanitize_control_tokens` for this; the oldest release that we admit does not,
and it drops the private characters that it marks with from the text.)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerBase

PLACE = "\ue000question\ue001"  # stands for the question while a template is rendered


@dataclass(frozen=True)
class PromptParts:
    """The prompt around a question.

    Attributes:
        head: up to the end of its video, which is encoded once.
        before, after: the template's text between the video and the question, and behind the question.
    """

    head: str
    before: str
    after: str


def split_prompt(prompt: str, video_end: str) -> PromptParts:
    """The parts of a prompt that was rendered around `PLACE`; the video is the last one before the question.

    Raises:
        ValueError: if the template leaves out the question, or places no video before it.
    """
    until, found, after = prompt.partition(PLACE)
    if not found or PLACE in after:
        raise ValueError("the chat template of this model does not place the question once in the prompt.")
    head, end, before = until.rpartition(video_end)
    if not end:
        raise ValueError(f"the chat template of this model places no {video_end!r} in the prompt.")
    return PromptParts(head + end, before, after)


class PlainText:
    """A tokenizer, and its model and rules without a single added token: no special ones, no ``<think>``.

    This is a thing of its own, since switching `split_special_tokens` on a shared tokenizer would meet other threads,
    and would leave added tokens that are not special.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        whole = tokenizer.backend_tokenizer
        self.plain = Tokenizer(whole.model)  # shared, not copied
        if whole.normalizer is not None:
            self.plain.normalizer = whole.normalizer
        if whole.pre_tokenizer is not None:
            self.plain.pre_tokenizer = whole.pre_tokenizer
        added = tokenizer.added_tokens_decoder
        self.control_ids = frozenset(added)
        longest_first = sorted(added.values(), key=lambda token: -len(token.content))
        self.control = re.compile("|".join(map(_pattern, longest_first)) or "(?!)")

    def ids(self, text: str) -> list[int]:
        """Tokens of ``text``, none of them an added one."""
        ids = self.plain.encode(text, add_special_tokens=False).ids
        if self.control_ids.isdisjoint(ids):
            return ids
        return [number for letter in text for number in self.plain.encode(letter, add_special_tokens=False).ids]

    def question_ids(self, parts: PromptParts, question: str) -> list[int]:
        """Tokens of all that follows the video. Where ``question`` looks like nothing else, those of the whole text.

        Tokenizers cut text at added tokens first. So what stands between the template's last before the question and
        its first behind it is tokenised in one go: a blank line before the question may be one token or two.
        """
        opened = max((found.end() for found in self.control.finditer(parts.before)), default=0)
        closing = self.control.search(parts.after)
        closed = closing.start() if closing else len(parts.after)
        between = parts.before[opened:] + question + parts.after[:closed]
        return self._template_ids(parts.before[:opened]) + self.ids(between) + self._template_ids(parts.after[closed:])

    def _template_ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids if text else []


@lru_cache(maxsize=8)
def plain_text(tokenizer: PreTrainedTokenizerBase) -> PlainText:
    """The `PlainText` of a tokenizer, made once."""
    return PlainText(tokenizer)


def _pattern(token: AddedToken) -> str:
    """Some added tokens take the blanks beside them along."""
    return r"\s*" * token.lstrip + re.escape(token.content) + r"\s*" * token.rstrip
