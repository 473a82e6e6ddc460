"""Video files in and out: probing, decoding, sampling, writing. A `VideoClip` is what the model sees of one."""

from .clip import MAX_FRAMES, VideoClip, even_frames, step_frames, uniform_indices
from .probe import VideoError, is_browser_playable
from .source import SourceInfo
from .write import write_mp4, write_preview

__all__ = [
    "MAX_FRAMES",
    "SourceInfo",
    "VideoClip",
    "VideoError",
    "even_frames",
    "is_browser_playable",
    "step_frames",
    "uniform_indices",
    "write_mp4",
    "write_preview",
]
