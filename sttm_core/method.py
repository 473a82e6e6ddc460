"""What a reduction method is, and what comes out of one: a plan that says what becomes of every patch.

A method is a frozen record of its own settings ("knobs"). It acts at one of three places:

- ``"tokens"``: on the hidden states of the video tokens before decoder layer k. `Method.plan` decides.
- ``"layers"``: inside the decoder, layer by layer, while the question is there (`sttm_core.inside_layers`).
- ``"pixels"``: on the frames, before the vision encoder (`sttm_core.methods.downsample`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol

import torch

RULES = ("paper", "as_released")  # of methods whose released code does something else than their paper says
POOL_ROWS = 8192  # patches widened to float32 at a time: bounds what is held beside input and output


class Plan:
    """What a method does to ``[T, H, W]`` video tokens. Never any features.

    Attributes:
        method: the method that made it, with the knobs that it used.
        places: ``[N]`` int64, the flat patch index ``(t*H + y)*W + x`` where each token stands, in output order.
        member_of: ``[T, H, W]`` int64, the token that each patch went into; -1 for a patch that was dropped.
        weights: ``[T, H, W]`` float32, a patch's share in its token; None for the plain mean of its patches.
        patch_counts: ``[N]`` int64, patches that went into each token; with `num_dropped` they sum to ``T*H*W``.
        boxes: ``[N, 5]`` int64, ``t, y0, x0, y1, x1`` in patches, half open: where each token stands.
    """

    method: Method
    places: torch.Tensor
    member_of: torch.Tensor
    weights: torch.Tensor | None
    patch_counts: torch.Tensor
    boxes: torch.Tensor

    @property
    def grid(self) -> tuple[int, int, int]:
        """``(T, H, W)``."""
        return tuple(self.member_of.shape)

    @property
    def num_frames(self) -> int:
        return self.member_of.shape[0]

    @property
    def num_patches(self) -> int:
        """Tokens before the method: ``T*H*W``."""
        return self.member_of.numel()

    @property
    def num_tokens(self) -> int:
        """Tokens after it: N."""
        return len(self.places)

    @property
    def retention(self) -> float:
        """Share of tokens left, ``N / (T*H*W)``: "kept", the first of the three budgets."""
        return self.num_tokens / self.num_patches

    @property
    def num_dropped(self) -> int:
        """Patches that ended in no token."""
        return int((self.member_of < 0).sum())

    @cached_property
    def tokens_per_frame(self) -> torch.Tensor:
        """``[T]`` int64: tokens that stand in each frame; they sum to N."""
        return count_values(self.places // (self.num_patches // self.num_frames), self.num_frames)

    @property
    def changes_nothing(self) -> bool:
        """Whether every patch is its own token, in scan order."""
        return self.num_tokens == self.num_patches and bool((self.places.diff() > 0).all())

    @property
    def details(self) -> Mapping[str, Any]:
        """What is special to this method's plans, JSON-ready, by name."""
        return {}

    def to(self, device: torch.device | str) -> Plan:
        """The same plan with its arrays on another device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: v.to(device) for name, v in moved.items() if isinstance(v, torch.Tensor)})

    def apply(self, tokens: torch.Tensor) -> MergedTokens:
        """Average what went into each token: ``[T, H, W, C]`` -> ``[N, C]``, dtype and device as ``tokens``.

        Raises:
            ValueError: if ``tokens`` do not have this plan's ``T x H x W``.
        """
        self.check_shape(tokens)
        plan = self if self.member_of.device == tokens.device else self.to(tokens.device)
        flat, token = tokens.reshape(plan.num_patches, -1), plan.member_of.view(-1)
        if plan.weights is None and plan.num_patches - plan.num_dropped == plan.num_tokens:
            return MergedTokens(flat[plan.places], plan)  # nothing is averaged
        return MergedTokens(pool_members(flat, token, plan.share, plan.num_tokens), plan)

    @property
    def share(self) -> torch.Tensor:
        """``[T*H*W]`` float32: a patch's weight in its token, 0 for one that was dropped."""
        token = self.member_of.reshape(-1)
        if self.weights is not None:
            return torch.where(token >= 0, self.weights.reshape(-1), 0.0)
        counts = self.patch_counts.clamp(min=1).float().reciprocal()
        return torch.where(token >= 0, counts[token.clamp(min=0)], 0.0)

    def check_shape(self, tokens: torch.Tensor) -> None:
        """ValueError unless ``tokens`` are ``[T, H, W, C]`` of this plan's grid."""
        if tokens.ndim != 4 or tuple(tokens.shape[:3]) != self.grid:
            raise ValueError(
                f"the plan is for {list(self.grid)} tokens [T, H, W], got tokens of shape {list(tokens.shape)}."
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.num_tokens} of {self.num_patches} tokens, {self.method})"


