"""What a budget means: three shares of what all tokens take, and how one of them becomes a share of tokens to keep.

Published "retention" differs by method. Here every run has all three: **kept**, visual tokens left after the method is
done; **layer average**, the mean over decoder layers of visual tokens present; **KV bytes** of the video prefix, which
counts its text too.
"""

from __future__ import annotations

from dataclasses import dataclass

KEPT, LAYER_AVERAGE, KV_BYTES = BUDGETS = ("kept", "layer_average", "kv_bytes")


@dataclass(frozen=True)
class PrefixShape:
    """What a budget has to know of a prefix.

    Attributes:
        patches, text: video tokens of the full prefix, and its other tokens.
        merge_layer: the layers before this one see all tokens.
        num_layers: of the decoder.
    """

    patches: int
    text: int
    merge_layer: int
    num_layers: int

    def kept_share(self, share: float, budget: str = KEPT) -> float:
        """Share of video tokens to keep from the merge layer on, so that ``budget`` comes to ``share`` of all tokens'.

        A budget that can't be met, because the layers before it alone take more, gives the share of one token.

        Args:
            share: above 0 and at most 1.
            budget: ``"kept"``, ``"layer_average"`` or ``"kv_bytes"``.
        """
        late, early = self.num_layers - self.merge_layer, self.merge_layer * self.patches
        every = self.num_layers * self.patches
        wanted = {  # video tokens, summed over the layers from merge_layer on
            KEPT: share * late * self.patches,
            LAYER_AVERAGE: share * every - early,
            KV_BYTES: share * (every + self.num_layers * self.text) - early - self.num_layers * self.text,
        }[budget]
        return min(1.0, max(1 / self.patches, wanted / (late * self.patches)))

    def shares(self, video_tokens: tuple[int, ...]) -> dict[str, float]:
        """The three figures by name, from the video tokens that each layer sees."""
        every, text = self.num_layers * self.patches, self.num_layers * self.text
        return {
            KEPT: video_tokens[-1] / self.patches,
            LAYER_AVERAGE: sum(video_tokens) / every,
            KV_BYTES: (sum(video_tokens) + text) / (every + text),
        }
