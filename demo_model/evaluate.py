"""Exact answers on held-out seeds, per task, with Wilson intervals; the JSON written here feeds the model card.

Greedy answers are compared without generating them: an answer is right exactly when, along the true answer, each next
token and the end of the turn are the likeliest. So all questions of a batch are judged in one forward.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import LlavaOnevisionForConditionalGeneration

from demo_model.atlas import load_atlas
from demo_model.backgrounds import Footage
from demo_model.data import draw_batch, make_batch
from demo_model.manners import TYPOS, Manners
from demo_model.model import VideoModel
from demo_model.questions import KINDS, SLOTS
from demo_model.reduction import merged, pooled_space, random_tokens, uniform_frames
from demo_model.sequence import IGNORED
from demo_model.stories import StoryRules
from demo_model.vocabulary import BACKGROUNDS

FRAMES_A_BATCH = {"cpu": 64, "cuda": 512}
KEEPS = (0.5, 0.3, 0.2, 0.15, 0.1, 0.05)


def wilson(correct: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """95% interval of a share (Wilson 1927).

    Raises:
        ValueError: ``total`` is not positive or ``correct`` is not within it.
    """
    if total < 1 or not 0 <= correct <= total:
        raise ValueError(f"{correct} of {total} is not a share; give 0 <= correct <= total and a positive total.")
    share = correct / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def score(correct: int, total: int) -> dict:
    """Counts, share and interval as they stand in the JSON."""
    low, high = wilson(correct, total)
    return {"correct": correct, "total": total, "accuracy": correct / total, "low": low, "high": high}


def load_video_model(folder: Path, device: torch.device | str = "cpu") -> tuple[VideoModel, Tokenizer]:
    """An exported model behind the forward for many slots, in float32."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = LlavaOnevisionForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return VideoModel(model, tokenizer).to(device).eval(), tokenizer


def reductions(
    frames: int, grid: int, keeps: tuple[float, ...] = KEEPS, device: torch.device | str = "cpu"
) -> dict[str, Callable]:
    """Every row of the table of methods by name, for tokens on ``device``; the full video has no reduction."""
    rows = {}
    for keep in keeps:
        percent = f"{keep:.0%}"
        rows[f"sttm paper {percent}"] = merged(keep, "paper")
        rows[f"sttm as_released {percent}"] = merged(keep, "as_released")
        rows[f"random {percent}"] = random_tokens(keep, torch.Generator(device).manual_seed(1))
        rows[f"uniform frames {percent}"] = uniform_frames(keep)
        rows[f"spatial pooling {percent}"] = pooled_space(max(1, round(grid * math.sqrt(keep))))
    return rows


