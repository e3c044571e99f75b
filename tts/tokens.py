"""What a speaker of our own reads: phones, where words begin, and pauses.

39 phones of English (`training/lexicon.py`), each twice: inside a word and as its first, for what is said at
a word's begin is said differently. Pauses are what is heard as such: the silences of a recording, or, in
text to be spoken, its punctuation.
"""

from __future__ import annotations

from typing import Protocol

_NAMES = (
    "aa ae ah ao aw ay b ch d dh eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh t th uh uw v w y z zh"
)
PHONES = tuple(_NAMES.split())
NOTHING = 0  # no token: before the text, behind it, and beside a voice
FIRST = len(PHONES)  # a phone's number plus this is the phone that begins a word
PAUSE = 2 * len(PHONES) + 1
STOP = PAUSE + 1  # the text is over
TOKENS = STOP + 1
PAUSE_FRAMES = 8  # of 20 ms: a shorter silence between two words is part of them


class Said(Protocol):
    """Phones of a recording, and when they are said."""

    @property
    def phones(self) -> tuple[int, ...]: ...
    @property
    def phones_per_word(self) -> tuple[int, ...]: ...
    @property
    def spans(self) -> tuple[tuple[int, int], ...]: ...


def word_tokens(phones: tuple[int, ...] | list[int]) -> list[int]:
    """Tokens of a word of phones 1..39."""
    return [phone + FIRST if place == 0 else phone for place, phone in enumerate(phones)]


def tokens_said(said: Said) -> tuple[list[int], list[float]]:
    """Tokens of an aligned recording and when each begins, in 20 ms frames; the last one is `STOP`."""
    tokens: list[int] = []
    starts: list[float] = []
    at, end = 0, 0
    for number, count in enumerate(said.phones_per_word):
        spans = said.spans[at : at + count]
        if number and spans[0][0] - end > 0:
            tokens.append(PAUSE)
            starts.append(end)
        tokens += word_tokens(said.phones[at : at + count])
        starts += [begin for begin, _ in spans]
        at, end = at + count, spans[-1][1]
    return [*tokens, STOP], [*starts, end]
