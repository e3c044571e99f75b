"""A lexicon: written forms that are said in a way of their own, `SQL` as "sequel".

The file has one form a line, `written<TAB>spoken`; empty lines and lines that begin with `#` are passed over.
A spoken form between slashes is made of phones, the ARPAbet ones of English: `SQL<TAB>/S IY1 K W AH0 L/`. It
is for one word, whatever the case, and for models that read phones (`pronounce.py`); digits of stress are
passed over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from ..errors import TextError
from .spoken_source import PLACES
from .tokens import PHONES

_QUOTES = str.maketrans("\u2018\u2019\u02bc\u00a0", "''' ")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_GOES_ON = re.compile(r"\w|'(?!s\b)\w")
_POSSESSIVE = re.compile(r"'s\b")
_ONE_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_NUMBERS = {phone: number for number, phone in enumerate(PHONES, 1)}


def load_lexicon(path: str | Path) -> dict[str, str]:
    """Written to spoken forms of a UTF-8 file, in its order.

    Raises:
        TextError: the file cannot be read, or a line has no tab, more than one, an empty side, a written
            form that was there before, or phones that are none or not for one word; the message names the
            file and the line.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        byte = error.object[error.start]
        raise TextError(f"{path}:{line}: expected UTF-8, found the byte {byte:#04x}") from None
    except OSError as error:
        raise TextError(f"{path}: cannot be read: {error.strerror or error}") from None
    lexicon: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        sides = [side.strip() for side in line.split("\t")]
        if len(sides) != 2 or not all(sides):
            raise TextError(f"{path}:{number}: expected written<TAB>spoken, found {line!r}")
        written, spoken = sides
        if written in lexicon:
            raise TextError(f"{path}:{number}: {written!r} is there already, as {lexicon[written]!r}")
        try:
            said_in(written, spoken)
        except TextError as error:
            raise TextError(f"{path}:{number}: {error}") from None
        lexicon[written] = spoken
    return lexicon


def said_in(written: str, spoken: str) -> list[int] | None:
    """Phones 1..39 of a spoken form between slashes; None for one in letters.

    Raises:
        TextError: what is between the slashes is not made of phones, or the written form is not one word.
    """
    if not _in_phones(spoken):
        return None
    said: list[int] = []
    for name in spoken[1:-1].split():
        phone = name.lower().rstrip("012")
        if phone not in _NUMBERS:
            raise TextError(f"{name!r} of {written!r} is no phone; there are {' '.join(PHONES).upper()}")
        said.append(_NUMBERS[phone])
    if not said:
        raise TextError(f"expected phones between the slashes for {written!r}, found {spoken!r}")
    if not _ONE_WORD.fullmatch(written.translate(_QUOTES)):
        raise TextError(f"expected one word of letters for {spoken}, found {written!r}; respell it")
    return said


def _in_phones(spoken: str) -> bool:
    return len(spoken) > 1 and spoken[0] == spoken[-1] == "/"


def settled(text: str, lexicon: Mapping[str, str]) -> tuple[list[str], list[tuple[int, int, str]]]:
    """Spoken forms in use, and the spans of `text` they stand for, each with its character of `PLACES`.

    Raises:
        TextError: a written form of the lexicon is empty.
    """
    if not lexicon:
        return [], []
    index = _index(tuple(lexicon.items()))
    text = text.translate(_QUOTES)  # one character for one: places stay
    forms: dict[str, str] = {}  # spoken form to its place
    found: list[tuple[int, int, str]] = []
    for token in _TOKEN.finditer(text):
        start = token.start()
        if found and start < found[-1][1]:
            continue
        for written, spoken in index.get(token[0].lower(), ()):
            end = start + len(written)
            if _same(written, text[start:end]) and _whole(text, start, end):
                possessive = _POSSESSIVE.match(text, end)
                form = spoken + (possessive[0] if possessive else "")
                place = forms.setdefault(form, chr(PLACES.start + len(forms)))
                found.append((start, possessive.end() if possessive else end, place))
                break
    return list(forms), found


@lru_cache(maxsize=8)
def _index(entries: tuple[tuple[str, str], ...]) -> dict[str, list[tuple[str, str]]]:
    """Entries by their first word or sign, the longest written form first."""
    index: dict[str, list[tuple[str, str]]] = {}
    for written, spoken in sorted(entries, key=lambda entry: -len(entry[0])):
        written = written.translate(_QUOTES).strip()
        token = _TOKEN.match(written)
        if token is None:
            raise TextError(f"lexicon: the written form of {spoken!r} is empty")
        # Capitals would be read as letters: the small word is what `pronounce.py` looks up.
        spoken = written.lower() if _in_phones(spoken) else spoken
        index.setdefault(token[0].lower(), []).append((written, spoken))
    return index


def _same(written: str, found: str) -> bool:
    """Whether they are the same; case counts where the written form has a capital."""
    return written == (found if any(map(str.isupper, written)) else found.lower())


def _whole(text: str, start: int, end: int) -> bool:
    """Whether no word goes on at either end; a possessive may follow, but not the rest of `can't`."""
    if not re.search(r"\w", text[start:end]):
        return True  # a sign, like the one in "5%"
    begun = start > 0 and re.match(r"\w", text[start - 1])
    return not begun and not _GOES_ON.match(text, end)
