"""ToMe over a whole video in nested loops and float64. Written from the method's description alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.core.methods.inputs import Reduced, cosine


@dataclass
class Token:
    place: int
    patches: list[int]

    def feature(self, flat: np.ndarray) -> np.ndarray:
        return flat[self.patches].mean(axis=0)


def tome(video: np.ndarray, count: int, rules: str) -> Reduced:
    flat = video.reshape(-1, video.shape[-1]).astype(np.float64)
    tokens = [Token(patch, [patch]) for patch in range(len(flat))]
    while len(tokens) > count:
        tokens = merge_once(tokens, flat, min(len(tokens) // 2, len(tokens) - count))
        if rules == "paper":
            tokens.sort(key=lambda token: token.place)
    return Reduced([token.place for token in tokens], [token.patches for token in tokens])


def merge_once(tokens: list[Token], flat: np.ndarray, removed: int) -> list[Token]:
    """Unmerged tokens of even places by falling score, then all of odd places."""
    even, odd = tokens[0::2], tokens[1::2]
    others = [token.feature(flat) for token in odd]
    pairs = []
    for token in even:
        own, score, partner = token.feature(flat), -2.0, None
        for candidate, other in zip(odd, others, strict=True):
            value = cosine(own, other)
            if value > score + 1e-12:  # the first of equal ones
                score, partner = value, candidate
        pairs.append((round(score, 12), token, partner))
    pairs.sort(key=lambda pair: -pair[0])  # stable
    for _, token, partner in pairs[:removed]:
        partner.patches = partner.patches + token.patches
    return [token for _, token, _ in pairs[removed:]] + odd
