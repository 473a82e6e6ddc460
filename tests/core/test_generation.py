"""Plain `generate` inside `merging`: the engine's answers, row by row, in every family; and what it refuses."""

from __future__ import annotations

import contextvars
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import pytest
import torch
from transformers import TextIteratorStreamer, pipeline

import sttm_core
from sttm_core import generation_hooks, merging
from sttm_core.method import METHODS, make_method
from sttm_core.settings import RunSettings
from tests.core import by_hand
from tests.core.batches import ONE_LENGTH, batch, cache_name, generated, prompt_of
from tests.core.tiny import LAYERS, TINY, clip, hook_counts, shuffled, tiny

FAMILIES = sorted(TINY)
RULES = ("reassigned", "survived", "merged")
SHORT, LONG = "Hi?", "What is it that is shown here?"
MODEL = "llava_onevision"
KEEP = {"retention": 0.3}


@cache
def first_clip(model_type: str):
    return clip(5, TINY[model_type].sizes[0])


@cache
def second_clip(model_type: str):
    """Of another size, and of another length where the processor allows it."""
    return clip(5 if model_type in ONE_LENGTH else 8, TINY[model_type].sizes[1], 1)


def rows_of(model_type: str):
    return [(first_clip(model_type), SHORT), (None, "No video here."), (second_clip(model_type), LONG)]


@cache
def plain_alone(model_type: str, attention: str, number: int):
    llm = tiny(model_type, attention)
    return generated(llm, batch(llm, model_type, [rows_of(model_type)[number]]))


def first_logits(llm, shown, question, settings: RunSettings) -> tuple[torch.Tensor, str, int]:
    """What the engine says: logits, answer, and tokens kept."""
    settings = settings.resolved(llm.default_merge_layer, llm.default_position_rule, llm.merge_layers.start)
    encoded = llm.encode(shown, merge_layer=settings.merge_layer)
    prefix = llm.prefill(encoded, encoded.plan(settings), position_rule=settings.position_rule)
    answer = llm.answer(prefix, question, max_new_tokens=4)
    return llm.first_token_logits(prefix, question), answer.text, prefix.video_tokens


def text_of(llm, inputs, out, row: int = 0) -> str:
    new = out.sequences[row, inputs["input_ids"].shape[1] :]
    return llm.processor.tokenizer.decode(new, skip_special_tokens=True).strip()


def same_logits(some, others, row: int = 0) -> bool:
    """Of every step, ``row`` of the second against the first."""
    return all((a[0] - b[row]).abs().max() < 1e-4 for a, b in zip(some.logits, others.logits, strict=True))


TRIED = [(None, rule, attention) for rule in RULES for attention in ("sdpa", "eager")]
TRIED += [(0, "merged", "sdpa"), (0, "reassigned", "eager"), (LAYERS - 1, "reassigned", "sdpa")]


