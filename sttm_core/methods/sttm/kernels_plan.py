"""Triton version of planning, used on CUDA: five small kernels, and the host waits once, for four numbers.

A kept node is named by the place ``frame * H*W + top-left patch`` until the number of kept nodes is known; places run
in scan order, so the smallest place of a chain is its representative. The atomics here race, their results do not
depend on who wins. See `sttm_core.methods.sttm.kernels` for what importing this module needs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from .components import released_labels
from .quadtree import Quadtree, tree_tensor

PLACES = 256  # places a program
KINDS = 3  # kept nodes, links, tokens: what is counted
TOTALS = KINDS + 1  # and whether the features held a value that is not finite
BLOCKS = 1024  # counts of programs added up at a time


@dataclass(frozen=True, eq=False)
class Marked:
    """What the thresholds decide, by place.

    Attributes:
        levels: ``[T*H*W]`` int8, level of the kept node over each patch.
        tops: ``[T*H*W]`` int32, place of that node.
        linked: ``[T*H*W]`` int8, 1 where the patch names a pair that is linked to the next frame, see
            `plan.mark_links`.
        labels: ``[T*H*W]`` int32, each place itself.
        totals: ``[4]`` int32: three zeros, and ``not_finite`` of `plan_arrays`.
    """

    levels: torch.Tensor
    tops: torch.Tensor
    linked: torch.Tensor
    labels: torch.Tensor
    totals: torch.Tensor


def plan_arrays(
    tree: Quadtree, minima: torch.Tensor, pair_cosines: torch.Tensor, tau_s: float, tau_t: float, rules: str,
    not_finite: torch.Tensor | None = None,
) -> tuple[torch.Tensor, ...] | None:  # fmt: skip
    """The arrays of a `MergePlan`, in its order; equal to those of the PyTorch path.

    Args:
        minima: ``[T, internal nodes]`` float32; ``pair_cosines``: ``[T-1, pairs]`` float32.
        tau_s, tau_t: thresholds, numbers that float32 can hold.
        not_finite: ``[1]`` int32, 1 if the tables come from features with values that are not finite: the result is
            then None. Read together with the numbers that are waited for anyway.
    """
    minima, pair_cosines = minima.contiguous(), pair_cosines.contiguous()
    marked = _mark(tree, minima, pair_cosines, tau_s, tau_t, not_finite)
    labels = (_released if rules == "as_released" else _join)(marked, tree.num_patches)
    representatives, counts = _follow(marked, labels)
    *totals, broken = marked.totals.tolist()
    return None if broken else _write(tree, marked, representatives, counts, pair_cosines, totals, len(minima))


def _mark(
    tree: Quadtree, minima: torch.Tensor, pair_cosines: torch.Tensor, tau_s: float, tau_t: float,
    not_finite: torch.Tensor | None,
) -> Marked:  # fmt: skip
    places, device = len(minima) * tree.num_patches, minima.device
    levels, linked = (torch.empty(places, dtype=torch.int8, device=device) for _ in range(2))
    tops, labels = (torch.empty(places, dtype=torch.int32, device=device) for _ in range(2))
    totals = torch.empty(TOTALS, dtype=torch.int32, device=device)
    _mark_kernel[(triton.cdiv(places, PLACES),)](
        minima, pair_cosines, tree_tensor(tree, "ancestors", device), tree_tensor(tree, "top_left", device),
        tree_tensor(tree, "pair_index", device), levels, tops, linked, labels, totals,
        totals if not_finite is None else not_finite, tau_s, tau_t,
        places, tree.num_patches, minima.shape[1], pair_cosines.shape[1],
        LEVELS=tree.num_levels, KINDS=KINDS, CHECKED=not_finite is not None, PLACES=PLACES,
    )  # fmt: skip
    return Marked(levels, tops, linked, labels, totals)


def _join(marked: Marked, num_patches: int) -> torch.Tensor:
    places = len(marked.tops)
    _join_kernel[(triton.cdiv(places, PLACES),)](
        marked.tops, marked.linked, marked.labels, places, num_patches, PLACES=PLACES
    )
    return marked.labels


def _released(marked: Marked, num_patches: int) -> torch.Tensor:
    at = marked.linked.nonzero().squeeze(1)
    ends = marked.tops[at].long(), marked.tops[at + num_patches].long()
    return released_labels(*ends, len(marked.tops)).int()


def _follow(marked: Marked, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``[T*H*W]`` int32 place of each kept node's representative, and ``[programs, 3]`` int32 counts of each kind."""
    places = len(labels)
    programs = triton.cdiv(places, PLACES)
    found, counts = torch.empty_like(labels), labels.new_empty(programs, KINDS)
    _follow_kernel[(programs,)](
        marked.tops, marked.linked, labels, found, counts, marked.totals, places, KINDS=KINDS, PLACES=PLACES
    )
    return found, counts


