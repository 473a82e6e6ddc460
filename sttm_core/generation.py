"""Plain ``model.generate`` of transformers with fewer video tokens: hooks on one instance, inside a `with`.

    with merging(model, "sttm", retention=0.3) as engaged:
        model.generate(**processor(text=prompts, videos=clips, return_tensors="pt", padding=True))
    engaged.kept                                      # tokens left of each clip

docs/merging-generate.md tells it with examples; `sttm_core.generation_hooks` does it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import PreTrainedModel

from .budgets import KEPT
from .generation_hooks import Engagement, MergedClip, Merger, engaged
from .method import Method
from .models import Family, family_for
from .settings import RunSettings

__all__ = ["Engagement", "MergedClip", "merging"]


@contextmanager
def merging(
    model: PreTrainedModel,
    method: str | Method = "sttm",
    *,
    merge_layer: int | None = None,
    position_rule: str | None = None,
    budget: str = KEPT,
    **knobs,
) -> Iterator[Engagement]:
    """Inside the `with`, plain ``model.generate(**inputs)`` of this thread leaves fewer tokens of every video.

    Any number of calls, any number of rows with any number of clips each; calls and rows without a video run as ever.
    ``input_ids``, ``attention_mask`` and what `generate` returns are those of the full sequence, new tokens behind it.
    Inside, the layers from the merge layer on see shorter rows, padded on the left to the longest: their KV cache, and
    the logits of a plain forward pass, are ``[B, n, ...]`` with n below S. New text goes on behind n in these layers
    where positions are reassigned, and as the model numbers it where they survive or are merged.

    The engine (`VideoLLM`) on the same model is not affected, nor are other threads; run a thread in
    ``contextvars.copy_context()`` to take it along.

    Args:
        model: of a family in `sttm_core.models`, with eager, SDPA or FlashAttention.
        method: name or record of a method that acts on tokens and does not look at the question.
        merge_layer: decoder layer before which tokens are merged; None for the method's or the model's own.
        position_rule: see `positions.shortened_positions`; None for the model's own.
        budget: what ``retention`` is a share of; ``"kv_bytes"`` counts the text of the whole prompt.
        **knobs: ``retention``, and the method's own where it is given by name.

    Yields:
        the `Engagement` that says what was merged.

    Raises:
        ValueError: in one sentence, for what the model or method can't do, and for a model that merges in this thread
            already. `generate` inside raises it for what merging can't serve: a cache that does not simply grow, videos
            in chunks or behind a cache, embeddings in the place of token ids, labels.
    """
    if not isinstance(model, PreTrainedModel):
        raise ValueError(f"merging takes a model of transformers, such as llm.model, got {type(model).__name__}.")
    if any(other.model is model for other in engaged.get()):
        raise ValueError("this model merges in this thread already; leave the outer `with merging` first.")
    family = family_for(model.config.to_dict())
    settings = _settings(method, knobs, merge_layer=merge_layer, position_rule=position_rule, budget=budget)
    merger = Merger(model, family, _resolved(settings, family, model))
    before = engaged.get()
    with merger.hooked():
        engaged.set((*before, merger))
        try:
            yield merger.engagement
        finally:
            engaged.set(before)


def _settings(method: str | Method, knobs: dict[str, Any], **own) -> RunSettings:
    """The run's settings; ValueError for a method that does not act on tokens alone."""
    if isinstance(method, str):
        settings = RunSettings.of(method, **own, **knobs)
    else:
        own["retention"] = knobs.pop("retention", None)
        if knobs:
            raise ValueError(f"a method given as a record has its knobs already; set {next(iter(knobs))!r} there.")
        settings = RunSettings(method, **own)
    chosen = settings.method
    if chosen.acts_on != "tokens" or chosen.query_aware:
        acts = "looks at the question" if chosen.acts_on == "tokens" else f"acts on {chosen.acts_on}"
        raise ValueError(f"{chosen.title} {acts}, and merging takes methods that act on video tokens alone.")
    return settings


def _resolved(settings: RunSettings, family: Family, model: PreTrainedModel) -> RunSettings:
    """With the model's own layer and rule where none were asked for; ValueError for what the model can't do."""
    first = family.first_merge_layer(model)
    own = family.default_merge_layer(model), family.default_position_rule(model)
    settings = settings.resolved(*own, first)
    family.check_merge_layer(model, settings.merge_layer)
    attention = family.decoder(model).config._attn_implementation
    if attention not in ("eager", "sdpa") and not attention.startswith("flash"):
        raise ValueError(f"merging works with eager, sdpa and flash attention, got {attention!r}.")
    return settings
