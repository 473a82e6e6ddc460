"""Every way to leave fewer video tokens: one file a method, one row here.

make_method("tome", retention=0.5, rules="as_released").plan(tokens).apply(tokens).tokens
"""

from __future__ import annotations

from ..method import METHODS, Method, make_method
from .dycoke import Dycoke
from .evs import Evs
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
    RandomTokens,
    FewerFrames,
    Pooling,
)  # fmt: skip

METHODS.update({method.name: method for method in ROWS})

__all__ = ["METHODS", "Method", "make_method", *(method.__name__ for method in ROWS)]
