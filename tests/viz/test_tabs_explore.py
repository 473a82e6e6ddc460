"""Opening videos and finding budgets, without a page: what each handler sends back."""

from __future__ import annotations

from types import SimpleNamespace

import gradio as gr
import pytest

from sttm_core import thresholds_for_retention
from sttm_core.command_line import open_video, published
from sttm_core.video import VideoClip, VideoError
from tests.core.video.test_stamps import make
from tests.viz.small_studio import BY_BUDGET, FRAMES, GRID, VALUES, small_studio
from viz.samples import Sample
from viz.tabs import explore
from viz.tabs.controls import NO_PRESET, preset_updates
from viz.tabs.explore import Explorer
from viz.tabs.visit import Visit, opens


@pytest.fixture
def studio(tmp_path):
    return small_studio(tmp_path)


@pytest.fixture
def warnings(monkeypatch):
    said = []
    monkeypatch.setattr(explore.gr, "Warning", lambda sentence, title: said.append(sentence))
    return said


def skips(update) -> bool:
    return isinstance(update, dict) and set(update) == {"__type__"}


def quiet(*args, **options) -> None:
    """In place of a progress bar."""


@pytest.mark.parametrize("prefer", ["balanced", "spatial"])
@pytest.mark.parametrize("rules", ["paper", "as_released"])
def test_a_budget_gives_its_thresholds(studio, warnings, rules, prefer):
    values = BY_BUDGET | {"prefer": prefer, "rules": rules}
    ref = studio.open_sample("blocks")
    found = thresholds_for_retention(studio.encoded(ref, studio.start).tables, 0.3, prefer=prefer, rules=rules)
    expected = {"tauSpatial": found.tau_spatial, "tauTemporal": found.tau_temporal}
    given, view = Explorer(studio).budget(ref, **values)
    assert given.pop("words").startswith("Found τ_S ") and given.pop("method") == "sttm"
    assert given == expected and skips(view) and not warnings


def test_a_budget_out_of_reach_is_said(studio, warnings):
    Explorer(studio).budget(studio.open_sample("blocks"), **BY_BUDGET | {"percent": 2})
    assert len(warnings) == 1 and "can't go below" in warnings[0]


def test_by_thresholds_there_is_no_budget_to_find(studio):
    found, view = Explorer(studio).budget(studio.open_sample("blocks"), **VALUES)
    assert found is None and skips(view)
    assert len(studio.store) == 0


@pytest.mark.parametrize("frames, layer", [(FRAMES, 2), (3, 2), (FRAMES, 0), (1, 3)])
def test_other_frames_and_another_layer_keep_the_video(studio, frames, layer):
    explorer, values = Explorer(studio), VALUES | {"merge_layer": layer}
    mine = studio.open(str(studio.samples["blocks"].path), FRAMES)
    for ref in (studio.open_sample("blocks"), mine):
        now, (view, questions, about, *_) = explorer.reopen(ref, frames, **values, progress=quiet)
        assert (now.sample_id, now.path, now.num_frames) == (ref.sample_id, ref.path, frames)
        assert len(view.value["times"]) == frames
        assert f"{frames} frames → {frames}×{GRID}×{GRID} tokens" in about
        assert (len(questions.samples or []), questions.visible) == ((2, True) if ref.sample_id else (0, False))
    assert studio.encoded(now, explore.settings_from(values)).merge_layer == layer


def sliders_of(shown: tuple) -> list[dict]:
    """What is sent to the two threshold sliders."""
    return [update.constructor_args for update in shown if isinstance(update, gr.Slider)][:2]


@pytest.mark.parametrize("mode", ["thresholds", "budget"])
@pytest.mark.parametrize("name", ["sample", "upload", "reopen", "preset"])
def test_thresholds_are_sent_only_where_the_server_chose_them(studio, name, mode):
    """By thresholds, a slider may have moved on since the request."""
    explorer, values, path = Explorer(studio), VALUES | {"mode": mode}, str(studio.samples["blocks"].path)
    ref, at_once = studio.open_sample("blocks"), {"progress": quiet}
    shown = {
        "sample": lambda: explorer.open_sample(ref, "blocks", NO_PRESET, **values),
        "upload": lambda: explorer.open_upload(ref, path, FRAMES, NO_PRESET, **values, **at_once),
        "reopen": lambda: explorer.reopen(ref, FRAMES, **values, **at_once),
        "preset": lambda: explorer.reopen_as_published(ref, FRAMES, **values, **at_once),
    }[name]()[1]
    settings, sent = shown[0].props["settings"], name == "preset" or mode == "budget"
    assert settings.get("keep", False) != sent and ("rules" in settings) == sent
    assert [("value" in slider) for slider in sliders_of(shown)] == [sent, sent]
    if sent:
        plan = studio.encoded(ref, studio.start).plan(explore.settings_from(values))
        assert (settings["tauSpatial"], settings["tauTemporal"]) == (plan.tau_spatial, plan.tau_temporal)
    assert all({"minimum", "maximum", "step"} <= set(slider) for slider in sliders_of(shown))


