"""Whether a sentence ends between two words, said as soon as what is there of the second allows it."""

from __future__ import annotations

import re

from . import spoken_abbreviations as short
from .spoken_dates import DAYS, MONTHS

TERMINAL = ".!?\u2026\u3002\uff01\uff1f"  # with the ellipsis and the marks of full width
_DOTTED = re.compile(r"(?:[A-Za-z]{1,2}\.)+[A-Za-z]{1,2}")
_NEVER_LAST = frozenset(["e.g", "i.e", "vs", "cf", "viz"])
_CALENDAR = frozenset(
    form for form, name in (MONTHS | DAYS).items() if len(form) < 6 and form.title() != name
)


def core(word: str) -> str:
    """The word up to its last letter, digit or final mark: without closing quotes, brackets and emoji."""
    end = len(word)
    while end and not (word[end - 1].isalnum() or word[end - 1] in TERMINAL):
        end -= 1
    return word[:end]


def ends_sentence(words: list[str], following: str, complete: bool, small: bool) -> bool | None:
    """Whether a sentence ends after the last of `words`; None if that depends on more of `following`.

    Args:
        words: those of the sentence so far; one without letter and mark belongs to the word before it.
        following: the beginning of the next word, at least one character; all of it if `complete`.
        small: whether this sentence began with a small letter; then the next one may, too.
    """
    if not any(map(str.isalnum, following)):
        # A quotation mark or an emoji closes this sentence if it stands alone, else it begins what follows.
        return False if complete else None
    at = len(words) - 1
    while at > 0 and not core(words[at]):
        at -= 1
    last = core(words[at])
    if not last or last[-1] not in TERMINAL:
        return False
    first = next(filter(str.isalnum, following))
    if first.islower() and not following.startswith(("@", "#")):
        return small and not is_abbreviation(last)
    if last[-1] != "." or last.endswith(".."):
        return True
    word = _bare(last)
    certain = _by_word(word, first, core(words[at - 1]) if at else "")
    if certain is not None:
        return certain
    return _by_next(word, re.sub(r"^\W+", "", following)) if complete else None


def is_abbreviation(last: str) -> bool:
    """Whether a word with its point is a short form that may stand within a sentence."""
    if not last.endswith(".") or last.endswith(".."):
        return False
    word = _bare(last)
    if (len(word) == 1 and word.isalpha()) or _DOTTED.fullmatch(word):
        return True
    if word in short.TITLES or word in short.STREETS or word in _CALENDAR:
        return True
    tables = (short.CLOSING, short.OPENING, short.BEFORE_NUMBERS, short.POINTED_UNITS)
    return any(word.lower() in table for table in tables)


def _bare(last: str) -> str:
    """The word before its point, without what opens it: `(approx.` approx."""
    return re.sub(r"^[\W_]+", "", last[:-1])


def _by_word(word: str, first: str, before: str) -> bool | None:
    """What the word and the first letter of the next decide; None if the whole next word is needed."""
    small = word.lower()
    if first.isdigit() and (small in short.BEFORE_NUMBERS or word in _CALENDAR):
        return False
    if small in _NEVER_LAST or (
        word in short.TITLES and not (word in short.STREETS and before[:1].isupper())
    ):
        return False
    if not is_abbreviation(f"{word}.") or (small in short.ONLY_CAPITALISED and word[0].islower()):
        return True
    initial = len(word) == 1 and word.isupper()
    if small in short.WORDS_TOO and not initial:
        return True
    return None if first.isalpha() else False


def _by_next(word: str, following: str) -> bool:
    """What the next word decides after a short form: a name goes on with it, "The" begins anew."""
    name = re.match(r"[^\W\d_]+\.?", following)
    if len(word) == 1 and word.isupper():
        return not short.is_initial(word, name[0] if name else following)
    small = word.lower()
    if small in short.BEFORE_NUMBERS and word not in short.TITLES:
        return not re.match(r"[IVXLC]+\b", following)
    return small == "etc" or bool(name and name[0].rstrip(".") in short.STARTERS)
