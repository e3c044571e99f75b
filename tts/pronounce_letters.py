"""Words taken apart: letters folded to the 26, endings taken off stems, and what is said letter by letter."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator

from .tokens import PHONES

VOWELS = frozenset("aeiouy")
_NUMBERS = {phone: number for number, phone in enumerate(PHONES, 1)}


def phones(text: str) -> list[int]:
    """Numbers 1..39 of phones in small letters, `hh ah l ow`."""
    return [_NUMBERS[phone] for phone in text.split()]


NAMES = {
    **{"a": phones("ey"), "b": phones("b iy"), "c": phones("s iy"), "d": phones("d iy"), "e": phones("iy")},
    **{"f": phones("eh f"), "g": phones("jh iy"), "h": phones("ey ch"), "i": phones("ay")},
    **{"j": phones("jh ey"), "k": phones("k ey"), "l": phones("eh l"), "m": phones("eh m")},
    **{"n": phones("eh n"), "o": phones("ow"), "p": phones("p iy"), "q": phones("k y uw")},
    **{"r": phones("aa r"), "s": phones("eh s"), "t": phones("t iy"), "u": phones("y uw")},
    **{"v": phones("v iy"), "w": phones("d aa b ah l y uw"), "x": phones("eh k s"), "y": phones("w ay")},
    "z": phones("z iy"),
}

_QUOTES = str.maketrans("\u2018\u2019\u02bc\u02bb\u2032`", "''''''")
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015_/", "-"))
_ALONE = {"ð": "th", "þ": "th", "ŋ": "ng", "ə": "a", "ʃ": "sh", "ƿ": "w"}
# The name of a Latin letter ends with the plain one it is a form of: "... LETTER O WITH STROKE".
_LATIN = re.compile(r"LATIN .*\b([A-Z]{1,2})(?: WITH .*)?$")

_SIBILANTS = frozenset(phones("s z sh zh ch jh"))
_HISSES = frozenset(phones("s sh ch"))
_HARD = frozenset(phones("p t k f th"))
_TEETH = frozenset(phones("t d"))
_OPEN = frozenset(phones("aa ao aw ay eh er ey iy ow oy uh uw"))
Ending = Callable[[list[int]], list[int]]

# Noises, with every run of a letter as one: "pssst" is "pst".
_NOISES = {
    *(
        "m",
        "hm",
        "mhm",
        "n",
        "nh",
        "h",
        "s",
        "ps",
        "pst",
        "sh",
        "psh",
        "f",
        "pf",
        "pft",
        "ph",
        "br",
        "gr",
        "r",
    ),
    *("tsk", "tk", "ts", "z", "bz", "bzt", "w"),
}
_SOUNDS = {"h": "hh", "r": "er"}
_SHORT = {  # where their points were left out; with them, another word stands here already
    **{"mr": "m ih s t er", "mrs": "m ih s ih z", "ms": "m ih z", "dr": "d aa k t er", "st": "s ey n t"},
    **{"jr": "jh uw n y er", "sr": "s iy n y er", "mt": "m aw n t", "mc": "m ih k", "vs": "v er s ah s"},
}
_RUN = re.compile(r"(.)\1+")
_LONG_RUN = re.compile(r"(.)\1{2,}")
_PLACE = re.compile(r"([b-z])th(s?)")
_BEFORE = {"o": "ow", "d": "d", "l": "l"}  # O'Brien, d'Artagnan, L'Oreal
_TAILS = {"s": "", "d": "", "ll": "l", "ve": "v", "re": "er", "m": "m", "nt": "ah n t"}
_TAIL = re.compile("(?:'(?:s|d|ll|ve|re|m)|n't)$")
_DOUBLED = re.compile(r"([bdfgklmnprtvz])\1$")


def folded(word: str) -> str:
    """`word` in the letters a to z, inner apostrophes and hyphens; what has no such form is left out."""
    text = word.translate(_QUOTES).translate(_DASHES)
    if not text.isascii():
        # Twice: some letters only have small forms once they are taken apart.
        text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
        text = "".join(map(_plain, text))
    kept = re.sub("''+", "'", re.sub("[^a-z'-]", "", text.lower()))
    return "-".join(part for part in (part.strip("'") for part in kept.split("-")) if part)


def _plain(letter: str) -> str:
    if letter.isascii() or unicodedata.combining(letter):
        return letter if letter.isascii() else ""
    if letter in _ALONE:
        return _ALONE[letter]
    match = _LATIN.match(unicodedata.name(letter, ""))
    return match[1].lower() if match else ""


def spelled(word: str) -> list[int]:
    """The names of the letters."""
    return [phone for letter in word for phone in NAMES.get(letter, [])]


def without_vowels(word: str) -> list[int]:
    """A word without a vowel: a noise, as `hmm`; a place in a row, as `nth`; or the names of its letters."""
    if word in _SHORT:
        return phones(_SHORT[word])
    short = _RUN.sub(r"\1", word)
    if short in _NOISES and len(word) > 1:
        return phones(" ".join(_SOUNDS.get(part[0], part[0]) for part in re.finditer("sh|.", short)))
    if place := _PLACE.fullmatch(word):
        return NAMES[place[1]] + phones("th s" if place[2] else "th")
    return spelled(word)


def shortened(word: str) -> Iterator[str]:
    """`coooool`: cool, col; `nooo`: no, noo; nothing for words without a letter three times in a row."""
    if _LONG_RUN.search(word):
        forms = _LONG_RUN.sub(r"\1\1", word), _LONG_RUN.sub(r"\1", word)
        yield from reversed(forms) if word[-3:] == word[-1] * 3 and word[-1] != "e" else forms


def inflected(word: str) -> Iterator[tuple[str, Ending]]:
    """Stems that a word may be a form of, the likelier first, with what makes the form of its phones."""
    if len(word) < 4:
        return
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        yield word[:-1], plural
        if word.endswith("ies"):
            yield word[:-3] + "y", plural
        elif word.endswith("es"):
            yield word[:-2], plural
    for letters, ending in (("ed", past), ("ing", _going)):
        stem = word.removesuffix(letters)
        if stem != word and VOWELS & set(stem):
            yield from ((form, ending) for form in _bare(stem))
            if letters == "ed" and stem.endswith("i"):
                yield stem[:-1] + "y", past


def _bare(stem: str) -> Iterator[str]:
    """Verbs that lose something before -ed and -ing: stop, bake, walk."""
    if _DOUBLED.search(stem):
        yield stem[:-1]
    yield stem + "e"
    yield stem


def plural(said: list[int]) -> list[int]:
    """With the ending of `cats`, `dogs` or `boxes`."""
    last = said[-1]
    return said + phones("ih z" if last in _SIBILANTS else "s" if last in _HARD else "z")


def past(said: list[int]) -> list[int]:
    """With the ending of `walked`, `called` or `waited`."""
    last = said[-1]
    return said + phones("ih d" if last in _TEETH else "t" if last in _HARD | _HISSES else "d")


def _going(said: list[int]) -> list[int]:
    return said + phones("ih ng")


def without_tails(word: str) -> tuple[str, list[str]]:
    """A word without `'s`, `'ll` and the like, and what was taken off, in order; `kit's`: kit, s."""
    tails: list[str] = []
    while (match := _TAIL.search(word)) and match.start():
        word, tail = word[: match.start()].rstrip("'"), match[0].replace("'", "")
        tails.insert(0, tail)
    return word, tails


def with_tail(said: list[int], tail: str) -> list[int]:
    """Phones with the end of `kit's`, `kit'd`, `kit'll`."""
    if tail in "sd":
        return plural(said) if tail == "s" else past(said)
    between = phones("ah") if tail in ("ll", "ve") and said[-1] not in _OPEN else []
    return said + between + phones(_TAILS[tail])


def beginning(word: str) -> list[int] | None:
    """What is said for the `o` of `o'brien`; None if it is a word."""
    return phones(_BEFORE[word]) if word in _BEFORE else None