def _write(
    tree: Quadtree, marked: Marked, representatives: torch.Tensor, counts: torch.Tensor, pair_cosines: torch.Tensor,
    totals: list[int], frames: int,
) -> tuple[torch.Tensor, ...]:  # fmt: skip
    num_nodes, num_links, num_tokens = totals
    places, device = len(representatives), representatives.device
    ranks = torch.empty(KINDS, places, dtype=torch.int32, device=device)
    shapes = (
        [(num_nodes,)] * 3 + [(num_links, 2), (num_tokens, 5), (num_tokens,)] + [(frames, tree.height, tree.width)] * 2
    )
    node_frames, node_ids, node_tokens, links, boxes, patch_counts, node_of_patch, member_of = (
        torch.empty(shape, dtype=torch.int64, device=device) for shape in shapes
    )
    link_cosines = torch.empty(num_links, dtype=torch.float32, device=device)
    programs = (triton.cdiv(places, PLACES),)
    _rank_kernel[programs](
        marked.levels, marked.tops, marked.linked, representatives, counts, tree_tensor(tree, "ancestors", device),
        tree_tensor(tree, "boxes", device), ranks, node_frames, node_ids, boxes, patch_counts, places, tree.num_patches,
        KINDS=KINDS, BLOCKS=BLOCKS, PLACES=PLACES,
    )  # fmt: skip
    _assign_kernel[programs](
        marked.levels, marked.tops, marked.linked, representatives, ranks, tree_tensor(tree, "pair_index", device),
        pair_cosines, node_tokens, links, link_cosines, patch_counts, node_of_patch, member_of,
        places, tree.num_patches, pair_cosines.shape[1], LEVELS=tree.num_levels, PLACES=PLACES,
    )  # fmt: skip
    return node_frames, node_ids, node_tokens, links, link_cosines, boxes, patch_counts, node_of_patch, member_of


@triton.jit
def _kept_level(minima, ancestors, frame, patch, tau, inside, num_patches, num_internal, LEVELS: tl.constexpr):
    """Level of the node over a patch: from the root grid down while nodes are split (paper section 3.1)."""
    level = tl.full(patch.shape, LEVELS - 1, tl.int32)
    opened = inside
    for step in tl.static_range(LEVELS - 1):
        node = tl.load(ancestors + (LEVELS - 1 - step) * num_patches + patch, mask=opened, other=0)
        lowest = tl.load(minima + frame * num_internal + node - num_patches, mask=opened, other=0.0)
        opened = opened & (lowest < tau)
        level -= opened.to(tl.int32)
    return level


