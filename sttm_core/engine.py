"""Running a Video LLM on merged and unmerged video: load, encode, prefill, answer. The only place that runs a model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property

import torch
from transformers import DynamicCache
from transformers.modeling_layers import GradientCheckpointingLayer

from .decoder import KVCache, cache_argument, run_layers
from .estimate import Estimate, estimate_memory, free_memory, in_words
from .host_to_device import frames_on
from .insertion import Positions, shorten, stop_before_layer
from .inside_layers import InsideRun
from .layer_method import LayerMethod
from .limits import Allowance, TimeUpError, check_context, check_question, context_length
from .loading import ModelError, device_of_inputs, load_model
from .method import Method, Plan
from .methods import Downsample
from .model_call import ModelCall, OutOfMemoryError
from .models import Family
from .positions import check_rule
from .settings import RunSettings
from .stages import Answer, EncodedVideo, Prefix
from .timing import Stopwatch, Timings, peak_memory, synchronizer
from .video import VideoClip
from .vision import REUSE, repeated_steps

DEFAULT_NEW_TOKENS = 128


class VideoLLM:
    """A Video LLM with merging beside it; the model itself stays untouched.

    Use `VideoLLM.load`. Calls that run the model are serialised by an internal lock.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        processor,
        family: Family,
        name: str,
        frame_tokens: int | None = None,
        reuse_frames: str = "exact",
    ) -> None:
        self.model, self.processor, self.family, self.name = model, processor, family, name
        self.frame_tokens = family.check_frame_tokens(frame_tokens)
        if reuse_frames not in REUSE:
            raise ValueError(f"reuse_frames must be one of {', '.join(REUSE)}, got {reuse_frames!r}.")
        self.reuse_frames = reuse_frames
        family.prepare(model)
        self.decoder = family.decoder(model)
        self.device = device_of_inputs(model, self.decoder.embed_tokens)
        self.synchronize = synchronizer(self.device)
        self._running = threading.RLock()

    @classmethod
    def load(
        cls, path_or_id: str, *, frame_tokens: int | None = None, reuse_frames: str = "exact", **options
    ) -> VideoLLM:
        """Load a Hugging Face checkpoint by folder or hub id; see `loading.load_model` for the options.

        Args:
            frame_tokens: at most so many tokens for one step in time, where the family follows the video's size
                (Qwen-VL; 768 unless given, as in qwen-vl-utils). Other families have a fixed number.
            reuse_frames: ``"exact"`` encodes a step in time whose pixels are those of the step before only once, which
                changes no feature; ``"off"`` encodes all. Baseline and merged runs share what is encoded.

        Raises:
            ModelError: in one sentence, if it is missing, broken, or of an unsupported architecture.
            ValueError: for ``frame_tokens`` below 1 or an unknown ``reuse_frames``.
        """
        model, processor, family = load_model(path_or_id, **options)
        return cls(model, processor, family, str(path_or_id).rstrip("/").split("/")[-1], frame_tokens, reuse_frames)

    @property
    def num_layers(self) -> int:
        return len(self.decoder.layers)

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def default_merge_layer(self) -> int:
        """Layer index 2, as in the paper's 7B models, unless this model needs or advises another."""
        return self.family.default_merge_layer(self.model)

    @property
    def merge_layers(self) -> range:
        """The layers before which this model can merge."""
        return range(self.family.first_merge_layer(self.model), self.num_layers)

    @property
    def default_position_rule(self) -> str:
        """The family's rule unless this model advises another."""
        return self.family.default_position_rule(self.model)

    def compile_vision(self) -> None:
        """Compile the vision encoder's layers with `torch.compile`, which pays when many videos are encoded.

        Compiling happens while the first video is encoded, and again for another number of frames.
        """
        for layer in self.family.vision(self.model).modules():
            if isinstance(layer, GradientCheckpointingLayer):  # what transformers builds every encoder's layers from
                layer.forward = torch.compile(layer.forward)

    def estimate(
        self,
        num_frames: int,
        size: tuple[int, int] = (720, 1280),
        *,
        retention: float = 1.0,
        merge_layer: int | None = None,
    ) -> Estimate:
        """Tokens and memory of a video before it is decoded; nothing runs.

        Args:
            size: height and width of its frames in pixels, which matters to Qwen-VL only.
            retention: share of video tokens expected after merging.

        Raises:
            ValueError: for numbers out of range.
        """
        layer = self.default_merge_layer if merge_layer is None else merge_layer
        self.family.check_merge_layer(self.model, layer)
        if num_frames < 1 or min(size) < 1 or not 0 < retention <= 1:
            raise ValueError(
                f"num_frames and size must be at least 1 and retention above 0 and at most 1, "
                f"got {num_frames}, {list(size)} and {retention}."
            )
        grid = self.family.grid(self.model, self.processor, num_frames, size, self.frame_tokens)
        kept = max(1, round(retention * grid[0] * grid[1] * grid[2]))
        room = {"positions": self.family.fewest_positions(grid), "context": self.context}
        return replace(self._memory(grid, kept, layer), **room)

    def check_prompt(
        self,
        question: str,
        num_frames: int = 0,
        size: tuple[int, int] = (1, 1),
        *,
        max_new_tokens: int | None = None,
    ) -> None:
        """Refuse what the model's context can't hold before anything runs.

        Args:
            num_frames, size: of a video that takes positions for all its tokens (``size``: height and width); 0 frames
                where merging may leave fewer.

        Raises:
            ValueError: in one sentence.
        """
        ids, video = self.question_ids(question), 0
        if num_frames:
            grid = self.family.grid(self.model, self.processor, num_frames, size, self.frame_tokens)
            video = self.family.fewest_positions(grid)
        check_context(self.context, video, len(ids), self._longest_answer(max_new_tokens))

    def encode(
        self,
        clip: VideoClip,
        *,
        merge_layer: int | None = None,
        grid: tuple[int, int] | None = None,
        allowance: Allowance | None = None,
    ) -> EncodedVideo:
        """Vision encoder and the decoder layers before ``merge_layer``, once for a video.

        Args:
            grid: rows and columns of tokens for which frames are made smaller; None for all pixels.

        Raises:
            ValueError: for a merge layer that the model does not have, or a family that can't encode smaller frames.
            OutOfMemoryError: if the accelerator's memory does not suffice.
            TimeUpError: if ``allowance`` is used up between two layers.
        """
        layer = self.default_merge_layer if merge_layer is None else merge_layer
        self.family.check_merge_layer(self.model, layer)
        text = self.family.parts(self.processor).head
        cache = DynamicCache()
        with self._exclusive(f"encoding {clip.num_frames} frames", allowance):
            watch = Stopwatch(self.synchronize)
            started = watch.last
            frames = frames_on(self.device, clip.frames)
            processor, sized, limit = self.processor, nullcontext(), self.frame_tokens
            if grid is not None:
                processor, frames = self.family.smaller(self.model, processor, frames, grid)
                sized, limit = self.family.any_size(self.model), limit and max(limit, 2 * grid[0] * grid[1])
            inputs = self.family.inputs(processor, text, frames, clip.times, limit)
            layout = self.family.layout(self.model, inputs)
            inputs, frames = self._on_device(inputs), None
            reused = self._repeated(inputs, layout.shape[0])
            preprocess_s = watch.lap()
            fast, once = self.family.fast_vision(self.model), self.family.reusing(self.model, reused)
            with fast, once, sized, stop_before_layer(self.decoder, layer, self.synchronize) as arrival:
                self.model(**inputs, **{cache_argument(type(self.model)): cache}, use_cache=True, logits_to_keep=1)
            watch.lap()
            following = self.family.next_position(self.model, inputs, arrival.position_ids)
        return EncodedVideo(
            clip=clip,
            model_name=self.name,
            hidden=arrival.hidden,
            layout=layout,
            positions=Positions(arrival.embeddings, following),
            early=KVCache.of(cache),
            merge_layer=layer,
            num_layers=self.num_layers,
            reused=reused,
            preprocess_s=preprocess_s,
            vision_s=arrival.decoder_started - started,
            early_s=watch.last - arrival.decoder_started,
            whole=grid and (layout.shape[0], *self._whole_grid(clip)),
        )

    def prefill(
        self,
        encoded: EncodedVideo,
        plan: Plan | None = None,
        *,
        position_rule: str | None = None,
        allowance: Allowance | None = None,
    ) -> Prefix:
        """Run the layers from the merge layer on, over all video tokens or over exactly those that ``plan`` leaves.

        Of the merge time, the plan itself is not part: it is there already. `timed_prefill` measures all of it.

        Raises:
            ValueError: if the plan is for another video, or the position rule is unknown.
            OutOfMemoryError: if the accelerator's memory does not suffice.
            TimeUpError: if ``allowance`` is used up between two layers.
        """
        if plan is not None and plan.grid != encoded.layout.shape:
            shape, found = list(plan.grid), list(encoded.layout.shape)
            raise ValueError(f"the plan is for {shape} tokens [T, H, W], but the video has {found}.")
        tokens = plan.num_tokens if plan is not None else encoded.layout.num_patches
        return self._prefilled(encoded, tokens, position_rule, None if plan is None else lambda: plan, allowance)

    def timed_prefill(
        self,
        encoded: EncodedVideo,
        method: Method | None,
        question: str | None = None,
        *,
        position_rule: str | None = None,
        allowance: Allowance | None = None,
    ) -> Prefix:
        """The prefix of any method at its knobs, which decides anew: what it costs from features to tokens is timed.

        The merge time covers all of it: whatever the method measures of the features, its plan, averaging, the shorter
        sequence. None times the baseline.

        Args:
            encoded: of all pixels.
            question: what will be asked; only query-aware methods need it, and serve it alone.

        Raises:
            ValueError: if the method can't act here or lacks a question, or the position rule is unknown.
            OutOfMemoryError: if the accelerator's memory does not suffice.
            TimeUpError: if ``allowance`` is used up between two layers.
        """
        if isinstance(method, LayerMethod):
            return self.prefill_for(encoded, method, question, position_rule=position_rule, allowance=allowance)
        if isinstance(method, Downsample):
            return self._prefilled_small(encoded, method, allowance)
        make_plan = None if method is None else lambda: method.plan(encoded.tokens)
        return self._prefilled(encoded, encoded.layout.num_patches, position_rule, make_plan, allowance)

    def _prefilled(
        self,
        encoded: EncodedVideo,
        tokens: int,
        position_rule: str | None,
        make_plan: Callable[[], Plan] | None,
        allowance: Allowance | None,
    ) -> Prefix:
        """The prefix of a plan that is made inside the measured time; all video tokens without one."""
        rule = check_rule(position_rule or self.default_position_rule)
        with self._exclusive(self._doing(encoded, tokens), allowance), peak_memory(self.device) as peak:
            watch = Stopwatch(self.synchronize)
            hidden, positions, plan, merge_s = encoded.hidden, encoded.positions, None, 0.0
            if make_plan is not None:
                merged = make_plan().apply(encoded.tokens)
                short = shorten(hidden, positions, encoded.layout, merged, rule, self._rotary)
                plan, hidden, positions = merged.plan, short.hidden, short.positions
                merge_s = watch.lap()
            late = self._run_late(encoded, hidden, positions)
            prefill_s = watch.lap()
        timings = Timings(encoded.clip.decode_s, encoded.vision_s, merge_s, encoded.early_s + prefill_s)
        early, rest = encoded.merge_layer, self.num_layers - encoded.merge_layer
        following = (encoded.positions.next,) * early + (positions.next,) * rest
        return Prefix(encoded, plan, encoded.early + late, following, timings, peak.bytes)

    def prefill_for(
        self,
        encoded: EncodedVideo,
        method: LayerMethod,
        question: str | None,
        *,
        position_rule: str | None = None,
        allowance: Allowance | None = None,
    ) -> Prefix:
        """The whole prompt through the layers under a method that acts inside them; see `sttm_core.layer_method`.

        The prefix has read the question and serves no other one; the first token's logits are there already. Its merge
        time is what the method's decisions took.

        Raises:
            ValueError: for an empty question, an unknown position rule, or a merge layer at which the method can't act.
            OutOfMemoryError: if the accelerator's memory does not suffice.
            TimeUpError: if ``allowance`` is used up between two layers.
        """
        question = check_question(question)
        rule = check_rule(position_rule or method.position_rule or self.default_position_rule)

        def run(one: LayerMethod) -> Prefix:
            return self._prefilled_inside(encoded, one, question, rule, allowance)

        return run(method.ready(encoded.shape, lambda one: run(one).shares))

    def _prefilled_small(self, encoded: EncodedVideo, method: Downsample, allowance: Allowance | None) -> Prefix:
        """The prefix of the same frames with fewer pixels, which the vision encoder has to see first."""
        full = encoded.layout.shape
        grid = method.grid(full, self.family.square)
        if grid != full[1:]:
            encoded = self.encode(encoded.clip, merge_layer=encoded.merge_layer, grid=grid, allowance=allowance)
        prefix = self._prefilled(encoded, encoded.layout.num_patches, None, None, allowance)
        return replace(prefix, plan=method.record(full, grid))

    def fitted(
        self,
        encoded: EncodedVideo,
        settings: RunSettings,
        question: str | None = None,
        *,
        allowance: Allowance | None = None,
    ) -> Method:
        """The method of ``settings`` with knobs that meet the budget on this video, for ``question`` where it matters.

        Raises:
            ValueError: as `timed_prefill`.
        """
        method = settings.method
        if method.acts_on == "tokens":
            return encoded.plan(settings).method
        if settings.retention is None:
            return method
        if isinstance(method, Downsample):
            return method.fit(encoded.shape, settings.retention, settings.budget)

        def shares_of(one: LayerMethod) -> Mapping[str, float]:
            options = {"position_rule": settings.position_rule, "allowance": allowance}
            return self.prefill_for(encoded, one, question, **options).shares

        return method.fit(encoded.shape, settings.retention, settings.budget, shares_of)

    def _prefilled_inside(
        self, encoded: EncodedVideo, method: LayerMethod, question: str, rule: str, allowance: Allowance | None
    ) -> Prefix:
        """The prefix of a method inside layers with all its knobs set."""
        ids, cache = self.question_ids(question).to(self.device), encoded.early.grow()
        doing = self._doing(encoded, encoded.layout.num_patches)
        with self._exclusive(doing, allowance), peak_memory(self.device) as peak:
            watch = Stopwatch(self.synchronize)
            run = InsideRun(self.decoder, method, encoded.merge_layer, rule, self._rotary, cache, watch.lap)
            state, query = run.read(ids, encoded.hidden, encoded.layout, encoded.positions)
            late_s = run(state, query)
            logits = self._head(state.hidden)
            prefill_s = encoded.early_s + late_s + watch.lap()
        timings = Timings(encoded.clip.decode_s, encoded.vision_s, sum(run.deciding), prefill_s)
        return Prefix(
            encoded, state.plan(method), KVCache.of(cache), tuple(run.next_positions), timings, peak.bytes, question,
            len(ids), logits,
        )  # fmt: skip

    def answer(
        self,
        prefix: Prefix,
        question: str,
        *,
        max_new_tokens: int | None = None,
        allowance: Allowance | None = None,
    ) -> Answer:
        """The whole greedy answer. The prefix stays as it was and can be asked again."""
        *_, last = self.answering(prefix, question, max_new_tokens=max_new_tokens, allowance=allowance)
        return last

    def stream(self, prefix: Prefix, question: str, *, max_new_tokens: int | None = None) -> Iterator[str]:
        """Pieces of the answer's text as soon as the model has them."""
        sent = 0
        for answer in self.answering(prefix, question, max_new_tokens=max_new_tokens):
            if len(answer.text) > sent:
                yield answer.text[sent:]
                sent = len(answer.text)

    def answering(
        self,
        prefix: Prefix,
        question: str,
        *,
        max_new_tokens: int | None = None,
        allowance: Allowance | None = None,
    ) -> Iterator[Answer]:
        """The answer after each new token, from the first on; the last one has ``finished`` set.

        Args:
            allowance: once it is used up the answer ends with what it has, and says so in ``stopped``.

        Raises:
            ValueError: for an empty question, ``max_new_tokens`` below 1, more than the model's context holds, or a
                prefix that was made for another question.
            OutOfMemoryError: if the accelerator's memory does not suffice.
            TimeUpError: if ``allowance`` is used up before the first token.
        """
        prefix.check_question(question)
        limit, ids = self._longest_answer(max_new_tokens), self.question_ids(question)
        check_context(self.context, prefix.next_text - prefix.question_tokens, len(ids), limit)
        allowance = allowance or Allowance()
        watch = Stopwatch(self.synchronize)
        started, produced = watch.last, []
        with self._exclusive("reading the question", allowance), peak_memory(self.device) as peak:
            watch = Stopwatch(self.synchronize)
            started = watch.last
            cache = prefix.cache.grow()
            token = self._next_token(prefix, cache, self._unread(prefix, ids))
            first_s = watch.lap()
        timings = replace(prefix.timings, first_token=first_s)
        kv_bytes = KVCache.of(cache).nbytes
        prompt_tokens = prefix.tokens_after - prefix.question_tokens + len(ids)
        peaks = [bytes_ for bytes_ in (prefix.peak_bytes, peak.bytes) if bytes_ is not None]
        while True:
            ended = token in self._stop_ids or len(produced) + 1 == limit
            stopped = str(allowance) if allowance.over and not ended else ""
            finished = ended or bool(stopped)
            if token not in self._stop_ids:
                produced.append(token)
            text = self._text(produced, finished)
            passed = watch.last - started
            peak_bytes = max(peaks, default=None)
            yield Answer(
                text, len(produced), timings, prompt_tokens, kv_bytes, peak_bytes, passed, finished, stopped,
                prefix.shares,
            )
            if finished:
                return
            with ModelCall(self._running, "answering", allowance):
                token = self._next_token(prefix, cache, torch.tensor([token]))
                watch.lap()

    def first_token_logits(self, prefix: Prefix, question: str) -> torch.Tensor:
        """``[vocabulary]`` float32 logits of the answer's first token."""
        prefix.check_question(question)
        ids = self.question_ids(question)
        with self._exclusive("answering"):
            return self._logits(prefix, prefix.cache.grow(), self._unread(prefix, ids))

    def question_ids(self, question: str) -> torch.Tensor:
        """``[n]`` token ids of what follows the video in the prompt: question, end of turn, start of the answer."""
        return torch.tensor(self.family.question_ids(self.processor, check_question(question)))

    @property
    def context(self) -> int | None:
        """Positions that the model knows, RoPE scaling included; None where its config does not say."""
        return context_length(self.model.config.get_text_config())

    def _longest_answer(self, max_new_tokens: int | None) -> int:
        """In tokens: as given, or the model's own limit, or `DEFAULT_NEW_TOKENS`."""
        limit = self.model.generation_config.max_new_tokens if max_new_tokens is None else max_new_tokens
        limit = DEFAULT_NEW_TOKENS if limit is None else limit
        if limit < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {limit}.")
        return limit

    def _run_late(self, encoded: EncodedVideo, hidden: torch.Tensor, positions: Positions) -> KVCache:
        """KV cache of the layers from the merge layer on."""
        cache = encoded.early.grow()
        span = range(encoded.merge_layer, self.num_layers)
        run_layers(self.decoder.layers, span, hidden, positions.embeddings, cache, self._attention)
        whole = KVCache.of(cache)
        return KVCache(whole.keys[encoded.merge_layer :], whole.values[encoded.merge_layer :])

    @staticmethod
    def _unread(prefix: Prefix, ids: torch.Tensor) -> torch.Tensor:
        """A question's ``ids``, or none of them where the prefix was made for it and has read it."""
        return ids if prefix.question is None else ids[:0]

    def _next_token(self, prefix: Prefix, cache: DynamicCache, ids: torch.Tensor) -> int:
        return int(self._logits(prefix, cache, ids).argmax())

    def _logits(self, prefix: Prefix, cache: DynamicCache, ids: torch.Tensor) -> torch.Tensor:
        """``[vocabulary]`` after text tokens ``ids``, which ``cache`` grows by; the prefix's own if there are none."""
        count = len(ids)
        if not count:
            return prefix.logits
        hidden = self.decoder.embed_tokens(ids.to(self.device)[None])  # [1, n, D]
        for span, first, length in prefix.spans:
            start = first + cache.get_seq_length(span[0]) - length  # text so far moved it on
            numbers = torch.arange(start, start + count, device=self.device)
            hidden = run_layers(self.decoder.layers, span, hidden, self._rotary(numbers), cache, self._attention)
        return self._head(hidden)

    def _head(self, hidden: torch.Tensor) -> torch.Tensor:
        """``[vocabulary]`` float32 logits after the last of ``hidden [1, n, D]``."""
        return self.model.get_output_embeddings()(self.decoder.norm(hidden[:, -1:]))[0, -1].float()

    def _rotary(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.family.rotary(self.decoder, positions)

    @property
    def _attention(self) -> str:
        return self.decoder.config._attn_implementation

    @cached_property
    def _stop_ids(self) -> frozenset[int]:
        ids = self.model.generation_config.eos_token_id
        ids = self.processor.tokenizer.eos_token_id if ids is None else ids
        return frozenset(ids if isinstance(ids, list) else [ids])

    def _text(self, ids: list[int], finished: bool) -> str:
        """Decoded text, without a character that is still incomplete while streaming."""
        text = self.processor.tokenizer.decode(ids, skip_special_tokens=True)
        return text.strip() if finished else text.lstrip().rstrip("\N{REPLACEMENT CHARACTER}")

    def _repeated(self, inputs: dict[str, torch.Tensor], steps: int) -> torch.Tensor:
        """``[T]`` bool: steps of a video that need not be encoded, since the one before is the same."""
        if self.reuse_frames == "off" or self.family.features_by is None:
            return torch.zeros(steps, dtype=torch.bool)
        return repeated_steps(inputs, steps)

    def _on_device(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {
            name: value.to(self.device, self.dtype if name.startswith("pixel_values") else None)
            for name, value in inputs.items()
        }

    def _whole_grid(self, clip: VideoClip) -> tuple[int, int]:
        """Rows and columns of tokens of a frame that all its pixels give."""
        size = clip.frames.shape[1:3]
        return self.family.grid(self.model, self.processor, clip.num_frames, size, self.frame_tokens)[1:]

    def _doing(self, encoded: EncodedVideo, tokens: int) -> str:
        """What a prefill of so many video tokens from the merge layer on does, for the sentence where it fails."""
        needed = in_words(self._memory(encoded.layout.shape, tokens, encoded.merge_layer).needed_bytes)
        return f"prefilling {tokens} video tokens, which needs about {needed} beside the model"

    def _memory(self, grid: tuple[int, int, int], kept_tokens: int, merge_layer: int) -> Estimate:
        text, free = self.model.config.get_text_config(), free_memory(self.device)
        return estimate_memory(text, grid, kept_tokens, merge_layer, self.dtype, free)

    @cached_property
    def _layers(self) -> tuple[torch.nn.Module, ...]:
        """Those of the vision encoder and of the decoder: what transformers builds both from."""
        return tuple(module for module in self.model.modules() if isinstance(module, GradientCheckpointingLayer))

    def _exclusive(self, doing: str, allowance: Allowance | None = None) -> ModelCall:
        return ModelCall(self._running, doing, allowance, self._layers)


__all__ = ["Answer", "EncodedVideo", "Estimate", "ModelError", "OutOfMemoryError", "Prefix", "TimeUpError", "VideoLLM"]
