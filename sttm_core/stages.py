"""What the engine hands on, step by step: a video before the merge layer, a prefix in the KV cache, an answer."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from .decoder import KVCache
from .method import MergedTokens
from .methods.sttm.merge import merge_tokens
from .methods.sttm.plan import MergePlan
from .methods.sttm.quadtree import shared_tree
from .methods.sttm.similarity import SimilarityTables, similarity_tables
from .models import VideoLayout
from .positions import Positions
from .timing import Timings
from .video import VideoClip, step_frames


@dataclass(frozen=True, eq=False)
class EncodedVideo:
    """A video on the doorstep of decoder layer k: everything that does not depend on thresholds or questions.

    Attributes:
        clip: where it came from.
        hidden: ``[1, S, D]`` before layer ``merge_layer``, of the prefix: the text before the video, and the video.
        layout: which of the S tokens are video patches.
        positions: rotary positions of the S tokens.
        early: KV cache of the layers before ``merge_layer``.
        vision_s, early_s: seconds in vision encoder (with preprocessing and projector) and in the early layers.
        preprocess_s: the part of ``vision_s`` before the encoder: upload, resizing, normalising, tokenising.
    """

    clip: VideoClip
    model_name: str
    hidden: torch.Tensor
    layout: VideoLayout
    positions: Positions
    early: KVCache
    merge_layer: int
    vision_s: float
    early_s: float
    root_level: int = 1
    preprocess_s: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @cached_property
    def tokens(self) -> torch.Tensor:
        """``[T, H, W, C]`` video tokens before the merge layer."""
        return self.layout.patches(self.hidden[0])

    @property
    def tables(self) -> SimilarityTables:
        """Every cosine between them, made on first use."""
        with self.lock:
            return self._tables

    @cached_property
    def _tables(self) -> SimilarityTables:
        return similarity_tables(self.tokens, shared_tree(*self.layout.shape[1:], self.root_level))

    def merge(self, plan: MergePlan) -> MergedTokens:
        """The tokens merged at the thresholds of ``plan``, all anew: cosines from the features, decisions, means."""
        how = {"root_level": plan.tree.root_level, "rules": plan.rules, "weighting": plan.weighting}
        return merge_tokens(self.tokens, plan.tau_spatial, plan.tau_temporal, **how)

    @property
    def step_frames(self) -> np.ndarray:
        """Which of the clip's frames stands for each step of ``tokens``: all, or the first of those joined to one."""
        return step_frames(self.clip.num_frames, self.layout.shape[0])

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.layout.shape))
        return f"EncodedVideo({self.clip.name!r}, {shape} tokens before layer {self.merge_layer}, {self.model_name})"


@dataclass(frozen=True, eq=False)
class Prefix:
    """A video in the KV cache, ready for any number of questions.

    Attributes:
        encoded: the video.
        plan: what was merged, or None for the baseline.
        cache: keys and values of all layers: S tokens before the merge layer, n from there on.
        next_early, next_late: position of the next text token in the layers before and from the merge layer on.
        timings: decode, vision, merge and prefill in seconds.
        peak_bytes: peak memory while prefilling, None where it can't be measured.
    """

    encoded: EncodedVideo
    plan: MergePlan | None
    cache: KVCache
    next_early: int
    next_late: int
    timings: Timings
    peak_bytes: int | None = None

    @property
    def video_tokens(self) -> int:
        """Video tokens from the merge layer on."""
        return self.plan.num_tokens if self.plan is not None else self.encoded.layout.num_patches

    @property
    def tokens_before(self) -> int:
        """Tokens of the prefix in the layers before the merge layer."""
        return self.encoded.layout.length

    @property
    def tokens_after(self) -> int:
        """Tokens of the prefix from the merge layer on."""
        return self.cache.lengths[-1]

    @property
    def next_text(self) -> int:
        """Position of the next text token: the higher one, where the layers before the merge layer number otherwise."""
        return max(self.next_early, self.next_late) if self.encoded.merge_layer else self.next_late

    @property
    def nbytes(self) -> int:
        return self.cache.nbytes

    def __repr__(self) -> str:
        return f"Prefix({self.tokens_before} -> {self.tokens_after} tokens, {self.nbytes / 2**20:.1f} MiB KV cache)"


@dataclass(frozen=True)
class Answer:
    """One answer, complete or as far as it has come.

    Attributes:
        text: decoded so far.
        new_tokens: generated so far.
        timings: seconds by stage; decode, vision, merge and prefill were spent once for the prefix.
        prompt_tokens: tokens that the layers from the merge layer on saw before the answer.
        kv_bytes: KV cache after the prefix and the question.
        peak_bytes: the higher of the peaks while prefilling and while answering, None where it can't be measured.
        total_s: seconds from the question to the last token so far.
        finished: False while streaming.
        stopped: why the answer ends before its end ("stopped after 120 s"), else empty.
    """

    text: str
    new_tokens: int
    timings: Timings
    prompt_tokens: int
    kv_bytes: int
    peak_bytes: int | None
    total_s: float
    finished: bool
    stopped: str = ""

    @property
    def ttft(self) -> float:
        """Time to first token from the file on disk, in seconds."""
        return self.timings.ttft
