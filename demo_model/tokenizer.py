"""The tokenizer: words of the questions and answers that the generator makes; anything else is spelt."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from demo_model.atlas import load_atlas
from demo_model.questions import slots_of
from demo_model.stories import StoryRules, random_scene
from demo_model.typing_habits import TRAINING
from demo_model.vocabulary import (
    BACKGROUNDS,
    COLOURS,
    COLUMNS,
    DIRECTIONS,
    NO_ANSWER,
    PERIODS,
    REFUSAL,
    ROWS,
    SHAPES,
    WORDS,
)

PAD, START, END, IMAGE, VIDEO = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"
SPECIAL = (PAD, START, END, IMAGE, VIDEO)  # ids 0 to 4
VOCABULARY = 576
SPACE = "Ġ"  # how byte-level BPE writes the space before a word
SHORTEST_START = 2  # letters without a space before them that are always spelt, since codes are made of such

BEFORE_VIDEO = f"{START}user "
AFTER_VIDEO = "\n"
BEFORE_ANSWER = f"{END}{START}assistant\n"

SPELT_RIGHT = replace(TRAINING, typo=0.0)

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + ('\n' if message['role']=='assistant' else ' ') }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for c in message['content'] if c['type']=='video' %}{{ '<video>\n' }}{% endfor %}"
    "{% for c in message['content'] if c['type']=='text' %}{{ c['text'] }}{% endfor %}{% endif %}{{ '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def build_tokenizer(seed: int = 0, clips: int = 3000) -> Tokenizer:
    """A token for each frequent word of questions and answers; all else, codes too, is spelt character by character.

    It is a BPE without merges: a piece of text that is an entry becomes one token, any other one its bytes. So a code,
    a misspelt word and an unknown word always look spelt.

    Args:
        seed: of the generated scenes.
        clips: how many scenes to ask about.

    Returns:
        A tokenizer with at most ``VOCABULARY`` entries: special tokens, bytes, words.
    """
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    entries = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    entries += _frequent_words(_texts(seed, clips), split, VOCABULARY - len(entries))
    vocabulary = {entry: number for number, entry in enumerate(entries)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], ignore_merges=True))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def _frequent_words(texts: list[str], split: pre_tokenizers.PreTokenizer, most: int) -> list[str]:
    """The pieces of text that save most tokens; ties in the order of letters. Words that clips show are left out."""
    saved = Counter()
    for text, times in Counter(texts).items():
        for piece, _ in split.pre_tokenize_str(text):
            if len(piece) > SHORTEST_START or (piece[0] == SPACE and len(piece) > 1):
                saved[piece] += times * (len(piece) - 1)
    return sorted(saved.keys() - set(WORDS), key=lambda piece: (-saved[piece], piece))[:most]


def _texts(seed: int, clips: int) -> list[str]:
    """Questions of the known kinds without typos, answers but for codes, and every word that an answer can hold."""
    rng, atlas = random.Random(seed), load_atlas()
    texts = ["user", "assistant"] * clips
    answers = (*ROWS, *COLUMNS, *PERIODS, *BACKGROUNDS, *SHAPES, *COLOURS, *DIRECTIONS, NO_ANSWER)
    texts += [word for name in answers for word in (name, " " + name)] * clips
    texts += [REFUSAL] * clips
    for _ in range(clips):
        for slot in slots_of(random_scene(rng, 16, atlas, StoryRules()), rng, habits=SPELT_RIGHT):
            if slot.kind != "refusal":
                texts.append(slot.question)
            if slot.kind not in ("ocr", "ocr_nth", "refusal"):
                texts.append(slot.answer)
    return texts