@dataclass(frozen=True, eq=False, repr=False)
class TokenPlan(Plan):
    """A plan that is no more than its arrays; see `Plan`."""

    method: Method
    places: torch.Tensor
    member_of: torch.Tensor
    weights: torch.Tensor | None = None

    @classmethod
    def keeping(cls, method: Method, places: torch.Tensor, grid: tuple[int, int, int]) -> TokenPlan:
        """The plan that keeps the patches at ``places [N]``, in this order, and drops all others."""
        count = grid[0] * grid[1] * grid[2]
        member_of = torch.full((count,), -1, dtype=torch.int64, device=places.device)
        member_of[places] = torch.arange(len(places), device=places.device)
        return cls(method, places, member_of.view(grid))

    @cached_property
    def patch_counts(self) -> torch.Tensor:
        return count_values(self.member_of[self.member_of >= 0], self.num_tokens)

    @cached_property
    def boxes(self) -> torch.Tensor:
        _, height, width = self.grid
        frame, inside = self.places // (height * width), self.places % (height * width)
        y, x = inside // width, inside % width
        return torch.stack([frame, y, x, y + 1, x + 1], dim=1)


@dataclass(frozen=True, eq=False)
class MergedTokens:
    """``tokens [N, C]`` in the dtype and on the device of the input, and the plan that says what each stands for."""

    tokens: torch.Tensor
    plan: Plan

    @property
    def boxes(self) -> torch.Tensor:
        """``[N, 5]`` int64: ``t, y0, x0, y1, x1`` in patches, half open, in output order."""
        return self.plan.boxes

    @property
    def patch_counts(self) -> torch.Tensor:
        """``[N]`` int64 patches merged into each token."""
        return self.plan.patch_counts

    @property
    def retention(self) -> float:
        """``N / (T*H*W)``."""
        return self.plan.retention

    def __repr__(self) -> str:
        return f"MergedTokens({list(self.tokens.shape)} {self.tokens.dtype}, {self.plan!r})"


class Tables(Protocol):
    """What a method measured of a video's tokens once, so that other knobs need not look at the features again."""

    @property
    def nbytes(self) -> int: ...


@dataclass(frozen=True)
class Method:
    """A way to leave fewer video tokens. Subclasses are frozen dataclasses; their fields are the method's knobs.

    Attributes:
        name: as in the registry, links, JSON and on the command line.
        title: for people.
        paper: where it was published.
        acts_on: ``"tokens"``, ``"layers"`` or ``"pixels"``, see the module's text.
        query_aware: whether the question decides what is kept: the prefix then serves that question alone.
        merge_layer: decoder layer before which the method was published to act; None for the model's own (STTM's k).
        position_rule: positions that its publication keeps (`sttm_core.positions`); None for the model's own.
        overrides: knobs of the publication that decide in the place of ``retention`` where they are given.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    acts_on: ClassVar[str] = "tokens"
    query_aware: ClassVar[bool] = False
    merge_layer: ClassVar[int | None] = None
    position_rule: ClassVar[str | None] = None
    overrides: ClassVar[tuple[str, ...]] = ()

    def plan(self, tokens: torch.Tensor, tables: Tables | None = None) -> Plan:
        """What becomes of ``tokens [T, H, W, C]``, any float dtype, CPU or CUDA.

        Args:
            tables: of `tables`, where they were made already.

        Raises:
            ValueError: for a wrong rank, dtype or size, or NaN or infinite values.
        """
        raise TypeError(f"{self.title} acts on {self.acts_on} and makes no plan from tokens.")

    def for_retention(self, tokens: torch.Tensor, retention: float, tables: Tables | None = None) -> Method:
        """The method with the knobs that keep at most ``retention`` of these tokens, as near to it as it can.

        Where the method can't go so low, its lowest: the plan's ``retention`` tells.

        Raises:
            ValueError: for a retention outside (0, 1].
        """
        return replace(self, retention=check_retention(retention), **dict.fromkeys(self.overrides))

    def tables(self, tokens: torch.Tensor) -> Tables | None:
        """What all settings with the same `tables_key` can share of a video; None where there is nothing."""
        return None

    @property
    def tables_key(self) -> tuple:
        """What `tables` depend on, beside the tokens."""
        return (self.name,)

    @classmethod
    def knobs(cls) -> Mapping[str, Any]:
        """Names of the settings, with their defaults."""
        return {field.name: field.default for field in fields(cls)}


METHODS: dict[str, type[Method]] = {}  # by name; `sttm_core.methods` fills it, a row each


def make_method(name: str, **knobs) -> Method:
    """The method of this name with the given knobs; those that are left out are as published.

    Raises:
        ValueError: for an unknown name, a knob that the method does not have, or a value out of range.
    """
    if name not in METHODS:
        raise ValueError(f"there is no method {name!r}; there are {', '.join(METHODS)}.")
    kind = METHODS[name]
    unknown = [knob for knob in knobs if knob not in kind.knobs()]
    if unknown:
        raise ValueError(f"{name} has no {unknown[0]!r}; it has {', '.join(kind.knobs())}.")
    return kind(**knobs)


def check_retention(retention: float) -> float:
    """``retention`` as a float; ValueError unless it lies above 0 and is at most 1."""
    try:
        share = float(retention)
    except (TypeError, ValueError):
        share = float("nan")
    if not 0 < share <= 1:
        raise ValueError(f"retention must be above 0 and at most 1 (0.3 keeps 30% of the tokens), got {retention!r}.")
    return share


def check_share(name: str, value: float | None) -> None:
    """ValueError unless the knob's ``value`` is a number from 0 to 1, or None."""
    if value is not None and not (isinstance(value, (int, float)) and 0 <= value <= 1):
        raise ValueError(f"{name} must be a share from 0 to 1, got {value!r}.")


