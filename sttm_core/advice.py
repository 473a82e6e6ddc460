"""Where a model's thresholds and budgets start: its own advice (`sttm.json` beside the weights), or the paper's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

ADVICE_FILE = "sttm.json"
SHIPPED_MODEL = Path(__file__).resolve().parent.parent / "assets" / "demo_model"


@dataclass(frozen=True)
class Advice:
    """Where to start with a model.

    Attributes:
        tau_spatial, tau_temporal: thresholds.
        about: one sentence on what the model was made for; empty if it does not say.
        prefer: which threshold a budget lets fall first, see `budget.thresholds_for_retention`.
    """

    tau_spatial: float = 0.85
    tau_temporal: float = 0.65
    about: str = ""
    prefer: str = "balanced"


def advice_for(model_path: str | Path) -> Advice:
    """The advice in ``sttm.json`` of a model folder; LLaVA-Video-7B's published pair (50% on VNBench) without one.

    Raises:
        ValueError: if the file is there but is not valid.
    """
    file = Path(model_path) / ADVICE_FILE
    if not file.is_file():
        return Advice()
    from .methods.sttm.budget import EXPONENTS  # here, so that --help answers before torch is imported

    try:
        advice = json.loads(file.read_text(encoding="utf-8"))
        taus = float(advice["tau_spatial"]), float(advice["tau_temporal"])
        prefer = advice.get("prefer", Advice.prefer)
        if prefer not in EXPONENTS:
            raise ValueError(prefer)
        return Advice(*taus, str(advice.get("about", "")), prefer)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{ADVICE_FILE} of the model {Path(model_path).name} is broken; delete or mend it.") from error
