"""One page and its videos: what belongs to a video that is shown no more does not arrive."""

from __future__ import annotations

import copy
import inspect
from itertools import permutations

import gradio as gr
import pytest

from tests.viz.small_studio import QUESTION, VALUES, small_studio
from viz.studio import VideoRef
from viz.tabs.compare import Comparer
from viz.tabs.explore import Explorer
from viz.tabs.sweep import Sweeper
from viz.tabs.visit import Visit, of_video, opens, whatever_is_shown

OLD, NEW, OTHER = (VideoRef(f"/{name}.mp4", f"{name}.mp4", name, 4, 4, (8, 8), 1.0) for name in ("old", "new", "other"))


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_video_chosen_last_stays_in_whichever_order_they_are_ready(order):
    visit, refs = Visit(OLD), (NEW, OTHER, NEW)
    begun = [visit.begin() for _ in refs]
    for place in order:
        visit.show(begun[place], refs[place])
    assert visit.ref is refs[-1] and visit.shown == begun[-1]


def test_an_opening_that_fails_leaves_the_one_before_it():
    visit = Visit(OLD)
    first, second = visit.begin(), visit.begin()  # the second one fails
    assert visit.show(first, NEW) and visit.ref is NEW and visit.shown == first < second


def test_an_opening_gives_its_number_and_updates_or_nothing():
    visit = Visit(OLD)
    assert opens(lambda ref, name: (NEW, (ref.name, name)))(visit, "x") == (1, "old.mp4", "x")

    def overtaken(ref):
        opens(lambda ref: (OTHER, ()))(visit)
        return NEW, ("late",)

    assert opens(overtaken)(visit) == gr.skip() and visit.ref is OTHER
    assert opens(lambda ref: None)(visit) == gr.skip() and visit.ref is OTHER


def test_a_run_ends_where_another_video_is_shown():
    visit, work = Visit(OLD), []

    def run(ref):
        for step in range(5):
            work.append(step)
            yield ref.name, step

    running = of_video(run)(visit)
    assert [next(running), next(running)] == [("old.mp4", 0), ("old.mp4", 1)]
    visit.show(visit.begin(), NEW)
    assert list(running) == [gr.skip()] and work == [0, 1, 2]  # what was under way when the video changed, and no more
    assert next(of_video(run)(visit)) == ("new.mp4", 0)


@pytest.mark.parametrize("late, expected", [(None, gr.skip()), ({}, {})])
def test_a_result_that_comes_too_late_is_none(late, expected):
    visit = Visit(OLD)

    def slow(ref):
        visit.show(visit.begin(), NEW)
        return ref.name

    assert of_video(slow, late)(visit) == expected
    assert of_video(lambda ref: ref.name, late)(visit) == "new.mp4"
    assert whatever_is_shown(slow)(visit) == "new.mp4"


def test_every_page_has_a_visit_of_its_own():
    first = Visit(OLD)
    second = copy.deepcopy(first)  # as Gradio makes one for each session
    second.show(second.begin(), NEW)
    assert (first.ref, first.shown) == (OLD, 0)


def test_gradio_sees_the_handlers_own_arguments():
    explorer = Explorer(None)
    for wrap, handler in ((opens, explorer.reopen), (of_video, Sweeper(None).ladder), (opens, explorer.open_linked)):
        assert inspect.signature(wrap(handler)) == inspect.signature(handler)
    assert inspect.isgeneratorfunction(of_video(Sweeper(None).ladder))


@pytest.mark.parametrize("what", ["ask", "sweep"])
def test_a_question_to_the_old_video_fills_nothing_under_the_new_one(tmp_path, what):
    studio = small_studio(tmp_path)
    visit = Visit(studio.open_sample("blocks"))
    run, rest = {
        "ask": (Comparer(studio).answers, (QUESTION, 3, 4, [])),
        "sweep": (Sweeper(studio).ladder, (QUESTION, 4)),
    }[what]
    options = VALUES | ({"progress": lambda *a, **k: None} if what == "sweep" else {})
    running = of_video(run)(visit, *rest, **options)
    next(running)
    explorer = Explorer(studio)
    opening, *_ = opens(explorer.reopen)(visit, 3, **VALUES, progress=lambda *a, **k: None)
    assert opening == 1 and visit.ref.num_frames == 3
    assert list(running) == [gr.skip()]