def evaluate(
    model: VideoModel,
    tokenizer: Tokenizer,
    frames: int,
    per_task: int,
    seed: int = 1,
    reduction: Callable | None = None,
    held_out_wordings: bool = False,
    held_out_fonts: bool = False,
    manners: Manners | None = None,
    footage: Footage | None = None,
    log: Callable[[str], None] | None = None,
) -> dict:
    """Ask about held-out clips until every task has ``per_task`` questions.

    Args:
        model: in eval mode, on its device.
        frames: T of the clips.
        per_task: least number of questions of each task.
        seed: odd numbers only are drawn from, which training never uses.
        reduction: see ``reduction.py``; None for all tokens.
        held_out_wordings, held_out_fonts: ask and draw in ways that training never met.
        manners: how the questions are typed; as in training by default.
        footage: real clips behind a part of the scenes; without, all backgrounds are generated.

    Returns:
        ``tasks`` and ``overall`` with counts, accuracy and interval, and the share of video tokens kept.
    """
    device = model.before.device
    side = model.model.config.vision_config.image_size
    atlas, cpu_atlas = load_atlas(str(device)), load_atlas()
    backgrounds = BACKGROUNDS if footage else StoryRules().backgrounds
    rules = StoryRules(side=side, held_out=held_out_fonts, backgrounds=backgrounds)
    clips = max(1, FRAMES_A_BATCH[device.type] // frames)
    tally: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    kept, number = KeptShare(reduction), 0
    wanted = [kind for kind in KINDS if frames >= 4 or kind not in ("motion", "when", "order")]
    while missing := [kind for kind in wanted if tally[kind][1] < per_task]:
        seeds = held_out_seed(seed, number)
        batch = make_batch(seeds, clips, frames, rules, tokenizer, cpu_atlas, held_out_wordings, missing, manners)
        with torch.no_grad():
            pictures = draw_batch(batch, frames, side, atlas, footage)
            batch = batch.to(device)
            with half_precision(device):
                outputs = model(pictures, batch.slots, kept if reduction else None)
        right = answered(outputs.logits, batch.slots.labels, batch.slots.slot, SLOTS)
        for kind, is_right in zip(batch.slots.kind.flatten().tolist(), right.flatten().tolist(), strict=True):
            if kind >= 0 and tally[KINDS[kind]][1] < per_task:
                tally[KINDS[kind]][0] += is_right
                tally[KINDS[kind]][1] += 1
        number += 1
        if log and number % 20 == 0:
            log(f"{number * clips} clips, rarest task has {min(tally[kind][1] for kind in wanted)} of {per_task}")
    tasks = {kind: score(*tally[kind]) for kind in wanted}
    totals = (sum(tally[kind][i] for kind in wanted) for i in range(2))
    return {"tasks": tasks, "overall": score(*totals), "kept": kept.share}


def half_precision(device: torch.device) -> AbstractContextManager:
    """float16 products on a GPU, where they are several times as fast; nothing else elsewhere."""
    return torch.autocast("cuda", torch.float16) if device.type == "cuda" else nullcontext()


class KeptShare:
    """A reduction that remembers which share of the tokens it left."""

    def __init__(self, reduction: Callable | None) -> None:
        self.reduction, self.left, self.all = reduction, 0, 0

    def __call__(self, tokens: torch.Tensor) -> list[torch.Tensor]:
        kept = self.reduction(tokens)
        self.left += sum(len(clip) for clip in kept)
        self.all += tokens[..., 0].numel()
        return kept

    @property
    def share(self) -> float:
        """Tokens left over all tokens so far; 1 where nothing was reduced."""
        return self.left / self.all if self.all else 1.0


def held_out_seed(seed: int, number: int) -> int:
    """An odd seed; training draws even ones."""
    digest = hashlib.sha256(f"held out/{seed}/{number}".encode()).digest()
    return int.from_bytes(digest[:5], "big") | 1


def write_evaluation(
    folder: Path,
    target: Path,
    frames: tuple[int, ...],
    per_task: int,
    keeps: tuple[float, ...] = (),
    device: torch.device | str = "cpu",
    footage: Footage | None = None,
    log: Callable[[str], None] = print,
) -> dict:
    """Evaluate an exported model and write the JSON that the model card is made of.

    Args:
        folder: of the model.
        target: JSON file to write.
        frames: clip lengths to report.
        per_task: questions of each task.
        keeps: retentions of the table of methods, at the first of ``frames``; none for no table.
        footage: held-out real clips for a part of the backgrounds.
    """
    model, tokenizer = load_video_model(folder, device)
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    report = {"weights_sha256": weights, "per_task": per_task, "seed": 1, "footage": footage is not None}
    first = frames[0]

    def measured(title: str, count: int = first, **options) -> dict:
        log(title)
        return evaluate(model, tokenizer, count, per_task, footage=footage, log=log, **options)

    def save() -> None:
        target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    report["frames"] = {}
    for count in frames:
        report["frames"][str(count)] = measured(f"{count} frames", count)
        save()
    report["paraphrases"] = measured("wordings outside training", held_out_wordings=True)
    report["typos"] = measured("a typo in every question", manners=TYPOS)
    report["fonts"] = measured("fonts outside training", held_out_fonts=True)
    report["methods"] = {}
    for name, reduction in reductions(first, model.grid, keeps, device).items():
        report["methods"][name] = measured(name, reduction=reduction)
        save()
    save()
    return report


def answered(logits: torch.Tensor, labels: torch.Tensor, slot: torch.Tensor, most: int) -> torch.Tensor:
    """Which slots are answered exactly: every token of the answer and its end is the likeliest one.

    That is the same as comparing the greedy answer, which follows the same tokens as long as it is right.

    Args:
        logits: [B, S, vocabulary].
        labels, slot: [B, S] of ``PackedSlots``.
        most: slots a clip, N.

    Returns:
        [B, N] bool; True also where there is no such slot.
    """
    wrong = (logits.argmax(-1) != labels) & (labels != IGNORED)
    misses = torch.zeros(len(labels), most + 1, dtype=torch.int64, device=labels.device)
    misses.scatter_add_(1, slot.clamp(min=-1) % (most + 1), wrong.long())
    return misses[:, :most] == 0
