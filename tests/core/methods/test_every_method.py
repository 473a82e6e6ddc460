"""What holds for every method that acts on tokens: one table, a row a method. A new method fails until it has one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache

import numpy as np
import pytest
import torch

from sttm_core.method import Method, Plan
from sttm_core.methods import METHODS, likeness, make_method, tome
from sttm_core.methods.sttm import similarity
from tests.core.methods import naive_dycoke
from tests.core.methods.inputs import video_of
from tests.core.methods.live_bytes import LiveBytes
from tests.core.methods.naive_trivial import best_grid

Grid = tuple[int, int, int]
MIB = 2**20


def from_to(lowest: Callable[[Grid], int]) -> Callable[[Grid], list[int]]:
    return lambda grid: list(range(lowest(grid), math.prod(grid) + 1))


def whole_frames(grid: Grid) -> list[int]:
    return [count * grid[1] * grid[2] for count in range(1, grid[0] + 1)]


def pooled(grid: Grid) -> list[int]:
    return [grid[0] * math.prod(best_grid(*grid[1:], limit)) for limit in range(1, grid[1] * grid[2] + 1)]


# The numbers of tokens that a method can reach on a grid; None where the video decides.
REACHES: dict[str, Callable[[Grid], list[int]] | None] = {
    "sttm": None,
    "tome": from_to(lambda grid: 1),
    "dycoke": lambda grid: naive_dycoke.reachable(grid[0], grid[1] * grid[2]),
    "octree": None,
    "evs": from_to(lambda grid: grid[1] * grid[2]),
    "vidcom2": from_to(lambda grid: grid[0]),
    "random": from_to(lambda grid: 1),
    "frames": whole_frames,
    "pooling": pooled,
}
ON_TOKENS = [name for name, method in METHODS.items() if method.acts_on == "tokens"]
VARIANTS = [(name, {}) for name in ON_TOKENS] + [
    (name, {"rules": "as_released"}) for name in ON_TOKENS if "rules" in METHODS[name].knobs()
]
PROPERTY_GRIDS: list[Grid] = [(1, 1, 1), (1, 1, 7), (3, 6, 1), (5, 3, 3), (4, 4, 6), (9, 5, 4), (6, 14, 14)]
SHARES = [1.0, 0.7, 0.5, 0.3, 0.15, 0.02]

every_variant = pytest.mark.parametrize(
    ("name", "knobs"), VARIANTS, ids=[f"{name} {knobs.get('rules', '')}".strip() for name, knobs in VARIANTS]
)
every_grid = pytest.mark.parametrize("grid", PROPERTY_GRIDS, ids=str)


def tokens_of(grid: Grid, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(video_of("smooth", grid, seed))


@cache
def plans_of(name: str, rules: str | None, grid: Grid) -> list[Plan]:
    """At each of `SHARES`."""
    knobs = {"rules": rules} if rules else {}
    tokens = tokens_of(grid)
    return [make_method(name, retention=share, **knobs).plan(tokens) for share in SHARES]


def assert_equal(plan: Plan, other: Plan) -> None:
    assert plan.places.equal(other.places) and plan.member_of.equal(other.member_of)
    assert plan.share.equal(other.share)


def test_the_table_has_a_row_for_every_method() -> None:
    assert set(REACHES) == set(ON_TOKENS)


@every_variant
@every_grid
def test_it_keeps_what_it_promises(name: str, knobs: dict, grid: Grid) -> None:
    """The largest number of tokens within the budget that it can reach, or its lowest; never more for a smaller one."""
    counts = [plan.num_tokens for plan in plans_of(name, knobs.get("rules"), grid)]
    assert counts == sorted(counts, reverse=True)
    for share, count in zip(SHARES, counts, strict=True):
        allowed = max(1, math.floor(share * math.prod(grid) + 1e-9))
        reaches = REACHES[name]
        if reaches is not None:
            within = [number for number in reaches(grid) if number <= allowed]
            assert count == max(within, default=min(reaches(grid)))
        else:
            assert count <= allowed or count == counts[-1], "above the budget only where it is the method's lowest"


@every_variant
@every_grid
def test_every_patch_went_somewhere_or_was_dropped(name: str, knobs: dict, grid: Grid) -> None:
    for plan in plans_of(name, knobs.get("rules"), grid):
        assert plan.grid == grid and plan.member_of.dtype == plan.places.dtype == torch.int64
        members = plan.member_of.flatten()
        assert members.min() >= -1 and members.max() == plan.num_tokens - 1
        assert members[plan.places].tolist() == list(range(plan.num_tokens)), "a token stands at a patch of its own"
        assert int(plan.patch_counts.sum()) + plan.num_dropped == plan.num_patches == math.prod(grid)
        assert plan.patch_counts.min() >= 1
        frames = plan.places // (grid[1] * grid[2])
        assert plan.tokens_per_frame.tolist() == np.bincount(frames, minlength=grid[0]).tolist()
        assert plan.retention == plan.num_tokens / plan.num_patches
        if not knobs:
            assert plan.places.tolist() == sorted(plan.places.tolist()), "scan order"


@every_variant
@every_grid
def test_tokens_are_weighted_means_of_their_patches(name: str, knobs: dict, grid: Grid) -> None:
    tokens = tokens_of(grid)
    flat = tokens.reshape(-1, tokens.shape[-1]).double().numpy()
    for plan in plans_of(name, knobs.get("rules"), grid):
        sums, shares = np.zeros((plan.num_tokens, flat.shape[1])), np.zeros(plan.num_tokens)
        went = zip(plan.member_of.flatten().tolist(), plan.share.tolist(), strict=True)
        for patch, (token, share) in enumerate(went):
            assert token >= 0 or share == 0
            if token >= 0:
                sums[token] += share * flat[patch]
                shares[token] += share
        np.testing.assert_allclose(shares, 1, rtol=1e-5)
        np.testing.assert_allclose(plan.apply(tokens).tokens.numpy(), sums, rtol=1e-4, atol=1e-5)


@every_variant
@every_grid
def test_all_tokens_change_nothing(name: str, knobs: dict, grid: Grid) -> None:
    plan, tokens = plans_of(name, knobs.get("rules"), grid)[0], tokens_of(grid)
    assert plan.changes_nothing
    assert plan.apply(tokens).tokens.equal(tokens.reshape(-1, tokens.shape[-1]))


@every_variant
def test_a_plan_depends_on_its_clip_alone(name: str, knobs: dict) -> None:
    """Not on the time of asking, on clips seen before, on torch's seed; and leaves that seed alone."""
    tokens, method = tokens_of((5, 3, 3)), make_method(name, retention=0.4, **knobs)
    first = method.plan(tokens)
    for other in ((3, 4, 5), (5, 3, 3)):
        method.plan(tokens_of(other, seed=9))
    torch.manual_seed(77)
    state = torch.get_rng_state()
    assert_equal(method.plan(tokens), first)
    assert torch.get_rng_state().equal(state)
    assert_equal(make_method(name, retention=0.4, **knobs).plan(tokens.clone()), first)
    strided = torch.stack([tokens, tokens], dim=-1)[..., 0]
    assert not strided.is_contiguous()
    assert_equal(method.plan(strided), first)


