"""Every way to leave fewer video tokens: one file a method, one row here.

make_method("tome", retention=0.5, rules="as_released").plan(tokens).apply(tokens).tokens
"""

from __future__ import annotations

from ..method import Method
from .sttm import Sttm

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        Sttm,
    )
}  # fmt: skip


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


__all__ = ["METHODS", "Method", "Sttm", "make_method"]
