"""What is said for a text as it was typed: English words and the marks that make pauses.

    >>> speakable("Dr. Smith paid $3.50 at 9:30 PM.").text
    'Doctor Smith paid three dollars and fifty cents at nine thirty P M.'

One pass from left to right over the plain line of `spoken_source`: at each word or mark the first row whose
pattern matches, and whose reader accepts, says it. So rows may look around in the text as typed, and every
piece of the result knows where it came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .spoken_amounts import AMOUNTS, MONEY
from .spoken_dates import AMERICAN, DATES, EUROPEAN, TIMES
from .spoken_lexicon import settled
from .spoken_marks import SHORTHAND, SIGNS, STRENGTH
from .spoken_net import NET
from .spoken_numbers import DECADES, NUMBERS, PLAIN, TELEPHONES, Row
from .spoken_source import PLACES, Traced, plain
from .spoken_words import SHORT_FORMS, WORDS

MARKS = ".,?!;:-'"  # with these, Latin letters and single spaces all is said that is said
# Nearly every text is settled by the first reading; the third was needed once in a long search for more.
ROUNDS = 4

# The first that applies wins: the longer and the rarer form stands before what it contains.
_BEFORE_DATES: list[Row] = [*SHORTHAND, *NET, *SHORT_FORMS]
_AFTER_DATES: list[Row] = [
    *DATES,
    *TELEPHONES,
    *MONEY,
    *TIMES,
    *DECADES,
    *AMOUNTS,
    *NUMBERS,
    *WORDS,
    *PLAIN,
    *SIGNS,
]
ROWS = [*_BEFORE_DATES, AMERICAN, *_AFTER_DATES]
ROWS_DAY_FIRST = [*_BEFORE_DATES, EUROPEAN, *_AFTER_DATES]


@dataclass(frozen=True)
class Spoken:
    """What is said, and where each piece of it came from.

    `spans` are `(start, end, source_start, source_end)`: `text[start:end]` stands for
    `source[source_start:source_end]`. They are in order in both texts, do not overlap in the spoken one, and
    leave out only its spaces. A piece is a word, a mark or a reading: `$3.50` is one piece of five words.
    `notes` name what was left out although it has a sound: other scripts and emoji.
    """

    text: str
    spans: list[tuple[int, int, int, int]] = field(repr=False)
    notes: list[str] = field(default_factory=list[str])


def speakable(text: str, lexicon: Mapping[str, str] | None = None, *, day_first: bool = False) -> Spoken:
    """`text` as it is said, perhaps nothing; any string will do.

    Law: without a lexicon, what is said for what is said is the same again.

    Args:
        lexicon: written form to spoken form, for whole words. Case counts only where the written form has a
            capital. It goes before all rows; the spoken form is then read like any other text.
        day_first: 5/3/2021 is the fifth of March, and not May third.

    Raises:
        TextError: a written form of the lexicon is empty.
    """
    rows = ROWS_DAY_FIRST if day_first else ROWS
    forms, places = settled(text, lexicon or {})
    line, notes = plain(text, places)
    said = _read(line, [_read(plain(form)[0], [], rows).text for form in forms], rows)
    for _ in range(ROUNDS):
        # A reading may bring together what another row reads: "etc" and "." stood apart in the source.
        again = _read(plain(said.text)[0], [], rows)
        if again.text == said.text:
            break
        said = _through(again, said)
    return Spoken(said.text, said.spans, notes)


def _read(line: Traced, forms: list[str], rows: list[Row]) -> Spoken:
    """One pass. `forms` are what the characters of `PLACES` in the line stand for."""
    text, out, at = line.text, _Out(line.spans), 0
    while at < len(text):
        if text[at] == " ":
            at += 1
            continue
        if ord(text[at]) in PLACES:
            said, end = forms[ord(text[at]) - PLACES.start], at + 1
        else:
            said, end = _first_reading(text, at, rows)
        out.add(said, at, end)
        at = end
    return Spoken(out.text, out.spans)


def _first_reading(text: str, at: int, rows: list[Row]) -> tuple[str, int]:
    """What is said for the characters from `at`, and where they end."""
    for pattern, reader in rows:
        match = pattern.match(text, at)
        if match and match.end() > at and (said := reader(match)) is not None:
            return said, match.end()
    return "", at + 1  # a quotation mark or another sign without a sound


class _Out:
    """The spoken text as it grows: one space between words, one mark where several meet."""

    def __init__(self, source: list[tuple[int, int]]) -> None:
        self.text = ""
        self.spans: list[tuple[int, int, int, int]] = []
        self._source = source  # where each character of the line came from
        self._hyphen: tuple[int, int] | None = None  # waits for the word that it joins

    def add(self, said: str, start: int, end: int) -> None:
        """A reading of the characters `start` to `end` of the line."""
        source = self._source[start][0], self._source[end - 1][1]
        after_word = bool(self.text) and self.text[-1] not in STRENGTH
        if said == "-":
            self._hyphen = source if after_word else None
        elif said in STRENGTH:
            self._hyphen = None
            self._mark(said, source)
        elif said == "'s":
            if after_word:
                self._append(said, source)
        elif said:
            if self._hyphen:
                self._append("-", self._hyphen)
            elif self.text:
                self.text += " "
            self._hyphen = None
            self._append(said, source)

    def _append(self, said: str, source: tuple[int, int]) -> None:
        self.spans.append((len(self.text), len(self.text) + len(said), *source))
        self.text += said

    def _mark(self, mark: str, source: tuple[int, int]) -> None:
        last = self.text[-1:]
        if last and last not in STRENGTH:
            self._append(mark, source)
        elif last and STRENGTH[mark] > STRENGTH[last]:
            self.text = self.text[:-1] + mark


def _through(again: Spoken, first: Spoken) -> Spoken:
    """The second reading with its spans carried through the first to the source."""
    spans: list[tuple[int, int, int, int]] = []
    at = 0
    for start, end, begin, finish in again.spans:
        while first.spans[at][1] <= begin:
            at += 1
        last = at
        while last + 1 < len(first.spans) and first.spans[last + 1][0] < finish:
            last += 1
        spans.append((start, end, first.spans[at][2], first.spans[last][3]))
    return Spoken(again.text, spans)
