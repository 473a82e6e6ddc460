"""Writes a trained model in Hugging Face format, with a card whose figures come from the JSON of ``evaluate``."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import (
    GenerationConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PreTrainedTokenizerFast,
)

from demo_model.checkpoint import load_checkpoint
from demo_model.model import ModelSize, VideoModel, config_of
from demo_model.tokenizer import CHAT_TEMPLATE, END, IMAGE, PAD, SPECIAL, START, VIDEO, build_tokenizer

MAX_BYTES = 30 * 10**6
MAX_NEW_TOKENS = 32


def export_model(
    model: VideoModel, size: ModelSize, tokenizer, folder: Path, dtype: torch.dtype = torch.bfloat16
) -> None:
    """Write weights, configuration, tokenizer and processor.

    Args:
        model: as trained; it is left as it is.
        size: its dimensions.
        tokenizer: the ``tokenizers.Tokenizer`` that it was trained with.
        folder: made if missing.
        dtype: of the weights on disk.

    Raises:
        ValueError: the folder would be larger than 30 MB.
    """
    plain = LlavaOnevisionForConditionalGeneration(config_of(size))
    plain.load_state_dict({name: value.cpu() for name, value in model.model.state_dict().items()})
    plain.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=MAX_NEW_TOKENS,
        eos_token_id=SPECIAL.index(END),
        pad_token_id=SPECIAL.index(PAD),
    )
    plain.to(dtype).save_pretrained(folder)
    processor_of(size, tokenizer).save_pretrained(folder)
    total = sum(path.stat().st_size for path in folder.iterdir())
    if total > MAX_BYTES:
        raise ValueError(f"The model takes {total / 1e6:.1f} MB, but at most 30 MB are shipped; choose a smaller size.")


def processor_of(size: ModelSize, tokenizer) -> LlavaOnevisionProcessor:
    """Resizes pictures to the model's and writes prompts."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=PAD,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[START, IMAGE, VIDEO],
    )
    side = {"height": size.picture, "width": size.picture}
    normal = {"size": side, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    return LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(**normal, image_grid_pinpoints=[[size.picture, size.picture]]),
        video_processor=LlavaOnevisionVideoProcessor(**normal, do_sample_frames=False),
        tokenizer=fast,
        num_image_tokens=(size.picture // size.patch) ** 2,
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE,
        image_token=IMAGE,
        video_token=VIDEO,
    )


def export_checkpoint(checkpoint: Path, size: ModelSize, seed: int, folder: Path) -> None:
    """Write the newest checkpoint of a training in Hugging Face format.

    Raises:
        ValueError: there is no checkpoint.
    """
    from demo_model.model import new_model

    state = load_checkpoint(checkpoint)
    if state is None:
        raise ValueError(f"There is no checkpoint in {checkpoint}; train first with --resume {checkpoint}.")
    tokenizer = build_tokenizer(seed)
    model = VideoModel(new_model(size, seed), tokenizer)
    model.model.load_state_dict(state["model"])
    export_model(model, size, tokenizer, folder)


def write_card(evaluation: Path, target: Path, facts: dict[str, str]) -> None:
    """Write the model card from the JSON of ``evaluate``; no figure of accuracy is written by hand.

    Args:
        evaluation: JSON file.
        target: the card, Markdown.
        facts: lines about the training that no evaluation knows, such as device and minutes.
    """
    report = json.loads(evaluation.read_text(encoding="utf-8"))
    lines = [
        "# STTM demo model",
        "",
        "A small LLaVA-OneVision trained from scratch on generated clips by `demo_model/`.",
        "",
    ]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += [f"- Weights (SHA-256): `{report['weights_sha256']}`", "", "## Exact answers on held-out clips", ""]
    columns = {f"{count} frames": result for count, result in report["frames"].items()}
    columns |= {"other wordings": report["paraphrases"], "typos": report["typos"]}
    columns |= {"other fonts": report["fonts"]}
    lines += ["| task | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    tasks = [*next(iter(columns.values()))["tasks"], None]
    for task in tasks:
        cells = [_cell(result["overall"] if task is None else result["tasks"].get(task)) for result in columns.values()]
        lines.append(f"| {task or 'overall'} | " + " | ".join(cells) + " |")
    if report["methods"]:
        lines += ["", "## Fewer tokens from layer 2 on", "", "| method | kept | overall | ocr |", "|---|---|---|---|"]
        for name, result in report["methods"].items():
            row = (f"{result['kept']:.1%}", _cell(result["overall"]), _cell(result["tasks"].get("ocr")))
            lines.append(f"| {name} | " + " | ".join(row) + " |")
    lines += [
        "",
        "## Limits",
        "",
        "It knows codes, words, shapes, colours, places, order, counts and motion, and nothing else.",
    ]
    lines += ["Part of the training drops or merges video tokens, so it tolerates merged input as large models do."]
    lines += ["", "Retrain: `python -m demo_model train --minutes 9 --resume DIR`, then `evaluate` and `export`.", ""]
    target.write_text("\n".join(lines), encoding="utf-8")


def _cell(result: dict | None) -> str:
    """Accuracy and its interval in percent."""
    if result is None:
        return "-"
    return f"{100 * result['accuracy']:.1f} ({100 * result['low']:.1f}-{100 * result['high']:.1f})"
