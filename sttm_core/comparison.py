"""One question to the baseline and to the merged video: settings, both answers, fair timings. Used by shell and app."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

from .engine import Answer, EncodedVideo, Prefix, VideoLLM
from .limits import Allowance
from .methods.sttm.budget import EXPONENTS, thresholds_for_retention
from .methods.sttm.plan import RULES, MergePlan
from .positions import POSITION_RULES
from .timing import Timings
from .video import VideoClip

MAX_TAU = 2.0  # cosines end at 1; anything above merges nothing


@dataclass(frozen=True)
class MergeSettings:
    """Everything that decides what is merged.

    Attributes:
        tau_spatial, tau_temporal: thresholds, used where ``retention`` is None.
        retention: budget; the thresholds are then found for it.
        rules: ``"paper"`` or ``"as_released"``.
        merge_layer: decoder layer before which tokens are merged; None for the model's default.
        position_rule: None for the family's default.
        root_level: coarsest quadtree grids that are not used.
        prefer: which threshold a budget lets fall first: ``"balanced"``, ``"spatial"`` or ``"temporal"``.

    Raises:
        ValueError: for a value out of range, in one sentence.
    """

    tau_spatial: float = 0.85
    tau_temporal: float = 0.65
    retention: float | None = None
    rules: str = "paper"
    merge_layer: int | None = None
    position_rule: str | None = None
    root_level: int = 1
    prefer: str = "balanced"

    def __post_init__(self) -> None:
        for name, symbol in (("tau_spatial", "spatial threshold τ_S"), ("tau_temporal", "temporal threshold τ_T")):
            value = getattr(self, name)
            if not math.isfinite(value) or not -1.0 <= value <= MAX_TAU:
                raise ValueError(f"The {symbol} must lie between -1 and {MAX_TAU:g}, got {value:g}.")
        if self.retention is not None and not 0 < self.retention <= 1:
            raise ValueError(f"The budget must lie above 0% and at most 100%, got {self.retention:.0%}.")
        if self.rules not in RULES:
            raise ValueError(f"The rules must be one of {', '.join(RULES)}, got {self.rules!r}.")
        if self.position_rule is not None and self.position_rule not in POSITION_RULES:
            known = ", ".join(POSITION_RULES)
            raise ValueError(f"The position rule must be one of {known}, got {self.position_rule!r}.")
        if self.prefer not in EXPONENTS:
            raise ValueError(f"A budget may prefer {', '.join(EXPONENTS)}, got {self.prefer!r}.")

    def plan(self, encoded: EncodedVideo) -> MergePlan:
        """The plan for a video: by thresholds, or by the budget where one is set."""
        tau_s, tau_t = self.tau_spatial, self.tau_temporal
        if self.retention is not None:
            found = thresholds_for_retention(encoded.tables, self.retention, prefer=self.prefer, rules=self.rules)
            tau_s, tau_t = found.tau_spatial, found.tau_temporal
        return encoded.tables.plan(tau_s, tau_t, self.rules)


@dataclass(frozen=True)
class Comparison:
    """Both answers to one question; ``baseline`` is None where it was not asked for.

    ``settings`` are those that were used: merge layer and position rule as the model's where they were left open.
    """

    video: str
    num_frames: int
    model: str
    question: str
    settings: MergeSettings
    plan: MergePlan
    baseline: Answer | None
    merged: Answer
    runs: int = 1

    @property
    def speedup(self) -> float | None:
        """Baseline TTFT over merged TTFT, vision encoder and decoding included."""
        return self.baseline.ttft / self.merged.ttft if self.baseline else None

    @property
    def same_answer(self) -> bool | None:
        return self.baseline.text == self.merged.text if self.baseline else None

    @property
    def budget_missed(self) -> str:
        """One sentence if the budget lies below what this video can be merged to, else empty."""
        wanted = self.settings.retention
        if wanted is None or self.plan.retention <= wanted:
            return ""
        return f"The budget of {wanted:.1%} can't be reached: this video can't go below {self.plan.retention:.1%}."

    def as_dict(self) -> dict:
        """JSON-ready, with the keys that `python -m sttm_core ask --json` promises."""
        plan, settings = self.plan, {"num_frames": self.num_frames} | asdict(self.settings)
        settings |= {"tau_spatial": plan.tau_spatial, "tau_temporal": plan.tau_temporal}
        return {
            "video": self.video,
            "model": self.model,
            "question": self.question,
            "settings": settings,
            "retention": plan.retention,
            "tokens": {"all": plan.num_patches, "kept": plan.num_tokens},
            "chains": {"count": plan.num_chains, "longest": plan.longest_chain},
            "budget_missed": self.budget_missed,
            "runs": self.runs,
            "same_answer": self.same_answer,
            "ttft_ratio": self.speedup,
            "baseline": answer_dict(self.baseline) if self.baseline else None,
            "merged": answer_dict(self.merged),
        }


def answer_dict(answer: Answer) -> dict:
    """JSON-ready: what `Answer` holds; ``stopped`` says why it was cut off, or is empty."""
    return {
        "text": answer.text,
        "ttft_s": answer.ttft,
        "timings_s": answer.timings.as_dict(),
        "prompt_tokens": answer.prompt_tokens,
        "new_tokens": answer.new_tokens,
        "kv_bytes": answer.kv_bytes,
        "peak_bytes": answer.peak_bytes,
        "stopped": answer.stopped,
    }


def compare(
    llm: VideoLLM,
    clip: VideoClip,
    question: str,
    settings: MergeSettings,
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
    encoded = llm.encode(clip, merge_layer=settings.merge_layer, root_level=settings.root_level)
    plan = settings.plan(encoded)
    plans = ([None] if baseline else []) + [plan]
    answers = []
    for column in plans:
        progress("answering from all tokens" if column is None else f"answering from {plan.num_tokens} tokens")
        prefix = llm.prefill(encoded, column, position_rule=settings.position_rule)
        answers.append(llm.answer(prefix, question, max_new_tokens=max_new_tokens))
    progress(f"timing {runs} runs")
    timings = list(zip(*measure(llm, clip, encoded, plans, question, settings, runs), strict=True))
    answers = [replace(answer, timings=Timings.median(of)) for answer, of in zip(answers, timings, strict=True)]
    whole = answers[0] if baseline else None
    return Comparison(clip.name, clip.num_frames, llm.name, question, used, plan, whole, answers[-1], runs)


def settings_used(llm: VideoLLM, settings: MergeSettings) -> MergeSettings:
    """``settings`` with what was left to the model filled in."""
    layer = llm.default_merge_layer if settings.merge_layer is None else settings.merge_layer
    return replace(settings, merge_layer=layer, position_rule=settings.position_rule or llm.default_position_rule)


def measure(
    llm: VideoLLM,
    clip: VideoClip,
    encoded: EncodedVideo,
    plans: list[MergePlan | None],
    question: str,
    settings: MergeSettings,
    runs: int,
) -> Iterator[list[Timings]]:
    """Timings of every plan in each of ``runs`` runs, in turn within a run so that drift of the machine hits all alike.

    Call it when each plan ran once before: that was the warm-up.
    """
    for _ in range(runs):
        encoded = llm.encode(clip, merge_layer=encoded.merge_layer, root_level=encoded.root_level)
        yield [first_token(llm, encoded, plan, question, settings.position_rule) for plan in plans]


def first_token(
    llm: VideoLLM,
    encoded: EncodedVideo,
    plan: MergePlan | None,
    question: str,
    position_rule: str | None,
    allowance: Allowance | None = None,
) -> Timings:
    """Timings of one prefill and the first token after it."""
    prefix: Prefix = llm.prefill(encoded, plan, position_rule=position_rule, allowance=allowance)
    return next(llm.answering(prefix, question, max_new_tokens=1, allowance=allowance)).timings
