"""One question to the baseline and to the merged video: settings, both answers, fair timings. Used by shell and app."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from .budgets import KEPT, KV_BYTES, LAYER_AVERAGE
from .engine import Answer, EncodedVideo, VideoLLM
from .limits import Allowance
from .method import Method, Plan
from .settings import RunSettings
from .timing import Timings
from .video import VideoClip

ROUNDING = 1e-9
BUDGET_WORDS = {KEPT: "of the tokens", LAYER_AVERAGE: "of the tokens over all layers", KV_BYTES: "of the KV bytes"}
IDLE = {
    "spatial": "Nothing merges in space at these thresholds: the quadtree splits down to single tokens.",
    "temporal": "Nothing merges through time at these thresholds: no frame is linked to the next.",
}  # what to say of a plan's idle stage


@dataclass(frozen=True)
class Comparison:
    """Both answers to one question; ``baseline`` is None where it was not asked for.

    ``settings`` are those that were used: merge layer and position rule as the model's where they were left open.
    ``steps_reused`` of the video's steps in time were not encoded, for neither answer: see `EncodedVideo.reused`.
    """

    video: str
    num_frames: int
    model: str
    question: str
    settings: RunSettings
    plan: Plan
    baseline: Answer | None
    merged: Answer
    runs: int = 1
    steps_reused: int = 0

    @property
    def speedup(self) -> float | None:
        """Baseline TTFT over merged TTFT, vision encoder and decoding included."""
        return self.baseline.ttft / self.merged.ttft if self.baseline else None

    @property
    def same_answer(self) -> bool | None:
        return self.baseline.text == self.merged.text if self.baseline else None

    @property
    def budget_missed(self) -> str:
        """One sentence if the budget lies below what the method can reach on this video, else empty."""
        return budget_missed(self.settings, self.merged.shares)

    @property
    def idle_note(self) -> str:
        """One sentence if one of the two stages merges nothing here, else empty."""
        return IDLE.get(self.plan.details.get("idle_stage"), "")

    def as_dict(self) -> dict:
        """JSON-ready, with the keys that `python -m sttm_core ask --json` promises."""
        plan = self.plan
        return {
            "video": self.video,
            "model": self.model,
            "question": self.question,
            "settings": {"num_frames": self.num_frames} | self.settings.as_dict() | knobs_used(plan.method),
            "retention": plan.retention,
            "tokens": {"all": plan.num_patches, "kept": plan.num_tokens},
            "patches_dropped": plan.num_dropped,
            "steps": {"all": plan.grid[0], "reused": self.steps_reused},
            **plan.details,
            "budget_missed": self.budget_missed,
            "idle_note": self.idle_note,
            "runs": self.runs,
            "same_answer": self.same_answer,
            "ttft_ratio": self.speedup,
            "baseline": answer_dict(self.baseline) if self.baseline else None,
            "merged": answer_dict(self.merged) | {"method": self.settings.name},
        }


def budget_missed(settings: RunSettings, shares: Mapping[str, float]) -> str:
    """One sentence if a run with these ``shares`` (`Prefix.shares`) kept more than its budget, else empty."""
    wanted, reached = settings.retention, shares[settings.budget]
    if wanted is None or reached <= wanted + ROUNDING:
        return ""
    return (
        f"The budget of {wanted:.1%} can't be reached: {settings.method.title} can't go below "
        f"{reached:.1%} {BUDGET_WORDS[settings.budget]} on this video."
    )


def knobs_used(method: Method) -> dict:
    """The knobs that a plan was made with: a budget finds its own."""
    return {name: value for name, value in asdict(method).items() if name != "retention"}


def answer_dict(answer: Answer) -> dict:
    """JSON-ready: what `Answer` holds; ``stopped`` says why it was cut off, or is empty.

    ``kept`` and ``layer_average`` are shares of all video tokens; ``kv_bytes`` counts prefix and question.
    """
    return {
        "text": answer.text,
        "ttft_s": answer.ttft,
        "timings_s": answer.timings.as_dict(),
        "prompt_tokens": answer.prompt_tokens,
        "new_tokens": answer.new_tokens,
        "kept": answer.shares[KEPT],
        "layer_average": answer.shares[LAYER_AVERAGE],
        "kv_share": answer.shares[KV_BYTES],
        "kv_bytes": answer.kv_bytes,
        "peak_bytes": answer.peak_bytes,
        "stopped": answer.stopped,
    }


def compare(
    llm: VideoLLM,
    clip: VideoClip,
    question: str,
    settings: RunSettings,
    *,
    baseline: bool = True,
    runs: int = 3,
    max_new_tokens: int | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> Comparison:
    """Ask both and time both: one warm-up, then the median of ``runs`` runs of every stage after decoding.

    Args:
        llm: the model.
        clip: the video.
        question: what to ask.
        settings: what to merge.
        baseline: False leaves the unmerged run out.
        runs: how many timed runs, at least 1.
        max_new_tokens: limit of the answers' length.
        progress: called with a short text at each stage.

    Raises:
        ValueError: for bad settings, an empty question or a merge layer that the model does not have.
        OutOfMemoryError: if the accelerator's memory does not suffice.
    """
    if runs < 1:
        raise ValueError(f"runs must be at least 1, got {runs}.")
    used = settings_used(llm, settings)
    all_take_positions = baseline or used.merge_layer or used.position_rule != "reassigned"
    frames = clip.num_frames if all_take_positions else 0
    llm.check_prompt(question, frames, clip.source_size, max_new_tokens=max_new_tokens)  # before any work is done
    progress(f"encoding {clip.num_frames} frames")
    encoded = llm.encode(clip, merge_layer=used.merge_layer)
    methods = ([None] if baseline else []) + [llm.fitted(encoded, used, question)]
    answers, prefix = [], None
    for method in methods:
        prefix = llm.timed_prefill(encoded, method, question, position_rule=used.position_rule)
        progress(f"answering from {'all' if method is None else prefix.plan.num_tokens} tokens")
        answers.append(llm.answer(prefix, question, max_new_tokens=max_new_tokens))
    progress(f"timing {runs} runs")
    timings = list(zip(*measure(llm, clip, methods, question, used, runs), strict=True))
    answers = [replace(answer, timings=Timings.median(of)) for answer, of in zip(answers, timings, strict=True)]
    whole = answers[0] if baseline else None
    known, reused = (clip.name, clip.num_frames, llm.name), int(encoded.reused.sum())
    return Comparison(*known, question, used, prefix.plan, whole, answers[-1], runs, reused)


def settings_used(llm: VideoLLM, settings: RunSettings) -> RunSettings:
    """``settings`` with what was left to the model filled in."""
    return settings.resolved(llm.default_merge_layer, llm.default_position_rule, llm.merge_layers[0])


def measure(
    llm: VideoLLM,
    clip: VideoClip,
    methods: Sequence[Method | None],
    question: str,
    settings: RunSettings,
    runs: int,
) -> Iterator[list[Timings]]:
    """Timings of every method in each of ``runs`` runs, in turn within a run: drift of the machine hits all alike.

    Call it when each ran once before: that was the warm-up. None stands for the baseline.
    """
    for _ in range(runs):
        encoded = llm.encode(clip, merge_layer=settings.merge_layer)
        yield [first_token(llm, encoded, method, question, settings.position_rule) for method in methods]


def first_token(
    llm: VideoLLM,
    encoded: EncodedVideo,
    method: Method | None,
    question: str,
    position_rule: str | None,
    allowance: Allowance | None = None,
) -> Timings:
    """Timings of one run of a method from the features on: its decisions, prefill and the first token after it."""
    prefix = llm.timed_prefill(encoded, method, question, position_rule=position_rule, allowance=allowance)
    return next(llm.answering(prefix, question, max_new_tokens=1, allowance=allowance)).timings
