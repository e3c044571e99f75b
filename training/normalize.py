"""English text as it is compared: one spelling for what sounds alike.

Reference and hypothesis pass through the same five steps before words are counted. The rules are few on
purpose: a richer normaliser gives lower error rates, which then compare with nothing measured by this one.
Figures of different rule sets never share a table.

1. Unicode NFKC, straight quotes, lower case, Latin letters without accents.
2. What the written form hides is spelled out: numbers, `%`, `&`, `$5`, and `mr. mrs. dr. st.`.
3. Hyphens, dashes and slashes become spaces; other marks go; an apostrophe stays between two letters.
4. Single spaces; the fillers `uh um mm hmm` go.
5. Nothing else: spellings of Britain and America stay different, contractions stay contracted.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Literal

from ..errors import ConfigError

FILLERS = frozenset({"uh", "um", "mm", "hmm"})
TITLES = {"mr": "mister", "mrs": "missus", "dr": "doctor", "st": "saint"}
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MAX_CARDINAL_DIGITS = 60  # beyond the names that num2words has; longer ones are read digit by digit

QUOTES = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u2032", "'") | dict.fromkeys("\u201c\u201d\u201e\u201f", '"')
)
SLASHES_AND_MINUS = "/\\\u2044\u2215\u2212"

WHOLE = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
NUMBER = rf"{WHOLE}(?:\.[0-9]+)?"


def normalize(text: str, *, keep_fillers: bool = False) -> str:
    """`text` in the form in which it is compared: lower-case words, single spaces, perhaps empty.

    Raises:
        ConfigError: the text holds digits and the package num2words is not installed.
    """
    text = unicodedata.normalize("NFKC", text).translate(QUOTES).lower()
    text = _without_accents(text)
    for pattern, reader in SPELLING:
        text = pattern.sub(lambda match, read=reader: f" {read(match)} ", text)
    words = "".join(map(_kept, text)).split()
    words = [word for word in (_inner_apostrophes(word) for word in words) if word]
    return " ".join(word for word in words if keep_fillers or word not in FILLERS)


def _without_accents(text: str) -> str:
    if text.isascii():
        return text
    kept: list[str] = []
    latin = False
    for char in unicodedata.normalize("NFD", text):
        if not unicodedata.combining(char):
            latin = unicodedata.name(char, "").startswith("LATIN")
        elif latin:
            continue
        kept.append(char)
    return unicodedata.normalize("NFC", "".join(kept))


def _kept(char: str) -> str:
    """The character, a space for what separates words, or nothing."""
    category = unicodedata.category(char)
    # M: vowel signs of the scripts of India and others are part of the letter.
    if char == "'" or category[0] in "LM" or category == "Nd":
        return char
    return " " if char.isspace() or category == "Pd" or char in SLASHES_AND_MINUS else ""


def _inner_apostrophes(word: str) -> str:
    """`word` with apostrophes only where a letter stands on both sides: `don't`, but `dogs` for `dogs'`."""
    return re.sub(r"(?<![^\W\d_])'|'(?![^\W\d_])", "", word) if "'" in word else word


def _spell(number: int, form: Literal["cardinal", "ordinal", "year"]) -> str:
    try:
        from num2words import num2words
    except ImportError:
        raise ConfigError(
            f"cannot spell out the number {number}: num2words, which comes with rillvox, is missing; "
            "pip install num2words"
        ) from None
    return num2words(number, to=form)


def _digits(digits: str) -> str:
    return " ".join(DIGITS[int(digit)] for digit in digits)


def _whole(digits: str, form: Literal["cardinal", "ordinal", "year"] = "cardinal") -> str:
    digits = digits.replace(",", "")
    return _spell(int(digits), form) if len(digits) <= MAX_CARDINAL_DIGITS else _digits(digits)


def _number(written: str) -> str:
    whole, _, fraction = written.partition(".")
    return f"{_whole(whole)} point {_digits(fraction)}" if fraction else _whole(whole)


def _money(match: re.Match[str]) -> str:
    """`$5` five dollars, `$3.50` three dollars fifty cents, `$1.5 million` one point five million dollars."""
    number, scale = match["number"], match["scale"]
    whole, _, cents = number.partition(".")
    if scale:
        return f"{_number(number)} {scale} dollars"
    if len(cents) != 2:
        return f"{_number(number)} {'dollar' if number == '1' else 'dollars'}"
    parts = [(int(whole.replace(",", "")), _whole(whole), "dollar"), (int(cents), _whole(cents), "cent")]
    spoken = [f"{text} {unit if value == 1 else unit + 's'}" for value, text, unit in parts if value]
    return " ".join(spoken) or "zero dollars"


Reader = Callable[[re.Match[str]], str]
SPELLING: list[tuple[re.Pattern[str], Reader]] = [
    (re.compile(r"(?<![^\W_])(mrs?|dr|st)\."), lambda match: TITLES[match[1]]),
    (
        re.compile(rf"\$ ?(?P<number>{NUMBER})(?: (?P<scale>hundred|thousand|million|billion|trillion)\b)?"),
        _money,
    ),
    (re.compile("%"), lambda _: "percent"),
    (re.compile("&"), lambda _: "and"),
    (re.compile(rf"({WHOLE})(?:st|nd|rd|th)\b"), lambda match: _whole(match[1], "ordinal")),
    # A year stands alone: no letter, digit, comma or point of a longer number touches it.
    (
        re.compile(r"(?<![^\W_])(?<![0-9][.,])((?:19|20)[0-9]{2})(?![^\W_]|[.,][0-9])"),
        lambda match: _whole(match[1], "year"),
    ),
    (re.compile(NUMBER), lambda match: _number(match[0])),
]
