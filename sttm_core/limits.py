"""What one question may be and take: its length, the model's context, and seconds at the model. Refused in a sentence.

A context is counted in positions, as rotary embeddings know them. With plain RoPE a token takes one; with M-RoPE a
step in time of a video takes few. Merged tokens that keep their positions (rule ``"survived"``) leave no room.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a shell refuses a question before transformers is imported
    from transformers import PreTrainedConfig

QUESTION_CHARACTERS = 4000


class TimeUpError(RuntimeError):
    """A question held the model for as long as it may; the message says during what."""


def check_question(question: str) -> str:
    """The question without blanks around it.

    Raises:
        ValueError: if it is empty, or longer than any question is: it is then not even tokenised.
    """
    stripped = (question or "").strip()
    if not stripped:
        raise ValueError("the question is empty; type something to ask about the video.")
    if len(stripped) > QUESTION_CHARACTERS:
        raise ValueError(
            f"the question has {len(stripped)} characters, and at most {QUESTION_CHARACTERS} are read; shorten it."
        )
    return stripped


def context_length(text: PreTrainedConfig) -> int | None:
    """Positions that a text decoder with this config knows, RoPE scaling included; None where it does not say."""
    positions = getattr(text, "max_position_embeddings", None)
    rope = getattr(text, "rope_parameters", None) or {}
    if positions is None or not rope.get("factor"):
        return positions
    return max(positions, int(rope["factor"] * rope.get("original_max_position_embeddings", positions)))


def check_context(context: int | None, video: int, question: int, answer: int) -> None:
    """ValueError unless positions of the video's prompt, the question's tokens and the longest answer's fit."""
    needed = video + question + answer
    if context is not None and needed > context:
        raise ValueError(
            f"the video takes {video} positions, the question {question} and the answer up to {answer}, together "
            f"{needed}, and this model's context has {context}; use fewer frames, a shorter question or answer, "
            "or load the model with a rope_factor."
        )


class Allowance:
    """Seconds for which one question may hold the model. The clock runs while it does, not while it waits its turn.

    Args:
        seconds: None for as long as it takes.

    Raises:
        ValueError: for a number of seconds that is not above 0.
    """

    def __init__(self, seconds: float | None = None) -> None:
        if seconds is not None and not seconds > 0:
            raise ValueError(f"a question's time must be more than 0 seconds, got {seconds}.")
        self.seconds, self._spent, self._since = seconds, 0.0, None

    @property
    def spent(self) -> float:
        """Seconds so far."""
        running = 0.0 if self._since is None else monotonic() - self._since
        return self._spent + running

    @property
    def over(self) -> bool:
        return self.seconds is not None and self.spent >= self.seconds

    def start(self) -> None:
        self._since = monotonic()

    def stop(self) -> None:
        self._spent, self._since = self.spent, None

    def check(self, doing: str) -> None:
        """TimeUpError if the time is over."""
        if self.over:
            raise TimeUpError(
                f"A question may hold the model for {self.seconds:g} s, which passed while {doing}; "
                "use fewer frames, or merge more with lower thresholds."
            )

    def __str__(self) -> str:
        """What stands below an answer that was cut off."""
        return f"stopped after {self.seconds:g} s"
