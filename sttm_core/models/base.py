"""What the engine asks of a model family. One family, one file, one row in the registry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForImageTextToText, AutoProcessor

from ..decoder import RotaryEmbeddings


@dataclass(frozen=True, eq=False)
class VideoLayout:
    """Where the video is in the prompt: ``index [T, H, W]`` int64, each patch's place in a sequence of ``length`` tokens.

    T may be smaller than the number of frames (Qwen-VL joins two). Places ascend in scan order; text may stand between.
    """

    index: torch.Tensor
    length: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(self.index.shape)

    @property
    def num_patches(self) -> int:
        return self.index.numel()


class Family:
    """How one kind of Video LLM lays out its prompt and where its parts are. Holds no state.

    Attributes:
        model_type: `config.model_type` that picks this family.
        title: for people.
        hub_ids: checkpoints that are known to load.
        position_rule: default of `positions.POSITION_RULES` for this family.
        position_axes: 1 for plain RoPE, 3 for M-RoPE.
    """

    model_type: str = ""
    title: str = ""
    hub_ids: tuple[str, ...] = ()
    position_rule: str = "reassigned"
    position_axes: int = 1

    def load(self, path_or_id: str, **options) -> tuple[nn.Module, dict]:
        """The model, and transformers' report with its ``missing_keys``; ``options`` are those of `from_pretrained`."""
        return AutoModelForImageTextToText.from_pretrained(path_or_id, output_loading_info=True, **options)

    def load_processor(self, path_or_id: str):
        """What turns text and frames into model inputs."""
        return AutoProcessor.from_pretrained(path_or_id)

    def decoder(self, model: nn.Module) -> nn.Module:
        """The text decoder: has ``layers``, ``norm``, ``rotary_emb`` and ``embed_tokens``."""
        return model.model.language_model

    def check_merge_layer(self, model: nn.Module, layer: int) -> None:
        """ValueError if merging before decoder layer ``layer`` is not possible in this model."""
        count = len(self.decoder(model).layers)
        if not 0 <= layer < count:
            raise ValueError(f"the merge layer must lie between 0 and {count - 1} for this model, got {layer}.")

    def prompt(self, processor, question: str) -> str:
        """The chat-formatted prompt for one video and one question, with one video placeholder in it."""
        content = [{"type": "video"}, {"type": "text", "text": question}]
        return processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)

    def video_end(self, processor) -> str:
        """Text at whose last occurrence the prompt splits into prefix (up to and with it) and question."""
        return processor.video_token

    def inputs(self, processor, text: str, frames: np.ndarray, times: np.ndarray) -> dict[str, torch.Tensor]:
        """Model inputs for ``text`` (a prompt or its prefix) and frames ``[T, H, W, 3]`` uint8 at ``times`` seconds."""
        return dict(processor(text=text, videos=[frames], return_tensors="pt"))

    def layout(self, model: nn.Module, inputs: dict[str, torch.Tensor]) -> VideoLayout:
        """Where the video tokens of ``inputs`` are. Every family says this itself."""
        raise TypeError(f"{type(self).__name__} must say where its video tokens are: define layout().")

    def rotary(self, decoder: nn.Module, positions: torch.Tensor) -> RotaryEmbeddings:
        """Cos and sin ``[..., n, head_dim]`` of text at position numbers ``[n]``."""
        numbers = positions[None]  # [1, n]
        if self.position_axes > 1:
            numbers = numbers.expand(self.position_axes, 1, -1)  # [3, 1, n]
        like = decoder.embed_tokens.weight.new_empty(1, device=positions.device)
        return decoder.rotary_emb(like, numbers)


def question_part(prompt: str, video_end: str) -> tuple[str, str]:
    """Split a prompt after its last video placeholder: what is encoded with the video, and what follows."""
    head, found, tail = prompt.rpartition(video_end)
    if not found:
        raise ValueError(f"the chat template of this model places no {video_end!r} in the prompt.")
    return head + found, tail
