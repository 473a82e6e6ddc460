"""What the engine hands on, step by step: a video before the merge layer, a prefix in the KV cache, an answer."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from .budgets import PrefixShape
from .decoder import KVCache
from .method import Method, Plan, Tables
from .methods import Sttm
from .methods.sttm.similarity import SimilarityTables
from .models import VideoLayout
from .positions import Positions
from .settings import RunSettings
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
        early: KV cache of the layers before ``merge_layer``; ``num_layers``: of the whole decoder.
        vision_s, early_s: seconds in vision encoder (with preprocessing and projector) and in the early layers.
        whole: ``(T, H, W)`` tokens that all pixels give, where fewer were encoded: shares are of these.
        reused: ``[T]`` bool on the CPU, steps whose pixels are those of the step before, and which took its features.
        preprocess_s: the part of ``vision_s`` before the encoder: upload, resizing, normalising, tokenising.
    """

    clip: VideoClip
    model_name: str
    hidden: torch.Tensor
    layout: VideoLayout
    positions: Positions
    early: KVCache
    merge_layer: int
    num_layers: int
    vision_s: float
    early_s: float
    reused: torch.Tensor
    preprocess_s: float = 0.0
    whole: tuple[int, int, int] | None = None
    made: dict[tuple, Tables | None] = field(default_factory=dict, repr=False)  # by `Method.tables_key`
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @cached_property
    def tokens(self) -> torch.Tensor:
        """``[T, H, W, C]`` video tokens before the merge layer."""
        return self.layout.patches(self.hidden[0])

    @property
    def tables(self) -> SimilarityTables:
        """Every cosine that STTM may ask for between them, made on first use."""
        return self.tables_of(Sttm())

    def tables_of(self, method: Method) -> Tables | None:
        """What all settings of a method share, made on first use; see `Method.tables`."""
        with self.lock:
            if method.tables_key not in self.made:
                self.made[method.tables_key] = method.tables(self.tokens)
            return self.made[method.tables_key]

    @property
    def shape(self) -> PrefixShape:
        """What budgets have to know of the prefix."""
        text = self.layout.length - self.layout.num_patches
        return PrefixShape(math.prod(self.whole or self.layout.shape), text, self.merge_layer, self.num_layers)

    def plan(self, settings: RunSettings) -> Plan:
        """What a method that acts on tokens leaves of this video, by its budget where one is set."""
        return settings.plan(self.tokens, self.tables_of(settings.method), self.shape)

    @property
    def step_frames(self) -> np.ndarray:
        """Which of the clip's frames stands for each step of ``tokens``: all, or the first of those joined to one."""
        return step_frames(self.clip.num_frames, self.layout.shape[0])

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.layout.shape))
        return f"EncodedVideo({self.clip.name!r}, {shape} tokens before layer {self.merge_layer}, {self.model_name})"


class OtherQuestionError(ValueError):
    """A prefix that was made for one question was asked another."""


@dataclass(frozen=True, eq=False)
class Prefix:
    """A video in the KV cache, ready for any number of questions, or for one where a method looks at the question.

    Attributes:
        encoded: the video.
        plan: what was merged, or None for the baseline.
        cache: keys and values of all layers: S tokens before the merge layer, n from there on.
        next_positions: of the text token that follows, in each layer.
        timings: decode, vision, merge and prefill in seconds.
        peak_bytes: peak memory while prefilling, None where it can't be measured.
        question: the only question that it serves; None serves any.
        question_tokens: how many of the cached tokens are that question's.
        logits: ``[vocabulary]`` of the first token of the answer to it.
    """

    encoded: EncodedVideo
    plan: Plan | None
    cache: KVCache
    next_positions: tuple[int, ...]
    timings: Timings
    peak_bytes: int | None = None
    question: str | None = None
    question_tokens: int = 0
    logits: torch.Tensor | None = field(default=None, repr=False)

    def check_question(self, question: str) -> None:
        """OtherQuestionError if this prefix was made for another question."""
        if self.question is not None and question.strip() != self.question:
            raise OtherQuestionError(
                f"this prefix was made for the question {self.question!r}, which decided what was kept; "
                "prefill again for another one."
            )

    @cached_property
    def layer_tokens(self) -> tuple[int, ...]:
        """Video tokens that each layer sees."""
        text = self.encoded.shape.text + self.question_tokens
        return tuple(length - text for length in self.cache.lengths)

    @property
    def video_tokens(self) -> int:
        """Video tokens left in the end."""
        return self.layer_tokens[-1]

    @property
    def shares(self) -> dict[str, float]:
        """``kept``, ``layer_average`` and ``kv_bytes`` as shares of what all tokens take; see `sttm_core.budgets`."""
        return self.encoded.shape.shares(self.layer_tokens)

    @property
    def video_kv_bytes(self) -> int:
        """KV cache of the video prefix, without a question."""
        lengths = self.cache.lengths
        return self.cache.nbytes * (sum(lengths) - self.question_tokens * len(lengths)) // sum(lengths)

    @property
    def spans(self) -> list[tuple[range, int, int]]:
        """Stretches of layers that go on alike: their indices, the next position in them, and their cached tokens."""
        found: list[tuple[range, int, int]] = []
        for layer, state in enumerate(zip(self.next_positions, self.cache.lengths, strict=True)):
            if found and found[-1][1:] == state:
                found[-1] = (range(found[-1][0].start, layer + 1), *state)
            else:
                found.append((range(layer, layer + 1), *state))
        return found

    @property
    def tokens_before(self) -> int:
        """Tokens of the prefix in the layers before the merge layer."""
        return self.encoded.layout.length

    @property
    def tokens_after(self) -> int:
        """Tokens of the prefix in the last layer."""
        return self.cache.lengths[-1]

    @property
    def next_text(self) -> int:
        """Position of the next text token: the highest one, where layers number differently."""
        return max(self.next_positions)

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
        shares: of the prefix, see `Prefix.shares`.
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
    shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def ttft(self) -> float:
        """Time to first token from the file on disk, in seconds."""
        return self.timings.ttft
