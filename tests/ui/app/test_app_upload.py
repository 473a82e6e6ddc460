"""A visitor's own video: good, odd, broken, and never another visitor's."""

from __future__ import annotations

import av
import numpy as np
import pytest
from playwright.sync_api import expect

from tests.ui.app.visit import VIEW, alive, keep, shows, toast, upload


def write_video(path, codec: str, colour: tuple[int, int, int], frames: int = 8) -> None:
    """A square that moves over a plain ground, 160 x 120, 4 frames a second."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=4)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for t in range(frames):
            picture = np.full((120, 160, 3), colour, dtype=np.uint8)
            picture[40:80, 10 * t : 10 * t + 40] = 255
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        file.mux(stream.encode())


@pytest.fixture
def clip(tmp_path):
    write_video(tmp_path / "mine.mp4", "h264", (40, 90, 160))
    return tmp_path / "mine.mp4"


def test_a_broken_file_is_one_sentence_and_the_old_video_stays(visit, tmp_path):
    page = visit("frames=4")
    shows(page, frames=4)
    (tmp_path / "holiday.mp4").write_bytes(b"no video at all" * 50)
    upload(page, tmp_path / "holiday.mp4")
    expect(toast(page)).to_contain_text("holiday.mp4 is not a video that can be read")
    assert "Traceback" not in page.content() and str(tmp_path) not in page.content()
    keep(page, "broken-upload")
    assert page.evaluate(f"{VIEW}.video.frames") == 4
    page.reload()
    alive(page)
    shows(page, frames=4)


def test_an_upload_opens_and_links_to_no_sample(visit, clip):
    page = visit("frames=4")
    shows(page, frames=4)
    upload(page, clip)
    expect(page.locator("#about")).to_contain_text("mine.mp4")
    expect(page.locator("#about")).to_contain_text("160×120, 2.0 s, 4 frames")
    expect(page.locator("#suggestions")).not_to_be_visible()
    page.wait_for_function("!location.search.includes('sample=')")
    keep(page, "uploaded")


def test_a_film_that_browsers_cannot_play_gets_a_preview(visit, tmp_path):
    write_video(tmp_path / "old.avi", "mpeg4", (160, 60, 40))
    page = visit("frames=4")
    upload(page, tmp_path / "old.avi")
    expect(page.locator("#about")).to_contain_text("old.avi")
    page.get_by_text("Original video").click()
    page.wait_for_function("document.querySelector('#player video')?.videoWidth === 160")


def test_two_visitors_never_see_each_others_video(visit, clip, tmp_path):
    write_video(tmp_path / "hers.mp4", "h264", (150, 30, 90), frames=6)
    one, other = visit("frames=4"), visit("frames=4&sample=two-shapes")
    for page in (one, other):
        shows(page, frames=4)
    upload(one, clip)
    upload(other, tmp_path / "hers.mp4")
    expect(one.locator("#about")).to_contain_text("mine.mp4")
    expect(other.locator("#about")).to_contain_text("hers.mp4")
    pictures = [page.evaluate(f"{VIEW}.video.images.urls[0]") for page in (one, other)]
    assert pictures[0] != pictures[1]
    for page, foreign in ((one, "hers.mp4"), (other, "mine.mp4")):
        assert page.evaluate(f"{VIEW}.video.title") == ("mine.mp4" if page is one else "hers.mp4")
        assert foreign not in page.content()
