"""Rows that read words: short forms, letters and acronyms, Roman numerals, tokens of letters and digits.

Capitals are read as letters (F B I) unless they make an acronym that is said as a word (NASA), or a word
that is shouted. Letters come out as single capitals with spaces between.
"""

from __future__ import annotations

import re
import unicodedata

from . import spoken_abbreviations as short
from .spoken_lists import (
    ACRONYMS,
    ALWAYS_COUNTED,
    EITHER,
    INITIALISMS,
    KINGS,
    PARTS,
    RESPELLED,
    SHORT_WORDS,
)
from .spoken_numbers import LETTER, NOT_WITHIN, YEAR, Row, before, cardinal, follows, ordinal, pairs

NEAR = 60  # how far on either side a sentence is searched for small letters, in characters
_ROMAN = re.compile(r"(?=.)(X{0,3}|XL|LX{0,3}|XC)(I{1,3}|IV|VI{0,3}|IX)?$")
_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}
# What may follow "Elizabeth I" or "Part I" where the I is not the speaker.
_AFTER_ONE = r"$|[^\w ]|'s\b| (?:of|and|or|to|was|is|in|has|had|begins|ends|became|died|reigned)\b"


def letters(word: str) -> str:
    """`FBI` F B I."""
    return " ".join(word.upper())


def lowered(word: str) -> str:
    """In small letters; `I'm` keeps its capital."""
    small = word.lower()
    return f"I{small[1:]}" if small == "i" or small.startswith("i'") else small


def sayable(word: str) -> bool:
    """Whether letters can be said as a word: with vowels, and without heaps of consonants."""
    plain = unicodedata.normalize("NFD", word.lower())
    shape = "".join("v" if c in "aeiouy" else "c" for c in plain if c.isalpha())
    if "v" not in shape or "vvvv" in shape or "ccccc" in shape:
        return False
    start = shape.index("v")
    return start < 3 or (start == 3 and (plain[0] == "s" or plain[1] == "h"))


def capitals(word: str, shouted: bool = False) -> str:
    """A word of capitals as it is said."""
    if word in RESPELLED:
        return RESPELLED[word]
    if word in ACRONYMS:
        return word
    if word in INITIALISMS or not sayable(word):
        return letters(word)
    if shouted and (len(word) > 2 or word in SHORT_WORDS | EITHER):
        return lowered(word)
    if word in EITHER or (len(word) <= 3 and word not in SHORT_WORDS):
        return letters(word)
    return lowered(word)


def pieces(token: str) -> str:
    """Letters and digits in one token: `MP3` M P three, `word2vec` word two vec."""
    found = re.findall(rf"\d+|{LETTER}+", token)
    return " ".join(pairs(piece) if piece.isdigit() else _piece(piece) for piece in found)


def _piece(piece: str) -> str:
    if piece in RESPELLED or (len(piece) > 1 and piece.isupper()):
        return capitals(piece)
    if len(piece) == 1:
        return piece.upper() if piece.isascii() else piece
    return piece if sayable(piece) else letters(piece)


def _mixed(match: re.Match[str]) -> str:
    return pieces(match[0])


def _word(match: re.Match[str]) -> str:
    """A word as it is, with the plural of `item(s)`; capitals as letters or in small letters."""
    word = match["word"] + (match["plural"] or "").strip("()")
    if word in RESPELLED:
        return RESPELLED[word]
    stem, mark, tail = word.partition("'")
    if len(stem) > 1 and stem.isupper():
        if word.isupper() and tail not in ("", "S"):
            return lowered(word)  # DON'T
        return capitals(stem, _shouted(match)) + mark + lowered(tail)
    # GPUs: letters keep their sound before a plural only with an apostrophe.
    if not mark and word[-1] == "s" and len(word) > 2 and word[:-1].isupper() and not match["plural"]:
        return capitals(word[:-1]) + ("s" if word[:-1] in ACRONYMS else "'s")
    if word[0].islower() and word[1:] in INITIALISMS:
        return f"{word[0]} {letters(word[1:])}"  # mRNA
    return word


def _shouted(match: re.Match[str]) -> bool:
    """Whether the sentence around the match is all in capitals, with a word in it that is no acronym."""
    ends = r"[.!?\u2029]"
    after = match.string[match.end() : match.end() + NEAR]
    sentence = re.split(ends, before(match, NEAR))[-1] + match[0] + re.split(ends, after)[0]
    words = re.findall(rf"{LETTER}+", sentence)
    if any(any(map(str.islower, word)) for word in words):
        return False
    known = ACRONYMS | INITIALISMS
    return any(
        (len(word) > 1 and word in SHORT_WORDS) or (len(word) > 3 and word not in known and sayable(word))
        for word in words
    )


def _dotted(match: re.Match[str]) -> str:
    """`U.S.` U S, `Ph.D.` P H D, with a stop where the sentence ends."""
    stop = match["word"].endswith(".") and short.stop_after(match.string, match.end())
    return letters(match["word"].replace(".", "")) + ("'s" if match["plural"] else "") + ("." if stop else "")


def _initial(match: re.Match[str]) -> str | None:
    """`J. R. R. Tolkien`: letters without stops, if a name follows."""
    return match["letter"] if short.is_initial(match["letter"], match["next"]) else None


def _initials_and(match: re.Match[str]) -> str:
    """`AT&T` A T and T."""
    return f"{letters(match['first'])} and {letters(match['last'])}" + ("'s" if match["plural"] else "")


def _sharp(match: re.Match[str]) -> str:
    return f"{match[0][0]} sharp"


def _a_to_z(_match: re.Match[str]) -> str:
    return "A to Z"


def _as_it_is(match: re.Match[str]) -> str:
    return match[0]


