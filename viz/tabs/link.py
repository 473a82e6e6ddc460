"""A view as an address: sample, frames, settings, frame in view, question. It survives a reload and can be shared."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from sttm_core.method import RULES
from sttm_core.positions import POSITION_RULES
from sttm_core.settings import RunSettings

from ..studio import Studio

LONGEST_QUESTION = 500
ARRIVED_JS = "window.sttmArrived = true"
READ = {
    "ts": ("tau_spatial", float),
    "tt": ("tau_temporal", float),
    "budget": ("retention", lambda percent: float(percent) / 100),
    "prefer": ("prefer", str),
    "rules": ("rules", lambda rules: {name: name for name in RULES}[rules]),  # those that the page can draw
    "positions": ("position_rule", str),
}  # names in an address: field of `RunSettings`, how to read it


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


def link_js(inspector_id: str) -> str:
    """JavaScript that writes the settings into the address bar and returns the whole address.

    Not before `ARRIVED_JS` has run: until the server has read what the address asks for, it stays as it was opened.
    Its arguments are the values of the sample, the frames, ``Controls.settings`` and the question.
    """
    return f"""(sample, frames, mode, ts, tt, budget, prefer, rules, positions, layer, question) => {{
      if (!window.sttmArrived) return location.href;
      const query = new URLSearchParams(mode === "budget" ? {{budget, prefer}} : {{ts, tt}});
      if (sample) query.set("sample", sample);
      for (const [name, value] of Object.entries({{frames, rules, layer}})) query.set(name, value);
      if ({list(POSITION_RULES)}.includes(positions)) query.set("positions", positions);
      if (question) query.set("q", question);
      const view = window.sttmInspector?.get("{inspector_id}");
      if (view?.video) query.set("frame", view.settings().frame);
      const theme = new URLSearchParams(location.search).get("__theme");
      if (theme) query.set("__theme", theme);
      history.replaceState(null, "", `?${{query}}`);
      return location.href;
    }}"""


def _settings(query: Mapping[str, str], studio: Studio) -> RunSettings:
    layers = studio.llm.merge_layers
    layer = _whole(query, "layer", layers[-1])
    settings = studio.start.but(merge_layer=None if layer is None else max(layers[0], layer))
    for name, (field, read) in READ.items():
        with suppress(ValueError, KeyError):  # the others may still make sense
            settings = settings.but(**{field: read(query[name])}) if name in query else settings
    return settings


def _whole(query: Mapping[str, str], name: str, most: int) -> int | None:
    """A whole number from 0 to ``most`` (more becomes ``most``); None where there is none."""
    text = query.get(name, "")
    return min(int(text), most) if text.isascii() and text.isdigit() and len(text) < 9 else None
