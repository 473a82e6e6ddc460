"""The architecture (LLaVA-OneVision of Hugging Face) and its forward for training: batches, many slots a video.

The forward here computes what the library computes for one question, to rounding: the tests compare the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention
from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration, Qwen2Config, SiglipVisionConfig
from transformers.modeling_utils import AttentionInterface

from demo_model.sequence import PackedSlots, slot_mask
from demo_model.tokenizer import AFTER_VIDEO, BEFORE_VIDEO, END, IMAGE, PAD, SPECIAL, VIDEO, VOCABULARY

MERGE_LAYER = 2  # tokens before it are centred, and some of training's reductions take place there
SLOT_ATTENTION = "sttm_slots"


@dataclass(frozen=True)
class ModelSize:
    """Dimensions; the defaults are those of the shipped model."""

    picture: int = 224
    patch: int = 8
    vision_width: int = 192
    vision_layers: int = 6
    vision_heads: int = 3
    width: int = 256
    layers: int = 12
    heads: int = 4
    feed_forward: int = 704

    @property
    def grid(self) -> int:
        """Video tokens a side of a frame, after pooling 2 x 2 patches."""
        return self.picture // self.patch // 2


DEFAULT_SIZE = ModelSize()
TINY_SIZE = ModelSize(
    picture=128, vision_width=32, vision_layers=1, vision_heads=2, width=32, layers=4, heads=2, feed_forward=64
)


def config_of(size: ModelSize) -> LlavaOnevisionConfig:
    """Hugging Face configuration of a size."""
    vision = SiglipVisionConfig(
        hidden_size=size.vision_width,
        intermediate_size=4 * size.vision_width,
        num_hidden_layers=size.vision_layers,
        num_attention_heads=size.vision_heads,
        image_size=size.picture,
        patch_size=size.patch,
        vision_use_head=False,
    )
    text = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=size.width,
        intermediate_size=size.feed_forward,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=16384,
        tie_word_embeddings=True,
        bos_token_id=SPECIAL.index(PAD),
        pad_token_id=SPECIAL.index(PAD),
        eos_token_id=SPECIAL.index(END),
    )
    return LlavaOnevisionConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=SPECIAL.index(IMAGE),
        video_token_id=SPECIAL.index(VIDEO),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_grid_pinpoints=[[size.picture, size.picture]],
        tie_word_embeddings=True,
    )


def size_of(config: LlavaOnevisionConfig) -> ModelSize:
    """The size whose ``config_of`` it is."""
    vision, text = config.vision_config, config.text_config
    return ModelSize(
        picture=vision.image_size,
        patch=vision.patch_size,
        vision_width=vision.hidden_size,
        vision_layers=vision.num_hidden_layers,
        vision_heads=vision.num_attention_heads,
        width=text.hidden_size,
        layers=text.num_hidden_layers,
        heads=text.num_attention_heads,
        feed_forward=text.intermediate_size,
    )


def new_model(size: ModelSize, seed: int = 0) -> LlavaOnevisionForConditionalGeneration:
    """Fresh random weights in float32."""
    torch.manual_seed(seed)
    return LlavaOnevisionForConditionalGeneration(config_of(size)).float()


def slot_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    **options,
) -> tuple[torch.Tensor, None]:
    """Causal attention for the prefix, a small dense mask for the slots.

    Args:
        query, key, value: [B, heads, P + S, D].
        attention_mask: [B, 1, S, P + S] bool of ``slot_mask``.

    Returns:
        [B, P + S, heads, D], and no attention weights.
    """
    prefix = key.shape[2] - attention_mask.shape[2]
    scale = options["scaling"]
    video = scaled_dot_product_attention(
        query[:, :, :prefix], key[:, :, :prefix], value[:, :, :prefix], is_causal=True, scale=scale
    )
    slots = scaled_dot_product_attention(query[:, :, prefix:], key, value, attn_mask=attention_mask, scale=scale)
    return torch.cat([video, slots], dim=2).transpose(1, 2), None


AttentionInterface.register(SLOT_ATTENTION, slot_attention)


@dataclass(frozen=True)
class Prefix:
    """The video and the text around it at some decoder layer.

    Attributes:
        hidden: [B, P, D]; text before, video tokens, newline token, text after, padding.
        lengths: [B] tokens without padding.
        positions: [B, P] rotary positions.
        ends: [B] position of the first token of a slot.
    """

    hidden: torch.Tensor
    lengths: torch.Tensor
    positions: torch.Tensor
    ends: torch.Tensor


class Kept(NamedTuple):
    """What a reduction leaves of a clip: ``tokens`` [N, D], and ``places`` [N] that they stand at, of T * G * G."""

    tokens: torch.Tensor
    places: torch.Tensor


Reduce = Callable[[torch.Tensor], list[Kept]]  # [B, T, G, G, D] -> one for each clip


@dataclass(frozen=True)
class Reduction:
    """Fewer video tokens in the later layers.

    Attributes:
        reduce: what is left of each clip.
        layer: of the decoder, before which it takes place.
        survived: tokens keep their positions, and so do the slots; else positions are reassigned.
    """

    reduce: Reduce
    layer: int = MERGE_LAYER
    survived: bool = False


@dataclass(frozen=True)
class Outputs:
    """Of one forward.

    Attributes:
        logits: [B, S, vocabulary] at the slots' tokens.
        patches: [B, T, G, G, D] video tokens after the projector.
        at_merge: [B, T, G, G, D] video tokens before ``MERGE_LAYER``, None where fewer were left already.
        late: [B, T, G, G, D] video tokens at two thirds of the decoder, None where fewer were left.
    """

    logits: torch.Tensor
    patches: torch.Tensor
    at_merge: torch.Tensor | None
    late: torch.Tensor | None


class VideoModel(nn.Module):
    """The library's model with a forward for packed slots.

    Args:
        model: the Hugging Face model; its decoder is switched to the attention over slots.
        tokenizer: for the text around the video.
        compile_layers: compile every layer by itself, with static shapes (CUDA).
    """

    def __init__(
        self, model: LlavaOnevisionForConditionalGeneration, tokenizer: Tokenizer, compile_layers: bool = False
    ) -> None:
        super().__init__()
        self.model = model
        model.set_attn_implementation({"text_config": SLOT_ATTENTION})
        self.layers = self.plain_layers = list(model.model.language_model.layers)
        self.vision_layers = list(model.model.vision_tower.encoder.layers)
        if compile_layers:
            torch._dynamo.config.cache_size_limit = 64
            self.layers = [torch.compile(layer, dynamic=False) for layer in self.layers]
            self.vision_layers = [torch.compile(layer, dynamic=False) for layer in self.vision_layers]
        before, after = (tokenizer.encode(text, add_special_tokens=False).ids for text in (BEFORE_VIDEO, AFTER_VIDEO))
        self.register_buffer("before", torch.tensor(before), persistent=False)
        self.register_buffer("after", torch.tensor(after), persistent=False)

    @property
    def grid(self) -> int:
        """Video tokens a side of a frame."""
        vision = self.model.config.vision_config
        return vision.image_size // vision.patch_size // 2

    def see(self, frames: torch.Tensor) -> torch.Tensor:
        """Vision tower, projector and pooling.

        Args:
            frames: [B, T, 3, H, W] in 0..1.

        Returns:
            [B, T, G, G, D].
        """
        tower, core = self.model.model.vision_tower, self.model.model
        patch = tower.embeddings.patch_size
        pixels = frames.flatten(0, 1) * 2 - 1  # [B*T, 3, H, W]
        cut = pixels.unflatten(-1, (-1, patch)).unflatten(-3, (-1, patch))  # [n, 3, h, p, w, p]
        cut = cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # [n, h*w, 3*p*p]
        embedding = tower.embeddings.patch_embedding
        hidden = linear(cut, embedding.weight.flatten(1), embedding.bias) + tower.embeddings.position_embedding.weight
        for layer in self.vision_layers:
            hidden = layer(hidden, attention_mask=None)
        hidden = core.multi_modal_projector(hidden)  # [n, h*w, D]
        grid = self.grid
        pooled = hidden.unflatten(1, (grid, 2, grid, 2)).mean(dim=(2, 4))  # [n, G, G, D]
        return pooled.unflatten(0, frames.shape[:2])

    def forward(self, frames: torch.Tensor, slots: PackedSlots, reduction: Reduction | None = None) -> Outputs:
        """``see`` frames [B, T, 3, H, W] in 0..1 and ``answer``."""
        return self.answer(self.see(frames), slots, reduction)

    def answer(self, patches: torch.Tensor, slots: PackedSlots, reduction: Reduction | None = None) -> Outputs:
        """Answer all slots of all clips that were seen.

        Args:
            patches: [B, T, G, G, D] of ``see``.
            slots: packed questions and answers.
            reduction: leaves fewer video tokens.
        """
        core = self.model.model.language_model
        batch, count = len(patches), patches[0, ..., 0].numel()
        embed = core.embed_tokens
        before, after = embed(self.before).expand(batch, -1, -1), embed(self.after).expand(batch, -1, -1)
        newline = self.model.model.image_newline.expand(batch, 1, -1)
        texts = before, torch.cat([newline, after.to(newline.dtype)], dim=1)
        prefix = join_prefix(texts[0], [clip.flatten(0, 2) for clip in patches], texts[1])
        hidden = torch.cat([prefix.hidden, embed(slots.ids).to(prefix.hidden.dtype)], dim=1)
        mask, rotary = self._layout(prefix, slots, hidden)
        head, last = len(self.before), reduction.layer if reduction else len(self.layers)  # last layer to meet all
        layers = self.layers[:last] + self.plain_layers[last:]  # reduced lengths vary: each would be compiled anew
        whole: dict[int, torch.Tensor] = {}  # video tokens before some layers
        for number, layer in enumerate(layers):
            if number <= last and number in (MERGE_LAYER, last, len(layers) * 2 // 3):
                whole[number] = hidden[:, head : head + count].reshape(patches.shape)
            if number == last:
                prefix = _reduced(hidden, prefix, reduction.reduce(whole[last]), head, count, reduction.survived)
                hidden = torch.cat([prefix.hidden, hidden[:, -slots.ids.shape[1] :]], dim=1)
                mask, rotary = self._layout(prefix, slots, hidden)
            hidden = layer(hidden, attention_mask=mask, position_embeddings=rotary)
        answers = core.norm(hidden[:, -slots.ids.shape[1] :])
        return Outputs(self.model.lm_head(answers), patches, whole.get(MERGE_LAYER), whole.get(len(layers) * 2 // 3))

    def _layout(self, prefix: Prefix, slots: PackedSlots, hidden: torch.Tensor):
        """Mask of the slots, and rotary embeddings (cos, sin) of prefix and slots."""
        size = prefix.hidden.shape[1]
        positions = torch.cat([prefix.positions, prefix.ends[:, None] + slots.offset], dim=1)
        rotary = self.model.model.language_model.rotary_emb(hidden, positions)
        return slot_mask(slots.slot, size, prefix.lengths), rotary


def load_video_model(
    folder: Path, device: torch.device | str = "cpu", compile_layers: bool = False
) -> tuple[VideoModel, Tokenizer]:
    """An exported model behind the forward for many slots, in float32, and its tokenizer."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = LlavaOnevisionForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return VideoModel(model, tokenizer, compile_layers).to(device).eval(), tokenizer


