"""What the hooks of `sttm_core.generation.merging` do to a forward pass.

A pass that reads a prompt is shortened before the merge layer, row by row; the passes that follow, a token each, are
given the positions and the mask of the shortened rows.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from .budgets import PrefixShape
from .decoder import RotaryEmbeddings, cache_argument, causal_mask
from .insertion import hooks, shorten
from .method import Plan
from .model_call import ENGINE_RUNS
from .models import Family, VideoLayout
from .positions import Positions
from .settings import RunSettings

PICTURES = ("pixel_values", "pixel_values_videos", "mm_encoder_outputs")  # what a pass is given where it reads any
WHOLE_AGAIN = "give `generate` the whole conversation, without a cache of former calls"

engaged: ContextVar[tuple[Merger, ...]] = ContextVar("engaged", default=())  # in this thread


@dataclass(frozen=True, eq=False)
class MergedClip:
    """A clip that was merged, and the row of the batch in which it stands."""

    row: int
    plan: Plan

    @property
    def patches(self) -> int:
        """Its video tokens before the merge layer."""
        return self.plan.num_patches

    @property
    def kept(self) -> int:
        """Its video tokens from there on."""
        return self.plan.num_tokens


@dataclass
class Engagement:
    """What `merging` did in the latest pass that read a video; empty until then.

    Attributes:
        settings: the run's, with everything filled in that was left to the model.
        clips: by row, and in their order within a row. Beams and `num_return_sequences` repeat rows.
        tokens_before, tokens_after: of each row, text included and padding not.
        passes: how many passes have read a video since the `with` began.
    """

    settings: RunSettings
    clips: list[MergedClip] = field(default_factory=list)
    tokens_before: list[int] = field(default_factory=list)
    tokens_after: list[int] = field(default_factory=list)
    passes: int = 0

    @property
    def plans(self) -> list[Plan]:
        """A plan for each clip."""
        return [clip.plan for clip in self.clips]

    @property
    def kept(self) -> list[int]:
        """Tokens left of each clip."""
        return [clip.kept for clip in self.clips]


@dataclass(frozen=True, eq=False)
class Row:
    """A sequence as the late layers see it: ``hidden [1, n, D]`` and its positions; ``own_next``: in the early ones."""

    hidden: torch.Tensor
    positions: Positions
    own_next: int
    before: int
    clips: tuple[MergedClip, ...] = ()


@dataclass(frozen=True, eq=False)
class Rows:
    """What later passes must know of a batch that was shortened. Beams may be reordered: those of a row are alike.

    Attributes:
        padding: ``[B]`` places to the left of each row.
        following: ``[B]`` position of the token behind each row, in the late layers.
        own_next: ``[B]`` the same in the early ones, as the model numbers it.
        columns: length of the late layers' cache right after the prompt.
    """

    padding: torch.Tensor
    following: torch.Tensor
    own_next: torch.Tensor
    columns: int
    padded: bool

    @classmethod
    def of(cls, rows: list[Row], device: torch.device) -> Rows:
        lengths = [row.hidden.shape[1] for row in rows]
        columns = max(lengths)
        padding = torch.tensor([columns - length for length in lengths], device=device)
        following = torch.tensor([row.positions.next for row in rows], device=device)
        own_next = torch.tensor([row.own_next for row in rows])
        return cls(padding, following, own_next, columns, min(lengths) < columns)


@dataclass(eq=False)
class Reading:
    """A pass that reads a prompt with a video in it.

    Attributes:
        layouts: clips of each row.
        real: ``[B, S]`` bool, False at padding; None where there is none.
        numbers: position ids as the rotary embedding was given them, ``[1 or B, S]`` or ``[3, 1 or B, S]``.
    """

    layouts: list[list[VideoLayout]]
    real: torch.Tensor | None
    numbers: torch.Tensor | None = None
    late: dict[str, Any] | None = None


@dataclass(eq=False)
class GoingOn:
    """A pass that goes on behind ``past`` cached tokens of shortened rows."""

    rows: Rows
    past: int
    late: dict[str, Any] | None = None


class Merger:
    """The hooks of one `merging`, and what they hand on to each other within a pass.

    Another thread's pass may meet hooks that this thread is just registering or removing: torch then calls them without
    keyword arguments, and they do nothing there in any case.
    """

    def __init__(self, model: PreTrainedModel, family: Family, settings: RunSettings) -> None:
        self.model, self.family, self.settings = model, family, settings
        self.decoder = family.decoder(model)
        self.layer, self.rule = settings.merge_layer, settings.position_rule
        self.names = list(inspect.signature(type(model).forward).parameters)[1:]  # without self
        self.engagement = Engagement(settings)
        self.cached: WeakKeyDictionary[DynamicCache, Rows] = WeakKeyDictionary()
        self.passing = threading.local()

    def hooked(self):
        """The hooks, in a `with`."""
        layers, late = self.decoder.layers, self.decoder.layers[self.layer :]
        return hooks(
            self.model.register_forward_pre_hook(self.entered, with_kwargs=True),
            self.model.register_forward_hook(self.left, always_call=True),
            self.decoder.rotary_emb.register_forward_pre_hook(self.rotated, with_kwargs=True),
            layers[self.layer].register_forward_pre_hook(self.at_merge_layer, with_kwargs=True),
            *(layer.register_forward_pre_hook(self.at_late_layer, with_kwargs=True) for layer in late),
        )

    @property
    def now(self) -> Reading | GoingOn | None:
        """The pass that runs in this thread, if it is one to be changed."""
        return getattr(self.passing, "now", None)

    def entered(self, module, args, kwargs=None) -> None:
        self.passing.now = None
        if self in engaged.get() and not ENGINE_RUNS.get():
            self.passing.now = self.begun(dict(zip(self.names, args, strict=False)) | kwargs)

    def left(self, module, args, output) -> None:
        self.passing.now = None

    def rotated(self, module, args, kwargs=None) -> None:
        if isinstance(self.now, Reading) and self.now.numbers is None:
            self.now.numbers = kwargs["position_ids"] if "position_ids" in kwargs else args[1]

    def at_merge_layer(self, module, args, kwargs=None):
        if self.now is None:
            return None
        hidden, kwargs = args[0] if args else kwargs["hidden_states"], dict(kwargs)
        kwargs.pop("hidden_states", None)
        if isinstance(self.now, Reading):
            cache = kwargs.get(cache_argument(type(module)))
            hidden = self.read(self.now, hidden, kwargs["position_embeddings"], cache)
        else:
            self.now.late = self.continued(self.now, hidden)
        return (hidden, *args[1:]), kwargs

    def at_late_layer(self, module, args, kwargs=None):
        return None if self.now is None else (args, kwargs | self.now.late)

    def begun(self, given: Mapping[str, Any]) -> Reading | GoingOn | None:
        """What a pass with these arguments is; None for one that runs as ever."""
        cache = given.get(cache_argument(type(self.model)))
        past = 0 if cache is None else cache.get_seq_length(self.layer)
        if past:
            return self.going_on(given, cache, past)
        ids = given.get("input_ids")
        if ids is None:
            raise ValueError("merging finds videos by their token ids; pass input_ids, not inputs_embeds.")
        if not bool((ids == self.family.patch_token(self.model)).any()):
            return None
        check_plain_decoding(given, cache)
        layouts = self.family.layouts(self.model, given)
        if not any(layouts):
            return None
        if given.get("labels") is not None:
            raise ValueError("merging shortens the sequence, so that labels don't fit it; leave labels out.")
        if cache is not None:
            check_cache(cache)
        real = real_tokens(given.get("attention_mask"), ids)
        if cache is not None and real is not None and not real[:, -1].all():
            raise ValueError(
                "tokens can't go on behind padding; set processor.tokenizer.padding_side = 'left', "
                "as `generate` needs it."
            )
        return Reading(layouts, real)

    def going_on(self, given: Mapping[str, Any], cache: Any, past: int) -> GoingOn | None:
        """What a pass behind cached tokens is; ValueError where the cache does not fit it."""
        if any(given.get(name) is not None for name in PICTURES):
            raise ValueError(f"merging can't add a video or an image behind a cache; {WHOLE_AGAIN}.")
        rows = self.cached.get(cache)
        if rows is not None:
            check_plain_decoding(given, cache)
            return GoingOn(self.checked(rows, given, past), past)
        if len({int(cache.get_seq_length(layer)) for layer in range(len(self.decoder.layers))}) > 1:
            raise ValueError(f"this cache was shortened in another `with merging`; {WHOLE_AGAIN}.")
        return None

    def checked(self, rows: Rows, given: Mapping[str, Any], past: int) -> Rows:
        """``rows``, if the model goes on where they end."""
        numbers = given.get("position_ids")  # [1 or B, N], or [3 or 4, 1 or B, N]
        expected = rows.own_next.to(given["input_ids"].device) + (past - rows.columns)
        if numbers is not None and bool((numbers.view(-1, *numbers.shape[-2:])[-1, :, 0] != expected).any()):
            raise ValueError(f"the cache does not end where the new tokens begin; {WHOLE_AGAIN}.")
        return rows

    def read(self, reading: Reading, hidden: torch.Tensor, embeddings: RotaryEmbeddings, cache: Any) -> torch.Tensor:
        """The batch ``[B, S, D]`` shortened to ``[B, n, D]``, and noted for the layers and passes that follow."""
        made = [self.row(reading, number, hidden, embeddings) for number in range(len(hidden))]
        rows = Rows.of(made, hidden.device)
        padding = [rows.columns - row.hidden.shape[1] for row in made]
        hidden = torch.cat([left_padded(row.hidden, p) for row, p in zip(made, padding, strict=True)])
        parts = zip(*(row.positions.embeddings for row in made), strict=True)  # all cos, all sin
        joined = tuple(
            torch.cat([left_padded(part, p) for part, p in zip(rows_, padding, strict=True)], dim=-3)
            for rows_ in parts
        )
        reading.late = self.late(rows, hidden, 0, joined)
        if cache is not None:
            check_cache(cache)
            self.cached[cache] = rows
        self.note(made)
        return hidden

    def note(self, rows: list[Row]) -> None:
        """Say in the `Engagement` what was done."""
        done = self.engagement
        done.clips = [clip for row in rows for clip in row.clips]
        done.tokens_before = [row.before for row in rows]
        done.tokens_after = [row.hidden.shape[1] for row in rows]
        done.passes += 1

    def row(self, reading: Reading, number: int, hidden: torch.Tensor, embeddings: RotaryEmbeddings) -> Row:
        """One row without its padding, every clip in it shortened; one without a video as it was."""
        layouts = reading.layouts[number]
        one, numbers = of_row(hidden, number, -3), of_row(reading.numbers, number, -2)  # [1, S, D], [..., 1, S]
        parts = tuple(of_row(part, number, -3) for part in embeddings)
        if reading.real is not None:
            real = reading.real[number].to(hidden.device)
            places, new_place = real.nonzero().squeeze(1), real.cumsum(0) - 1
            one, parts = one[:, places], tuple(part[..., places.to(part.device), :] for part in parts)
            numbers = numbers[..., places.to(numbers.device)]
            layouts = [VideoLayout(new_place[clip.index.to(real.device)], len(places)) for clip in layouts]
        own_next = int(numbers[..., -1].max()) + 1  # a prompt ends in text
        whole = Row(one, Positions(parts, own_next), own_next, one.shape[1])
        return self.merged(whole, number, layouts) if layouts else whole

    def merged(self, row: Row, number: int, layouts: list[VideoLayout]) -> Row:
        """The last clip first, so that the places of those before it stay."""
        text = row.before - sum(layout.num_patches for layout in layouts)
        hidden, positions, clips = row.hidden, row.positions, []
        for layout in reversed(layouts):
            tokens = layout.patches(hidden[0])  # [T, H, W, D]
            shape = PrefixShape(layout.num_patches, text // len(layouts), self.layer, len(self.decoder.layers))
            seen = tokens.detach()
            plan = self.settings.plan(seen, self.settings.method.tables(seen), shape)
            short = shorten(hidden, positions, layout, plan.apply(tokens), self.rule, self.rotary)
            hidden, positions = short.hidden, short.positions
            clips.append(MergedClip(number, plan))
        return replace(row, hidden=hidden, positions=positions, clips=tuple(reversed(clips)))

    def continued(self, going: GoingOn, hidden: torch.Tensor) -> dict[str, Any]:
        """What late layers are given for new tokens ``[B, N, D]``."""
        count = hidden.shape[1]
        first = going.rows.following + (going.past - going.rows.columns)  # [B]
        numbers = first[:, None] + torch.arange(count, device=first.device)  # [B, N]
        flat = self.rotary(numbers.view(-1).to(hidden.device))  # [..., 1, B*N, head_dim]
        embeddings = tuple(part.squeeze(-3).unflatten(-2, (-1, count)) for part in flat)
        return self.late(going.rows, hidden, going.past, embeddings)

    def late(self, rows: Rows, hidden: torch.Tensor, past: int, embeddings: RotaryEmbeddings) -> dict[str, Any]:
        """Arguments of the layers from the merge layer on."""
        padding = rows.padding.to(hidden.device) if rows.padded else None
        mask = causal_mask(hidden, past, self.decoder.config._attn_implementation, padding)
        return {"position_embeddings": embeddings, "attention_mask": mask, "position_ids": None}

    def rotary(self, numbers: torch.Tensor) -> RotaryEmbeddings:
        return self.family.rotary(self.decoder, numbers)


def check_plain_decoding(given: Mapping[str, Any], cache: Any) -> None:
    """ValueError for a pass that tries out several tokens at once, of which the cache then loses some."""
    wanted = given.get("logits_to_keep")
    if cache is not None and isinstance(wanted, int) and wanted > 1:
        raise ValueError(
            "assisted decoding does not run merged; leave assistant_model and prompt_lookup_num_tokens out."
        )


def check_cache(cache: Any) -> None:
    """ValueError unless each layer of the cache simply grows, by itself."""
    odd = [layer for layer in getattr(cache, "layers", [cache]) if type(layer) is not DynamicLayer]
    if odd:
        raise ValueError(
            f"merging needs a cache whose layers grow by themselves (DynamicCache), got {type(odd[0]).__name__}; "
            "leave cache_implementation out."
        )


def real_tokens(mask: Any, ids: torch.Tensor) -> torch.Tensor | None:
    """``[B, S]`` bool, False at padding; None where nothing is padded."""
    if mask is None:
        return None
    if not isinstance(mask, torch.Tensor) or mask.shape != ids.shape:
        raise ValueError(f"merging needs an attention_mask of shape {list(ids.shape)}, one number a token.")
    real = mask.bool()
    return None if bool(real.all()) else real


def of_row(part: torch.Tensor, number: int, dim: int) -> torch.Tensor:
    """One row of a batch, as a batch of one; where there is one row for all, that one."""
    return part.narrow(dim, number if part.shape[dim] > 1 else 0, 1)


def left_padded(part: torch.Tensor, count: int) -> torch.Tensor:
    """``[..., n, D]`` with ``count`` rows of zeros before it."""
    return nn.functional.pad(part, (0, 0, count, 0)) if count else part
