"""Exact answers on held-out seeds, per task, with Wilson intervals; the JSON written here feeds the model card.

Greedy answers are compared without generating them: an answer is right exactly when, along the true answer, each next
token and the end of the turn are the likeliest. So all questions of a batch are judged in one forward. That is exact in
every letter: what is right here is right by `sttm_core.scoring`, which forgives punctuation and case besides.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer

from demo_model.atlas import load_atlas
from demo_model.backgrounds import Footage
from demo_model.data import draw_batch, make_batch
from demo_model.model import Kept, Reduce, Reduction, VideoModel, load_video_model, weights_sha256
from demo_model.questions import KINDS, SLOTS
from demo_model.reduction import by_method
from demo_model.sequence import IGNORED
from demo_model.stories import TRAINING_RULES, StoryRules
from demo_model.typing_habits import TYPOS, Habits
from demo_model.vocabulary import BACKGROUNDS

FRAMES_A_BATCH = {"cpu": 64, "cuda": 512}
MEASURED_LAYER = 0  # where the table of methods reduces tokens, as sttm.json advises; their positions survive
PARTS = ("frames", "paraphrases", "typos", "fonts", "scenes", "methods")
METHOD_ROWS = {  # name: method of the library, and knobs other than its own
    "sttm paper": ("sttm", {"prefer": "temporal"}),
    "sttm as_released": ("sttm", {"prefer": "temporal", "rules": "as_released"}),
    "random": ("random", {"seed": 1}),
    "uniform frames": ("frames", {}),
    "spatial pooling": ("pooling", {}),
}
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


def reductions(keeps: tuple[float, ...] = KEEPS) -> dict[str, Reduce]:
    """Every row of the table of methods by name; the full video has no reduction."""
    from sttm_core.settings import RunSettings

    return {
        f"{name} {keep:.0%}": by_method(RunSettings.of(method, retention=keep, **knobs))
        for keep in keeps
        for name, (method, knobs) in METHOD_ROWS.items()
    }


def evaluate(model: VideoModel, tokenizer: Tokenizer, frames: int, per_task: int, **options) -> dict:
    """Ask about held-out clips, all tokens kept: the only row of ``evaluate_rows``, with its options."""
    return evaluate_rows(model, tokenizer, frames, per_task, {"full": None}, **options)["full"]


def evaluate_rows(
    model: VideoModel,
    tokenizer: Tokenizer,
    frames: int,
    per_task: int,
    rows: dict[str, Reduce | None],
    seed: int = 1,
    held_out_wordings: bool = False,
    held_out_fonts: bool = False,
    rules: StoryRules | None = None,
    habits: Habits | None = None,
    footage: Footage | None = None,
    log: Callable[[str], None] | None = None,
) -> dict[str, dict]:
    """Ask about held-out clips until every task has ``per_task`` questions, the same ones for every row.

    Args:
        model: in eval mode, on its device.
        frames: T of the clips.
        per_task: questions of each task.
        rows: by name which video tokens are left from ``MEASURED_LAYER`` on; None for all.
        seed: odd numbers only are drawn from, which training never uses.
        held_out_wordings, held_out_fonts: ask and draw in ways that training never met.
        rules: of the scenes; those of the published figures by default.
        habits: how the questions are typed; as in training by default.
        footage: real clips behind a part of the scenes; without, all backgrounds are generated.

    Returns:
        For each row ``tasks`` and ``overall`` with counts, accuracy and interval, and the share of video tokens kept.
    """
    device, side = model.before.device, model.model.config.vision_config.image_size
    atlas, cpu_atlas = load_atlas(str(device)), load_atlas()
    rules = replace(rules or StoryRules(), side=side, held_out=held_out_fonts)
    rules = replace(rules, backgrounds=BACKGROUNDS) if footage else rules
    clips = max(1, FRAMES_A_BATCH[device.type] // frames)
    wanted = [kind for kind in KINDS if frames >= 4 or kind not in ("motion", "when", "order")]
    asked, number = dict.fromkeys(wanted, 0), 0
    tallies = {name: Tally(reduce) for name, reduce in rows.items()}
    while missing := [kind for kind in wanted if asked[kind] < per_task]:
        seeds = held_out_seed(seed, number)
        batch = make_batch(seeds, clips, frames, rules, tokenizer, cpu_atlas, held_out_wordings, missing, habits)
        chosen = _still_wanted(batch.slots.kind, asked, per_task)
        with torch.no_grad():
            pictures = draw_batch(batch, frames, side, atlas, footage)
            slots = batch.slots.to(device)
            with half_precision(device):
                patches = model.see(pictures)
                for tally in tallies.values():
                    logits = model.answer(patches, slots, tally.reduction).logits
                    tally.count(batch.slots.kind, answered(logits, slots.labels, slots.slot, SLOTS).cpu(), chosen)
        number += 1
        if log and number % 20 == 0:
            log(f"{number * clips} clips, rarest task has {min(asked.values())} of {per_task}")
    return {name: tally.as_dict(wanted) for name, tally in tallies.items()}


def _still_wanted(kinds: torch.Tensor, asked: dict[str, int], most: int) -> torch.Tensor:
    """[B, N] bool: slots of tasks that have fewer than ``most`` questions yet; ``asked`` counts them from now on."""
    chosen = torch.zeros_like(kinds, dtype=torch.bool)
    for place, kind in enumerate(kinds.flatten().tolist()):
        if kind >= 0 and asked.get(KINDS[kind], most) < most:
            asked[KINDS[kind]] += 1
            chosen.view(-1)[place] = True
    return chosen


class Tally:
    """Right answers and kept tokens of one row; its ``reduction`` counts what the row's ``reduce`` leaves."""

    def __init__(self, reduce: Reduce | None) -> None:
        self._reduce, self.left, self.all = reduce, 0, 0
        self.right: dict[str, list[int]] = defaultdict(lambda: [0, 0])

    @property
    def reduction(self) -> Reduction | None:
        """None where all tokens are kept."""
        return Reduction(self._counted, MEASURED_LAYER, survived=True) if self._reduce else None

    def _counted(self, tokens: torch.Tensor) -> list[Kept]:
        kept = self._reduce(tokens)
        self.left += sum(len(clip.tokens) for clip in kept)
        self.all += tokens[..., 0].numel()
        return kept

    def count(self, kinds: torch.Tensor, right: torch.Tensor, chosen: torch.Tensor) -> None:
        """Add the chosen slots, all [B, N]."""
        for kind, is_right in zip(kinds[chosen].tolist(), right[chosen].tolist(), strict=True):
            self.right[KINDS[kind]][0] += is_right
            self.right[KINDS[kind]][1] += 1

    def as_dict(self, kinds: list[str]) -> dict:
        """What the JSON holds."""
        totals = (sum(self.right[kind][i] for kind in kinds) for i in range(2))
        tasks = {kind: score(*self.right[kind]) for kind in kinds}
        return {"tasks": tasks, "overall": score(*totals), "kept": self.left / self.all if self.all else 1.0}


