"""The tokenizer: byte-level BPE learnt from the questions and answers that the generator makes."""

from __future__ import annotations

import random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from demo_model.atlas import load_atlas
from demo_model.questions import slots_of
from demo_model.stories import StoryRules, random_scene
from demo_model.vocabulary import BACKGROUNDS, COLUMNS, PERIODS, REFUSAL, ROWS

PAD, START, END, IMAGE, VIDEO = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"
SPECIAL = (PAD, START, END, IMAGE, VIDEO)  # ids 0 to 4
VOCABULARY = 576

BEFORE_VIDEO = f"{START}user "
AFTER_VIDEO = "\n"
BEFORE_ANSWER = f"{END}{START}assistant\n"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + ('\n' if message['role']=='assistant' else ' ') }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for c in message['content'] if c['type']=='video' %}{{ '<video>\n' }}{% endfor %}"
    "{% for c in message['content'] if c['type']=='text' %}{{ c['text'] }}{% endfor %}{% endif %}{{ '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def build_tokenizer(seed: int = 0, clips: int = 1500) -> Tokenizer:
    """Learn the merges from generated questions; codes stay single characters, words of the questions become tokens.

    Args:
        seed: of the generated scenes.
        clips: how many scenes to ask about.

    Returns:
        A tokenizer with at most ``VOCABULARY`` entries; the special tokens come first.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed, clips), trainer)
    return tokenizer


def _texts(seed: int, clips: int) -> list[str]:
    """Questions and answers, codes left out, and every word that an answer can hold."""
    rng, atlas = random.Random(seed), load_atlas()
    texts = ["user", "assistant"] * clips
    texts += [word for name in (*ROWS, *COLUMNS, *PERIODS, *BACKGROUNDS) for word in (name, " " + name)] * 20
    texts += [REFUSAL] * 60
    for _ in range(clips):
        for slot in slots_of(random_scene(rng, 16, atlas, StoryRules()), rng):
            texts.append(slot.question)
            if slot.kind not in ("ocr", "ocr_nth", "refusal"):
                texts.append(slot.answer)
    return texts
