"""The inspector as one HTML file that works from disk, offline, with its sliders alive."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import Any

from ..seen import seen_html
from .bundle import embed_json, script
from .data import InspectorData

# nothing is fetched
POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>
body {{ margin: 0; background: #fff; color: #16191d; }}
body {{ font: 14px/1.4 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }}
main {{ max-width: 1720px; margin: 0 auto; padding: 16px clamp(12px, 2vw, 32px) 32px; }}
h1 {{ font-size: 17px; font-weight: 650; margin: 0 0 10px; }}
h2 {{ font-size: 15px; margin: 28px 0 8px; }}
.runs {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; padding: 6px 10px; border-bottom: 1px solid #dfe3e8; vertical-align: top; }}
th {{ font-weight: 500; color: #5b6470; }}
@media (prefers-color-scheme: dark) {{
  body {{ background: #14171b; color: #eef1f4; }}
  th, td {{ border-color: #333a42; }}
  th {{ color: #a3adb8; }}
}}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<div id="inspector"></div>
{runs}
{seen}
</main>
<script type="application/json" id="payload">{payload}</script>
<script>
"use strict";
(() => {{
{script}
const payload = JSON.parse(document.getElementById("payload").textContent);
const options = {{ ...INSPECTOR_PARTS, id: "inspector", controls: true, followSystem: true }};
mountInspector(document.getElementById("inspector"), options).load(payload);
}})();
</script>
</body>
</html>
"""


def export_html(
    data: InspectorData,
    settings: Mapping[str, Any] | None = None,
    runs: Iterable[Mapping[str, Any]] = (),
    seen: Iterable[tuple[str, str]] = (),
) -> str:
    """One self-contained page: frames, tables, sliders, and the runs of a visit as a table.

    Args:
        data: the video.
        settings: what to begin with, as `InspectorData.settings`.
        runs: rows of the table, e.g. ``{"settings": ..., "kept": "22.4%", "TTFT": "0.92 s", "answer": ...}``; the keys
            are the columns, in order of appearance.
        seen: what the model saw, as names and words: see `seen.seen_rows`.
    """
    title = data.title or "Token merging"
    return PAGE.format(
        policy=POLICY,
        title=html.escape(title),
        runs=_runs_table(list(runs)),
        seen=_seen_table(list(seen)),
        payload=embed_json(data.with_settings(**(settings or {})).payload()),
        script=script(),
    )


def _runs_table(runs: list[Mapping[str, Any]]) -> str:
    if not runs:
        return ""
    columns = list(dict.fromkeys(name for run in runs for name in run))
    head = "".join(f'<th scope="col">{html.escape(str(name))}</th>' for name in columns)
    rows = "".join(f"<tr>{_cells(run, columns)}</tr>" for run in runs)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<h2>Runs</h2>\n<div class="runs" tabindex="0" role="group" aria-label="Runs">{table}</div>'


def _seen_table(rows: list[tuple[str, str]]) -> str:
    return f"<h2>What the model saw</h2>\n{seen_html(rows)}" if rows else ""


def _cells(run: Mapping[str, Any], columns: list[str]) -> str:
    return "".join(f"<td>{html.escape(str(run.get(name, '')))}</td>" for name in columns)
