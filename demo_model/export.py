"""Writes a trained model in Hugging Face format, with a card whose figures come from the JSON of ``evaluate``."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import (
    GenerationConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PreTrainedTokenizerFast,
)

from demo_model.checkpoint import load_checkpoint
from demo_model.evaluate import MEASURED_LAYER
from demo_model.model import MERGE_LAYER, ModelSize, VideoModel, config_of, new_model
from demo_model.tokenizer import CHAT_TEMPLATE, END, IMAGE, PAD, SPECIAL, START, VIDEO
from demo_model.train import REDUCED_FIRST, REDUCED_FRAMES, REDUCED_SHARE

MAX_BYTES = 30 * 10**6
MAX_NEW_TOKENS = 32
LIMITS = (
    "It knows codes, words, shapes, colours, places, order, counts and motion, and nothing else.",
    "In training every object had a rim of another brightness, and shapes stood near the middle of one of nine places;",
    "without rim, or between two places, it errs much more often. Two shapes of one kind it tells apart by place badly",
    "(`colour_at`). With few tokens left it loses the time of a text first (`when`).",
    "In part of the training video tokens were dropped or merged before layer 2, so that it tolerates merged input as",
    "large models do. The losses that were to spread the cosines there overshot: before layer 2 the tokens of a calm",
    "background are nearly orthogonal while letters are alike, so that merging there hurts. Before layer 0 cosines",
    "follow the picture: `config.json` advises to merge there and to keep the positions, and the app does so.",
)
RETRAIN = (
    "`torchrun --nproc-per-node 2 -m demo_model train --minutes 14 --resume DIR --footage FOOTAGE.pt`, then `export`,",
    "`evaluate` and `card`; see `demo_model/README.md`.",
)
DATA = (
    "generated clips of up to 64 frames, drawn while training, see `demo_model/`: codes of 2-8 characters, digits and "
    "words of 12-44 px in 19 fonts, coloured shapes that flash, move and repeat, near the middles of nine places or "
    "anywhere, with a rim or, where they stand out, without; over gradients, noise, stripes and real footage "
    "(`demo_model/FOOTAGE.md`) under a moving camera, with cuts, flicker and codec noise; questions in many wordings, "
    "with typos and refusals"
)
ADVICE = {"merge_layer": MEASURED_LAYER, "position_rule": "survived"}  # read by sttm_core


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
    plain.config.sttm = ADVICE
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


def export_checkpoint(checkpoint: Path, folder: Path) -> dict[str, str]:
    """Write the newest checkpoint of a training in Hugging Face format.

    Returns:
        Facts about the training for ``write_card``.

    Raises:
        ValueError: there is no checkpoint.
    """
    state = load_checkpoint(checkpoint)
    if state is None:
        raise ValueError(f"There is no checkpoint in {checkpoint}; train first with --resume {checkpoint}.")
    size, tokenizer = ModelSize(**state["size"]), Tokenizer.from_str(state["tokenizer"])
    model = VideoModel(new_model(size), tokenizer)
    model.model.load_state_dict(state["model"])
    export_model(model, size, tokenizer, folder)
    return facts_of(state, size, sum(p.numel() for p in model.parameters()), tokenizer.get_vocab_size())


def facts_of(state: dict, size: ModelSize, parameters: int, entries: int) -> dict[str, str]:
    """What the card says about a model and its training.

    Args:
        state: a checkpoint.
        parameters: of the model.
        entries: of the tokenizer.
    """
    patches, grid = size.picture // size.patch, size.grid
    compute = (
        f"{state['used'] / 60:.0f} minutes on {state['machine']}, {state['step']} steps of {state['frames']} frames"
    )
    start = {"Started from": f"the weights with SHA-256 `{state['start']}`"} if state["start"] else {}
    dropped = "dropped at random (needles spared)" + (" or merged as STTM does" if state["merging"] else "")
    return {
        "Architecture": f"LLaVA-OneVision in Hugging Face format, {parameters / 1e6:.1f} M parameters, bfloat16: "
        f"SigLIP tower ({size.vision_layers} layers, {size.vision_width} wide, {size.picture} px, patch {size.patch}: "
        f"{patches}x{patches} patches pooled to {grid}x{grid} = {grid**2} tokens a frame), 2-layer projector, Qwen2 "
        f"decoder ({size.layers} layers, {size.width} wide, {size.heads} heads, feed-forward {size.feed_forward}), "
        f"tokenizer of {entries} entries: known words, all else spelt",
        "Data": DATA,
        **start,
        "Compute": f"{compute}, seed {state['seed']}, torch {version('torch')}, transformers {version('transformers')}",
        "Merging in training": f"in {REDUCED_SHARE:.0%} of the steps with {min(REDUCED_FRAMES)} frames or more, tokens "
        f"were {dropped}: "
        f"{REDUCED_FIRST:.0%} of these before layer 0, positions kept, the others before layer {MERGE_LAYER}, "
        "positions reassigned",
    }


def write_card(
    evaluation: Path, target: Path, facts: dict[str, str], held_out: Path | None = None, cosines: Path | None = None
) -> None:
    """Write the model card from JSON; no figure of accuracy is written by hand.

    Args:
        evaluation: of ``evaluate``.
        target: the card, Markdown.
        facts: lines about the training that no evaluation knows, such as device and minutes.
        held_out: of ``benchmarks.needle_qa --set held-out``, if it was run.
        cosines: of ``cosines``, if it was run.
    """
    report = json.loads(evaluation.read_text(encoding="utf-8"))
    lines = [
        "# STTM demo model",
        "",
        "A small LLaVA-OneVision trained from scratch on generated clips by `demo_model/`.",
        "",
    ]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += [f"- Weights (SHA-256): `{report['weights_sha256']}`"]
    lines += _accuracy_lines(report) + _methods_lines(report)
    if held_out:
        lines += _held_out_lines(json.loads(held_out.read_text(encoding="utf-8")))
    if cosines:
        lines += _cosine_lines(json.loads(cosines.read_text(encoding="utf-8")))
    lines += ["", "## Limits", "", *LIMITS, "", "## Train it again", "", *RETRAIN, ""]
    target.write_text("\n".join(lines), encoding="utf-8")


def _accuracy_lines(report: dict) -> list[str]:
    """A row a task, a column a set of clips; below, how many questions a task and where each column was measured."""
    columns = {f"{count} frames": result for count, result in report.get("frames", {}).items()}
    names = {"paraphrases": "other wordings", "typos": "typos", "fonts": "other fonts", "scenes": "anywhere, rimless"}
    columns |= {name: report[part] for part, name in names.items() if part in report}
    lines = [
        "",
        "## Exact answers on held-out clips",
        "",
        "Percent, with the 95% interval (Wilson), all tokens kept.",
        "",
    ]
    lines += ["| task | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for task in [*next(iter(columns.values()))["tasks"], None]:
        cells = [_cell(result["overall"] if task is None else result["tasks"].get(task)) for result in columns.values()]
        lines.append(f"| {task or 'overall'} | " + " | ".join(cells) + " |")
    totals = [str(next(iter(result["tasks"].values()))["total"]) for result in columns.values()]
    lines.append("| *questions a task* | " + " | ".join(totals) + " |")
    return [*lines, "| *measured on* | " + " | ".join(result["device"] for result in columns.values()) + " |"]


def _methods_lines(report: dict) -> list[str]:
    """Ways to keep fewer tokens."""
    if "methods" not in report:
        return []
    methods = report["methods"]
    lines = ["", f"## Fewer tokens from layer {methods['layer']} on", ""]
    lines += [
        "The same questions for every row; tokens keep their positions. STTM's thresholds are found clip by clip for",
        "the budget.",
        "",
    ]
    lines += ["| method | kept | overall | ocr | ocr_nth | count | when |", "|---|---|---|---|---|---|---|"]
    for name, result in methods["rows"].items():
        tasks = [result["tasks"].get(task) for task in ("ocr", "ocr_nth", "count", "when")]
        cells = [f"{result['kept']:.1%}", _cell(result["overall"]), *map(_cell, tasks)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    total = next(iter(methods["rows"].values()))["overall"]["total"]
    return [*lines, "", f"{total} questions a row, {methods['device']}."]


def _held_out_lines(report: dict) -> list[str]:
    """The set through files and the app's engine."""
    from benchmarks.needle_qa.run import table

    lines = ["", "## Files that it never saw", ""]
    lines += ["Fonts and footage outside training, through H.264 files and the app's own decoder and engine:", ""]
    return [*lines, table(report["rows"])]


def _cosine_lines(report: dict) -> list[str]:
    """What the sample clips' cosines are, and what published thresholds leave of them."""
    lines = [
        "",
        "## Cosines before the merge layer, sample clips",
        "",
        "| | 5% | 25% | 50% | 75% | 95% |",
        "|---|---|---|---|---|---|",
    ]
    names = {"parents": "lowest of a node with its children", "neighbours": "same patch, next frame"}
    for key, name in names.items():
        lines.append(f"| {name} | " + " | ".join(f"{value:.3f}" for value in report[key].values()) + " |")
    lines += ["", "| tau_S / tau_T | kept, lowest to highest |", "|---|---|"]
    for pair, shares in report["retention"].items():
        lines.append(f"| {pair.replace('/', ' / ')} | {min(shares.values()):.0%} to {max(shares.values()):.0%} |")
    return lines


def _cell(result: dict | None) -> str:
    """Accuracy and its interval in percent."""
    if result is None:
        return "-"
    return f"{100 * result['accuracy']:.1f} ({100 * result['low']:.1f}-{100 * result['high']:.1f})"
