"""Scenes and questions: deterministic, and answers checked against what the drawn frames really show."""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from collections import Counter
from dataclasses import replace

import pytest
import torch

from demo_model.atlas import FONTS, load_atlas
from demo_model.backgrounds import Footage, camera_path, footage_views
from demo_model.data import draw_batch, make_batch
from demo_model.evaluate import held_out_seed
from demo_model.questions import slots_of
from demo_model.render import ALIKE, APART, CONTRAST_GRID, draw_sprites, rim_opacity
from demo_model.scene import Scene, Thing, sprites_of, thing_box
from demo_model.stories import TRAINING_RULES, StoryRules, _windows, random_scene
from demo_model.targets import labels_of, token_targets
from demo_model.tokenizer import build_tokenizer
from demo_model.vocabulary import CHARACTERS, COLOURS, PLACE_MARGIN, SHAPES, period_name, place_name, possible_places

RULES = StoryRules(side=128)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(clips=200)


def drawn(thing: Thing, frames: int = 4, side: int = 96) -> torch.Tensor:
    """[T, 3, side, side]: the thing over black."""
    sprites = sprites_of([Scene(frames, "gradient", (thing,))], load_atlas())
    return draw_sprites(torch.zeros(1, frames, 3, side, side), sprites, load_atlas())[0]


def test_a_batch_is_decided_by_its_seed(tokenizer):
    first, again, other = (make_batch(seed, 3, 4, RULES, tokenizer, load_atlas()) for seed in (8, 8, 10))
    pictures = [draw_batch(batch, 4, 128, load_atlas()) for batch in (first, again, other)]
    assert torch.equal(pictures[0], pictures[1])
    assert torch.equal(first.slots.ids, again.slots.ids)
    assert not torch.equal(pictures[0], pictures[2])
    assert pictures[0].shape == (3, 4, 3, 128, 128)
    assert pictures[0].min() >= 0 and pictures[0].max() <= 1


def test_held_out_seeds_are_odd():
    assert all(held_out_seed(1, number) % 2 == 1 for number in range(50))


@pytest.mark.parametrize("figure", SHAPES)
def test_a_shape_is_drawn_in_its_colour_where_and_when_it_is_said_to_be(figure):
    thing = Thing(figure, False, "yellow", 0.4, ((1, 2),), (0.3, 0.7), (0.3, 0.7))
    frames = drawn(thing)
    lit = frames.amax(1) > 0.5  # [T, H, W]
    assert lit.flatten(1).any(1).tolist() == [False, True, True, False]
    rows, columns = lit[1].nonzero(as_tuple=True)
    assert (rows.min() + rows.max()) / 2 / 96 == pytest.approx(0.3, abs=0.03)
    assert (columns.min() + columns.max()) / 2 / 96 == pytest.approx(0.7, abs=0.03)
    inside = frames[1][:, lit[1]].median(dim=1).values * 255
    assert inside.tolist() == pytest.approx(COLOURS["yellow"], abs=2)
    y0, x0, y1, x1 = thing_box(thing, 1, 4, load_atlas())
    assert y0 - 0.03 <= rows.min() / 96 and rows.max() / 96 <= y1 + 0.03
    assert x0 - 0.03 <= columns.min() / 96 and columns.max() / 96 <= x1 + 0.03


UPRIGHT = [number for number, name in enumerate(FONTS) if not name.endswith(("Italic", "Oblique"))]


@pytest.mark.parametrize("font", UPRIGHT)
def test_letters_stand_in_reading_order_and_do_not_overlap(font):
    word = Thing("HH", True, "white", 0.4, ((0, 0),), (0.5, 0.5), (0.5, 0.5), font)
    columns = (drawn(word, frames=1)[0, 0] > 0.5).any(0)  # [W]
    strokes = int((columns[1:] & ~columns[:-1]).sum())
    assert strokes == 2  # each H is one run of columns, with a gap between the two
    y0, x0, y1, x1 = thing_box(word, 0, 1, load_atlas())
    lit = columns.nonzero().flatten() / 96
    assert x0 - 0.02 <= lit.min() and lit.max() <= x1 + 0.02 and y0 < 0.5 < y1


def test_unknown_characters_are_refused():
    with pytest.raises(ValueError, match="no character"):
        load_atlas().character_index("€", 0)


@pytest.mark.parametrize("rules", [RULES, TRAINING_RULES], ids=["published", "training"])
def test_things_stay_inside_the_frame(rules):
    rng = random.Random(5)
    for _ in range(200):
        scene = random_scene(rng, 8, load_atlas(), rules)
        for thing in scene.things:
            for frame in (0, 7):
                y, x = thing.centre(frame, 8)
                assert 0.02 < y < 0.98 and 0.02 < x < 0.98