@pytest.mark.parametrize("layer, rule, attention", TRIED)
@pytest.mark.parametrize("model_type", FAMILIES)
def test_each_row_of_a_batch_is_answered_as_alone_and_by_the_engine(model_type, layer, rule, attention):
    llm, rows = tiny(model_type, attention), rows_of(model_type)
    first = llm.family.first_merge_layer(llm.model)
    layer = None if layer is None else max(layer, first)
    given = {"merge_layer": layer, "position_rule": rule} | KEEP
    plain = [plain_alone(model_type, attention, number) for number in range(3)]
    before, inputs = hook_counts(llm.model), batch(llm, model_type, rows)  # transformers adds some of its own at first
    with merging(llm.model, **given) as engaged:
        together = generated(llm, inputs)
        assert [merged.row for merged in engaged.clips] == [0, 2] and engaged.passes == 1
        lengths = engaged.tokens_before, engaged.tokens_after, engaged.kept
        for number, (shown, question) in enumerate(rows):
            alone_inputs = batch(llm, model_type, [(shown, question)])
            alone = generated(llm, alone_inputs)
            assert same_logits(alone, together, number)
            if shown is None:
                assert same_logits(plain[number], alone)
                continue
            logits, text, kept = first_logits(llm, shown, question, RunSettings.of(**given))
            assert (alone.logits[0][0] - logits).abs().max() < 1e-4
            assert text_of(llm, alone_inputs, alone) == text_of(llm, inputs, together, number) == text
            assert engaged.kept == [kept] == [lengths[2][number // 2]]
            full = alone_inputs["input_ids"].shape[1]
            patches = engaged.plans[0].num_patches
            assert (lengths[0][number], lengths[1][number]) == (full, full - patches + kept)
            assert not same_logits(plain[number], alone)  # it did merge
    assert lengths[0][1] == lengths[1][1] == batch(llm, model_type, rows[1:2])["input_ids"].shape[1]
    assert hook_counts(llm.model) == before
    assert together.sequences[:, : inputs["input_ids"].shape[1]].tolist() == inputs["input_ids"].tolist()


@pytest.mark.parametrize("name", sorted(name for name, kind in METHODS.items() if kind.acts_on == "tokens"))
def test_methods_that_act_on_tokens_run_by_name_and_as_records(name):
    if METHODS[name].query_aware:
        pytest.skip("refused, see below")
    llm, shown = tiny(MODEL), first_clip(MODEL)
    inputs = batch(llm, MODEL, [(shown, SHORT)])
    with merging(llm.model, name, **KEEP) as engaged:
        by_name = generated(llm, inputs)
    with merging(llm.model, make_method(name), **KEEP):
        assert same_logits(generated(llm, inputs), by_name)
    logits, text, kept = first_logits(llm, shown, SHORT, RunSettings.of(name, **KEEP))
    assert (by_name.logits[0][0] - logits).abs().max() < 1e-4
    assert text_of(llm, inputs, by_name) == text and engaged.kept == [kept]
    assert engaged.plans[0].method.name == engaged.settings.name == name


@pytest.mark.parametrize("given", [
    {"tau_spatial": 0.9, "tau_temporal": 0.5, "root_level": 0}, {"tau_spatial": -1.0, "rules": "as_released"},
    {"retention": 0.7, "budget": "layer_average"}, {"tau_spatial": 2.0, "tau_temporal": 2.0},
])  # fmt: skip
def test_knobs_and_budgets_reach_the_plan(given):
    llm, shown = tiny(MODEL), first_clip(MODEL)
    with merging(llm.model, **given) as engaged:
        generated(llm, batch(llm, MODEL, [(shown, SHORT)]))
    expected = llm.encode(shown).plan(RunSettings.of(**given))
    assert engaged.plans[0].member_of.tolist() == expected.member_of.tolist()
    assert (engaged.clips[0].patches, engaged.clips[0].kept) == (expected.num_patches, expected.num_tokens)


@pytest.mark.parametrize("model_type", ["qwen2_5_vl", "qwen3_vl", MODEL])
def test_two_clips_in_one_prompt_are_merged_each_by_itself(model_type):
    """Against the engine's plans; where the places of the second clip lie, the first has been shortened already."""
    llm, question = tiny(model_type), SHORT
    shown = [first_clip(model_type), second_clip(model_type)]
    video, text = {"type": "video"}, [{"type": "text", "text": words} for words in ("and", question)]
    content = [video, text[0], video, text[1]]
    prompt = llm.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    told = {}
    for one in shown:
        for name, value in ({"videos": [one.frames]} | TINY[model_type].with_video(one)).items():
            told[name] = told.get(name, []) + value if isinstance(value, list) else value
    inputs = dict(llm.processor(text=prompt, return_tensors="pt", **told))
    with merging(llm.model, "sttm", **KEEP) as engaged:
        merged = generated(llm, inputs)
    with merging(llm.model, "sttm", tau_spatial=2.0, tau_temporal=2.0) as nothing:
        whole = generated(llm, inputs)
    assert same_logits(generated(llm, inputs), whole) and not same_logits(merged, whole)
    assert [clip.row for clip in engaged.clips] == [0, 0] and all(kept > 0 for kept in engaged.kept)
    assert [plan.grid for plan in engaged.plans] == [plan.grid for plan in nothing.plans]
    assert [plan.grid for plan in nothing.plans] == [llm.encode(one).layout.shape for one in shown]
    first = llm.encode(shown[0]).plan(RunSettings.of(**KEEP))
    assert engaged.plans[0].member_of.tolist() == first.member_of.tolist()  # nothing stands before it
    removed = sum(plan.num_patches - plan.num_tokens for plan in engaged.plans)
    assert engaged.tokens_before[0] - engaged.tokens_after[0] == removed


def test_clips_of_different_lengths_of_a_family_whose_processor_pads_frames():
    """Each row of SmolVLM's batch against that row cut out of it: the processor alone would word it otherwise."""
    llm = tiny("smolvlm")
    inputs = batch(llm, "smolvlm", [(clip(4), SHORT), (clip(7, seed=1), LONG)])
    with merging(llm.model, **KEEP) as engaged:
        together = generated(llm, inputs)
        assert [plan.grid for plan in engaged.plans] == [(4, 5, 5), (7, 5, 5)]
        for row in range(2):
            real = inputs["attention_mask"][row].bool()
            alone = {name: value[row : row + 1] for name, value in inputs.items()}
            alone |= {name: alone[name][:, real] for name in ("input_ids", "attention_mask")}
            assert same_logits(generated(llm, alone), together, row)


@pytest.mark.parametrize("rule", RULES)
def test_beams_score_what_the_naive_oracle_scores(rule):
    llm, shown = tiny(MODEL), first_clip(MODEL)
    taus = {"tau_spatial": 0.8, "tau_temporal": 0.6}
    inputs = batch(llm, MODEL, [(shown, SHORT), (second_clip(MODEL), LONG)])
    with merging(llm.model, position_rule=rule, **taus) as engaged:
        out = generated(llm, inputs, 3, num_beams=3, num_return_sequences=2, output_logits=False, output_scores=True,
                        length_penalty=0.0)  # fmt: skip
    assert [merged.row for merged in engaged.clips] == list(range(6))
    alone = batch(llm, MODEL, [(shown, SHORT)])
    token = llm.processor.tokenizer.convert_tokens_to_ids(TINY[MODEL].patch_token)
    places = by_hand.places_of(alone, token, TINY[MODEL].grid(5, 0))
    prompt = by_hand.Prompt(alone, places, by_hand.positions_of(llm.model, alone))
    asked = by_hand.Merging(llm.default_merge_layer, taus["tau_spatial"], taus["tau_temporal"], rule)
    merged = by_hand.merged_video(llm, prompt, asked)
    for row in range(2):  # both of the first prompt, which is padded in this batch
        new, score = out.sequences[row, inputs["input_ids"].shape[1] :].tolist(), 0.0
        for at, number in enumerate(new):
            score += by_hand.next_logits(llm, prompt, new[:at], asked, merged)[0].log_softmax(0)[number].item()
            if number == llm.processor.tokenizer.eos_token_id:
                break
        assert out.sequences_scores[row].item() == pytest.approx(score, abs=1e-3)


def test_one_with_serves_many_calls_and_text_alone_runs_as_ever():
    llm = tiny(MODEL)
    shown, text = batch(llm, MODEL, [(first_clip(MODEL), SHORT)]), batch(llm, MODEL, [(None, LONG), (None, SHORT)])
    plain = generated(llm, text)
    with merging(llm.model, **KEEP) as engaged:
        assert (engaged.plans, engaged.kept, engaged.passes) == ([], [], 0)
        once = generated(llm, shown)
        assert [torch.equal(a, b) for a, b in zip(generated(llm, text).logits, plain.logits, strict=True)] == [True] * 4
        again = generated(llm, shown)
        uncached = generated(llm, shown, use_cache=False)
        assert same_logits(once, again) and same_logits(once, uncached)
        assert engaged.passes == 1 + 1 + 4  # without a cache every new token reads the video anew


def test_a_conversation_goes_on_behind_the_cache_of_the_first_answer():
    """By the model's own cache, against the same text in one go."""
    llm, inputs = tiny(MODEL), batch(tiny(MODEL), MODEL, [(first_clip(MODEL), SHORT)])
    more = llm.processor.tokenizer(LONG, return_tensors="pt").input_ids
    whole = dict(inputs, input_ids=torch.cat([inputs["input_ids"], more], dim=1))
    whole["attention_mask"] = torch.ones_like(whole["input_ids"])
    with torch.no_grad(), merging(llm.model, merge_layer=2, **KEEP) as engaged:
        kept = llm.model(**inputs, use_cache=True)
        past = kept[cache_name(kept)]
        assert kept.logits.shape[1] == engaged.tokens_after[0] == past.get_seq_length(3)
        numbers = torch.arange(more.shape[1])[None] + inputs["input_ids"].shape[1]
        after = llm.model(input_ids=more, position_ids=numbers, **{cache_name(kept): past})
        at_once = llm.model(**whole)
        assert (after.logits[0, -1] - at_once.logits[0, -1]).abs().max() < 1e-4
        with pytest.raises(ValueError, match="does not end where the new tokens begin"):
            llm.model(input_ids=more, position_ids=numbers, **{cache_name(kept): past})
    with merging(llm.model, **KEEP), pytest.raises(ValueError, match="shortened in another `with merging`"):
        llm.model(input_ids=more, **{cache_name(kept): past})


def test_padding_on_the_right_serves_a_forward_pass_and_is_refused_where_tokens_follow():
    llm, rows = tiny(MODEL), rows_of(MODEL)
    right = batch(llm, MODEL, rows, "right")
    assert right["attention_mask"][:, 0].all() and not right["attention_mask"][:, -1].all()
    with torch.no_grad(), merging(llm.model, **KEEP) as engaged:
        out = llm.model(**right).logits
        assert engaged.tokens_after[1] < out.shape[1] == max(engaged.tokens_after)
        left = llm.model(**batch(llm, MODEL, rows)).logits
        assert (out[:, -1] - left[:, -1]).abs().max() < 1e-4  # rows end in the last column, whichever side was padded
        with pytest.raises(ValueError, match="^tokens can't go on behind padding; set .*padding_side = 'left'"):
            generated(llm, right)


def test_gradients_flow_to_the_model():
    llm = tiny(MODEL)
    with merging(llm.model, **KEEP):
        llm.model(**batch(llm, MODEL, [(first_clip(MODEL), SHORT)])).logits[0, -1].sum().backward()
    weight = llm.model.model.multi_modal_projector.linear_1.weight
    assert weight.grad.abs().max() > 0
    llm.model.zero_grad(set_to_none=True)


# --- the engine, other threads, nesting ---------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", ["llava_onevision", "qwen2_5_vl"])
def test_the_engine_gives_inside_what_it_gives_outside(model_type):
    llm, shown = tiny(model_type), first_clip(model_type)

    def everything():
        encoded = llm.encode(shown)
        made = [llm.prefill(encoded), llm.prefill(encoded, encoded.tables.plan(0.8, 0.6))]
        answers = [llm.answer(prefix, LONG, max_new_tokens=3).text for prefix in made]
        return [made[0].tokens_before, *(prefix.tokens_after for prefix in made)], answers, [
            llm.first_token_logits(prefix, LONG) for prefix in made
        ]  # fmt: skip

    lengths, answers, logits = everything()
    inputs = batch(llm, model_type, [(shown, SHORT)])
    with merging(llm.model, **KEEP) as engaged:
        assert everything()[:2] == (lengths, answers) and engaged.passes == 0
        generated(llm, inputs)
        again = everything()
        assert again[:2] == (lengths, answers)
        assert all(torch.equal(a, b) for a, b in zip(logits, again[2], strict=True)) and engaged.passes == 1
    assert lengths[0] == lengths[1] > lengths[2]


def test_nesting_is_refused_before_anything_is_hooked():
    llm, other = tiny(MODEL), tiny("qwen2_vl")
    with merging(llm.model, **KEEP):
        before = hook_counts(llm.model)
        with pytest.raises(ValueError, match=r"^this model merges in this thread already; .*\.$"), merging(llm.model):
            pytest.fail("went in")
        assert hook_counts(llm.model) == before
        with merging(other.model, **KEEP):  # another model may
            pass
    with merging(llm.model, **KEEP):  # and one behind the other
        pass


def test_threads_on_one_model_do_not_meet():
    """One keeps 30%, one 60%, one runs plain, on different clips, all at once and several times."""
    llm = tiny(MODEL)
    inputs = [batch(llm, MODEL, [(clip(frames, (64, 64), seed), LONG)]) for seed, frames in enumerate((5, 6, 4))]
    keeps = (0.3, 0.6, None)

    def answered(number: int):
        if keeps[number] is None:
            return generated(llm, inputs[number]), None
        with merging(llm.model, retention=keeps[number]) as engaged:
            return generated(llm, inputs[number]), engaged.kept

    expected, before = [answered(number) for number in range(3)], hook_counts(llm.model)
    together = threading.Barrier(3)

    def often(number: int):
        found = []
        for _ in range(4):
            together.wait()
            found.append(answered(number))
        return found

    with ThreadPoolExecutor(3) as threads:
        results = list(threads.map(often, range(3)))
    for number, found in enumerate(results):
        for out, kept in found:
            assert same_logits(expected[number][0], out) and kept == expected[number][1]
    assert hook_counts(llm.model) == before


def test_a_thread_is_taken_along_in_a_copy_of_the_context():
    """As a streamer needs it, which is read in one thread and written in another."""
    llm, inputs = tiny(MODEL), batch(tiny(MODEL), MODEL, [(first_clip(MODEL), SHORT)])
    with merging(llm.model, **KEEP) as engaged:
        here, outs = generated(llm, inputs), []
        taken = contextvars.copy_context().run
        for run in (taken, lambda call: call()):
            streamer = TextIteratorStreamer(llm.processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
            call = partial(generated, llm, inputs, streamer=streamer)
            write = threading.Thread(target=run, args=(lambda c=call: outs.append(c()),))
            write.start()
            text = "".join(streamer)
            write.join()
            assert text.strip() == text_of(llm, inputs, outs[-1])
        assert engaged.passes == 2 and [same_logits(here, out) for out in outs] == [True, False]


@pytest.mark.parametrize("where", ["vision", "early", "late", "body"])
def test_no_hook_is_left_after_an_exception(where):
    llm, inputs = tiny(MODEL), batch(tiny(MODEL), MODEL, [(first_clip(MODEL), SHORT)])
    plain, before = generated(llm, inputs), hook_counts(llm.model)
    broken = {"vision": llm.family.vision(llm.model), "early": llm.decoder.layers[0], "late": llm.decoder.layers[3]}

    def fails(*_):
        raise KeyError(where)

    with pytest.raises(KeyError, match=where), merging(llm.model, **KEEP):
        assert hook_counts(llm.model) != before
        handle = broken[where].register_forward_hook(fails) if where in broken else None
        try:
            generated(llm, inputs) if handle else fails()
        finally:
            if handle:
                handle.remove()
    assert hook_counts(llm.model) == before and same_logits(plain, generated(llm, inputs))
    with merging(llm.model, **KEEP):  # and it can be entered again
        assert not same_logits(plain, generated(llm, inputs))


def test_nothing_of_a_call_is_held_once_its_cache_is_gone():
    llm, inputs = tiny(MODEL), batch(tiny(MODEL), MODEL, [(first_clip(MODEL), SHORT)])
    with merging(llm.model, **KEEP):
        (merger,) = generation_hooks.engaged.get()
        assert isinstance(merger, generation_hooks.Merger)
        out = generated(llm, inputs)
        assert len(merger.cached) == 1
        del out
        gc.collect()
        assert len(merger.cached) == 0 and merger.now is None


# --- pipelines ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["image-text-to-text", "any-to-any"])
@pytest.mark.parametrize("model_type", [MODEL, "qwen2_5_vl"])
def test_pipelines_run_merged(model_type, task, tmp_path):
    """A model of its own: pipelines set what they like on it."""
    torch.manual_seed(0)
    model, processor = TINY[model_type].build()
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    try:
        pipe = pipeline(task, model=shuffled(model, 7), processor=processor)
    except KeyError:
        pytest.skip(f"this release of transformers has no {task}")
    chat = [{"role": "user", "content": [
        {"type": "video", "video": first_clip(model_type).frames}, {"type": "text", "text": SHORT},
    ]}]  # fmt: skip
    said = {"max_new_tokens": 6, "return_full_text": False}
    plain = pipe(text=chat, **said)[0]["generated_text"]
    with merging(model, **KEEP) as engaged:
        merged = pipe(text=chat, **said)[0]["generated_text"]
    assert len(engaged.kept) == 1 and engaged.kept[0] / engaged.clips[0].patches <= 0.3
    assert merged != plain and pipe(text=chat, **said)[0]["generated_text"] == plain


def test_it_is_imported_from_the_package_and_from_insertion():
    from sttm_core.insertion import merging as inserted

    assert inserted is merging is sttm_core.merging and "merging" in sttm_core.__all__
    for module in (sttm_core, sttm_core.insertion):
        with pytest.raises(AttributeError, match="has no attribute 'purging'"):
            _ = module.purging


def test_prompts_of_a_batch_are_those_of_a_single_row():
    llm = tiny(MODEL)
    one = batch(llm, MODEL, [(first_clip(MODEL), SHORT)])
    assert prompt_of(llm, first_clip(MODEL), SHORT).count("<video>") == 1 and one["attention_mask"].all()
