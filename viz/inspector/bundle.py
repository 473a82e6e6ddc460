"""The browser side as text: modules joined into one script, so that a page needs no server and no build step."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

from .. import palette

HERE = Path(__file__).parent
MODULES = (  # a module comes after those that it imports
    "dom", "colours", "planner", "video", "recorded", "chains", "painting", "stage", "strip", "lanes", "numbers",
    "panel", "story", "legend", "controls", "keyboard", "wiring", "inspector",
)  # fmt: skip
_IMPORT = re.compile(r"^import \{[^}]*\} from \"[^\"]+\";\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=class|function|const)", re.MULTILINE)


@cache
def script() -> str:
    """All modules as one piece of JavaScript that defines `mountInspector(host, options)` and `INSPECTOR_PARTS`.

    The modules name everything at their top level differently, so joining them is dropping `import` and `export`.
    """
    parts = [_EXPORT.sub("", _IMPORT.sub("", _read(f"js/{name}.js"))) for name in MODULES]
    page = {"html": _read("inspector.html"), "css": _theme_css() + _read("inspector.css")}
    return "\n".join([_constant("PALETTE", _palette()), *parts, _constant("INSPECTOR_PARTS", page)])


def embed_json(value: object) -> str:
    """JSON that may stand inside a `<script>` element: no `<`, and no line separators of JavaScript."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _read(name: str) -> str:
    return (HERE / name).read_text("utf-8")


def _constant(name: str, value: object) -> str:
    return f"const {name} = {embed_json(value)};\n"


def _palette() -> dict[str, tuple[str, ...]]:
    return {"levels": palette.LEVELS, "chains": palette.CHAINS, "heat": palette.HEAT}


def _theme_css() -> str:
    """The product's text, line, surface and accent colours as CSS variables, light and dark."""
    rules = []
    for selector, theme in ((".inspector", palette.LIGHT), (".inspector.dark", palette.DARK)):
        names = {"text": theme.text, "muted": theme.muted, "line": theme.grid, "surface": theme.surface}
        variables = "".join(f"--{name}: {colour};" for name, colour in names.items())
        ink = palette.ink_on(theme.accent)
        rules.append(f"{selector} {{ {variables} --accent: {theme.accent}; --on-accent: {ink}; }}\n")
    return "".join(rules)