def test_scenes_of_the_published_figures_stay_as_they_are():
    """With the default rules a seed gives what it gave when the model was measured, whatever training draws now."""
    seen = hashlib.sha256()
    for frames in (1, 4, 16, 64):
        rng = random.Random(frames)
        for _ in range(100):
            scene = random_scene(rng, frames, load_atlas(), StoryRules())
            for thing in scene.things:
                numbers = [
                    f"{value:.5f}" for value in (thing.cell, *thing.start, *thing.stop, thing.stretch, thing.rim)
                ]
                what = (thing.figure, thing.is_text, thing.colour, thing.windows, thing.font, thing.rim_if_needed)
                seen.update(repr((scene.background, what, numbers)).encode())
            seen.update(repr([vars(slot) for slot in slots_of(scene, rng)]).encode())
    assert seen.hexdigest()[:16] == "a340e2aca28153d3"


def test_shapes_stand_anywhere_and_touch_nothing():
    rng, rules = random.Random(2), StoryRules(anywhere=1.0)
    off_middle = alone = 0
    for _ in range(300):
        scene = random_scene(rng, 8, load_atlas(), rules)
        resting = [shape for shape in scene.shapes if not shape.moves]
        for shape, other in itertools.product(resting, scene.things):
            if shape is not other:
                for frame in range(8):
                    y0, x0, y1, x1 = thing_box(shape, frame, 8, load_atlas())
                    top, left, bottom, right = thing_box(other, frame, 8, load_atlas())
                    assert y1 < top or bottom < y0 or x1 < left or right < x0
        off_middle += sum(not all(0.35 < side * 3 % 1 < 0.65 for side in shape.start) for shape in resting)
        alone += len(resting)
    assert alone > 300 and off_middle / alone > 0.7


def test_groups_share_a_figure_or_a_colour_as_often_as_the_rules_say():
    rng, rules = random.Random(3), replace(TRAINING_RULES, anywhere=0.0)
    largest = Counter()
    several = doubled = figures = 0
    for _ in range(1500):
        shapes = random_scene(rng, 16, load_atlas(), rules).shapes
        same = [max(Counter(getattr(s, name) for s in shapes).values(), default=0) for name in ("figure", "colour")]
        largest[same[0]] += 1
        if len(shapes) == 4:  # none was left out
            several, doubled, figures = several + 1, doubled + (max(same) > 1), figures + (same[0] > 1)
    assert {2, 3, 4} <= set(largest)
    assert doubled / several == pytest.approx(rules.doubles, abs=0.12)
    assert figures / doubled == pytest.approx(rules.same_figure, abs=0.12)


@pytest.mark.parametrize(("y", "x", "names"), [
    (0.5, 0.5, {"middle center"}),
    (1 / 3 + 0.01, 0.5, {"top center", "middle center"}),
    (1 / 3 + PLACE_MARGIN + 0.001, 0.9, {"middle right"}),
    (0.66, 0.34, {"middle left", "middle center", "bottom left", "bottom center"}),
    (0.001, 0.999, {"top right"}),
])  # fmt: skip
def test_places_that_a_point_might_be_said_to_be_at(y, x, names):
    assert possible_places(y, x) == names


def test_a_rim_is_as_strong_as_the_background_demands():
    generator = torch.Generator().manual_seed(0)
    background = torch.rand(3, 2, 3, 7, 7, generator=generator).repeat_interleave(8, -1).repeat_interleave(8, -2)
    rng = random.Random(1)
    things = [
        [
            Thing("star", False, rng.choice(list(COLOURS)), 0.2, ((0, number % 2),), at, at, rim_if_needed=number > 0)
            for number in range(3)
            for at in [(rng.random(), rng.random())]
        ]
        for _ in range(3)
    ]
    sprites = sprites_of([Scene(2, "noise", tuple(row)) for row in things], load_atlas())
    found = rim_opacity(background, sprites)
    small = torch.nn.functional.adaptive_avg_pool2d(background.flatten(0, 1), CONTRAST_GRID).unflatten(0, (3, 2))
    kinds = set()
    for b, row in enumerate(things):
        for k, thing in enumerate(row):
            nearest = math.inf
            colour = torch.tensor(COLOURS[thing.colour]) / 255
            for t, v, u in itertools.product(range(2), range(CONTRAST_GRID), range(CONTRAST_GRID)):
                y, x = (v + 0.5) / CONTRAST_GRID, (u + 0.5) / CONTRAST_GRID
                if thing.seen(t) and abs(y - thing.start[0]) <= 0.1 and abs(x - thing.start[1]) <= 0.1:
                    nearest = min(nearest, float((small[b, t, :, v, u] - colour).norm()))
            needed = min(1.0, max(0.0, (APART - nearest) / (APART - ALIKE))) if thing.rim_if_needed else 1.0
            assert found[b, k].item() == pytest.approx(needed, abs=1e-4)
            kinds.add(0 if needed == 0 else 1 if needed == 1 else 0.5)
    assert kinds == {0, 0.5, 1}


@pytest.mark.parametrize(("behind", "like"), [((0.1, 0.1, 0.4), 0.0), ((0.95, 0.85, 0.2), 0.04)])
def test_a_figure_without_rim_has_one_where_it_does_not_stand_out(behind, like):
    def drawing(**rim) -> torch.Tensor:
        thing = Thing("star", False, "yellow", 0.4, ((0, 1),), (0.5, 0.5), (0.5, 0.5), **rim)
        background = torch.tensor(behind).view(1, 1, 3, 1, 1).expand(1, 2, 3, 64, 64)
        return draw_sprites(background, sprites_of([Scene(2, "noise", (thing,))], load_atlas()), load_atlas())

    with_and_without = drawing(rim=0.04), drawing(rim=0.0)
    assert not torch.equal(*with_and_without)
    assert torch.equal(drawing(rim=0.04, rim_if_needed=True), with_and_without[0 if like else 1])


