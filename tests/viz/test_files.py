"""A day of use does not fill the disk: bounds, turns, and what is left when a process ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.viz.small_studio import VALUES, small_studio
from viz.files import PREFIX, Files, remove_left_over
from viz.tabs.compare import history_updates
from viz.tabs.downloads import Exporter

KB = 1000


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_a_day_of_use_stays_below_the_bound(tmp_path):
    files = Files(tmp_path, 10 * KB)
    for day in range(200):
        files.new("runs.csv").write_bytes(bytes(KB))
        files.once(f"video{day}", "preview.mp4", lambda path: path.write_bytes(bytes(2 * KB)))
        assert files.nbytes == on_disk(tmp_path) <= 10 * KB + KB  # the newest is written after its path was given
    assert len(list(tmp_path.iterdir())) < 20, "empty folders go too"


def test_everything_that_the_page_writes_is_bounded(tmp_path):
    studio, files = small_studio(tmp_path), Files(tmp_path / "made")
    exporter, ref = Exporter(studio, files), studio.open_sample("blocks")

    def use() -> None:
        assert all(Path(make(ref, [], **VALUES)).is_file() for make in (exporter.page, exporter.data, exporter.figure))
        history_updates(files, [])

    use()
    once = files.nbytes
    files.max_bytes = 3 * once
    for _ in range(12):
        use()
        assert files.nbytes <= 4 * once
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blocks.mp4", "made"]


def test_the_oldest_go_and_the_newest_stays_whatever_its_size(tmp_path):
    files, made = Files(tmp_path, 3 * KB), []
    for i in range(5):
        made.append(files.new("a"))
        made[-1].write_bytes(bytes(KB))
        os.utime(made[-1], (i, i))
    files.trim()
    assert [path.exists() for path in made] == [False, False, True, True, True]
    large = files.new("b")
    large.write_bytes(bytes(9 * KB))
    files.trim()
    assert large.is_file() and [path.exists() for path in made] == [False] * 5


def test_what_is_made_once_counts_as_new_when_it_is_used(tmp_path):
    files = Files(tmp_path, 3 * KB)
    make = lambda path: path.write_bytes(bytes(KB))  # noqa: E731
    first, second = files.once("a", "x", make), files.once("b", "x", make)
    os.utime(first, (1, 1))
    os.utime(second, (2, 2))
    for name in "acd":
        files.once(name, "x", make)
    assert first.is_file() and not second.parent.exists()


def test_nobody_gets_anothers_path(tmp_path):
    files = Files(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: files.new("runs.csv"), range(200)))
    assert len(set(paths)) == 200 and all(path.parent.is_dir() for path in paths)


def test_an_upload_that_we_did_not_write_counts(tmp_path):
    files = Files(tmp_path, 2 * KB)
    ended = files.keep_trimmed(0.02)
    try:
        for name in ("one", "two", "three"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "film.mp4").write_bytes(bytes(KB))
        waited = time.monotonic() + 10
        while on_disk(tmp_path) > 2 * KB and time.monotonic() < waited:
            time.sleep(0.02)
        assert on_disk(tmp_path) == 2 * KB
    finally:
        ended.set()
    assert threading.active_count() >= 1


MAKE = "import sys; from viz.files import Files; f = Files.of_process(sys.argv[1]); f.new('x').write_text('x')"


@pytest.mark.parametrize(("ending", "left"), [("", 0), ("; 1 / 0", 0), ("; import os; os._exit(1)", 1)])
def test_a_process_takes_its_folder_along(tmp_path, ending, left):
    command = [sys.executable, "-c", f"{MAKE}{ending}", str(tmp_path)]
    subprocess.run(command, stderr=subprocess.DEVNULL, check=False, cwd=Path(__file__).parents[2], timeout=60)
    assert len(list(tmp_path.iterdir())) == left
    other = tmp_path / "somebody-elses"
    other.mkdir()
    mine = Files.of_process(tmp_path)  # the next process removes what a killed one left
    assert sorted(tmp_path.iterdir()) == sorted([other, mine.folder])
    remove_left_over(tmp_path)
    assert mine.folder.is_dir() and mine.folder.name.startswith(f"{PREFIX}{os.getpid()}-")


def test_a_running_process_keeps_its_folder(tmp_path):
    folder = tmp_path / f"{PREFIX}{os.getppid()}-abc"
    folder.mkdir()
    remove_left_over(tmp_path)
    assert folder.is_dir()


def test_a_bound_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="max_bytes must be at least 1, got 0."):
        Files(tmp_path, 0)
