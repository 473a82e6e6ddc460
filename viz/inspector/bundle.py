"""The browser side as text: modules joined into one script, so that a page needs no server and no build step."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
MODULES = (  # a module comes after those that it imports
    "dom", "colours", "planner", "video", "chains", "painting", "stage", "strip", "lanes", "numbers", "panel",
    "keyboard", "inspector",
)  # fmt: skip
_IMPORT = re.compile(r"^import \{[^}]*\} from \"[^\"]+\";\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=class|function|const)", re.MULTILINE)


@cache
def script() -> str:
    """All modules as one piece of JavaScript that defines `mountInspector(host, options)` and `INSPECTOR_PARTS`.

    The modules name everything at their top level differently, so joining them is dropping `import` and `export`.
    """
    parts = [_EXPORT.sub("", _IMPORT.sub("", (HERE / "js" / f"{name}.js").read_text("utf-8"))) for name in MODULES]
    page = {name: (HERE / f"inspector.{name}").read_text("utf-8") for name in ("html", "css")}
    parts.append(f"const INSPECTOR_PARTS = {embed_json(page)};\n")
    return "\n".join(parts)


def embed_json(value: object) -> str:
    """JSON that may stand inside a `<script>` element: no `<`, and no line separators of JavaScript."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
