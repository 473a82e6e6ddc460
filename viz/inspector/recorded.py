"""A plan of any method for the browser: what became of every patch, so that nothing has to be decided there."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from sttm_core.method import Plan
from sttm_core.methods import METHODS


def plan_payload(plan: Plan) -> dict[str, Any]:
    """JSON-able: ``grid`` [T, H, W], ``memberOf`` [T*H*W] (-1: dropped) and ``places`` [N] as little-endian int32."""
    plan = plan.to("cpu")
    return _named(plan.method.name) | {
        "grid": list(plan.grid),
        "memberOf": _base64(plan.member_of.numpy()),
        "places": _base64(plan.places.numpy()),
    }


def waiting_payload(method: str, why: str) -> dict[str, Any]:
    """In the place of a plan, for a method that has none yet: a sentence that says why."""
    return _named(method) | {"waiting": why}


def _named(method: str) -> dict[str, Any]:
    return {"method": method, "title": METHODS[method].title}


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype="<i4").tobytes()).decode()
