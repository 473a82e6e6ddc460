"""Every way to leave fewer video tokens: one file a method, one row here.

make_method("tome", retention=0.5, rules="as_released").plan(tokens).apply(tokens).tokens
"""

from __future__ import annotations

from typing import Any

from ..method import METHODS, Method, make_method
from .downsample import Downsample
from .dycoke import Dycoke
from .evs import Evs
from .fastv import FastV
from .framefusion import FrameFusion
from .frames import FewerFrames
from .octree import Octree
from .pooling import Pooling
from .random import RandomTokens
from .sttm import Sttm
from .tome import Tome
from .vidcom2 import Vidcom2

ROWS: tuple[type[Method], ...] = (
    Sttm,
    Tome,
    Dycoke,
    Octree,
    Evs,
    Vidcom2,
    FastV,
    FrameFusion,
    RandomTokens,
    FewerFrames,
    Pooling,
    Downsample,
)  # fmt: skip

METHODS.update({method.name: method for method in ROWS})


def about(method: type[Method]) -> dict[str, Any]:
    """What there is to know of a method before it runs, JSON-ready; ``knobs`` by name with their defaults."""
    told = ("name", "title", "paper", "acts_on", "query_aware", "merge_layer", "position_rule")
    return {name: getattr(method, name) for name in told} | {"knobs": dict(method.knobs())}


__all__ = ["METHODS", "Method", "about", "make_method", *(method.__name__ for method in ROWS)]
