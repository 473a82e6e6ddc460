"""What the model really saw, in words: frames, source, colours, decoder, model, versions, prompt."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import Any

MOST_NUMBERS = 64  # frames that are listed one by one


def seen_rows(said: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and words of each fact, from `provenance.run_truth` or a run that holds it; ``prompt`` may be missing."""
    frames, environment = said["frames"], said["environment"]
    rows = _frame_rows(frames)
    if frames["source"]:
        rows += _source_rows(frames["source"])
    rows += _environment_rows(environment)
    if said.get("prompt"):
        rows.append(("Prompt as rendered", said["prompt"]))
    return rows


def seen_html(rows: Iterable[tuple[str, str]]) -> str:
    """The rows as a table; all words are escaped."""
    lines = (
        f'<tr><th scope="row">{html.escape(name)}</th><td style="white-space: pre-wrap">{html.escape(words)}</td></tr>'
        for name, words in rows
    )
    return f'<table class="seen">{"".join(lines)}</table>'


def _frame_rows(frames: Mapping[str, Any]) -> list[tuple[str, str]]:
    height, width = frames["size"]
    source = frames["source"]
    of = f" of {source['num_frames']}" if source else ""
    return [
        ("Frames", f"{len(frames['indices'])}{of}, {width} × {height} pixels"),
        ("Frame numbers", _listed(map(str, frames["indices"]))),
        ("Seconds", _listed(f"{seconds:.3f}" for seconds in frames["times_s"])),
        ("SHA-256 of the file" if source else "SHA-256 of the frames", frames["content_hash"]),
    ]


def _listed(numbers: Iterable[str]) -> str:
    numbers = list(numbers)
    if len(numbers) <= MOST_NUMBERS:
        return ", ".join(numbers)
    half = MOST_NUMBERS // 2
    return ", ".join([*numbers[:half], f"… {len(numbers) - MOST_NUMBERS} more …", *numbers[-half:]])


def _source_rows(source: Mapping[str, Any]) -> list[tuple[str, str]]:
    (stored_height, stored_width), (height, width) = source["stored_size"], source["size"]
    turned = f"turned {source['rotation']}° clockwise" if source["rotation"] else "not turned"
    mirrored = ", mirrored" if source["mirrored"] else ""
    length = f"{source['duration_s']:.2f} s, {source['fps']:.4g} fps"
    return [
        ("Source", f"{source['codec']} in {source['container']}, {length}"),
        ("Stored and shown", f"{stored_width} × {stored_height} stored, {width} × {height} shown, {turned}{mirrored}"),
        ("Pixel aspect", source["pixel_aspect"]),
        ("Colours", f"{source['pixel_format']}; matrix {source['colour_matrix']}; range {source['colour_range']}"),
        ("Decoder", source["decoder"]),
    ]


def _environment_rows(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    model = [environment["model"], environment["family"], environment["dtype"], f"{environment['attention']} attention"]
    if environment["quantization"]:
        model.append(environment["quantization"])
    versions = (f"{name} {number}" for name, number in environment["versions"].items() if number)
    return [
        ("Model", ", ".join(model)),
        ("Machine", f"{environment['device']}, {environment['system']}, {environment['threads']} threads"),
        ("Versions", ", ".join(versions)),
    ]
