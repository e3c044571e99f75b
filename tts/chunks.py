"""Text cut into chunks that are spoken one after the other.

    >>> [chunk.text for chunk in chunks("Dr. Who paid $3.50. Then he left.")]
    ['Dr. Who paid $3.50.', 'Then he left.']

A chunk is a sentence; one that is too long is cut at its clauses, then at spaces, never within a word. Text
may come in pieces: `Chunker` gives a chunk out as soon as nothing that may follow could change it, so the
chunks are the same for every cutting of the text. They are the text as typed; `spoken.speakable` reads each.

Only white space separates: what has none inside (a decimal, an address, "U.S.A.") is never cut. A sentence
ends at a mark before white space if the next word can begin a sentence; whether a point belongs to an
abbreviation is decided by the tables that `spoken` reads from. An empty line, and the end of a heading or an
item, end a sentence, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..errors import ConfigError
from . import spoken_abbreviations as short
from .spoken_dates import MONTHS
from .spoken_sentences import TERMINAL, core, ends_sentence, is_abbreviation
from .spoken_source import PAUSE
from .spoken_units import UNITS

LONGEST_PAUSE = 10.0  # seconds
LONGEST_MARK = 64  # characters; no pause is written longer than that

Ends = Literal["sentence", "clause", "cut"]
_CLAUSE = ",;:—\u2013"
# The first word of a heading, an item, a row of a table.
_ITEM = re.compile(r"[-*+•]|#{1,6}|\d{1,3}[.)]|>+|\|.*|```.*|~~~.*")
_MAY_BE_ITEM = re.compile(r"[-*+•]|#{1,6}|\d{1,3}[.)]?|>+|\|.*|`.*|~.*")
_FIRST_WORD = re.compile(r"\s*(\S+)")
_SCALES = "hundred thousand million billion trillion"
_HALVES = "am pm a.m p.m AM PM A.M P.M"
_AMOUNT = re.compile(r"[$£€¥]?[\d.,]*\d")
_COUNTED = frozenset([*UNITS, *MONTHS, *_SCALES.split(), *_HALVES.split()])
_DAY = re.compile(r"\d{1,2}(?:st|nd|rd|th)?,")
_OPENING = "\"'\u201c\u2018(["


@dataclass(frozen=True)
class Chunk:
    """A stretch of text to be spoken at once, or a pause.

    `text` is the text as typed, `whole[source[0]:source[1]]`, and empty for a pause; there may be nothing to
    say in it, as in a row of asterisks. `pause` is in seconds, 0 to 10. A pause ends a "clause", and so does
    what stands before one without a final mark.
    """

    text: str
    pause: float | None
    source: tuple[int, int]
    ends: Ends


def chunks(text: str, most: int = 240) -> list[Chunk]:
    """The chunks of a whole text.

    Args:
        most: characters in a chunk; words that belong together ("J. R. R. Tolkien") may have twice as many,
            and only a single word more.

    Raises:
        ConfigError: `most` is not positive.
    """
    chunker = Chunker(most)
    return chunker.feed(text) + chunker.finish()


class Chunker:
    """The chunks of a text that arrives in pieces.

    Law: for every cutting of a text, what `feed` gives for all pieces, and then `finish`, is `chunks(text)`.

    Raises:
        ConfigError: `most` is not positive.
    """

    def __init__(self, most: int = 240) -> None:
        if most < 1:
            raise ConfigError(f"most must be at least 1 character, got {most}")
        self._most = most
        self._begin()

    def _begin(self) -> None:
        self._rest = ""  # what came and is not given out
        self._at = 0  # where it begins in the whole text
        self._item = False  # whether the line in which it begins is a heading or an item
        self._fresh = True  # whether it begins a line

    def feed(self, text: str) -> list[Chunk]:
        """The chunks that became certain with more text."""
        self._rest += text
        return self._cut(final=False)

    def finish(self) -> list[Chunk]:
        """The chunks of what is left; the next text begins anew."""
        given = self._cut(final=True)
        self._begin()
        return given

    def _cut(self, final: bool) -> list[Chunk]:
        given: list[Chunk] = []
        # Of a long text only a beginning is looked at, more if that is not enough: what is certain from a
        # part is certain from the whole.
        window = 4 * self._most
        while True:
            self._skip_space()
            chunk = self._next(self._rest[:window], final and window >= len(self._rest))
            if chunk:
                given.append(chunk)
                window = 4 * self._most
            elif window >= len(self._rest):
                return given
            else:
                window *= 2

    def _next(self, text: str, final: bool) -> Chunk | None:
        """The first chunk of what is left, which begins with `text`; None if that is not certain yet."""
        end, mark = _plain(text, final)
        if mark and end == 0:
            return self._give(mark.end(), "clause", _seconds(mark))
        found = _Stretch(text[:end], mark is not None or final, self._line_is_item).first(self._most)
        if found is None:
            return None
        length, ends = found
        return self._give(length, ends or ("clause" if mark else "sentence"), None)

    def _skip_space(self) -> None:
        bare = self._rest.lstrip()
        space = self._rest[: len(self._rest) - len(bare)]
        if "\n" in space:
            self._item, self._fresh = False, True
        self._rest, self._at = bare, self._at + len(space)

    def _give(self, length: int, ends: Ends, pause: float | None) -> Chunk:
        text, start = self._rest[:length], self._at
        self._item, self._fresh = self._line_is_item(text, length), False
        self._rest, self._at = self._rest[length:], start + length
        return Chunk("" if pause is not None else text, pause, (start, start + length), ends)

    def _line_is_item(self, text: str, at: int) -> bool:
        """Whether the line at a place of the rest is a heading or an item."""
        start = text.rfind("\n", 0, at) + 1
        if start == 0 and not self._fresh:
            return self._item
        first = _FIRST_WORD.match(text, start, at)
        return bool(first and _ITEM.fullmatch(first[1]))


class _Stretch:
    """Text without pauses that begins with a word, and the first chunk in it.

    Args:
        closed: whether nothing follows; otherwise the last word may grow.
        is_item: whether the line at a place of the text is a heading or an item.
    """

    def __init__(self, text: str, closed: bool, is_item: Callable[[str, int], bool]) -> None:
        self._text, self._closed, self._is_item = text, closed, is_item
        self._words = [(match[0], match.start(), match.end()) for match in re.finditer(r"\S+", text)]

    def first(self, most: int) -> tuple[int, Ends | None] | None:
        """Length of the first chunk and what it ends; None if that is not certain yet.

        The end is None where the text ends without a final mark.
        """
        for at, (_, _, end) in enumerate(self._words):
            if end > most and at:
                cut = self._split(at, most)
                if cut != (0, None):
                    return cut
            ended = self._ended(at)
            if ended is None:
                return None
            if ended:
                return end, "sentence"
        if not self._words:
            return None
        word, _, end = self._words[-1]
        return end, "sentence" if core(word)[-1:] in TERMINAL else None

    def _ended(self, at: int) -> bool | None:
        """Whether a sentence ends after a word, by an empty line, a line of its own or a mark."""
        word, _, end = self._words[at]
        if at + 1 == len(self._words):
            gap = self._text[end:]
            return True if gap.count("\n") > 1 else False if self._closed else None
        following, start, stop = self._words[at + 1]
        complete = self._closed or stop < len(self._text)
        lines = self._text.count("\n", end, start)
        if lines > 1 or (lines and self._is_item(self._text, end)):
            return True
        if lines and not complete and _MAY_BE_ITEM.fullmatch(following):
            return None
        if lines and _ITEM.fullmatch(following):
            return True
        if (
            _ITEM.fullmatch(word)
            and word[0].isdigit()
            and self._is_item(self._text, end)
            and self._begins_line(at)
        ):
            return False  # the number of an item stays with it
        letter = next(filter(str.isalpha, self._text), "")
        return ends_sentence([w for w, _, _ in self._words[: at + 1]], following, complete, letter.islower())

    def _begins_line(self, at: int) -> bool:
        return at == 0 or "\n" in self._text[self._words[at - 1][2] : self._words[at][1]]

    def _split(self, at: int, most: int) -> tuple[int, Ends | None] | None:
        """Where to cut before word `at`: after the last clause that fits, else after the last word.

        (0, None) if the words up to there belong together; None if that is not certain yet.
        """
        tied = [self._tied(k) for k in range(at)]
        if None in tied:
            return None
        # What belongs together may take twice the length, and then is cut as well.
        loose = all(tied) and self._words[at][2] > 2 * most
        ends = [(k, self._words[k][2]) for k in range(at) if loose or not tied[k]]
        clauses = [end for k, end in ends if most // 4 <= end <= most and self._is_clause(k)]
        if clauses:
            return clauses[-1], "clause"
        fitting = [end for _, end in ends if end <= most] or [end for _, end in ends[:1]]
        return (fitting[-1], "cut") if fitting else (0, None)

    def _is_clause(self, at: int) -> bool:
        word = self._words[at][0].rstrip("\"'\u201d\u2019»)]*_")
        return word[-1:] in _CLAUSE or word in ("-", "--") or self._words[at + 1][0][0] in "(—\u2013"

    def _tied(self, at: int) -> bool | None:
        """Whether a word belongs to the next: a title, an initial, an amount and its unit, a date.

        None if that depends on more of the next.
        """
        word, following = self._words[at][0].lstrip(_OPENING), self._words[at + 1][0]
        if _is_tying(word) or (following[0].isdigit() and _is_tying_numbers(word)):
            return True
        if not _AMOUNT.fullmatch(word):
            return False
        complete = self._closed or self._words[at + 1][2] < len(self._text)
        return core(following).rstrip(".") in _COUNTED if complete else None


def may_tie(word: str) -> bool:
    """Whether there is a next word to which a word would belong, so that nothing is cut between them."""
    word = word.lstrip(_OPENING)
    return _is_tying(word) or _is_tying_numbers(word) or bool(_AMOUNT.fullmatch(word))


def _is_tying(word: str) -> bool:
    return is_abbreviation(word) and word.lower() not in ("etc.", "inc.", "ltd.", "jr.", "sr.")


def _is_tying_numbers(word: str) -> bool:
    return bool(_DAY.fullmatch(word) or word.rstrip(".") in MONTHS or word.lower() in short.BEFORE_NUMBERS)


def _plain(text: str, final: bool) -> tuple[int, re.Match[str] | None]:
    """How far a text holds no pause, and the pause that follows, if it is complete."""
    for opening in re.finditer(r"[\[<]", text):
        mark = PAUSE.match(text, opening.start())
        if mark or (not final and _may_be_pause(text[opening.start() :][:LONGEST_MARK])):
            return opening.start(), mark
    return len(text), None


def _may_be_pause(text: str) -> bool:
    """Whether text that begins with a bracket may become a pause with more text."""
    for opening, closing in (("[pause", "]"), ("<break", ">")):
        start = text[: len(opening)].lower()
        if opening.startswith(start):
            return len(text) < LONGEST_MARK and closing not in text
    return False


def _seconds(mark: re.Match[str]) -> float:
    number, unit = mark["number"] or mark["number_"], mark["unit"] or mark["unit_"]
    seconds = float(number) / (1000 if unit.lower() == "ms" else 1)
    return min(seconds, LONGEST_PAUSE)