def half_precision(device: torch.device) -> AbstractContextManager:
    """float16 products on a GPU, where they are several times as fast; nothing else elsewhere."""
    return torch.autocast("cuda", torch.float16) if device.type == "cuda" else nullcontext()


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
    parts: Collection[str] = PARTS,
    log: Callable[[str], None] = print,
) -> dict:
    """Evaluate an exported model and write the JSON that the model card is made of.

    Parts that the file already holds for the same weights stay unless they are measured again, so that an evaluation
    can be made in several runs, on several machines.

    Args:
        folder: of the model.
        target: JSON file to write, after every part.
        frames: clip lengths to report; all other parts use the first.
        per_task: questions of each task.
        keeps: retentions of the table of methods; none for no table.
        footage: held-out real clips for a part of the backgrounds.
        parts: of ``PARTS``.

    Raises:
        ValueError: for an unknown part.
    """
    if unknown := [part for part in parts if part not in PARTS]:
        raise ValueError(f"There is no part {unknown[0]!r}; there are {', '.join(PARTS)}.")
    model, tokenizer = load_video_model(folder, device)
    report = _report_of(target, weights_sha256(folder))
    common = {"footage": footage, "log": log}

    def keep(result: dict, *names: str) -> None:
        place = report
        for name in names[:-1]:
            place = place.setdefault(name, {})
        place[names[-1]] = result
        target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    def measured(count: int = frames[0], **options) -> dict:
        return evaluate(model, tokenizer, count, per_task, **common, **options) | {"device": device_name(device)}

    if "frames" in parts:
        for count in frames:
            log(f"{count} frames")
            keep(measured(count), "frames", str(count))
    others = {
        "paraphrases": {"held_out_wordings": True},
        "typos": {"habits": TYPOS},
        "fonts": {"held_out_fonts": True},
        "scenes": {"rules": TRAINING_RULES},
    }
    for part, options in others.items():
        if part in parts:
            log(part)
            keep(measured(**options), part)
    if "methods" in parts and keeps:
        log("methods")
        rows = {"full": None} | reductions(keeps)
        results = evaluate_rows(model, tokenizer, frames[0], per_task, rows, **common)
        keep({"layer": MEASURED_LAYER, "device": device_name(device), "rows": results}, "methods")
    return report


def _report_of(target: Path, weights: str) -> dict:
    """The report in ``target`` if it is of these weights, else a new one."""
    if target.is_file():
        report = json.loads(target.read_text(encoding="utf-8"))
        if report.get("weights_sha256") == weights:
            return report
    return {"weights_sha256": weights, "seed": 1}


def device_name(device: torch.device | str) -> str:
    """For the report: a GPU by its name, and the precision of its products."""
    place = torch.device(device)
    return f"{torch.cuda.get_device_name(place)}, float16" if place.type == "cuda" else "CPU, float32"


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
