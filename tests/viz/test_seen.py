"""What the model saw, in words."""

from __future__ import annotations

from tests.viz.columns import seen
from viz.seen import MOST_NUMBERS, seen_html, seen_rows


def test_the_words_are_those_of_the_record():
    rows = dict(seen_rows(seen(3)))
    assert rows["Frames"] == "3 of 240, 120 × 213 pixels" and rows["Frame numbers"] == "0, 10, 20"
    assert rows["Seconds"] == "0.000, 0.400, 0.800" and rows["SHA-256 of the file"] == "abc"
    assert rows["Source"] == "h264 in mov,mp4, 9.60 s, 25 fps" and rows["Pixel aspect"] == "4:3"
    assert rows["Stored and shown"] == "160 × 120 stored, 120 × 213 shown, turned 90° clockwise, mirrored"
    assert rows["Colours"] == "yuv420p; matrix bt709; range limited" and rows["Decoder"] == "PyAV 18.1.0"
    assert rows["Model"] == "tiny, LLaVA-OneVision, float32, sdpa attention" and rows["Versions"] == "torch 2.15.0"
    assert rows["Prompt as rendered"] == "<|im_start|>user\nWhat <b>?"


def test_frames_in_memory_have_no_source_and_a_prompt_may_be_missing():
    said = seen(2)
    said["frames"]["source"], said["prompt"] = None, None
    rows = dict(seen_rows(said))
    assert rows["Frames"] == "2, 120 × 213 pixels" and rows["SHA-256 of the frames"] == "abc"
    assert not {"Decoder", "Prompt as rendered"} & set(rows)


def test_a_long_list_of_frames_is_shortened_in_its_middle():
    numbers = dict(seen_rows(seen(MOST_NUMBERS + 5)))["Frame numbers"].split(", ")
    assert numbers[0] == "0" and numbers[-1] == str(10 * (MOST_NUMBERS + 4)) and "… 5 more …" in numbers
    assert len(numbers) == MOST_NUMBERS + 1


def test_markup_in_a_prompt_stays_text():
    table = seen_html(seen_rows(seen(1)))
    assert "&lt;b&gt;" in table and "<b>" not in table
