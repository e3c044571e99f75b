"""What a speaker of our own reads for a chunk of text: tokens, and which of them belong to which word."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .spoken import Spoken, speakable
from .tokens import PAUSE, word_tokens

_PIECE = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*'?|[.,?!;:]")

Phones = Callable[[str], list[int]]


@dataclass(frozen=True)
class ScriptWord:
    """A piece of the text as typed, a word or such as `$3.50`; its tokens are `first` to before `last`."""

    text: str
    source: tuple[int, int]
    first: int
    last: int


@dataclass(frozen=True)
class Script:
    """Tokens of a chunk, without the one that ends them, and its words in order."""

    tokens: list[int]
    words: list[ScriptWord]


def script(text: str, phones: Phones, lexicon: Mapping[str, str] | None = None) -> Script:
    """Read a text.

    Args:
        phones: numbers 1..39 of a word of Latin letters.
        lexicon: see `speakable`.
    """
    spoken = speakable(text, lexicon)
    tokens: list[int] = []
    words: list[ScriptWord] = []
    for match in _PIECE.finditer(spoken.text):
        piece = match.group()
        if not piece[0].isalpha():
            if tokens and tokens[-1] != PAUSE:
                tokens.append(PAUSE)
            continue
        first = len(tokens)
        tokens += word_tokens(phones(piece))
        source = _source(spoken, match.start())
        if words and words[-1].source == source:
            words[-1] = ScriptWord(words[-1].text, source, words[-1].first, len(tokens))
        else:
            words.append(ScriptWord(text[source[0] : source[1]], source, first, len(tokens)))
    while tokens and tokens[-1] == PAUSE:
        tokens.pop()
    return Script(tokens, words)


def _source(spoken: Spoken, at: int) -> tuple[int, int]:
    for start, end, source_start, source_end in spoken.spans:
        if start <= at < end:
            return source_start, source_end
    return 0, 0
