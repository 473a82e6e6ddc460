"""Settings of one run as one frozen record: page, links, command line, API and caches speak of them by field name.

RunSettings.of("tome", retention=0.3)                        # ToMe, 30% of the tokens kept
RunSettings.of(tau_spatial=0.85, tau_temporal=0.65)          # STTM at two thresholds
RunSettings.of(retention=0.3, budget="layer_average").as_dict()
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from .budgets import BUDGETS, KEPT, PrefixShape
from .method import METHODS, Method, Plan, Tables, make_method
from .methods import Sttm
from .positions import POSITION_RULES

OWN = ("retention", "budget", "merge_layer", "position_rule")  # fields of a run, beside its method's knobs


@dataclass(frozen=True)
class RunSettings:
    """Everything that decides what is left of a video's tokens.

    Attributes:
        method: the method with its knobs.
        retention: budget, a share of what all tokens take; the method finds its knobs for it in each video.
            None uses the knobs as they are.
        budget: what the share is of: ``"kept"`` tokens, the ``"layer_average"`` of tokens over all layers, or
            ``"kv_bytes"`` of the video prefix.
        merge_layer: decoder layer before which a method acts; None for the method's own, or else the model's.
        position_rule: ``"reassigned"``, ``"survived"`` or ``"merged"``; None for the model's.

    Raises:
        ValueError: for a value out of range, in one sentence.
    """

    method: Method = field(default_factory=Sttm)
    retention: float | None = None
    budget: str = KEPT
    merge_layer: int | None = None
    position_rule: str | None = None

    def __post_init__(self) -> None:
        if self.retention is not None and not 0 < self.retention <= 1:
            raise ValueError(f"The budget must lie above 0% and at most 100%, got {self.retention:.0%}.")
        if self.budget not in BUDGETS:
            raise ValueError(f"The budget must be a share of one of {', '.join(BUDGETS)}, got {self.budget!r}.")
        if self.position_rule not in (None, *POSITION_RULES):
            known = ", ".join(POSITION_RULES)
            raise ValueError(f"The position rule must be one of {known}, got {self.position_rule!r}.")

    @classmethod
    def of(cls, method: str = Sttm.name, **given: Any) -> RunSettings:
        """Settings from a flat list of names: fields of this record and knobs of the method.

        Raises:
            ValueError: for an unknown method, a name that neither has, or a value out of range.
        """
        own = {name: given.pop(name) for name in OWN if name in given}
        return cls(make_method(method, **given), **own)

    @property
    def name(self) -> str:
        """The method's name."""
        return self.method.name

    def but(self, **changes: Any) -> RunSettings:
        """The same with some names changed, ``method`` among them; another method keeps the knobs that it shares."""
        name = changes.pop("method", self.name)
        flat = self.as_dict() | changes
        if name != self.name:
            flat = {knob: flat[knob] for knob in (*OWN, *METHODS.get(name, Method).knobs()) if knob in flat}
        return RunSettings.of(name, **{key: value for key, value in flat.items() if key != "method"})

    def plan(self, tokens: torch.Tensor | None, tables: Tables | None, shape: PrefixShape | None = None) -> Plan:
        """What the method leaves of a video, by its budget where one is set.

        Args:
            tokens: ``[T, H, W, C]`` before the merge layer; None where ``tables`` are all that the method needs.
            tables: of `Method.tables`.
            shape: of the prefix; for budgets other than ``"kept"``.

        Raises:
            ValueError: for a budget that needs ``shape`` where there is none.
        """
        method = self.method
        if self.retention is not None:
            method = method.for_retention(tokens, self.share_to_keep(shape), tables)
        return method.plan(tokens, tables)

    def share_to_keep(self, shape: PrefixShape | None) -> float:
        """Share of video tokens that the budget leaves from the merge layer on."""
        if self.budget == KEPT:
            return self.retention
        if shape is None:
            raise ValueError(f"a budget of {self.budget} needs the encoded video; encode it first.")
        return shape.kept_share(self.retention, self.budget)

    def resolved(self, merge_layer: int, position_rule: str, first_layer: int = 0) -> RunSettings:
        """With what was left to the method and the model filled in, so that equal runs have equal settings.

        Args:
            merge_layer, position_rule: the model's own.
            first_layer: the first layer before which this model lets tokens be merged.
        """
        own = self.method.merge_layer
        layer = merge_layer if own is None else max(own, first_layer)
        return replace(
            self,
            merge_layer=layer if self.merge_layer is None else self.merge_layer,
            position_rule=self.position_rule or self.method.position_rule or position_rule,
        )

    def as_dict(self) -> dict[str, Any]:
        """Flat and JSON-ready; ``RunSettings.of(**settings.as_dict())`` gives the same record."""
        knobs = {name: value for name, value in asdict(self.method).items() if name not in OWN}
        return {"method": self.name} | {name: getattr(self, name) for name in OWN} | knobs


def knobs_for(method: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``values`` that settings of this method take; a page has controls for all methods at once."""
    if method not in METHODS:
        raise ValueError(f"there is no method {method!r}; there are {', '.join(METHODS)}.")
    taken = (*OWN, *METHODS[method].knobs())
    return {name: value for name, value in values.items() if name in taken}
