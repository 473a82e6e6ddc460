"""Trains the demo model by the clock, from nothing or from an exported model; can be stopped and resumed at any time.

Needs torch, transformers and tokenizers, and scipy for real merging: no video decoder, no interface. Several GPUs train
together when `torchrun` starts one process for each: every process draws its own clips, the gradients are averaged.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
import torch.distributed as dist
from tokenizers import Tokenizer
from torch import nn

from demo_model.atlas import load_atlas
from demo_model.backgrounds import Footage
from demo_model.checkpoint import load_checkpoint, save_checkpoint
from demo_model.data import Batch, Batches, draw_batch, loader
from demo_model.losses import AuxiliaryHeads, LossWeights, answer_losses, patch_losses
from demo_model.model import (
    DEFAULT_SIZE,
    MERGE_LAYER,
    TINY_SIZE,
    ModelSize,
    Outputs,
    Reduction,
    VideoModel,
    load_video_model,
    new_model,
    size_of,
    weights_sha256,
)
from demo_model.muon import StackedMuon
from demo_model.reduction import merged, random_tokens
from demo_model.schedule import CONTINUED_PEAK, HEADS_STEPS, STAGES, TINY_STAGES, Stage, rate_at, stage_at
from demo_model.stories import TRAINING_RULES, StoryRules
from demo_model.targets import token_targets
from demo_model.tokenizer import build_tokenizer
from demo_model.vocabulary import BACKGROUNDS

MUON_RATE, ADAM_RATE = 0.02, 1.5e-3
CLIP = 1.0
REDUCED_SHARE = 0.45  # of the steps with many frames
REDUCED_FIRST = 0.75  # of these before layer 0 and with surviving positions, as the model is used
REDUCED_FRAMES = (8, 16, 32, 64)  # frames at which tokens are dropped or merged
REDUCED_KEEPS = (0.05, 0.1, 0.2, 0.3, 0.5)
CLOCK_STEPS = 10  # between looks at the clock, which several processes share


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides the outcome, but for the machine's speed.

    Attributes:
        minutes: time to train in all, over all resumed runs.
        start: folder of an exported model whose weights to start from; None for random ones.
        heads_steps: first steps in which the auxiliary heads learn alone.
        peak: of the learning rates, over those of a run from nothing.
        seed: of weights, scenes and augmentation.
        size, stages, rules, weights: see their classes.
        reduced_frames: clips of these lengths meet token dropping and merging.
        merging: half of the shortened steps merge as STTM does (needs ``sttm_core``); without, all drop at random.
        max_steps: stop earlier; for tests.
        save_every: seconds between checkpoints.
        workers: processes that make scenes.
    """

    minutes: float = 9.0
    start: Path | None = None
    heads_steps: int = 0
    peak: float = 1.0
    seed: int = 0
    size: ModelSize = DEFAULT_SIZE
    stages: tuple[Stage, ...] = STAGES
    rules: StoryRules = TRAINING_RULES
    weights: LossWeights = field(default_factory=LossWeights)
    reduced_frames: tuple[int, ...] = REDUCED_FRAMES
    merging: bool = True
    max_steps: int | None = None
    save_every: float = 60.0
    workers: int = 0


def tiny_settings(**changes) -> TrainSettings:
    """Settings that a CPU finishes in seconds; the model learns nothing useful."""
    size = TINY_SIZE
    tiny = TrainSettings(
        minutes=0.1,
        size=size,
        stages=TINY_STAGES,
        rules=replace(TRAINING_RULES, side=size.picture),
        reduced_frames=(2, 4),
        max_steps=6,
    )
    return replace(tiny, **changes)


def continued(settings: TrainSettings, start: Path, **changes) -> TrainSettings:
    """Settings of a run that goes on from an exported model: its last stage alone, after a warm-up of the heads."""
    defaults = {"stages": settings.stages[-1:], "heads_steps": HEADS_STEPS, "peak": CONTINUED_PEAK}
    return replace(settings, start=start, **(defaults | changes))