def _title(match: re.Match[str]) -> str | None:
    """`Dr. Lee`, `Mr Lee`; after a name and before none, `Elm St.` is a street."""
    word, pointed = match["word"], bool(match["dot"])
    named = re.compile(r"\.? ?[\"(]?[^\W\d_a-z]").match(match.string, match.end("word"))
    name = re.search(r"(?:[A-Z][^\W\d_]+|\d(?:st|nd|rd|th)) $", before(match))
    if word in short.STREETS and pointed and name and not re.match("(?:Mount|Lake|Port|Fort) ", name[0]):
        ends = short.stop_after(match.string, match.end())
        if ends or not named or word not in short.TITLES:
            return short.STREETS[word] + ("." if ends else "")
    return short.TITLES[word] if word in short.TITLES and (named or pointed) else None


def _short_form(match: re.Match[str]) -> str | None:
    """Forms with a point, by what they may stand before."""
    word = match["word"]
    small = word.lower()
    if small in short.BEFORE_NUMBERS and follows(match, _number_after(small)):
        return _cased(short.BEFORE_NUMBERS[small], word)
    if small in short.ONLY_CAPITALISED and not word[0].isupper():
        return None
    if small in short.CLOSING:
        return short.CLOSING[small] + _stop(match)
    return _cased(short.OPENING[small], word) if small in short.OPENING else None


def _number_after(small: str) -> str:
    if small in short.BEFORE_YEARS:
        return f" ?{YEAR}"
    # "No. I will not": only a numeral of several letters follows what is also a word.
    return r" ?(?:\d|(?!I\b)[IVX]+\b)" if small in short.WORDS_TOO or small == "nos" else r" ?(?:\d|[IVX]+\b)"


def _cased(said: str, written: str) -> str:
    return said[0].upper() + said[1:] if written[0].isupper() else said


def _stop(match: re.Match[str]) -> str:
    return "." if match[0].endswith(".") and short.stop_after(match.string, match.end()) else ""


def _and_others(match: re.Match[str]) -> str:
    return "and others" + _stop(match)


def _versus(_match: re.Match[str]) -> str:
    return "versus"


def _roman(match: re.Match[str]) -> str | None:
    """`Henry VIII` the eighth, `Chapter IV` four; elsewhere only II, III and the like after a name."""
    written, word = (
        match[0],
        re.search(rf"(?<!{LETTER})({LETTER}{{2,}}|{LETTER}(?=\.))(\.?) $", before(match)),
    )
    if not word or not _ROMAN.match(written):
        return None
    name = short.BEFORE_NUMBERS.get(word[1].lower(), word[1]) if word[2] else word[1]
    if name.isupper() or name.title() in PARTS:
        name = name.title()
    one = written != "I" or name in ALWAYS_COUNTED or follows(match, _AFTER_ONE)
    if not name[0].isupper() or not one:
        return None
    values = [_VALUES[c] for c in written]
    value = str(sum(-v if v < max(values[i:]) else v for i, v in enumerate(values)))
    if name in KINGS:
        return f"the {ordinal(value)}"
    after_a_name = len(written) > 1 and set(written) <= set("IVX") and len(name) > 2
    return cardinal(value) if name in PARTS or after_a_name else None


_POINTED = "|".join(sorted({*short.TITLES, *short.STREETS}, key=len, reverse=True))
SHORT_FORMS: list[Row] = [
    (re.compile(r"(?P<word>e\.g|i\.e|a\.k\.a)\.?(?![\w.])", re.IGNORECASE), _short_form),
    (re.compile(r"et al\b\.?"), _and_others),
    (re.compile(rf"(?P<word>Mrs?|Ms|Messrs|Mx|Dr|Prof|St)(?P<dot>\.?)(?!{LETTER})"), _title),
    (re.compile(rf"(?P<word>{_POINTED})(?P<dot>\.)(?!\w)"), _title),
    (re.compile(rf"(?P<word>{LETTER}{{1,6}})\.(?!{LETTER})"), _short_form),
    (re.compile(r"(?P<word>vs|etc)(?![\w.])"), _short_form),
    (re.compile(r"v\.(?= [A-Z])"), _versus),
    (re.compile(r"(?P<word>(?:[A-Z]\.){2,}|Ph\.D\.)(?P<plural>s)?(?!\w)"), _dotted),
    (re.compile(r"(?P<word>[A-Z](?:\.[A-Z])+|(?:[a-z]\.){2,}(?!\w))(?P<plural>)(?![\w.])"), _dotted),
    (re.compile(rf"(?P<letter>[A-Z])\.(?= (?P<next>{LETTER}+\.?))"), _initial),
]
WORDS: list[Row] = [
    (re.compile(rf"[IVXLC]{{1,7}}(?!\d|\.\w|{LETTER}|'[^s])"), _roman),
    (re.compile(rf"(?P<first>[A-Z]{{1,3}})&(?P<last>[A-Z]{{1,3}})(?P<plural>s)?{NOT_WITHIN}"), _initials_and),
    (re.compile(r"[CFJ]#(?!\w)"), _sharp),
    (re.compile(r"A[-\u2013]Z(?![\w'-])"), _a_to_z),
    (re.compile(rf"(?={LETTER}*\d)(?=\d*{LETTER})(?:\d|{LETTER})+"), _mixed),
    # Words that begin or end with an apostrophe; around others it is a quotation mark.
    (re.compile(rf"'(?:tis|twas|em|cause|til|till|bout|round){NOT_WITHIN}|'n'", re.IGNORECASE), _as_it_is),
    (re.compile(r"[oO]'(?= )"), _as_it_is),
    (re.compile(rf"(?P<word>{LETTER}+(?:'{LETTER}+)*)(?P<plural>\(e?s\))?"), _word),
]