@every_variant
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_any_float_dtype_is_decided_in_float32(name: str, knobs: dict, dtype: torch.dtype) -> None:
    tokens = tokens_of((5, 4, 6)).to(dtype)
    plan = make_method(name, retention=0.3, **knobs).plan(tokens)
    merged = plan.apply(tokens).tokens
    assert merged.dtype == dtype and merged.device == tokens.device and bool(merged.isfinite().all())
    if dtype != torch.float64:
        assert_equal(plan, make_method(name, retention=0.3, **knobs).plan(tokens.float()))


@every_variant
def test_tables_made_before_serve_every_budget(name: str, knobs: dict) -> None:
    tokens = tokens_of((6, 14, 14))
    tables = make_method(name, **knobs).tables(tokens)
    if tables is not None:
        assert 0 < tables.nbytes <= tokens.nbytes
    for share in SHARES:
        method = make_method(name, retention=share, **knobs)
        assert method.tables_key == make_method(name, **knobs).tables_key
        assert_equal(method.plan(tokens, tables), method.plan(tokens))


@every_variant
def test_for_retention_is_the_same_budget(name: str, knobs: dict) -> None:
    tokens = tokens_of((5, 4, 4))
    wanted = make_method(name, retention=0.3, **knobs).plan(tokens)
    assert_equal(make_method(name, **knobs).for_retention(tokens, 0.3).plan(tokens), wanted)
    for knob in METHODS[name].overrides:
        given = make_method(name, **knobs, **{knob: 0.9})
        assert_equal(given.for_retention(tokens, 0.3).plan(tokens), wanted)


@every_variant
def test_a_method_is_a_record_of_its_knobs(name: str, knobs: dict) -> None:
    method = make_method(name, retention=0.3, **knobs)
    assert make_method(name, **asdict(method)) == method and hash(replace(method)) == hash(method)
    assert method.plan(tokens_of((2, 3, 4))).method.name == name
    assert METHODS[name].title and METHODS[name].paper and not METHODS[name].query_aware


