"""Batches of prompts as plain transformers makes them: clips and questions row by row, padded by the processor."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sttm_core.engine import VideoLLM
from sttm_core.video import VideoClip
from tests.core.tiny import TINY

Asked = tuple[VideoClip | None, str]  # a row: its clip, or none, and its question
# Families whose processor takes clips of one length only in a batch; SmolVLM's changes the text of shorter ones.
ONE_LENGTH = ("llava_onevision", "internvl", "smolvlm")


def prompt_of(llm: VideoLLM, shown: VideoClip | None, question: str) -> str:
    content = [{"type": "video"}] * (shown is not None) + [{"type": "text", "text": question}]
    templates = llm.processor if shown is not None else llm.processor.tokenizer  # SmolVLM's has one for videos only
    messages = [{"role": "user", "content": content}]
    return templates.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)


def batch(llm: VideoLLM, model_type: str, rows: Sequence[Asked], side: str = "left") -> dict[str, torch.Tensor]:
    """What the processor makes of ``rows``, padded on one side."""
    told: dict = {}
    for shown, _ in rows:
        if shown is None:
            of_row = {"videos": [[]]} if model_type == "smolvlm" else {}
        else:
            of_row = {"videos": [shown.frames]} | TINY[model_type].with_video(shown)
        for name, value in of_row.items():
            told[name] = told.get(name, []) + value if isinstance(value, list) else value
    if not any(shown for shown, _ in rows):
        told = {}
    usual, llm.processor.tokenizer.padding_side = llm.processor.tokenizer.padding_side, side
    try:
        made = llm.processor(text=[prompt_of(llm, *row) for row in rows], return_tensors="pt", padding=True, **told)
    finally:
        llm.processor.tokenizer.padding_side = usual
    return {name: value for name, value in made.items() if isinstance(value, torch.Tensor)}


def generated(llm: VideoLLM, inputs: dict[str, torch.Tensor], count: int = 4, **options):
    """By plain `generate`: greedy unless ``options`` say otherwise, with logits."""
    options = {"do_sample": False, "output_logits": True, "return_dict_in_generate": True} | options
    return llm.model.generate(**inputs, max_new_tokens=count, **options)


def cache_name(output) -> str:
    """What this release of transformers calls the cache."""
    return "cache" if "cache" in output else "past_key_values"
