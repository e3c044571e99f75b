"""Utterances into pieces of audio: the codec's decoder, shaping, guards, times of words, cancelling.

What is alike for all models. A model brings `Utterance`s, sentences that give a frame of codes at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..codec.config import SAMPLE_RATE
from ..codec.stream import Codec
from ..errors import TextError
from .config import END, SPECIAL
from .guards import Guard
from .pieces import Finish, Pause, Piece, SpokenWord
from .shaping import Shaper


class Cancel(Protocol):
    """Whatever can be set: `threading.Event` and `asyncio.Event` are such."""

    def is_set(self) -> bool:
        """Whether to stop."""
        ...


class TimedWord(Protocol):
    """A word of an utterance."""

    @property
    def text(self) -> str: ...
    @property
    def source(self) -> tuple[int, int]: ...


class Utterance(Protocol):
    """One sentence as a model speaks it."""

    @property
    def limit(self) -> int | None:
        """Frames after which it has run away; None while its text is not whole."""
        ...

    @property
    def repeats(self) -> bool:
        """Whether its text, as far as it is known, says the same over and over: then so may the sounds."""
        ...

    def frame(self, number: int) -> Tensor:
        """The next frame of codes with special ids, int64 [codes]; waits for the text that it needs."""
        ...

    def over(self, frame: int, *, last: bool) -> list[tuple[TimedWord, int, int]]:
        """Words that are over and were not told yet, with first and last frame; all that began if `last`."""
        ...

    def close(self) -> None:
        """Free what it spoke with."""
        ...


def tell(
    utterances: Iterable[Utterance | Pause], codec: Codec, cancel: Cancel | None
) -> Generator[Piece, None, None]:
    """Speak utterances, and be silent for pauses, one after the other.

    After `cancel` is set at most one more frame is computed; what sounds then is faded out within 5 ms, in a
    last piece whose finish is "cancelled".

    Raises:
        TextError: there was no utterance.
    """
    cancelled = cancel.is_set if cancel is not None else _never
    given = 0
    said = False
    for utterance in utterances:
        if isinstance(utterance, Pause):
            pieces = iter([Piece(np.zeros(round(utterance.seconds * SAMPLE_RATE), np.float32))])
        else:
            said = True
            pieces = _utter(utterance, codec, given, cancelled)
        for piece in pieces:
            given += len(piece.samples)
            yield piece
            if piece.finish == "cancelled":
                return
        if cancelled():
            break
    if cancelled():
        yield Piece(np.zeros(0, np.float32), finish="cancelled")
    elif not said:
        raise TextError("there is nothing to say in this text")


def _utter(utterance: Utterance, codec: Codec, begin: int, cancelled: Callable[[], bool]) -> Iterator[Piece]:
    """One utterance whose first sample is number `begin`."""
    decoder, shaper, guard = codec.stream_decode(), Shaper(), Guard()
    frames = 0
    finish: Finish | None = None
    try:
        while finish is None:
            limit = utterance.limit
            if cancelled() or (limit is not None and frames >= limit):
                finish = "cancelled" if cancelled() else "length"
                break
            codes = utterance.frame(frames)
            code = int(codes[0])
            if code == END:
                finish = "stop"
                break
            samples = shaper.shape(decoder.feed((codes - SPECIAL)[None].to("cpu", torch.int16).numpy()))
            finish = guard.heard(code, samples)
            if finish == "loop" and utterance.repeats:
                finish = None  # it ends with its text, or at its limit
            yield Piece(samples, _timed(utterance.over(frames, last=False), codec.config.frame, begin))
            frames += 1
        samples = shaper.finish(decoder.finish())
        words = _timed(utterance.over(frames, last=True), codec.config.frame, begin)
        yield Piece(samples, words, finish)
    finally:
        utterance.close()


def _timed(found: list[tuple[TimedWord, int, int]], frame: int, begin: int) -> list[SpokenWord]:
    """Words with times, of frames from the sample `begin` on."""
    return [
        SpokenWord(
            word.text,
            word.source,
            (begin + first * frame) / SAMPLE_RATE,
            (begin + last * frame) / SAMPLE_RATE,
        )
        for word, first, last in found
    ]


def until(parts: Iterable[str], cancel: Cancel | None) -> Iterator[str]:
    """Parts of a text; there are none after `cancel` is set."""
    for part in parts:
        if cancel is not None and cancel.is_set():
            return
        yield part


def _never() -> bool:
    return False