def check_whole(name: str, value: int | None, lowest: int) -> None:
    """ValueError unless the knob's ``value`` is a whole number of at least ``lowest``, or None."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < lowest):
        raise ValueError(f"{name} must be a whole number of at least {lowest}, got {value!r}.")


def check_rules(rules: str, known: tuple[str, ...] = RULES) -> None:
    """ValueError unless ``rules`` are known."""
    if rules not in known:
        raise ValueError(f"rules must be one of {', '.join(known)}, got {rules!r}.")


def check_tokens(tokens: torch.Tensor) -> torch.Tensor:
    """``tokens`` themselves; ValueError unless they are ``[T, H, W, C]`` of a float dtype, and not empty."""
    if not isinstance(tokens, torch.Tensor):
        raise ValueError(f"tokens must be a torch.Tensor of shape [T, H, W, C], got {type(tokens).__name__}.")
    if tokens.ndim != 4:
        raise ValueError(f"tokens must have 4 dimensions [T, H, W, C], got shape {list(tokens.shape)}.")
    if not tokens.is_floating_point():
        raise ValueError(f"tokens must have a floating point dtype, got {tokens.dtype}.")
    if 0 in tokens.shape:
        raise ValueError(f"tokens must not be empty, got shape {list(tokens.shape)}.")
    return tokens


def check_finite(scores: torch.Tensor, tokens: torch.Tensor) -> None:
    """ValueError if scores made from ``tokens`` are not finite, saying why."""
    if not bool(torch.isfinite(scores).all()):
        raise ValueError(not_finite_message(tokens))


def not_finite_message(tokens: torch.Tensor) -> str:
    """What to say of features whose squared norms are not finite."""
    if torch.isfinite(tokens).all():
        return "tokens are too large: their squared norms overflow float32; scale them down."
    return "tokens hold NaN or infinite values; check the model's outputs."


def budget_count(num_patches: int, retention: float) -> int:
    """Tokens that a budget allows: ``floor(retention * num_patches)``, at least 1."""
    return max(1, int(retention * num_patches + 1e-9))


def pool_members(patches: torch.Tensor, token: torch.Tensor, weights: torch.Tensor, num_tokens: int) -> torch.Tensor:
    """`sum_members`, cast back to the dtype of ``patches``."""
    return sum_members(patches, token, weights, num_tokens).to(patches.dtype)


def sum_members(patches: torch.Tensor, token: torch.Tensor, weights: torch.Tensor, num_tokens: int) -> torch.Tensor:
    """Weighted sums in at least float32: ``[P, C]`` into ``[num_tokens, C]``.

    Args:
        token: ``[P]`` int64, the row that a patch is added to; -1 for none.
        weights: ``[P]`` float32.
    """
    wide = torch.promote_types(patches.dtype, torch.float32)
    pooled = torch.zeros(num_tokens, patches.shape[1], device=patches.device, dtype=wide)
    for rows, to, weight in zip(*(x.split(POOL_ROWS) for x in (patches, token, weights)), strict=True):
        inside = to >= 0
        add_rows(pooled, to[inside], rows[inside].to(wide) * weight[inside, None])
    return pooled


def add_rows(sums: torch.Tensor, index: torch.Tensor, rows: torch.Tensor) -> None:
    """Add ``rows [R, C]`` to ``sums[index]``, in an order that is the same every time."""
    if sums.is_cuda:
        sums.index_put_((index,), rows, accumulate=True)  # sorts first; index_add_ adds in the order of its threads
    else:
        sums.index_add_(0, index, rows)


def count_values(values: torch.Tensor, size: int) -> torch.Tensor:
    """``[size]`` int64: how often each of ``0 .. size-1`` occurs; as torch.bincount, which makes the host wait."""
    flat = values.reshape(-1)
    return flat.new_zeros(size).scatter_add_(0, flat, torch.ones_like(flat))
