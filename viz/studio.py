"""What the application does, without its page: videos in, pictures and answers out. One for all visitors.

A visitor's session holds a `VideoRef` and settings, never tensors; what is costly lies in one bounded store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from sttm_core.advice import Advice
from sttm_core.comparison import budget_missed, first_token, settings_used
from sttm_core.engine import Answer, EncodedVideo, OutOfMemoryError, Prefix, TimeUpError, VideoLLM
from sttm_core.footprint import Footprint
from sttm_core.limits import Allowance
from sttm_core.method import Method, Plan
from sttm_core.methods import Sttm
from sttm_core.methods.sttm.plan import MergePlan
from sttm_core.methods.sttm.similarity import SimilarityTables
from sttm_core.settings import RunSettings
from sttm_core.store import Entry, Store
from sttm_core.timing import Timings
from sttm_core.video import VideoClip

from .inspector import InspectorData
from .inspector.ranges import threshold_ranges
from .precomputed import Precomputed, file_hash
from .samples import Needle, Sample, load_samples

DEFAULT_STORE_BYTES = 4 * 2**30
QUESTION_SECONDS = 120.0


@dataclass(frozen=True)
class VideoRef:
    """A video as a session remembers it.

    Attributes:
        num_frames: frames that were taken.
        asked: frames that were asked for; there may be more of them than the file has, or shows at so many moments.
        size: height and width of the source.
    """

    path: str
    name: str
    content_hash: str
    num_frames: int
    asked: int
    size: tuple[int, int]
    duration_s: float
    sample_id: str = ""


@dataclass
class Column:
    """One of the two columns as it fills: ``plan`` is None for the baseline.

    The plan of a ``method`` that acts inside layers or on pixels is there once its prefix is. ``cached`` says that the
    prefix was there already, so that only the question had to be prefilled; ``missed`` is a sentence where more than
    the budget is kept.
    """

    plan: Plan | None
    prefix: Prefix | None = None
    answer: Answer | None = None
    error: str = ""
    cached: bool = False
    runs: list[Timings] = field(default_factory=list)
    method: Method | None = None
    video: EncodedVideo | None = None  # of all pixels
    missed: str = ""

    @property
    def reduces(self) -> Method | None:
        """What leaves fewer tokens; None for the baseline."""
        return self.plan.method if self.plan is not None else self.method

    @property
    def is_baseline(self) -> bool:
        return self.plan is None and self.method is None

    @property
    def timings(self) -> Timings | None:
        """Median over the runs, or the first run while there are none."""
        if self.runs:
            return Timings.median(self.runs)
        return self.answer.timings if self.answer else None


class Studio:
    """The application's service: opens, encodes, plans, answers, measures.

    Args:
        llm: the loaded model.
        defaults: thresholds to start from.
        max_frames: most frames that a visitor may ask for.
        store_bytes: bound on encoded videos and prefixes kept, of main memory and of GPU memory each.
        question_seconds: how long one question may hold the model, half of it for each column, and as long again for
            timing both; None for as long as it takes.
        samples: shipped clips by id.
        precomputed: what ships with the samples so that they open at once; None to encode them like any other video.
    """

    def __init__(
        self,
        llm: VideoLLM,
        defaults: Advice | None = None,
        *,
        max_frames: int = 128,
        store_bytes: int = DEFAULT_STORE_BYTES,
        question_seconds: float | None = QUESTION_SECONDS,
        samples: dict[str, Sample] | None = None,
        precomputed: Precomputed | None = None,
    ) -> None:
        self.llm = llm
        self.defaults = defaults or Advice()
        self.max_frames = max_frames
        self.question_seconds = Allowance(question_seconds).seconds
        self.store = Store(Footprint(store_bytes, store_bytes))
        self.samples = load_samples() if samples is None else samples
        self.precomputed = precomputed
        self._opened: tuple[VideoRef, VideoClip] | None = None
        self._lock = threading.Lock()

    @cached_property
    def model_chip(self) -> str:
        """Name, size and device of the model in one line."""
        count = self.llm.num_parameters
        size = f"{count / 1e9:.1f} B" if count >= 1e9 else f"{count / 1e6:.1f} M"
        device = "CPU" if self.llm.device.type == "cpu" else _gpu_name(self.llm)
        return f"{self.llm.name}, {size} parameters, {device}"

    @property
    def start(self) -> RunSettings:
        """What a visit begins with."""
        return RunSettings.of(
            tau_spatial=self.defaults.tau_spatial,
            tau_temporal=self.defaults.tau_temporal,
            prefer=self.defaults.prefer,
        )

    def warm_up(self) -> None:
        """Run the whole line once on the first sample: the first visitor finds it encoded, and the model warm."""
        for sample_id in list(self.samples)[:1]:
            ref = self.open_sample(sample_id)
            for _ in self.ask(ref, self.samples[sample_id].questions[0].text, self.start):
                pass

    def open(self, path: str | Path, num_frames: int | Callable[[float], int], sample_id: str = "") -> VideoRef:
        """Decode the video once to see that it can be, and remember it.

        Args:
            num_frames: evenly spaced in time; may be a function of the duration in seconds, as for `VideoClip.open`.

        Raises:
            ValueError: (`VideoError`) in one sentence if it can't be read, or for more frames than allowed.
        """
        if not callable(num_frames) and not 1 <= num_frames <= self.max_frames:
            raise ValueError(f"The number of frames must lie between 1 and {self.max_frames}, got {num_frames}.")
        clip = VideoClip.open(path, num_frames)
        asked = num_frames(clip.duration_s) if callable(num_frames) else num_frames
        size = tuple(map(int, clip.source_size))
        ref = VideoRef(
            str(path), clip.name, clip.content_hash, clip.num_frames, asked, size, clip.duration_s, sample_id
        )
        with self._lock:
            self._opened = (ref, clip)  # the next step wants its frames
        return ref

    def open_sample(self, sample_id: str, num_frames: int | Callable[[float], int] | None = None) -> VideoRef:
        """One of the shipped clips, with its own number of frames unless given as for `open`.

        It is not decoded here if its tables are precomputed.

        Raises:
            ValueError: if there is no such sample.
        """
        if sample_id not in self.samples:
            raise ValueError(f"There is no sample {sample_id!r}; there are {', '.join(self.samples)}.")
        sample = self.samples[sample_id]
        if callable(num_frames):
            return self.open(sample.path, num_frames, sample_id)
        frames = min(sample.num_frames, self.max_frames) if num_frames is None else num_frames
        found = self.precomputed and self.precomputed.get(sample_id, file_hash(sample.path), frames)
        if not found or frames > self.max_frames:
            return self.open(sample.path, frames, sample_id)
        key = found.key
        return VideoRef(
            str(sample.path), sample.path.name, key.video, frames, frames, found.source_size, found.duration_s,
            sample_id,
        )  # fmt: skip

    def clip(self, ref: VideoRef) -> VideoClip:
        """The frames of a video."""
        with self._lock:
            opened = self._opened
        if opened and opened[0] == ref:
            return opened[1]
        return VideoClip.open(ref.path, ref.asked)

    def allowance(self, share: float = 1.0) -> Allowance:
        """The time that one question, or one look at a video, may hold the model, or a share of it."""
        return Allowance(self.question_seconds and share * self.question_seconds)

    def hold(
        self, ref: VideoRef, settings: RunSettings, allowance: Allowance | None = None
    ) -> Entry[EncodedVideo]:
        """The video before the merge layer and its prefixes, from the store or made now.

        One question works on what it holds from beginning to end, even if the store has no room for it.
        """
        layer = self.merge_layer(settings)
        options = {"merge_layer": layer, "allowance": allowance or self.allowance()}
        held = self.store.entry(
            (ref.content_hash, ref.asked, layer), lambda: self.llm.encode(self.clip(ref), **options)
        )
        with self._lock:
            if self._opened and self._opened[0] == ref:
                self._opened = None  # from now on the store decides how long its frames stay
        return held

    def encoded(self, ref: VideoRef, settings: RunSettings) -> EncodedVideo:
        """The video before the merge layer, from the store or made now."""
        return self.hold(ref, settings).whole

    def planned(self, ref: VideoRef, settings: RunSettings, question: str = "") -> tuple[EncodedVideo, Plan]:
        """The video, and what the settings leave of it.

        Args:
            question: what was asked: a method that acts inside layers or on pixels has no plan before.

        Raises:
            ValueError: for such a method without a question.
        """
        held = self.hold(ref, settings)
        if settings.method.acts_on == "tokens":
            plan = held.whole.plan(settings)
            self.store.keep(held)  # it has tables now
            return held.whole, plan
        if not question.strip():
            raise ValueError(f"What {settings.method.title} leaves is known once a question was asked; ask one first.")
        method = self.method_for(held, settings, question)
        return held.whole, self.prefix(held, settings, method, question)[0].plan

    def merge_layer(self, settings: RunSettings) -> int:
        """The layer before which tokens are merged."""
        return settings_used(self.llm, settings).merge_layer

    def precomputed_data(self, ref: VideoRef, settings: RunSettings) -> InspectorData | None:
        """What was precomputed for exactly this video, model and layer; None if nothing was."""
        if not self.precomputed or not ref.sample_id:
            return None
        layer = self.merge_layer(settings)
        found = self.precomputed.get(ref.sample_id, ref.content_hash, ref.num_frames, layer)
        return found.data if found else None

    def tables(self, ref: VideoRef, settings: RunSettings) -> SimilarityTables:
        """Every cosine of the video: precomputed, or from the encoded video."""
        ready = self.precomputed_data(ref, settings)
        return ready.tables if ready else self._with_tables(ref, settings).tables

    def _with_tables(self, ref: VideoRef, settings: RunSettings) -> EncodedVideo:
        held = self.hold(ref, settings)
        _ = held.whole.tables
        self.store.keep(held)
        return held.whole

    def plan(self, ref: VideoRef, settings: RunSettings, question: str = "") -> Plan:
        """What is left, as `planned`: STTM's from the tables alone, so that no picture is encoded for it."""
        if settings.name == Sttm.name:
            return settings.plan(None, self.tables(ref, settings))
        return self.planned(ref, settings, question)[1]

    def inspector_data(self, ref: VideoRef, settings: RunSettings) -> InspectorData:
        """What the browser needs to draw and re-plan: pictures and tables, precomputed where they are; for STTM."""
        data = self.precomputed_data(ref, settings)
        if data is None:
            encoded = self._with_tables(ref, settings)
            data = InspectorData.of(encoded.clip.frames, encoded.clip.times, encoded.tables)
        tree = data.tables.tree
        return replace(
            data,
            title=self.samples[ref.sample_id].title if ref.sample_id else ref.name,
            needles=tuple(self.needles(ref, data.times, (tree.height, tree.width))),
            ranges=threshold_ranges(data.tables, settings.method.tau_spatial, settings.method.tau_temporal),
            settings={"rules": settings.method.rules},
        )

    def prefix(
        self,
        held: Entry[EncodedVideo],
        settings: RunSettings,
        method: Method | None,
        question: str | None = None,
        allowance: Allowance | None = None,
    ) -> tuple[Prefix, bool]:
        """The prefix of one column, and whether it was there already.

        What it is kept by says what decides about it, with nothing left open: a rule that is the model's own is the
        same as that rule by its name, all tokens are the same at any thresholds, and the question counts where the
        method looks at it.
        """
        rule = settings_used(self.llm, settings).position_rule
        asked = question.strip() if method and method.query_aware else None
        key = None if method is None else (method, rule, asked)
        options = {"position_rule": rule, "allowance": allowance or self.allowance()}
        return self.store.part(held, key, lambda: self.llm.timed_prefill(held.whole, method, asked, **options))

    def ask(
        self, ref: VideoRef, question: str, settings: RunSettings, max_new_tokens: int | None = None
    ) -> Iterator[tuple[Column, Column]]:
        """Both columns, yielded as they fill: the baseline first, then the merged one.

        A column whose model call fails for lack of memory or time carries its sentence in ``error``; the other one
        goes on: each has half the time. What the model's context can't hold is refused before anything runs.
        """
        self.llm.check_prompt(question, ref.num_frames, ref.size, max_new_tokens=max_new_tokens)
        halves = self.allowance(1 / 2), self.allowance(1 / 2)
        held = self.hold(ref, settings, halves[0])
        columns = Column(None, video=held.whole), self._second(held.whole, settings)
        yield columns
        for column, allowance in zip(columns, halves, strict=True):
            try:
                if column.method and column.plan is None:
                    column.method = self.method_for(held, settings, question, allowance)
                column.prefix, column.cached = self.prefix(held, settings, column.method, question, allowance)
                column.plan = column.prefix.plan
                column.missed = budget_missed(settings, column.prefix.shares) if column.method else ""
                limits = {"max_new_tokens": max_new_tokens, "allowance": allowance}
                for answer in self.llm.answering(column.prefix, question, **limits):
                    column.answer = answer
                    yield columns
            except (OutOfMemoryError, TimeUpError) as error:  # the other column must not be lost
                column.error = str(error)
                yield columns

    @staticmethod
    def _second(video: EncodedVideo, settings: RunSettings) -> Column:
        """The column of a method, with its plan where that does not depend on a run."""
        plan = video.plan(settings) if settings.method.acts_on == "tokens" else None
        return Column(plan, method=plan.method if plan else settings.method, video=video)

    def method_for(
        self, held: Entry[EncodedVideo], settings: RunSettings, question: str, allowance: Allowance | None = None
    ) -> Method:
        """The method with knobs that meet the budget, which runs may have to find: looked for once."""
        if settings.method.acts_on == "tokens":
            return held.whole.plan(settings).method
        used, asked, options = settings_used(self.llm, settings), question.strip(), {"allowance": allowance}
        key = ("knobs", used, asked)
        return self.store.part(held, key, lambda: self.llm.fitted(held.whole, used, asked, **options))[0]

    def measure(
        self, columns: tuple[Column, Column], question: str, settings: RunSettings, runs: int
    ) -> Iterator[tuple[Column, Column]]:
        """Repeat prefill and first token of both columns in turn; what `ask` did was the warm-up.

        All runs together have the time of one question: when it is over, there are fewer of them.
        """
        allowance, answered = self.allowance(), [c for c in columns if c.prefix is not None and c.answer is not None]
        for _ in range(runs):
            try:
                rule = settings_used(self.llm, settings).position_rule
                timed = [first_token(self.llm, c.video, c.method, question, rule, allowance) for c in answered]
            except TimeUpError:
                return
            for column, timings in zip(answered, timed, strict=True):
                column.runs.append(timings)
            yield columns

    def needles(
        self, ref: VideoRef, times: Sequence[float], grid: tuple[int, int], question: str | None = None
    ) -> list[dict]:
        """Known boxes of a sample's needles, of one question if given, in steps and patches; each place once.

        Args:
            times: seconds of each step of the video's tokens.
            grid: height and width of a step in patches.
        """
        if not ref.sample_id:
            return []
        asked = [q for q in self.samples[ref.sample_id].questions if q.needle and question in (None, q.text)]
        places: dict[Needle, str] = {}
        for q in asked:
            places.setdefault(q.needle, q.answer or q.text)  # the first question about a place names it
        found = [needle.in_patches(label, times, *grid) for needle, label in places.items()]
        return [needle for needle in found if needle]

    def needles_of(self, ref: VideoRef, encoded: EncodedVideo, question: str) -> list[dict]:
        """Needles of one question in the steps and patches of an encoded video."""
        times = encoded.clip.times[encoded.step_frames]
        return self.needles(ref, times, encoded.layout.shape[1:], question)


def _gpu_name(llm: VideoLLM) -> str:
    import torch

    return torch.cuda.get_device_name(llm.device) if llm.device.type == "cuda" else llm.device.type.upper()


def with_thresholds(settings: RunSettings, plan: MergePlan) -> RunSettings:
    """The settings with the thresholds that a plan was made with (a budget finds its own)."""
    return settings.but(tau_spatial=plan.tau_spatial, tau_temporal=plan.tau_temporal, retention=None)
