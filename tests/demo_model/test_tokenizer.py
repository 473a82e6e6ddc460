"""The tokenizer: codes are spelt, known words are tokens, and the questions of a clip fit."""

from __future__ import annotations

import random
import re

import pytest
from tokenizers import Tokenizer

from demo_model.atlas import load_atlas
from demo_model.data import SLOT_TOKENS
from demo_model.questions import SLOTS, slots_of
from demo_model.sequence import slot_ids
from demo_model.stories import StoryRules, random_scene
from demo_model.tokenizer import END, SPECIAL, VOCABULARY, build_tokenizer
from demo_model.vocabulary import CHARACTERS, COLOURS, REFUSAL, SHAPES, WORDS
from demo_model.wordings import HELD_OUT, WORDINGS


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return build_tokenizer()


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


def test_the_special_tokens_come_first_and_the_vocabulary_has_room(tokenizer):
    assert [tokenizer.token_to_id(name) for name in SPECIAL] == [0, 1, 2, 3, 4]
    assert sorted(tokenizer.get_vocab().values()) == list(range(tokenizer.get_vocab_size()))
    assert tokenizer.get_vocab_size() <= VOCABULARY


def test_it_is_the_same_each_time_and_survives_its_file(tokenizer):
    assert build_tokenizer().to_str() == tokenizer.to_str()
    assert Tokenizer.from_str(tokenizer.to_str()).to_str() == tokenizer.to_str()


def test_codes_and_words_that_clips_show_are_spelt(tokenizer):
    rng = random.Random(0)
    codes = ["".join(rng.choices(CHARACTERS, k=rng.randint(2, 8))) for _ in range(2000)]
    for text in (*CHARACTERS, *codes, *WORDS):
        assert tokenizer.encode(text + END, add_special_tokens=False).tokens == [*text, END]


@pytest.mark.parametrize("name", [*SHAPES, *COLOURS])
def test_names_are_single_tokens_and_misspelt_ones_are_spelt(tokenizer, name):
    assert len(ids(tokenizer, name)) == len(ids(tokenizer, " " + name)) == 1
    typo = name[0] + name
    assert len(ids(tokenizer, " " + typo)) == 1 + len(typo)


@pytest.mark.parametrize("text", ["What colour is the staar?", "Größe 日本 😀", REFUSAL, "K7P2"])
def test_any_text_comes_back(tokenizer, text):
    assert tokenizer.decode(ids(tokenizer, text)) == text


def test_held_out_wordings_hold_no_token_that_training_lacks(tokenizer):
    def tokens(part: slice) -> set[str]:
        texts = [re.sub(r"\{\w+\}", "star", wording) for wordings in WORDINGS.values() for wording in wordings[part]]
        return {token for text in texts for token in tokenizer.encode(text).tokens}

    assert not tokens(slice(-HELD_OUT, None)) - tokens(slice(None, -HELD_OUT))


def test_the_questions_of_a_clip_fit_its_room(tokenizer):
    rng, left_out, total = random.Random(1), 0, 0
    for _ in range(600):
        room = SLOT_TOKENS
        for slot in slots_of(random_scene(rng, 16, load_atlas(), StoryRules()), rng, SLOTS):
            size = sum(map(len, slot_ids(slot, tokenizer)))
            left_out, room = (left_out + 1, room) if size > room else (left_out, room - size)
            total += 1
    assert left_out / total < 0.02