@pytest.mark.parametrize(("frames", "count"), [(1, 1), (3, 2), (15, 8), (16, 8), (16, 1)])
def test_windows_lie_in_order_with_gaps_inside_the_clip(frames, count):
    for seed in range(40):
        windows = _windows(random.Random(seed), frames, count, longest=3)
        edges = [(-2, -2), *windows, (frames + 1, frames + 1)]
        assert len(windows) == count
        assert all(a[1] + 2 <= b[0] for a, b in zip(edges, edges[1:], strict=False))
        assert all(first <= last for first, last in windows)


def test_windows_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="need 9 frames"):
        _windows(random.Random(0), 8, 5, longest=1)


@pytest.mark.parametrize(
    ("y", "x", "name"), [(0.1, 0.1, "top left"), (0.5, 0.5, "middle center"), (0.99, 1.0, "bottom right")]
)
def test_places(y, x, name):
    assert place_name(y, x) == name


@pytest.mark.parametrize(("first", "last", "name"), [(0, 1, "beginning"), (7, 8, "middle"), (14, 15, "end")])
def test_periods(first, last, name):
    assert period_name(first, last, 16) == name


def test_targets_name_the_thing_under_each_token():
    star = Thing("star", False, "red", 0.3, ((0, 0), (2, 3)), (0.2, 0.2), (0.2, 0.2))
    word = Thing("K7", True, "white", 0.3, ((1, 1),), (0.8, 0.5), (0.8, 0.5))
    scenes = [Scene(4, "noise", (star, word))]
    targets = token_targets(labels_of(scenes, 3), sprites_of(scenes, load_atlas()), load_atlas().advances, 14)
    at = (0, slice(None), 2, 2)  # the token at the star's middle, all frames
    shape = SHAPES.index("star") + 1
    assert targets["shape"][at].tolist() == [[shape] * 4, [0] * 4, [shape] * 4, [shape] * 4]
    assert targets["count"][at].tolist() == [1, 0, 2, 2]
    assert targets["place"][at][:, 0].tolist() == [1, 0, 1, 1]
    characters = targets["character"][0, 1].unique().tolist()
    assert characters == [0, *sorted(CHARACTERS.index(c) + 1 for c in "K7")]
    row = targets["index"][0, 1, 11].unflatten(-1, (2, 2))[:, 0].flatten()  # upper quarters, from left to right
    assert row[row > 0].tolist() == sorted(row[row > 0].tolist()) and set(row.tolist()) == {0, 1, 2}
    assert targets["character"][0, 0].max() == 0
    assert targets["ordinal"][0, 1, 11].unique().tolist() == [0, 1]  # the first of one text


def test_small_letters_that_share_a_token_stand_in_its_quarters():
    word = Thing("AB", True, "white", 0.07, ((0, 0),), (0.25, 0.25), (0.25, 0.25))
    scenes = [Scene(1, "noise", (word,))]
    targets = token_targets(labels_of(scenes, 2), sprites_of(scenes, load_atlas()), load_atlas().advances, 14)
    assert targets["index"][0, 0, 3, 3].tolist() == [1, 2, 1, 2]
    a, b = (CHARACTERS.index(c) + 1 for c in "AB")
    assert targets["character"][0, 0, 3, 3].tolist() == [a, b, a, b]


@pytest.mark.parametrize("frames", [1, 4])
def test_several_texts_never_overlap(frames):
    rng = random.Random(0)
    for _ in range(200):
        scene = random_scene(rng, frames, load_atlas(), StoryRules())
        boxes = sorted(thing_box(text, text.first, frames, load_atlas()) for text in scene.texts)
        assert all(above[2] <= below[0] + 0.02 for above, below in itertools.pairwise(boxes))


def test_footage_is_cut_from_the_clips_that_are_given():
    red, blue = torch.zeros(2, 3, 40, 40, dtype=torch.uint8), torch.zeros(1, 3, 40, 40, dtype=torch.uint8)
    red[:, 0], blue[:, 2] = 200, 200
    footage = Footage.of([red, blue])
    generator = torch.Generator().manual_seed(0)
    views = footage_views(generator, footage, camera_path(generator, 8, 3, torch.ones(8)), 16)
    assert views.shape == (8, 3, 3, 16, 16) and float(views.max()) <= 1
    colour = views.mean(dim=(1, 3, 4))  # [B, 3]
    assert (colour[:, 1] == 0).all() and ((colour[:, 0] > 0) ^ (colour[:, 2] > 0)).all()
    assert (colour[:, 0] > 0).any() and (colour[:, 2] > 0).any()
    with pytest.raises(ValueError, match="one size"):
        Footage.of([red, blue[..., :20]])
