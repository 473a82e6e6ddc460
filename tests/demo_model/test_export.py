"""The exported model answers as training did; its card has its figures from the evaluation."""

from __future__ import annotations

import json
import re

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from demo_model.evaluate import (
    score,
    write_evaluation,
)
from demo_model.export import write_card
from demo_model.questions import Slot
from demo_model.sequence import pack_slots, slot_ids
from tests.demo_model.pictures import floats

SLOTS = [Slot("ocr", "What code is shown?", "AB7"), Slot("colour", "What color is the circle?", "red")]


def test_export_answers_as_training_did(trained, exported, frames):
    trainer = trained[0]
    model = AutoModelForImageTextToText.from_pretrained(exported, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(exported)
    packed = pack_slots([SLOTS], trainer.tokenizer, 64, 2)
    with torch.no_grad():
        ours = trainer.model(floats(frames), packed).logits[0]
        for number, slot in enumerate(SLOTS):
            turn = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": slot.question}]}
            prompt = processor.apply_chat_template([turn], add_generation_prompt=True)
            inputs = processor(text=prompt + slot.answer + "<|im_end|>", videos=[frames], return_tensors="pt")
            question, answer = slot_ids(slot, trainer.tokenizer)
            size = len(question) + len(answer)
            assert inputs["input_ids"][0, -size:].tolist() == question + answer
            theirs = model(**inputs).logits[0, -size:]
            torch.testing.assert_close(ours[packed.slot[0] == number], theirs, atol=1e-3, rtol=0)


def test_tied_weights_and_size_survive_the_export(exported):
    assert sum(path.stat().st_size for path in exported.iterdir()) < 30e6
    config = json.loads((exported / "config.json").read_text())
    assert config["model_type"] == "llava_onevision" and config["text_config"]["model_type"] == "qwen2"


def test_the_card_has_its_figures_from_the_evaluation(exported, tmp_path, monkeypatch):
    monkeypatch.setattr("demo_model.evaluate.FRAMES_A_BATCH", {"cpu": 24})
    report = write_evaluation(exported, tmp_path / "e.json", (3,), 1, log=lambda line: None)
    assert report == json.loads((tmp_path / "e.json").read_text())
    rows = {"every other frame": report["paraphrases"] | {"kept": 0.5}}
    report["methods"] = {"layer": 0, "device": "one CPU", "rows": rows}
    report["frames"]["3"]["tasks"]["ocr"] = score(37, 41)
    report["frames"]["3"]["overall"] = score(123, 456)
    (tmp_path / "e.json").write_text(json.dumps(report))
    write_card(tmp_path / "e.json", tmp_path / "card.md", {"Device": "one CPU"})
    card = (tmp_path / "card.md").read_text()
    assert re.search(r"\| ocr \| 90\.2 \(77\.5-96\.1\)", card)
    assert "| overall | 27.0 (23.1-31.2)" in card
    assert report["weights_sha256"] in card and "- Device: one CPU" in card and "| every other frame | 50.0% |" in card
