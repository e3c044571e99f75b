"""A lexicon: written forms that are said in a way of their own, `SQL` as "sequel".

The file has one form a line, `written<TAB>spoken`; empty lines and lines that begin with `#` are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from ..errors import TextError
from .spoken_source import PLACES

_QUOTES = str.maketrans("\u2018\u2019\u02bc\u00a0", "''' ")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_GOES_ON = re.compile(r"\w|'(?!s\b)\w")
_POSSESSIVE = re.compile(r"'s\b")


def load_lexicon(path: str | Path) -> dict[str, str]:
    """Written to spoken forms of a UTF-8 file, in its order.

    Raises:
        TextError: the file cannot be read, or a line has no tab, more than one, an empty side, or a written
            form that was there before; the message names the file and the line.
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
        lexicon[written] = spoken
    return lexicon


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
