"""Questions to a video under any method: one prefix for all of them, or one for each where the question decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sttm_core.comparison import settings_used
from sttm_core.engine import Answer, EncodedVideo, Prefix, VideoLLM
from sttm_core.settings import RunSettings
from sttm_core.video import VideoClip


@dataclass
class Encodings:
    """A clip before each layer that some method acts at, encoded when it is first wanted."""

    llm: VideoLLM
    clip: VideoClip
    made: dict[int, EncodedVideo] = field(default_factory=dict)

    def before(self, layer: int) -> EncodedVideo:
        """The clip before this layer."""
        if layer not in self.made:
            self.made[layer] = self.llm.encode(self.clip, merge_layer=layer)
        return self.made[layer]

    def answers(self, settings: RunSettings | None, questions: Sequence[str]) -> Iterator[tuple[Prefix, Answer]]:
        """The prefix that each question was put to, and the answer; ``settings`` None is the full video.

        The merge time of a prefix holds all of it: what the method measures, decides and averages.
        """
        for question, prefix in zip(questions, self._prefixes(settings, questions), strict=True):
            yield prefix, self.llm.answer(prefix, question)

    def _prefixes(self, settings: RunSettings | None, questions: Sequence[str]) -> Iterator[Prefix]:
        llm, prefix, used = self.llm, None, settings and settings_used(self.llm, settings)
        encoded = self.before(used.merge_layer if used else llm.default_merge_layer)
        for question in questions:
            if prefix is None or (used and used.method.query_aware):
                method = used and llm.fitted(encoded, used, question)
                prefix = llm.timed_prefill(encoded, method, question, position_rule=used and used.position_rule)
            yield prefix
