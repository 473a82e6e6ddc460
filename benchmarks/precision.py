"""How many merge decisions change when the features are rounded to bfloat16, and how near the thresholds they were.

`python -m benchmarks.precision`: the shipped model's hidden states on the sample clips, in float32 and rounded to
bfloat16; the cosines are computed in float32 from both. Rounding to 8 significant bits moves a cosine a little, so only
decisions change whose cosine lies that close to its threshold.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer

from sttm_core import SimilarityTables, similarity_tables
from sttm_core.advice import SHIPPED_MODEL, advice_for
from sttm_core.engine import VideoLLM
from sttm_core.video import VideoClip


@dataclass(frozen=True)
class Row:
    """One clip: decisions of both kinds that exist, that change, and how far the cosines move."""

    clip: str
    splits: int
    splits_changed: int
    pairs: int
    pairs_changed: int
    largest_move: float
    farthest_changed: float
    tokens_float32: int
    tokens_bfloat16: int


def compare(clip: str, exact: SimilarityTables, rounded: SimilarityTables, tau_s: float, tau_t: float) -> Row:
    """Count the comparisons with a threshold that come out differently."""
    kinds = [(exact.child_min, rounded.child_min, tau_s), (exact.pair_cosines, rounded.pair_cosines, tau_t)]
    changed = [(a >= tau) != (b >= tau) for a, b, tau in kinds]
    distances = [(a - tau).abs()[flips] for (a, _, tau), flips in zip(kinds, changed, strict=True)]
    return Row(
        clip,
        splits=exact.child_min.numel(),
        splits_changed=int(changed[0].sum()),
        pairs=exact.pair_cosines.numel(),
        pairs_changed=int(changed[1].sum()),
        largest_move=max(float((a - b).abs().max()) for a, b, _ in kinds),
        farthest_changed=max((float(d.max()) for d in distances if len(d)), default=0.0),
        tokens_float32=exact.plan(tau_s, tau_t).num_tokens,
        tokens_bfloat16=rounded.plan(tau_s, tau_t).num_tokens,
    )


def main(
    clips: Annotated[Path, typer.Option(help="Folder of videos.")] = SHIPPED_MODEL.parent / "clips",
    frames: Annotated[int, typer.Option(min=2)] = 16,
    json_out: Annotated[Path | None, typer.Option(help="Also write the figures to this file.")] = None,
) -> None:
    """Decisions that differ between float32 and bfloat16 features."""
    llm, advice = VideoLLM.load(str(SHIPPED_MODEL), dtype="float32"), advice_for(SHIPPED_MODEL)
    rows = []
    for path in sorted(clips.glob("*.mp4")):
        tokens = llm.encode(VideoClip.open(path, frames)).tokens
        tables = similarity_tables(tokens), similarity_tables(tokens.to(torch.bfloat16))
        rows.append(compare(path.stem, *tables, advice.tau_spatial, advice.tau_temporal))
    print("| clip | splits changed | links changed | largest move of a cosine | farthest changed | tokens |")
    print("|---|---:|---:|---:|---:|---:|")
    for r in rows:
        print(
            f"| {r.clip} | {r.splits_changed} of {r.splits} | {r.pairs_changed} of {r.pairs} | {r.largest_move:.1e} "
            f"| {r.farthest_changed:.1e} | {r.tokens_float32} -> {r.tokens_bfloat16} |"
        )
    if json_out:
        json_out.write_text(json.dumps([asdict(r) for r in rows], indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
