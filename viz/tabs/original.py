"""The video as it was uploaded; a copy that browsers play where they can't play it."""

from __future__ import annotations

import gradio as gr

from sttm_core.video import is_browser_playable, write_preview

from ..files import Files
from ..studio import VideoRef


class OriginalVideo:
    """The handler."""

    def __init__(self, files: Files) -> None:
        self.files = files

    def show(self, ref: VideoRef) -> gr.Video:
        """The player with this video."""
        return gr.Video(value=self.playable(ref))

    def playable(self, ref: VideoRef) -> str:
        """The file itself, or an H.264 preview of it, made once for the same contents."""
        if is_browser_playable(ref.path):
            return ref.path
        return str(self.files.once(ref.content_hash, "preview.mp4", lambda path: write_preview(ref.path, path)))
