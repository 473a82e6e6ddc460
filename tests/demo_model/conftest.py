"""A tiny model trained for four steps, and what is shown to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from demo_model.export import export_model
from demo_model.model import TINY_SIZE
from demo_model.train import Trainer, tiny_settings


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A tiny trainer after four steps, and its folder of checkpoints."""
    folder = tmp_path_factory.mktemp("checkpoints")
    trainer = Trainer(tiny_settings(max_steps=4), log=lambda line: None)
    trainer.run(folder)
    return trainer, folder


@pytest.fixture(scope="session")
def exported(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    export_model(trained[0].model, TINY_SIZE, trained[0].tokenizer, folder, torch.float32)
    return folder


@pytest.fixture(scope="session")
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
