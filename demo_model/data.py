"""Batches: scenes and questions are made on the CPU by workers, pictures are drawn where the model is."""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch.utils.data import DataLoader, IterableDataset

from demo_model import backgrounds
from demo_model.atlas import Atlas, load_atlas
from demo_model.backgrounds import Footage
from demo_model.questions import SLOTS, slots_of
from demo_model.render import Sprites, draw_sprites
from demo_model.scene import sprites_of
from demo_model.sequence import PackedSlots, pack_slots
from demo_model.stories import StoryRules, random_scene
from demo_model.targets import SpriteLabels, labels_of
from demo_model.typing_habits import Habits
from demo_model.vocabulary import BACKGROUNDS

SLOT_TOKENS = 192  # tokens of questions and answers a clip
CUTS = 0.15  # share of clips that cut to another background


@dataclass(frozen=True)
class Batch:
    """B clips before they are drawn.

    Attributes:
        sprites, labels: what is drawn and what it is.
        slots: questions and answers.
        cut: [B] first frame of the second background; T where there is none.
        seed: of everything that is drawn at random.
    """

    sprites: Sprites
    labels: SpriteLabels
    slots: PackedSlots
    cut: torch.Tensor
    seed: int

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device."""
        moved = (part.to(device) for part in (self.sprites, self.labels, self.slots))
        return Batch(*moved, self.cut.to(device, non_blocking=True), self.seed)


def make_batch(
    seed: int,
    clips: int,
    frames: int,
    rules: StoryRules,
    tokenizer: Tokenizer,
    atlas: Atlas,
    held_out_wordings: bool = False,
    kinds: Collection[str] = (),
    habits: Habits | None = None,
) -> Batch:
    """A batch from its seed alone, the same on every machine; with ``kinds``, every clip is asked one of these."""
    rng = random.Random(seed)
    scenes, cuts, slots = [], [], []
    while len(scenes) < clips:
        scene = random_scene(rng, frames, atlas, rules)
        cut = rng.randint(1, frames - 1) if frames > 3 and rng.random() < CUTS else frames
        asked = slots_of(scene, rng, SLOTS, held_out_wordings, cut < frames, habits)
        if not kinds or any(slot.kind in kinds for slot in asked):
            scenes.append(scene), cuts.append(cut), slots.append(asked)
    sprites = sprites_of(scenes, atlas)
    labels = labels_of(scenes, sprites.texture.shape[1])
    packed = pack_slots(slots, tokenizer, SLOT_TOKENS, SLOTS)
    return Batch(sprites, labels, packed, torch.tensor(cuts), seed)


class Batches(IterableDataset):
    """Endless batches of a stage, each from the seed of its step; workers take turns.

    Args:
        seed: of the whole training.
        first: number of the first step.
        cycle: (frames, clips) of one step after the other, over and over.
        rules: of the scenes.
        tokenizer: as its JSON.
        rank, ranks: which of how many devices that train together; each draws its own clips.
    """

    def __init__(
        self,
        seed: int,
        first: int,
        cycle: tuple[tuple[int, int], ...],
        rules: StoryRules,
        tokenizer: str,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.seed, self.first, self.cycle, self.rules, self.tokenizer = seed, first, cycle, rules, tokenizer
        self.rank, self.ranks = rank, ranks

    def __iter__(self) -> Iterator[Batch]:
        torch.set_num_threads(1)
        worker = torch.utils.data.get_worker_info()
        turn, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        tokenizer, atlas = Tokenizer.from_str(self.tokenizer), load_atlas()
        for step in itertools.count(self.first + turn, workers):
            frames, clips = self.cycle[step % len(self.cycle)]
            draw = step * self.ranks + self.rank
            yield make_batch(step_seed(self.seed, draw), clips, frames, self.rules, tokenizer, atlas)


def step_seed(seed: int, draw: int) -> int:
    """Seed of a batch. Held-out sets use odd seeds, training even ones."""
    return 2 * random.Random(f"{seed}/{draw}").getrandbits(40)


def loader(batches: Batches, workers: int) -> DataLoader:
    """Deliver the batches in the order of their steps."""
    return DataLoader(batches, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None)


def draw_batch(batch: Batch, frames: int, side: int, atlas: Atlas, footage: Footage | None = None) -> torch.Tensor:
    """Draw the clips of a batch.

    Args:
        batch: best on the CPU, so that no step waits for a GPU.
        frames: T.
        side: of the picture in pixels.
        atlas: on the device to draw on.
        footage: on the same device; needed only where a scene asks for "footage".

    Returns:
        [B, T, 3, side, side] float32 in 0..1.

    Raises:
        ValueError: a scene asks for footage and there is none.
    """
    device = atlas.fields.device
    generator = torch.Generator(device=device).manual_seed(batch.seed)
    fields = _fields(generator, batch.labels.background.to(device, non_blocking=True), side)
    motion = backgrounds.uniform(generator, len(fields)) * (backgrounds.uniform(generator, len(fields)) < 0.8)
    path = backgrounds.camera_path(generator, len(fields), frames, motion)
    clips = backgrounds.film(fields, path, side, side)
    wanted = (batch.labels.background == BACKGROUNDS.index("footage")).nonzero().flatten()
    if len(wanted):
        if footage is None:
            raise ValueError("A scene asks for real footage: pass --footage, or leave it out of the rules.")
        wanted = wanted.to(device, non_blocking=True)
        clips = clips.index_copy(0, wanted, backgrounds.footage_views(generator, footage, path[wanted], side))
    later = torch.arange(frames) >= batch.cut.cpu()[:, None]  # [B, T]
    later = later.to(device, non_blocking=True)[..., None, None, None]
    clips = torch.where(later, clips.roll(1, 0), clips)
    clips = backgrounds.flicker(generator, clips, 0.06)
    clips = draw_sprites(clips, batch.sprites, atlas)
    quality = 0.002 * 20 ** backgrounds.uniform(generator, len(clips))
    squeezed = backgrounds.uniform(generator, len(clips), 1, 1, 1, 1) < 0.5
    return torch.where(squeezed, backgrounds.compress(clips, quality), clips)


def _fields(generator: torch.Generator, kinds: torch.Tensor, side: int) -> torch.Tensor:
    """[B, 3, M, M]: a still field for every clip; footage gets noise that it will cover."""
    size = round(side * backgrounds.MARGIN)
    drawn = [field(generator, len(kinds), size, size) for field in backgrounds.FIELDS.values()]
    choice = kinds.clamp(max=len(drawn) - 1)
    return torch.stack(drawn)[choice, torch.arange(len(kinds), device=kinds.device)]
