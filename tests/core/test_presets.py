"""The published table, its sources, and who gets which row."""

from __future__ import annotations

import pytest

from sttm_core.methods.sttm.plan import RULES
from sttm_core.models import FAMILIES
from sttm_core.positions import POSITION_RULES
from sttm_core.presets import BENCHMARKS, PRESETS, preset, presets_for, published_model

TABLE = """
LLaVA-Video-7B      .85,.65/.80,.60 .85,.55/.80,.50 .85,.55/.80,.60 .85,.65/.80,.65 .85,.60/.80,.55 .85,.55/.80,.55
LLaVA-OneVision-7B  .90,.65/.85,.65 .85,.65/.85,.55 .90,.60/.85,.60 .95,.65/.90,.60 .90,.60/.85,.60 .90,.55/.85,.60
Qwen2-VL-7B         .80,.65/.75,.50 .85,.60/.80,.60 -               -               .85,.65/.80,.60 -
LLaVA-Video-72B     -               .94,.82/.90,.90 -               -               -               -
"""


def published() -> dict[tuple[str, str], tuple[float, float]]:
    found = {}
    for line in TABLE.strip().splitlines():
        model, *cells = line.split()
        for benchmark, cell in zip(BENCHMARKS, cells, strict=True):
            for budget, pair in zip((50, 30), cell.split("/") if cell != "-" else (), strict=False):
                found[model, f"{benchmark}-{budget}"] = tuple(float(tau) for tau in pair.split(","))
    return found


def test_the_presets_are_the_published_table():
    assert {(p.model, p.name): (p.tau_spatial, p.tau_temporal) for p in PRESETS} == published()
    assert len(PRESETS) == 32


@pytest.mark.parametrize("one", PRESETS, ids=lambda p: f"{p.model}-{p.name}")
def test_every_preset_says_how_it_was_run(one):
    qwen, long = one.model.startswith("Qwen"), one.benchmark == "vnbench"
    assert one.merge_layer == (0 if one.model == "LLaVA-Video-72B" else 2)
    assert one.position_rule == ("survived" if qwen else "reassigned") and one.position_rule in POSITION_RULES
    assert one.rules == "as_released" and one.rules in RULES
    assert (one.fps, one.max_frames) == ((2, 360 if long else 256) if qwen else (1, 180 if long else 128))
    assert (one.rope_factor == 2) == (not qwen and one.max_frames * 196 > 32768)
    assert one.budget in (0.5, 0.3) and "2507.07990" in one.source


@pytest.mark.parametrize(
    "name, model, duration_s, frames",
    [
        ("videomme-50", "LLaVA-Video-7B", 8, 8),
        ("videomme-50", "LLaVA-Video-7B", 8.01, 9),
        ("videomme-50", "LLaVA-Video-7B", 240 / 29.97, 9),  # 8.008 s
        ("videomme-50", "LLaVA-Video-7B", 0.04, 1),
        ("videomme-30", "LLaVA-Video-7B", 127.96, 128),
        ("videomme-30", "LLaVA-Video-7B", 3600, 128),
        ("vnbench-50", "LLaVA-Video-7B", 3600, 180),
        ("videomme-50", "Qwen2-VL-7B", 8, 16),
        ("videomme-50", "Qwen2-VL-7B", 3600, 256),
    ],
)
def test_a_preset_says_how_many_frames_it_takes_of_a_video(name, model, duration_s, frames):
    assert preset(name, model).sampling(duration_s) == frames


@pytest.mark.parametrize(
    "model, expected",
    [
        ("lmms-lab/LLaVA-Video-7B-Qwen2", "LLaVA-Video-7B"),
        ("lmms-lab/LLaVA-Video-7B-Qwen2-Video-Only", "LLaVA-Video-7B"),
        ("lmms-lab/LLaVA-Video-72B-Qwen2", "LLaVA-Video-72B"),
        ("llava-hf/llava-onevision-qwen2-7b-ov-hf", "LLaVA-OneVision-7B"),
        ("Qwen/Qwen2-VL-7B-Instruct", "Qwen2-VL-7B"),
        ("llava_onevision", "LLaVA-OneVision-7B"),
        ("llava_qwen", "LLaVA-Video-7B"),
        ("qwen2_vl", "Qwen2-VL-7B"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", None),
        ("qwen2_5_vl", None),
        ("assets/demo_model", None),
    ],
)
def test_who_gets_which_row(model, expected):
    assert published_model(model) == expected
    assert {found.model for found in presets_for(model)} == ({expected} if expected else set())


def test_families_have_the_rule_of_their_presets():
    for model_type, family in FAMILIES.items():
        assert all(found.position_rule == family.position_rule for found in presets_for(model_type))


def test_one_by_name():
    found = preset("videomme-30", "lmms-lab/LLaVA-Video-72B-Qwen2")
    assert (found.tau_spatial, found.tau_temporal, found.merge_layer) == (0.90, 0.90, 0)


@pytest.mark.parametrize(
    "name, model, said",
    [
        ("mlvu-50", "Qwen/Qwen2-VL-7B-Instruct", "there are vnbench-50, vnbench-30, videomme-50"),
        ("videomme-40", "llava_onevision", "no preset 'videomme-40' for LLaVA-OneVision-7B"),
        ("videomme-50", "internvl", "nothing was published for the model 'internvl'"),
    ],
)
def test_what_was_not_published_is_refused(name, model, said):
    with pytest.raises(ValueError, match=said):
        preset(name, model)