class Trainer:
    """Model, heads, optimizers and the clock.

    Args:
        settings: what to train.
        device: where.
        footage: real clips [F, 3, h, w] uint8 of one size for the backgrounds; none by default.
        log: called with a line of progress.

    Raises:
        ValueError: the model to start from is of another size.
    """

    def __init__(
        self,
        settings: TrainSettings,
        device: torch.device | str = "cpu",
        footage: list[torch.Tensor] | None = None,
        log: Callable[[str], None] = print,
    ) -> None:
        self.device, self.log = torch.device(device), log
        self.rank, self.ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        self.footage = Footage.of(footage, self.device) if footage else None
        if settings.reduced_frames and settings.merging:
            merged(0.3)  # a machine without what merging imports must fail now, not after minutes of training
        if self.footage:
            settings = replace(settings, rules=replace(settings.rules, backgrounds=BACKGROUNDS))
        self.settings = settings
        on_gpu = self.device.type == "cuda"
        self.started_from = weights_sha256(settings.start) if settings.start else None
        self.model, self.tokenizer = first_model(settings, compile_layers=on_gpu)
        self.heads = AuxiliaryHeads(settings.size.width)
        self.model.to(self.device)
        self.heads.to(self.device)
        self.atlas = load_atlas(str(self.device))
        self.optimizers = make_optimizers(self.model, self.heads)
        self.autocast = torch.autocast("cuda", torch.bfloat16) if on_gpu else nullcontext()
        self.step, self.used = 0, 0.0  # seconds

    @property
    def part(self) -> float:
        """Share of the work done, 0 to 1: of the time, or of the steps where these are limited."""
        if self.settings.max_steps is not None:
            return min(1.0, self.step / self.settings.max_steps)
        return min(1.0, self.used / (self.settings.minutes * 60))

    def run(self, folder: Path, pause_after: float = math.inf) -> VideoModel:
        """Train until the time is up, saving and resuming under ``folder``.

        Args:
            folder: of the checkpoints.
            pause_after: seconds of training after which this run saves and ends, to be resumed.

        Raises:
            ValueError: a checkpoint is damaged, or was made with other settings.
        """
        self.resume(folder)
        saved, pause = time.monotonic(), self.used + pause_after
        while self.part < 1 and self.used < pause:
            stage = stage_at(self.settings.stages, self.part)
            settings = self.settings
            batches = Batches(
                settings.seed, self.step, stage.cycle, settings.rules, self.tokenizer.to_str(), self.rank, self.ranks
            )
            before = time.monotonic()
            for batch in loader(batches, self.settings.workers):
                numbers = self.train_step(batch, stage)
                if self.step % CLOCK_STEPS == 0 or self.part >= 1 or self.step <= CLOCK_STEPS:
                    now = time.monotonic()
                    self.used += self.shared(now - before)
                    before = now
                if self.step % 50 == 0 or self.step <= 3:
                    self.log(self.progress(stage, numbers))
                if time.monotonic() - saved > self.settings.save_every:
                    self.save(folder)
                    saved = time.monotonic()
                if self.part >= 1 or self.used >= pause or stage_at(self.settings.stages, self.part) != stage:
                    break
        self.save(folder)
        return self.model

    def train_step(self, batch: Batch, stage: Stage) -> dict[str, torch.Tensor]:
        """One step on one batch; returns the weighted losses by name."""
        settings = self.settings
        factor = 1.0 if self.heads_alone else rate_at(self.part, self.step - settings.heads_steps, settings.peak)
        for optimizer, rate in zip(self.optimizers, (MUON_RATE, ADAM_RATE), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
        losses = self.losses(batch, stage)
        sum(losses.values()).backward()
        parameters = [p for part in (self.model, self.heads) for p in part.parameters()]
        average_gradients(parameters)
        nn.utils.clip_grad_norm_(parameters, CLIP)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return {name: loss.detach() for name, loss in losses.items()}

    @property
    def heads_alone(self) -> bool:
        """Whether the model is left as it is in this step."""
        return self.step < self.settings.heads_steps

    def losses(self, batch: Batch, stage: Stage) -> dict[str, torch.Tensor]:
        """Weighted losses of a batch, by name."""
        settings = self.settings
        frames = batch.sprites.visible.shape[2]
        with torch.no_grad():
            clips = draw_batch(batch, frames, settings.size.picture, self.atlas, self.footage)
            batch = batch.to(self.device)
            targets = token_targets(batch.labels, batch.sprites, self.atlas.advances, settings.size.grid)
        with self.autocast:
            if not stage.answers:
                patches = self.model.see(clips)
                return patch_losses(self.heads, patches, clips, targets, batch.labels.background, settings.weights)
            outputs = self.model(clips, batch.slots, self.reduction(frames, targets["ordinal"] > 0))
            outputs = detached(outputs) if self.heads_alone else outputs
            seen = patch_losses(self.heads, outputs.patches, clips, targets, batch.labels.background, settings.weights)
            return seen | answer_losses(self.heads, outputs, batch.slots.labels, targets, settings.weights)

    def reduction(self, frames: int, needles: torch.Tensor) -> Reduction | None:
        """Random dropping, real merging or neither at this step."""
        if self.heads_alone:
            return None
        rng = random.Random(f"{self.settings.seed}/reduction/{self.step}")
        if frames not in self.settings.reduced_frames or rng.random() >= REDUCED_SHARE:
            return None
        if not self.settings.merging or rng.random() < 0.5:
            generator = torch.Generator(device=self.device).manual_seed(rng.getrandbits(40))
            reduce = random_tokens(0.3, generator, needles)
        else:
            reduce = merged(rng.choice(REDUCED_KEEPS), steps=6)
        first = rng.random() < REDUCED_FIRST
        return Reduction(reduce, 0 if first else MERGE_LAYER, survived=first)

    def progress(self, stage: Stage, losses: dict[str, torch.Tensor]) -> str:
        """Step, stage, losses, speed and the time left."""
        terms = " ".join(f"{name} {float(loss):.3f}" for name, loss in losses.items())
        left = self.used / max(self.part, 1e-6) * (1 - self.part)
        return f"step {self.step} [{stage.name}] {terms} | {self.used:.0f} s used, {left:.0f} s left"

    def shared(self, seconds: float) -> float:
        """The longest of all processes' times, so that all change stages and stop at the same step."""
        if self.ranks == 1:
            return seconds
        longest = torch.tensor(seconds, device=self.device)
        dist.all_reduce(longest, dist.ReduceOp.MAX)
        return float(longest)

    def save(self, folder: Path) -> None:
        """Write a checkpoint; of several processes the first one does."""
        if self.rank:
            return
        state = {
            "step": self.step,
            "used": self.used,
            "settings": self.fingerprint(),
            "size": asdict(self.settings.size),
            "tokenizer": self.tokenizer.to_str(),
            "start": self.started_from,
            "seed": self.settings.seed,
            "merging": self.settings.merging,
            "frames": self.ranks * math.prod(self.settings.stages[-1].cycle[0]),
            "machine": machine_name(self.device, self.ranks),
            "model": self.model.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        save_checkpoint(folder, state)

    def resume(self, folder: Path) -> None:
        """Continue from the newest checkpoint, if there is one."""
        state = load_checkpoint(folder, self.device)
        if state is None:
            return
        if state["settings"] != self.fingerprint():
            raise ValueError(
                f"The checkpoint in {folder} was made with another seed, size or start; choose another folder."
            )
        self.model.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.used = state["step"], state["used"]
        self.log(f"resumed at step {self.step}, {self.used:.0f} s used")

    def fingerprint(self) -> str:
        """What must agree between a checkpoint and the run that resumes it."""
        return repr((self.settings.seed, asdict(self.settings.size), self.started_from))


def first_model(settings: TrainSettings, compile_layers: bool) -> tuple[VideoModel, Tokenizer]:
    """The model before its first step: random weights, or those to start from with their tokenizer.

    Raises:
        ValueError: these are of another size.
    """
    if settings.start is None:
        tokenizer = build_tokenizer(settings.seed)
        return VideoModel(new_model(settings.size, settings.seed), tokenizer, compile_layers), tokenizer
    torch.manual_seed(settings.seed)  # all processes draw the same heads next, as they do after `new_model`
    model, tokenizer = load_video_model(settings.start, compile_layers=compile_layers)
    if (size := size_of(model.model.config)) != settings.size:
        raise ValueError(f"The model in {settings.start} is of {size}; start from one of {settings.size}.")
    return model.train(), tokenizer


def detached(outputs: Outputs) -> Outputs:
    """The same outputs, from which no gradient flows into the model."""
    tensors = {name: value.detach() for name, value in vars(outputs).items() if value is not None}
    return replace(outputs, **tensors)


def machine_name(device: torch.device, ranks: int) -> str:
    """For the model's card: how many of which device."""
    return f"{ranks} x {torch.cuda.get_device_name(device) if device.type == 'cuda' else 'CPU'}"


@contextmanager
def join_processes(device: str) -> Iterator[str]:
    """Inside, the processes that `torchrun` started train together, each on a device of its own; yields that device."""
    if "WORLD_SIZE" not in os.environ:
        yield device
        return
    on_gpu = device.startswith("cuda")
    own = f"cuda:{os.environ['LOCAL_RANK']}" if on_gpu else device
    if on_gpu:
        torch.cuda.set_device(own)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield own
    finally:
        dist.destroy_process_group()


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Replace the gradients by their mean over all processes; nothing to do for one alone."""
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients]) / dist.get_world_size()
    dist.all_reduce(flat)
    pieces = flat.split([gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, pieces, strict=True):
        gradient.copy_(mean.view_as(gradient))


def make_optimizers(model: VideoModel, heads: AuxiliaryHeads) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Muon for the matrices of layers and projector, AdamW for everything else."""
    core = model.model.model
    blocks = (core.language_model.layers, core.vision_tower.encoder.layers, core.multi_modal_projector)
    matrices = [p for block in blocks for p in block.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for part in (model, heads) for p in part.parameters() if id(p) not in chosen]
    return StackedMuon(matrices, MUON_RATE), torch.optim.AdamW(rest, lr=ADAM_RATE, betas=(0.9, 0.95), weight_decay=0.0)
