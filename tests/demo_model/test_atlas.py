"""The atlas: every glyph is whole and can be told from the others, and held-out fonts are new to the model."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import pytest
import torch

from demo_model.atlas import (
    ATLAS_FILE,
    CELL,
    FONTS,
    HELD_OUT_FONTS,
    PILLOW_FONT,
    TRAIN_FONTS,
    _glyph_mask,
    _scaled_font,
    build_atlas,
    find_fonts,
    load_atlas,
)
from demo_model.vocabulary import CHARACTERS, CODE_CHARACTERS, SHAPES

ROOT = Path(__file__).resolve().parents[2]
NEW_FACE_OF_A_KNOWN_FAMILY = {"DejaVuSansMono-Oblique"}  # training knows the bold, upright face


def family(font: str) -> str:
    return re.sub("Condensed", "", font.split("-")[0])


def inside(font: str, characters: str = CHARACTERS) -> torch.Tensor:
    """[N, CELL, CELL] bool: samples inside the characters of a font."""
    atlas = load_atlas()
    return atlas.fields[[atlas.character_index(c, FONTS.index(font)) for c in characters]] > 0


def test_the_file_holds_all_fonts_in_their_order_and_is_small():
    atlas = load_atlas()
    assert atlas.fonts == FONTS
    assert atlas.fields.shape == (len(SHAPES) + len(FONTS) * len(CHARACTERS), CELL, CELL)
    assert atlas.advances.shape == atlas.fields.shape[:1] and bool((atlas.advances > 0).all())
    assert ATLAS_FILE.stat().st_size < 1.5e6


def test_numbers_of_fonts_that_scenes_and_clips_keep_are_unchanged():
    first = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono-Bold", "DejaVuSerif-Bold", "STIXGeneralBol")
    assert load_atlas().fonts[:7] == (*first, "Aileron", "DejaVuSansMono-Oblique")


def test_held_out_fonts_are_not_trained_on_nor_are_their_families():
    assert set(TRAIN_FONTS) | set(HELD_OUT_FONTS) == set(FONTS)
    assert not set(TRAIN_FONTS) & set(HELD_OUT_FONTS)
    known = {family(font) for font in TRAIN_FONTS}
    assert {font for font in HELD_OUT_FONTS if family(font) in known} == NEW_FACE_OF_A_KNOWN_FAMILY


@pytest.mark.parametrize("font", FONTS)
def test_every_glyph_is_drawn_and_can_be_told_from_the_others(font):
    assert int(inside(font).flatten(1).sum(1).min()) > 30  # samples; the smallest is the i or l of a light font
    glyphs = inside(font, CODE_CHARACTERS)
    for (one, first), (other, second) in combinations(zip(CODE_CHARACTERS, glyphs, strict=True), 2):
        share = float((first ^ second).sum() / (first | second).sum())
        assert share > 0.12, f"{one} and {other} differ in {share:.0%} of their area"


@pytest.mark.parametrize("font", FONTS[7:])
def test_no_glyph_of_the_newer_fonts_is_cut_by_its_cell(font):
    atlas = load_atlas()
    first = atlas.character_index(CHARACTERS[0], FONTS.index(font))
    fields = atlas.fields[first : first + len(CHARACTERS)]
    border = torch.cat([fields[:, 0], fields[:, -1], fields[:, :, 0], fields[:, :, -1]], dim=1)
    assert border.max() < 0.6 / CELL  # a stroke may end within the last sample, but not run across it


def test_a_font_whose_characters_reach_too_far_is_made_smaller(monkeypatch):
    normal = _scaled_font(None).size
    monkeypatch.setattr("demo_model.atlas.GLYPH_HEIGHT", 1.2)
    font = _scaled_font(None)
    assert 0.9 * normal < font.size < 1.1 * normal
    for character in "gjQW":
        mask = _glyph_mask(font, character)
        assert mask.any() and not (mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def test_fonts_are_found_by_name_in_folders_and_a_missing_one_is_named(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("Lato-Light.ttf", "deep/Inconsolata.otf", "deep/Unknown.ttf"):
        (tmp_path / name).touch()
    found = find_fonts([tmp_path])
    assert found == {"Lato-Light": tmp_path / "Lato-Light.ttf", "Inconsolata": tmp_path / "deep" / "Inconsolata.otf"}
    with pytest.raises(ValueError, match="DejaVuSans.*Roboto-Bold") as error:
        build_atlas(found, tmp_path / "atlas.npz")
    assert "Lato-Light" not in str(error.value) and PILLOW_FONT not in str(error.value)


@pytest.mark.parametrize("document", ["NOTICE", "demo_model/README.md"])
def test_every_font_is_attributed(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    assert [font for font in FONTS if not re.search(rf"\b{font}(?![-\w])", text)] == []