VARIABLE = [40 * number if number < 30 else 1200 + 250 * (number - 30) for number in range(60)]  # milliseconds


@pytest.mark.parametrize("ticks", [None, [125 * number for number in range(64)], VARIABLE])
def test_a_published_setting_samples_as_in_a_shell(tmp_path, monkeypatch, ticks):
    """On the video that is there when it is chosen, on an upload, and on a sample."""
    path = make(tmp_path / "film.mp4", num_frames=60 if ticks is None else len(ticks), ticks=ticks)
    sample = Sample("film", path, "Film", "", 16, (), "")
    studio, name = small_studio(tmp_path, max_frames=64, samples={"film": sample}), "videomme-50"
    monkeypatch.setattr(studio.llm, "name", "LLaVA-Video-7B-Qwen2")
    shell = open_video(str(path), None, published(name, studio.llm.name))
    explorer = Explorer(studio)
    shown = studio.open(path, 5)
    *_, frames = preset_updates(studio, shown, name)
    refs = [
        explorer.reopen_as_published(shown, frames.value, **VALUES, progress=quiet)[0],
        explorer.open_upload(shown, str(path), 5, name, **VALUES, progress=quiet)[0],
        explorer.open_sample(shown, "film", name, **VALUES)[0],
    ]
    for ref in refs:
        assert ref.num_frames == shell.num_frames > 1
        assert studio.clip(ref).frame_indices.tolist() == shell.frame_indices.tolist()
        assert studio.encoded(ref, studio.start).clip.frame_indices.tolist() == shell.frame_indices.tolist()


def test_frames_decoded_again_are_those_of_the_first_time(tmp_path):
    """Of a screen recording, fewer frames are taken than were asked for; so many fewer would be others."""
    path = make(tmp_path / "film.mp4", num_frames=60, ticks=VARIABLE)
    studio = small_studio(tmp_path, max_frames=64)
    ref, other = studio.open(path, 40), studio.open_sample("blocks")
    expected = VideoClip.open(path, 40).frame_indices.tolist()
    assert ref.num_frames == len(expected) < ref.asked == 40 and studio.clip(other).num_frames == FRAMES
    assert studio.clip(ref).frame_indices.tolist() == expected


@pytest.mark.parametrize("warning", [None, "320 video tokens need about 3.0 GB; use fewer frames, or merge more."])
def test_a_video_that_will_not_fit_is_said_first(studio, warnings, monkeypatch, warning):
    asked = []
    estimate = lambda *args, **options: asked.append((args, options)) or SimpleNamespace(warning=warning)  # noqa: E731
    monkeypatch.setattr(studio.llm, "estimate", estimate)
    path = str(studio.samples["blocks"].path)
    ref, _ = Explorer(studio).open_upload(None, path, 4, NO_PRESET, **VALUES, progress=quiet)
    assert asked == [((4, (64, 64)), {"merge_layer": 2})]
    assert warnings == ([warning] if warning else []) and ref.num_frames == 4 and ref.sample_id == ""


def test_a_broken_upload_is_one_sentence(studio, tmp_path):
    (tmp_path / "film.mp4").write_text("just words")
    with pytest.raises(VideoError, match="^film.mp4 is not a video that can be read: "):
        Explorer(studio).open_upload(None, str(tmp_path / "film.mp4"), 4, NO_PRESET, **VALUES, progress=quiet)


@pytest.mark.parametrize("query", [{}, {"__theme": "dark"}])
def test_an_address_without_settings_changes_nothing(studio, query):
    visit = Visit(studio.open_sample("blocks"))
    assert skips(opens(Explorer(studio).open_linked)(visit, SimpleNamespace(query_params=query)))
    assert visit.shown == 0 and len(studio.store) == 0


def test_an_address_is_followed_as_far_as_it_makes_sense(studio):
    query = {"sample": "../../etc", "frames": "3", "ts": "0.7", "tt": "0.6", "layer": "99", "rules": "mine"}
    ref, found = Explorer(studio).open_linked(None, SimpleNamespace(query_params=query | {"q": "Who?"}))
    view = found[0]
    assert (ref.sample_id, ref.num_frames) == ("blocks", 3)
    settings = view.props["settings"]
    assert (settings["tauSpatial"], settings["tauTemporal"], settings["rules"]) == (0.7, 0.6, "paper")
    boxes = [update.value for update in found if isinstance(update, gr.Textbox)]
    sliders = [update.value for update in found if isinstance(update, gr.Slider)]
    assert boxes == ["Who?"] and sliders[:2] == [0.7, 0.6] and sliders[-1] == studio.llm.num_layers - 1
