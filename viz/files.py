"""Files that are made for visitors: one folder for each process, bounded, gone when the process ends."""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

DEFAULT_BYTES = 10 * 2**30
PREFIX = "sttm-studio-"
_ours: set[Path] = set()  # folders of this very process
_TURNS = 16


class Files:
    """A folder whose oldest files go when all of them together pass ``max_bytes``; safe to share between threads.

    Args:
        folder: made if it is not there. Whatever lies in it counts and may go.
        max_bytes: bound on everything in it. The newest file stays even if it alone is larger.

    Raises:
        ValueError: for a bound below 1.
    """

    def __init__(self, folder: str | Path, max_bytes: int = DEFAULT_BYTES) -> None:
        if max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, got {max_bytes}.")
        self.folder, self.max_bytes = Path(folder), max_bytes
        self.folder.mkdir(parents=True, exist_ok=True)
        self._turns = [threading.Lock() for _ in range(_TURNS)]
        self._trimming = threading.Lock()

    @classmethod
    def of_process(cls, above: str | Path | None = None, max_bytes: int = DEFAULT_BYTES) -> Files:
        """A new folder in ``above`` (the system's temporary folder if None) that goes when this process ends.

        Folders of processes that were killed go now.
        """
        above = Path(above or tempfile.gettempdir())
        above.mkdir(parents=True, exist_ok=True)
        remove_left_over(above)
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=above))
        _ours.add(folder)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return cls(folder, max_bytes)

    def new(self, name: str) -> Path:
        """A path for a file of this name, in a folder of its own; nobody else gets the same."""
        self.trim()
        folder = self.folder / secrets.token_hex(8)
        folder.mkdir(parents=True)
        return folder / name

    def once(self, key: str, name: str, make: Callable[[Path], object]) -> Path:
        """The file of this key and name; ``make(path)`` writes it if it is not there, once however many ask for it.

        Args:
            key: letters and digits, such as a hash of the contents.
            make: writes the file at the path that it is given, or raises; it is in place only when complete.
        """
        path = self.folder / f"made-{key}" / name
        with self._turns[hash(path) % _TURNS]:
            if not path.is_file():
                unfinished = self.new(name)
                make(unfinished)
                path.parent.mkdir(exist_ok=True)
                unfinished.replace(path)
                unfinished.parent.rmdir()
            path.touch()
        self.trim()
        return path

    @property
    def nbytes(self) -> int:
        """Bytes in the folder now."""
        return sum(size for _, size, _ in self._listed())

    def trim(self) -> None:
        """Remove the oldest files until the rest fits, and folders that are empty by then."""
        with self._trimming:
            listed = sorted(self._listed())
            total = sum(size for _, size, _ in listed)
            for _, size, path in listed[:-1]:
                if total <= self.max_bytes:
                    break
                path.unlink(missing_ok=True)
                with suppress(OSError):  # not empty, or used by now
                    path.parent.rmdir()
                total -= size

    def keep_trimmed(self, every_s: float = 60.0) -> threading.Event:
        """Trim now and then from a thread of its own, since uploads arrive without us; set the event to end it."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(every_s):
                self.trim()

        threading.Thread(target=watch, name="files", daemon=True).start()
        return ended

    def _listed(self) -> list[tuple[int, int, Path]]:
        """Time of the last change, size and path of every file."""
        found = []
        for path in self.folder.rglob("*"):
            with suppress(OSError):  # gone meanwhile
                if path.is_file():
                    status = path.stat()
                    found.append((status.st_mtime_ns, status.st_size, path))
        return found


def remove_left_over(above: Path) -> None:
    """Remove folders of `Files.of_process` whose process ended without doing it."""
    for folder in above.glob(f"{PREFIX}*-*"):
        number = folder.name.removeprefix(PREFIX).partition("-")[0]
        if folder not in _ours and number.isdigit() and not _is_running(int(number)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_running(process: int) -> bool:
    if os.name != "posix":
        return True  # asking would end it
    if process == os.getpid():
        return False  # the folder is not ours: an earlier process had our number
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