def weights_sha256(folder: Path) -> str:
    """Names the weights of an exported model."""
    return sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def join_prefix(before: torch.Tensor, video: list[torch.Tensor], after: torch.Tensor, multiple: int = 1) -> Prefix:
    """Text, video tokens, text; padded at the end to the longest, rounded up to ``multiple``.

    Args:
        before, after: [B, n, D].
        video: for each clip [N_b, D].
    """
    rows = [torch.cat([before[b], tokens, after[b].to(tokens.dtype)]) for b, tokens in enumerate(video)]
    lengths = torch.tensor([len(row) for row in rows]).to(before.device, non_blocking=True)
    size = -(-max(len(row) for row in rows) // multiple) * multiple
    padded = [nn.functional.pad(row, (0, 0, 0, size - len(row))) for row in rows]
    positions = torch.arange(size, device=before.device).expand(len(rows), -1)
    return Prefix(torch.stack(padded), lengths, positions, lengths)


def _reduced(hidden: torch.Tensor, prefix: Prefix, video: list[Kept], head: int, count: int, survived: bool) -> Prefix:
    """The prefix with other video tokens; padded to multiples of 128, so that attention meets few shapes."""
    tail = hidden[:, head + count : prefix.hidden.shape[1]]
    short = join_prefix(hidden[:, :head], [kept.tokens for kept in video], tail, multiple=128)
    if not survived:
        return short
    positions = short.positions.clone()
    for row, kept in zip(positions, video, strict=True):
        stop = head + len(kept.places)
        row[head:stop] = head + kept.places
        row[stop : stop + tail.shape[1]] = prefix.positions[0, head + count :]
    return replace(short, positions=positions, ends=prefix.ends)