BAD_TOKENS = {
    "rank": torch.ones(3, 4, 5),
    "dtype": torch.ones(2, 3, 3, 4, dtype=torch.int64),
    "empty": torch.ones(0, 3, 3, 4),
    "no channels": torch.ones(2, 3, 3, 0),
    "a list": [[1.0]],
    "a number": 5,
    "nan": torch.full((3, 3, 3, 4), float("nan")),
    "one infinite": torch.ones(3, 4, 4, 2).index_put_((torch.tensor(2), torch.tensor(1)), torch.tensor(float("inf"))),
}


@every_variant
@pytest.mark.parametrize("what", BAD_TOKENS)
def test_bad_tokens_are_refused_in_a_sentence(name: str, knobs: dict, what: str) -> None:
    for share in (1.0, 0.3):
        with pytest.raises(ValueError) as error:
            make_method(name, retention=share, **knobs).plan(BAD_TOKENS[what])
        message = str(error.value)
        assert message.endswith(".") and ". " not in message and "\n" not in message


@every_variant
@pytest.mark.parametrize("share", [0, -0.1, 1.01, float("nan"), "many"])
def test_a_budget_lies_between_nothing_and_all(name: str, knobs: dict, share: object) -> None:
    with pytest.raises(ValueError, match="retention must be above 0 and at most 1"):
        make_method(name, retention=share, **knobs)
    with pytest.raises(ValueError, match="retention must be above 0 and at most 1"):
        make_method(name, **knobs).for_retention(tokens_of((2, 2, 2)), share)


@pytest.mark.parametrize("name", [name for name in ON_TOKENS if METHODS[name].overrides and name != "octree"])
@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), "half"])
def test_a_published_ratio_is_a_share(name: str, value: object) -> None:
    (knob,) = METHODS[name].overrides
    with pytest.raises(ValueError, match=f"{knob} must be a share from 0 to 1, got"):
        make_method(name, **{knob: value})


@pytest.mark.parametrize("name", [name for name in ON_TOKENS if "rules" in METHODS[name].knobs()])
def test_unknown_rules_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="rules must be one of paper, as_released"):
        make_method(name, rules="mine")


def allowed_bytes(tokens: torch.Tensor, block: int) -> int:
    """A few blocks, and two float32 copies of the input."""
    return 4 * block + 2 * 4 * tokens.numel()


@every_variant
def test_little_is_held_beside_the_input(name: str, knobs: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    published = torch.empty(128, 14, 14, 3584, device="meta")
    assert allowed_bytes(published, likeness.DEVICE_BYTES) < 1024 * MIB
    assert 4 * tome.BLOCK**2 <= likeness.DEVICE_BYTES
    monkeypatch.setattr(likeness, "CPU_BYTES", MIB)
    monkeypatch.setattr(similarity, "CHUNK_BYTES", MIB)
    monkeypatch.setattr(tome, "BLOCK", 512)
    tokens = torch.randn(32, 14, 14, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    with LiveBytes() as live:
        make_method(name, retention=0.15, **knobs).plan(tokens)
    assert live.peak < allowed_bytes(tokens, MIB)


@pytest.mark.gpu
@every_variant
def test_on_a_gpu_as_on_a_cpu(name: str, knobs: dict) -> None:
    tokens = tokens_of((5, 4, 6))
    method = make_method(name, retention=0.3, **knobs)
    there = method.plan(tokens.cuda())
    assert there.places.is_cuda and there.member_of.is_cuda
    assert_equal(there.to("cpu"), method.plan(tokens))


@pytest.mark.gpu
@every_variant
def test_a_gpu_repeats_itself_to_the_last_bit(name: str, knobs: dict) -> None:
    tokens = torch.randn(16, 14, 14, 512, device="cuda", generator=torch.Generator("cuda").manual_seed(0))
    first, again = (make_method(name, retention=0.15, **knobs).plan(tokens).apply(tokens) for _ in range(2))
    assert_equal(first.plan, again.plan)
    assert first.tokens.equal(again.tokens)


@pytest.mark.gpu
@every_variant
def test_at_most_a_gibibyte_beside_the_input_on_a_gpu(name: str, knobs: dict) -> None:
    tokens = torch.randn(128, 14, 14, 3584, device="cuda", dtype=torch.bfloat16)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    make_method(name, retention=0.15, **knobs).plan(tokens).apply(tokens)
    torch.cuda.synchronize()
    assert torch.cuda.max_memory_allocated() - before < 1024 * MIB


def test_a_method_without_a_plan_says_so() -> None:
    class Elsewhere(Method):
        title, acts_on = "Elsewhere", "layers"

    with pytest.raises(TypeError, match="Elsewhere acts on layers"):
        Elsewhere().plan(torch.ones(1, 1, 1, 1))
