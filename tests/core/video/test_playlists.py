"""Files that only name other files or addresses: none is followed, whatever the file is called.

Each case opens its target where FFmpeg is let to, so the watch over it is known to see what it is there to see.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import pytest

from sttm_core.video import VideoClip, VideoError, is_browser_playable, write_preview

HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n"
SDP = (
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
)
ALL = {"protocol_whitelist": "file,http,tcp,udp,rtp,crypto,data", "allowed_extensions": "ALL", "safe": "0"}


def _allowed(path: Path, kind: str) -> None:
    """FFmpeg with nothing forbidden: what an application without a whitelist would do."""
    with contextlib.suppress(av.error.FFmpegError, OSError, ValueError):
        av.open(str(path), format=kind, options=ALL, timeout=(1.0, 0.3)).close()


def _refused(path: Path, kind: str) -> None:
    for use in (VideoClip.open, lambda p: write_preview(p, p.with_name("preview.mp4"))):
        with pytest.raises(VideoError, match=rf"^{path.name} is not a video that can be read"):
            use(path)
    assert not is_browser_playable(path)


@contextlib.contextmanager
def _pipe(folder: Path) -> Iterator[tuple[str, Callable[[], bool]]]:
    """A file that notices its first reader: a named pipe lets a writer in only then."""
    pipe, over, read = folder / "other.ts", threading.Event(), threading.Event()
    os.mkfifo(pipe)

    def watch() -> None:
        while not over.wait(0.005):
            with contextlib.suppress(OSError):
                os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
                read.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield pipe.name, read.is_set
    finally:
        over.set()
        watcher.join()


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[tuple[str, Callable[[], bool]]]:
    """A port of this machine that notices a call."""
    called = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    called.set()
                    connection.close()

        caller = threading.Thread(target=serve)
        caller.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/other.ts", called.is_set
        finally:
            server.shutdown(socket.SHUT_RDWR)
    caller.join()


CASES = {  # name -> demuxer, text, what is watched
    "hls_file.mp4": ("hls", HLS, _pipe),
    "hls_address.mp4": ("hls", HLS, _server),
    "hls_address.m3u8": ("hls", HLS, _server),
    "list_file.mp4": ("concat", "ffconcat version 1.0\nfile '{target}'\n", _pipe),
    "list_address.mp4": ("concat", "ffconcat version 1.0\nfile '{target}'\n", _server),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("use, expected", [(_allowed, True), (_refused, False)])
@pytest.mark.parametrize("name", CASES)
def test_what_a_playlist_names_is_not_opened(tmp_path, name, use, expected):
    kind, text, watched = CASES[name]
    path = tmp_path / name
    with watched(tmp_path) as (target, was_opened):
        path.write_text(text.format(target=target))
        use(path, kind)
    assert was_opened() is expected


@pytest.mark.skipif(not Path("/proc/net/udp").exists(), reason="sockets are seen in /proc")
@pytest.mark.parametrize("use, expected", [(_allowed, True), (_refused, False)])
def test_a_session_description_opens_no_socket(tmp_path, use, expected):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1] & ~1
    path = tmp_path / "session.mp4"
    path.write_text(SDP.format(port=port))
    seen, over = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            tables = Path("/proc/net/udp").read_text() + Path("/proc/net/udp6").read_text()
            if f":{port:04X} " in tables:
                seen.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    use(path, "sdp")
    over.set()
    watcher.join()
    assert seen.is_set() is expected
