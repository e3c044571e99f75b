"""What a speaker of our own reads for a chunk of text: tokens, and which of them belong to which word."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .spoken import Spoken, speakable
from .tokens import PAUSE, word_tokens

_MARK = re.compile(r"[.,?!;:]")

Placed = Callable[[str], list[tuple[int, list[int]]]]


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


def script(text: str, placed: Placed, lexicon: Mapping[str, str] | None = None) -> Script:
    """Read a text.

    Args:
        placed: where the words of what is said begin, and their phones 1..39; see `Pronouncer.placed`.
        lexicon: see `speakable`.
    """
    spoken = speakable(text, lexicon)
    said: dict[int, list[int]] = {mark.start(): [] for mark in _MARK.finditer(spoken.text)}
    said.update(placed(spoken.text))
    tokens: list[int] = []
    words: list[ScriptWord] = []
    for start in sorted(said):
        if not said[start]:
            if tokens and tokens[-1] != PAUSE:
                tokens.append(PAUSE)
            continue
        first = len(tokens)
        tokens += word_tokens(said[start])
        source = _source(spoken, start)
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
