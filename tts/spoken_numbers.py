"""Numbers in words, and the rows that read them: counts, ordinals, fractions, years, versions, telephones.

A row is a pattern and a reader. The reader gets the match and gives what is said, "" for nothing, or None
where the row does not apply after all. It may look at the text around the match, which is as typed.
Patterns are tried at the beginning of a word or at a mark, never inside a word.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from num2words import num2words  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

from .spoken_lists import COUNTED, NAMED_BY_NUMBER

Reader = Callable[[re.Match[str]], str | None]
Row = tuple[re.Pattern[str], Reader]

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LETTER = "[^\\W\\d_\u00b5\u03a9]"  # without the two Greek letters that are units
WHOLE = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
NUMBER = rf"(?:{WHOLE}(?:\.\d+)?|\.\d+)"
YEAR = r"(?:1\d{3}|20\d\d)"
NOT_WITHIN = r"(?![^\W_])"  # no letter and no digit goes on
_END = rf"(?!\d|[.,:/]\d|{LETTER})"

MOST_DIGITS = 306  # a centillion and its hundreds are the last name that num2words has
UNGROUPED = 15  # more digits without separators are an account, not a count
LIKELY_YEARS = range(1500, 2100)  # bare numbers that are rather years than counts

_YEAR_CUE = re.compile(
    r"\b(?:in|since|by|of|until|till|from|before|after|during|around|circa|about|year|years|early|late|to|and|AD)"
    r"[ -]$",
    re.IGNORECASE,
)
_DECADE_CUE = re.compile(
    r"\b(?:the|her|his|their|my|our|your|its|early|mid|late)[ -]$"
    r"|\d0'?s(?:,? (?:and|or|to) |, | ?[-\u2013] ?)$",
    re.IGNORECASE,
)
_NAMED = re.compile(rf"\b(?:{NAMED_BY_NUMBER}) $", re.IGNORECASE)
_TELEPHONE = re.compile(
    r"\b(?:call|calls|called|calling|dial|dialed|dialled|dialing|phone|tel|telephone|text|fax|ring)"
    r"(?: (?:is|at|us at|me at|to|number))?[ .:]{1,2}$",
    re.IGNORECASE,
)
_IDIOMS = {
    "24/7": "twenty-four seven",
    "9/11": "nine eleven",
    "50/50": "fifty-fifty",
    "20/20": "twenty-twenty",
}
SCALES = {
    "k": "thousand",
    "K": "thousand",
    "m": "million",
    "M": "million",
    "mn": "million",
    "b": "billion",
    "B": "billion",
    "bn": "billion",
    "t": "trillion",
    "T": "trillion",
    "tn": "trillion",
}


def before(match: re.Match[str], size: int = 24) -> str:
    """The last characters before the match; a bounded look, so that long texts take linear time."""
    return match.string[max(0, match.start() - size) : match.start()]


def follows(match: re.Match[str], pattern: str) -> re.Match[str] | None:
    """The match of a pattern that begins where this one ends."""
    return re.compile(pattern).match(match.string, match.end())


def cardinal(digits: str) -> str:
    """A whole number in words; digit by digit if it begins with 0, or is too long to have a name."""
    grouped, digits = "," in digits, digits.replace(",", "")
    too_long = len(digits) > (MOST_DIGITS if grouped else UNGROUPED)
    if too_long or (len(digits) > 1 and digits[0] == "0"):
        return one_by_one(digits)
    return _words(int(digits), "cardinal")


def ordinal(digits: str) -> str:
    """`22` twenty-second; a number too long to have a name is said as a cardinal."""
    digits = digits.replace(",", "")
    return _words(int(digits), "ordinal") if len(digits) <= UNGROUPED else cardinal(digits)


def year(digits: str) -> str:
    """`1984` nineteen eighty-four, `1905` nineteen oh five, `2000` two thousand."""
    return _words(int(digits), "year")


def _words(number: int, form: str) -> str:
    words = str(num2words(number, to=form))  # pyright: ignore[reportUnknownArgumentType]
    return words.replace(",", "").replace("oh-", "oh ")


def one_by_one(digits: str) -> str:
    """Each digit by its name; what is no digit is passed over."""
    return " ".join(DIGITS[int(digit)] for digit in digits if digit.isdigit())


def number(written: str) -> str:
    """A number with or without separators and decimals: `1,234.5` one thousand ... point five."""
    whole, _, decimals = written.partition(".")
    if not decimals:
        return cardinal(whole)
    return f"{cardinal(whole)} point {one_by_one(decimals)}" if whole else f"point {one_by_one(decimals)}"


def pairs(digits: str) -> str:
    """A number that is a name: `320` three twenty, `101` one oh one, `2490` twenty-four ninety."""
    if digits[0] == "0" or len(digits) > 4:
        return one_by_one(digits)
    if len(digits) == 4:
        return year(digits)
    if len(digits) < 3 or digits.endswith("00"):
        return cardinal(digits)
    rest = f"oh {DIGITS[int(digits[2])]}" if digits[1] == "0" else cardinal(digits[1:])
    return f"{DIGITS[int(digits[0])]} {rest}"


def fraction(upper: str, lower: str) -> str:
    """`1/2` one half, `3/4` three quarters, `8/10` eight out of ten, `12/25` twelve over twenty-five."""
    above, below = int(upper), int(lower)
    if below in (2, 4):
        name = {2: ("half", "halves"), 4: ("quarter", "quarters")}[below]
        return f"{cardinal(upper)} {name[above != 1]}"
    if below in (10, 100) and 1 < above <= below:
        return f"{cardinal(upper)} out of {cardinal(lower)}"
    if above and (3 <= below <= 20 or below in (32, 64, 100, 1000)) and above < 2 * below:
        return f"{cardinal(upper)} {ordinal(lower)}{'s' if above != 1 else ''}"
    return f"{cardinal(upper)} over {cardinal(lower)}"


def mixed_fraction(whole: str, upper: str, lower: str) -> str:
    """`3 3/4` three and three quarters, `1 1/2` one and a half."""
    part = fraction(upper, lower)
    if part in ("one half", "one quarter"):
        part = part.replace("one", "a")
    return f"{cardinal(whole)} and {part}"


def _fraction(match: re.Match[str]) -> str | None:
    if match[0] in _IDIOMS:
        return _IDIOMS[match[0]]
    whole, upper, lower = match["whole"], match["upper"], match["lower"]
    if whole is None:
        return fraction(upper, lower)
    return mixed_fraction(whole, upper, lower) if int(upper) < int(lower) else None


def _out_of(match: re.Match[str]) -> str:
    return f"{number(match['got'])} out of {cardinal(match['most'])}"


def _decade(match: re.Match[str]) -> str | None:
    """`1990s` nineteen nineties, `'60s` sixties; a bare `30s` only after "the", "her": else it is seconds."""
    century, tens = match["century"] or "", match["tens"]
    if not century and "'" not in match[0] and not _DECADE_CUE.search(before(match)):
        return None
    if tens == "00":
        return {"": None, "20": "two thousands"}.get(century, f"{cardinal(century or '0')} hundreds")
    plural = "tens" if tens == "10" else cardinal(tens).removesuffix("y") + "ies"
    return f"{cardinal(century)} {plural}" if century else plural


def _short_year(match: re.Match[str]) -> str:
    """The class of `'99`."""
    digits = match["year"]
    return f"oh {DIGITS[int(digits[1])]}" if digits[0] == "0" else pairs(digits)


def _year(match: re.Match[str]) -> str | None:
    if follows(match, rf" (?:{COUNTED})\b"):
        return None
    cued = _YEAR_CUE.search(before(match)) or follows(match, " (?:BC|AD|CE)")
    return year(match["year"]) if cued or int(match["year"]) in LIKELY_YEARS else None


def _years(match: re.Match[str]) -> str | None:
    """`1914-18` nineteen fourteen to eighteen."""
    first, last = match["first"], match["last"]
    if len(last) == 2 and int(last) <= int(first[2:]):
        return None
    return f"{year(first)} to {year(last) if len(last) == 4 else pairs(last)}"


def _ordinal(match: re.Match[str]) -> str:
    return ordinal(match["number"])


def _version(match: re.Match[str]) -> str:
    """`2.4.1` two point four point one, `v2.4` version two point four; `192.168.0.1` has dots."""
    numbers = match["numbers"].split(".")
    said = "version " if match["v"] else ""
    if len(numbers) == 4 and all(len(n) <= 3 and int(n) < 256 for n in numbers):
        return said + " dot ".join(map(one_by_one, numbers))
    return said + " point ".join(map(cardinal, numbers))


def _points_for_commas(match: re.Match[str]) -> str:
    """`1.000.000`, as in Europe."""
    return cardinal(match[0].replace(".", ","))


def _digit_groups(match: re.Match[str]) -> str:
    """Digits one by one, with a pause where the writer left a gap."""
    groups = re.findall(r"\d+", match[0])
    return ("plus " if match[0].startswith("+") else "") + ", ".join(map(one_by_one, groups))


def _short_telephone(match: re.Match[str]) -> str | None:
    """`555-0123`; but `300-1000` is a range, as its round end tells."""
    rounded = match["last"].endswith("00") and match["last"][0] != "0"
    return None if rounded else _digit_groups(match)


def _international(match: re.Match[str]) -> str | None:
    return _digit_groups(match) if 7 <= sum(map(str.isdigit, match[0])) <= 15 else None


def _after_call(match: re.Match[str]) -> str | None:
    """Call `911`."""
    return one_by_one(match[0]) if _TELEPHONE.search(before(match, 32)) else None


def _name(match: re.Match[str]) -> str | None:
    """Room `101`."""
    return pairs(match[0]) if _NAMED.search(before(match)) else None


def _scaled(match: re.Match[str]) -> str | None:
    """`10k` ten thousand, `1.5M` one point five million; `4K` and `2B` are names and stay letters."""
    if match["scale"] in "KB" and "." not in match["number"]:
        return None
    return f"{number(match['number'])} {SCALES[match['scale']]}"


def _plain(match: re.Match[str]) -> str:
    return number(match[0])


TELEPHONES: list[Row] = [
    (re.compile(r"\d{1,3}(?:\.\d{3})*\.\d{3}\.000(?!\.?\d)"), _points_for_commas),
    (re.compile(r"(?:\+?1[ .-]?)?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\d-])"), _digit_groups),
    (re.compile(r"\+\d{1,3}(?:[ .-]?\(?\d{1,5}\)?){2,6}(?!\d)"), _international),
    (re.compile(r"(?<!\d )0\d{2,4}[ -]\d{3,4}(?:[ -]?\d{3,4})?(?![\d-])"), _digit_groups),
    (re.compile(r"\d{3}-(?P<last>\d{4})(?![\d-])"), _short_telephone),
    (re.compile(r"\d{4}([ -])\d{4}\1\d{4}(?:\1\d{1,7})?(?![\d-])"), _digit_groups),
    (re.compile(r"\d{1,7}(?:-\d{1,7}){2,}(?!\d)"), _digit_groups),
    (re.compile(r"(?<=\b[A-Z][A-Z] )\d{5}(?:-\d{4})?(?![\d,])"), _digit_groups),  # the code after a state
    (re.compile(r"\d{3,}(?![\d,.]*\d)"), _after_call),
]
DECADES: list[Row] = [
    (re.compile(rf"'?(?P<century>1[1-9]|20)?(?P<tens>\d0)'?s(?!{LETTER})"), _decade),
    (re.compile(rf"'(?P<year>\d\d)(?!['\d]|{LETTER})"), _short_year),
]
NUMBERS: list[Row] = [
    (re.compile(rf"(?P<v>v\.?|V(?=\d+\.\d))(?P<numbers>\d+(?:\.\d+)*){_END}"), _version),
    (re.compile(r"(?P<v>)(?P<numbers>\d+(?:\.\d+){2,})(?!\.?\d)"), _version),
    (re.compile(rf"(?P<first>{YEAR})/(?P<last>{YEAR}|\d\d){_END}"), _years),
    (re.compile(r"(?P<got>\d{1,3}\.\d{1,2})/(?P<most>5|10|100)(?![\d/.])"), _out_of),
    (
        re.compile(
            rf"(?<!\d/)(?:(?P<whole>\d{{1,4}})[ -])?"
            rf"(?P<upper>\d{{1,4}})/(?P<lower>[1-9]\d{{0,3}}){_END}"
        ),
        _fraction,
    ),
    (re.compile(rf"(?P<first>{YEAR}) ?[-\u2013] ?(?P<last>{YEAR}|\d\d){_END}"), _years),
    (re.compile(rf"(?P<year>{YEAR})(?!\d|[.,:]\d|{LETTER}|[%\u00b0])"), _year),
    (re.compile(rf"(?P<number>{WHOLE})(?:st|nd|rd|th)(?!{LETTER})", re.IGNORECASE), _ordinal),
    (re.compile(rf"(?P<number>{NUMBER})(?P<scale>bn|mn|tn|[kKMB])(?![\w/])"), _scaled),
    (re.compile(rf"\d{{3,4}}{_END}"), _name),
]
PLAIN: list[Row] = [(re.compile(NUMBER), _plain)]
