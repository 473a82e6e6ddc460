"""A view as an address: sample, frames, settings, frame in view, question. It survives a reload and can be shared."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sttm_core.method import RULES
from sttm_core.methods import METHODS, Sttm
from sttm_core.positions import POSITION_RULES
from sttm_core.settings import RunSettings

from ..studio import Studio
from .controls import BUDGET, DEFAULT_BUDGET, NUMBERS, TAUS, THRESHOLDS, shown_for

LONGEST_QUESTION = 500
ARRIVED_JS = "window.sttmArrived = true"
NAMES = {
    "tau_spatial": "ts", "tau_temporal": "tt", "percent": "budget", "position_rule": "positions",
    "merge_layer": "layer",
}  # settings that an address writes shorter than their names  # fmt: skip


def _whole_number(text: str) -> int:
    """ValueError unless ``text`` is plain digits."""
    if not (text.isascii() and text.isdigit() and len(text) < 9):
        raise ValueError(text)
    return int(text)


def _readers() -> dict[str, tuple[str, Callable[[str], Any]]]:
    """Fields of `RunSettings` by their names in an address, and how to read each; the method comes first."""
    read = {
        "method": ("method", str),
        "ts": ("tau_spatial", float),
        "tt": ("tau_temporal", float),
        "budget": ("retention", lambda percent: float(percent) / 100),
        "prefer": ("prefer", str),
        "rules": ("rules", lambda rules: {name: name for name in RULES}[rules]),  # those that the page can draw
        "positions": ("position_rule", str),
    }
    return read | {n: (n, _whole_number if isinstance(v, int) else float) for n, v in NUMBERS.items()}


READ = _readers()


def written(method: str, mode: str) -> list[str]:
    """Names of the panel's settings that an address has to say."""
    shown = [name for name, visible in shown_for(method, mode).items() if visible and name != "mode"]
    thresholds = [] if mode == THRESHOLDS and method == Sttm.name else list(TAUS)
    return ["method"] * (method != Sttm.name) + [name for name in shown if name not in thresholds]


@dataclass(frozen=True)
class Link:
    """What an address says; whatever it does not say, or says wrongly, is as the model and the sample advise."""

    sample: str
    settings: RunSettings
    num_frames: int | None = None
    frame: int | None = None
    question: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str], studio: Studio) -> Link:
        """Read a query string, already split into names and values."""
        known = query.get("sample") in studio.samples
        frames = _whole(query, "frames", studio.max_frames)
        return cls(
            sample=query["sample"] if known else next(iter(studio.samples)),
            settings=_settings(query, studio),
            num_frames=max(1, frames) if frames is not None else None,
            frame=_whole(query, "frame", studio.max_frames - 1),
            question=query.get("q", "")[:LONGEST_QUESTION],
        )


def link_js(inspector_id: str, names: Sequence[str]) -> str:
    """JavaScript that writes the settings into the address bar and returns the whole address.

    Not before `ARRIVED_JS` has run: until the server has read what the address asks for, it stays as it was opened.
    Its arguments are the values of the sample, the frames, the question and of the settings called ``names``.
    """
    kinds = {mode: written(Sttm.name, mode) for mode in (THRESHOLDS, BUDGET)}
    kinds |= {method: written(method, BUDGET) for method in METHODS if method != Sttm.name}
    return f"""(sample, frames, question, ...given) => {{
      if (!window.sttmArrived) return location.href;
      const names = {json.dumps(list(names))};
      const values = Object.fromEntries(names.map((name, i) => [name, given[i]]));
      const kind = values.method === {json.dumps(Sttm.name)} ? values.mode : values.method;
      const query = new URLSearchParams();
      for (const name of {json.dumps(kinds)}[kind]) query.set({json.dumps(NAMES)}[name] ?? name, values[name]);
      if (sample) query.set("sample", sample);
      query.set("frames", frames);
      if ({list(POSITION_RULES)}.includes(values.position_rule)) query.set("positions", values.position_rule);
      if (question) query.set("q", question);
      const view = window.sttmInspector?.get("{inspector_id}");
      if (view?.video) query.set("frame", view.settings().frame);
      const theme = new URLSearchParams(location.search).get("__theme");
      if (theme) query.set("__theme", theme);
      history.replaceState(null, "", `?${{query}}`);
      return location.href;
    }}"""


def _settings(query: Mapping[str, str], studio: Studio) -> RunSettings:
    """Layers are STTM's: other methods act where they were published to."""
    layers = studio.llm.merge_layers
    layer, settings = _whole(query, "layer", layers[-1]), studio.start
    for name, (field, read) in READ.items():
        with suppress(ValueError, KeyError):  # the others may still make sense
            settings = settings.but(**{field: read(query[name])}) if name in query else settings
    if settings.name != Sttm.name:
        return settings if settings.retention else settings.but(retention=DEFAULT_BUDGET)
    return settings.but(merge_layer=None if layer is None else max(layers[0], layer))


def _whole(query: Mapping[str, str], name: str, most: int) -> int | None:
    """A whole number from 0 to ``most`` (more becomes ``most``); None where there is none."""
    text = query.get(name, "")
    return min(int(text), most) if text.isascii() and text.isdigit() and len(text) < 9 else None