@triton.jit(do_not_specialize=["count"])
def _mark_kernel(
    minima, pair_cosines, ancestors, top_left, pair_index, levels, tops, linked, labels, totals, not_finite,
    tau_s, tau_t, count, num_patches, num_internal, num_pairs,
    LEVELS: tl.constexpr, KINDS: tl.constexpr, CHECKED: tl.constexpr, PLACES: tl.constexpr,
):  # fmt: skip
    """Kept nodes and links (paper sections 3.1 and 3.2)."""
    place = tl.program_id(0) * PLACES + tl.arange(0, PLACES)
    inside = place < count
    frame, patch = (place // num_patches).to(tl.int64), place % num_patches
    has_next = place + num_patches < count
    level = _kept_level(minima, ancestors, frame, patch, tau_s, inside, num_patches, num_internal, LEVELS)
    after = _kept_level(minima, ancestors, frame + 1, patch, tau_s, has_next, num_patches, num_internal, LEVELS)
    node = tl.load(ancestors + level * num_patches + patch, mask=inside, other=0)
    node_after = tl.load(ancestors + after * num_patches + patch, mask=inside, other=0)
    top = tl.load(top_left + node, mask=inside, other=0)
    finer_top = tl.where(level <= after, top, tl.load(top_left + node_after, mask=inside, other=0))
    names_pair = has_next & (finer_top == patch)
    pair = tl.load(pair_index + (level * LEVELS + after) * num_patches + patch, mask=names_pair, other=0)
    cosine = tl.load(pair_cosines + frame * num_pairs + pair, mask=names_pair, other=0.0)
    link = names_pair & (cosine >= tau_t) & (tau_t > 0)
    tl.store(levels + place, level.to(tl.int8), mask=inside)
    tl.store(tops + place, (place - patch + top).to(tl.int32), mask=inside)
    tl.store(linked + place, link.to(tl.int8), mask=inside)
    tl.store(labels + place, place, mask=inside)
    broken = tl.load(not_finite) if CHECKED else 0
    tl.store(totals + place, tl.where(place < KINDS, 0, broken), mask=place <= KINDS)


@triton.jit(do_not_specialize=["count"])
def _join_kernel(tops, linked, labels, count, num_patches, PLACES: tl.constexpr):
    """Point the larger root of each link's two trees at the smaller one; walks down where it is no root any more."""
    place = tl.program_id(0) * PLACES + tl.arange(0, PLACES)
    link = tl.load(linked + place, mask=place < count, other=0) != 0
    a = tl.load(tops + place, mask=link, other=0)
    b = tl.load(tops + place + num_patches, mask=link, other=0)
    idle = tl.minimum(place, count - 1)  # joining a place with itself changes nothing
    a, b = tl.where(link, a, idle), tl.where(link, b, idle)
    while tl.max((a != b).to(tl.int32), axis=0) > 0:
        larger, smaller = tl.maximum(a, b), tl.minimum(a, b)
        above = tl.atomic_cas(labels + larger, larger, smaller)  # what it pointed at: itself if it was a root
        b = tl.where((a == b) | (above == larger), smaller, above)
        a = smaller


@triton.jit(do_not_specialize=["count"])
def _follow_kernel(
    tops, linked, labels, found, counts, totals, count, KINDS: tl.constexpr, PLACES: tl.constexpr
):  # fmt: skip
    """Walk from each kept node to the root of its tree, which is its smallest place; count nodes, links and roots."""
    program = tl.program_id(0)
    place = program * PLACES + tl.arange(0, PLACES)
    is_top = tl.load(tops + place, mask=place < count, other=-1) == place
    here = tl.load(labels + place, mask=is_top, other=0)
    above = tl.load(labels + here)
    while tl.max((is_top & (here != above)).to(tl.int32), axis=0) > 0:
        here = above
        above = tl.load(labels + here)
    tl.store(found + place, here, mask=is_top)
    nodes = tl.sum(is_top.to(tl.int32), axis=0)
    links = tl.sum(tl.load(linked + place, mask=place < count, other=0).to(tl.int32), axis=0)
    tokens = tl.sum((is_top & (here == place)).to(tl.int32), axis=0)
    tl.store(counts + program * KINDS, nodes)
    tl.store(counts + program * KINDS + 1, links)
    tl.store(counts + program * KINDS + 2, tokens)
    tl.atomic_add(totals, nodes)
    tl.atomic_add(totals + 1, links)
    tl.atomic_add(totals + 2, tokens)


@triton.jit
def _rank_of(flags, counts, kind, KINDS: tl.constexpr, BLOCKS: tl.constexpr):
    """Index of each flagged place among all of its kind."""
    program = tl.program_id(0)
    before = tl.zeros((BLOCKS,), tl.int32)
    for start in range(0, program, BLOCKS):
        block = start + tl.arange(0, BLOCKS)
        before += tl.load(counts + block * KINDS + kind, mask=block < program, other=0)
    return tl.sum(before, axis=0) + tl.cumsum(flags.to(tl.int32), axis=0) - 1


@triton.jit(do_not_specialize=["count"])
def _rank_kernel(
    levels, tops, linked, representatives, counts, ancestors, node_boxes, ranks, node_frames, node_ids, boxes,
    patch_counts, count, num_patches, KINDS: tl.constexpr, BLOCKS: tl.constexpr, PLACES: tl.constexpr,
):  # fmt: skip
    """Give kept nodes, links and tokens their index, and write what depends on no other index."""
    place = tl.program_id(0) * PLACES + tl.arange(0, PLACES)
    inside = place < count
    is_top = tl.load(tops + place, mask=inside, other=-1) == place
    link = tl.load(linked + place, mask=inside, other=0) != 0
    first = is_top & (tl.load(representatives + place, mask=is_top, other=-1) == place)
    node_rank = _rank_of(is_top, counts, 0, KINDS, BLOCKS)
    link_rank = _rank_of(link, counts, 1, KINDS, BLOCKS)
    token_rank = _rank_of(first, counts, 2, KINDS, BLOCKS)
    tl.store(ranks + place, node_rank, mask=inside)
    tl.store(ranks + count + place, link_rank, mask=inside)
    tl.store(ranks + 2 * count + place, token_rank, mask=inside)
    frame, patch = place // num_patches, place % num_patches
    level = tl.load(levels + place, mask=is_top, other=0).to(tl.int32)
    node = tl.load(ancestors + level * num_patches + patch, mask=is_top, other=0)
    tl.store(node_frames + node_rank, frame.to(tl.int64), mask=is_top)
    tl.store(node_ids + node_rank, node, mask=is_top)
    tl.store(boxes + token_rank * 5, frame.to(tl.int64), mask=first)
    for side in tl.static_range(4):
        edge = tl.load(node_boxes + node * 4 + side, mask=first, other=0)
        tl.store(boxes + token_rank * 5 + 1 + side, edge, mask=first)
    tl.store(patch_counts + token_rank, tl.zeros((PLACES,), tl.int64), mask=first)


@triton.jit(do_not_specialize=["count"])
def _assign_kernel(
    levels, tops, linked, representatives, ranks, pair_index, pair_cosines, node_tokens, links, link_cosines,
    patch_counts, node_of_patch, member_of, count, num_patches, num_pairs,
    LEVELS: tl.constexpr, PLACES: tl.constexpr,
):  # fmt: skip
    """Nodes and tokens of each patch, ends of each link."""
    place = tl.program_id(0) * PLACES + tl.arange(0, PLACES)
    inside = place < count
    top = tl.load(tops + place, mask=inside, other=0)
    node = tl.load(ranks + top, mask=inside, other=0)
    first = tl.load(representatives + top, mask=inside, other=0)
    token = tl.load(ranks + 2 * count + first, mask=inside, other=0)
    tl.store(node_of_patch + place, node.to(tl.int64), mask=inside)
    tl.store(member_of + place, token.to(tl.int64), mask=inside)
    tl.atomic_add(patch_counts + token, tl.full((PLACES,), 1, tl.int64), mask=inside)
    tl.store(node_tokens + node, token.to(tl.int64), mask=inside & (top == place))
    link = tl.load(linked + place, mask=inside, other=0) != 0
    rank = tl.load(ranks + count + place, mask=link, other=0)
    top_after = tl.load(tops + place + num_patches, mask=link, other=0)
    node_after = tl.load(ranks + top_after, mask=link, other=0)
    level = tl.load(levels + place, mask=link, other=0).to(tl.int32)
    after = tl.load(levels + place + num_patches, mask=link, other=0).to(tl.int32)
    frame, patch = (place // num_patches).to(tl.int64), place % num_patches
    pair = tl.load(pair_index + (level * LEVELS + after) * num_patches + patch, mask=link, other=0)
    cosine = tl.load(pair_cosines + frame * num_pairs + pair, mask=link, other=0.0)
    tl.store(links + 2 * rank, node.to(tl.int64), mask=link)
    tl.store(links + 2 * rank + 1, node_after.to(tl.int64), mask=link)
    tl.store(link_cosines + rank, cosine, mask=link)
