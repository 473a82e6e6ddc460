"""A tiny untrained model for the benchmarks that ask one."""

from __future__ import annotations

import pytest
import torch

from demo_model.export import export_model
from demo_model.model import TINY_SIZE, VideoModel, new_model
from demo_model.tokenizer import build_tokenizer


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> str:
    """Folder of the model."""
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = build_tokenizer(clips=200)
    export_model(VideoModel(new_model(TINY_SIZE), tokenizer), TINY_SIZE, tokenizer, folder, torch.float32)
    return str(folder)
