"""Text of one utterance as a client has seen it, and words as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .message import JsonObject

if TYPE_CHECKING:
    from ...asr.transcript import Word


class SentText:
    """The pieces sent so far. Law: joined, they are the final text.

    Models begin with a space; the client's text does not.
    """

    def __init__(self) -> None:
        self.text = ""

    def push(self, piece: str) -> str:
        """The part of the next piece to be sent; may be empty."""
        if not self.text:
            piece = piece.lstrip()
        self.text += piece
        return piece

    def finish(self, final: str) -> str:
        """What is missing from the final text.

        A final text that contradicts what was sent cannot be mended: deltas are append-only,
        so what was sent stands.
        """
        final = final.lstrip()
        return self.push(final[len(self.text) :]) if final.startswith(self.text) else ""


def words_json(words: Iterable[Word], offset: float = 0.0) -> list[JsonObject]:
    """Words with times in seconds, `offset` later than the stream's own."""
    return [
        {
            "word": word.text,
            "start": round(word.start + offset, 3),
            "end": round(word.end + offset, 3),
            "confidence": round(word.confidence, 4),
        }
        for word in words
    ]


def logprobs_json(words: Iterable[Word]) -> list[JsonObject]:
    """Log-probabilities, a word each: our models' tokens are no business of a client."""
    return [
        {
            "token": word.text,
            "logprob": round(math.log(min(1.0, max(word.confidence, 1e-9))), 4),
            "bytes": list(word.text.encode()),
        }
        for word in words
    ]
