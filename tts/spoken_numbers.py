"""Numbers in words, and the rows that read them: counts, ordinals, fractions, years, versions, telephones.

A row is a pattern and a reader. The reader gets the match and gives what is said, "" for nothing, or None where
the row does not apply after all. It may look at the text around the match, which is as typed. Patterns are tried
at the beginning of a word or at a mark, never inside a word.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from num2words import num2words  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

Reader = Callable[[re.Match[str]], str | None]
Row = tuple[re.Pattern[str], Reader]

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LETTER = r"[^\W\d_µΩ]"
WHOLE = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
NUMBER = rf"(?:{WHOLE}(?:\.\d+)?|\.\d+)"
YEAR = r"(?:1[1-9]\d\d|20\d\d)"

MOST_DIGITS = 306  # a centillion and its hundreds are the last name that num2words has
UNGROUPED = 15  # more digits without separators are an account, not a count
PLAIN_YEARS = range(1500, 2100)  # bare numbers that are rather years than counts

YEAR_CUE = re.compile(
    r"\b(?:in|since|by|of|until|till|from|before|after|during|around|circa|about|year|years|early|late|to|and|AD)"
    r"[ -]$",
    re.IGNORECASE,
)
COUNTED = re.compile(
    r"\s(?:people|men|women|children|times|dollars|pounds|euros|cents|points|votes|years|months|weeks|days|hours"
    r"|minutes|seconds|miles|metres|meters|feet|steps|items|pages|words|characters|users|students|calories"
    r"|copies|soldiers|employees|degrees|bytes|different|or more|per)\b"
)
NAMED_BY_NUMBER = re.compile(
    r"\b(?:rooms?|suite|apartment|apt\.?|flight|route|highway|interstate|bus|gate|building|unit|boeing|airbus"
    r"|channel|locker|error|line)\s$",
    re.IGNORECASE,
)
TELEPHONE = re.compile(
    r"\b(?:call|calls|called|calling|dial|dialed|dialled|dialing|phone|tel|telephone|text|fax|ring)"
    r"(?:\s(?:is|at|us at|me at|to|number))?[ .:]{1,2}$",
    re.IGNORECASE,
)


def cardinal(digits: str) -> str:
    """A whole number in words; digit by digit if it begins with 0, or is too long to have a name."""
    grouped, digits = "," in digits, digits.replace(",", "")
    too_long = len(digits) > (MOST_DIGITS if grouped else UNGROUPED)
    if too_long or (len(digits) > 1 and digits[0] == "0"):
        return one_by_one(digits)
    return _words(int(digits), "cardinal")


def ordinal(digits: str) -> str:
    """`22` twenty-second; a number without a name is said as a cardinal."""
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
    """A number with or without separators and decimals: `1,234.50` one thousand ... point five zero."""
    whole, _, decimals = written.partition(".")
    return f"{cardinal(whole) if whole else ''} point {one_by_one(decimals)}".lstrip() if decimals else cardinal(whole)


def pairs(digits: str) -> str:
    """A number that names and does not count: `320` three twenty, `101` one oh one, `2490` twenty-four ninety."""
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
    if below == 2 or below == 4:
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
    return f"{cardinal(whole)} and {part.replace('one ', 'a ') if part in ('one half', 'one quarter') else part}"


IDIOMS = {"24/7": "twenty-four seven", "9/11": "nine eleven", "50/50": "fifty-fifty", "20/20": "twenty-twenty"}


def _fraction(match: re.Match[str]) -> str | None:
    if match[0] in IDIOMS:
        return IDIOMS[match[0]]
    whole, upper, lower = match["whole"], match["upper"], match["lower"]
    if whole is not None and int(upper) < int(lower):
        return mixed_fraction(whole, upper, lower)
    return None if whole is not None else fraction(upper, lower)


def _decade(match: re.Match[str]) -> str | None:
    century, tens, before = match["century"] or "", match["tens"], match.string[: match.start()]
    apostrophe = "'" in match[0]
    if not century and not apostrophe:
        # `30s` may be thirty seconds.
        if tens == "00" or not re.search(r"\b(?:the|her|his|their|my|our|your|its|early|mid|late)[ -]$", before, re.I):
            return None
    if tens == "00":
        return {"": None, "20": "two thousands"}.get(century, f"{cardinal(century or '0')} hundreds")
    plural = "tens" if tens == "10" else cardinal(tens).removesuffix("y") + "ies"
    return f"{cardinal(century)} {plural}" if century else plural


def _year(match: re.Match[str]) -> str | None:
    digits, before = match["year"], match.string[: match.start()]
    if COUNTED.match(match.string, match.end()):
        return None
    after = match.string[match.end() : match.end() + 4]
    cued = YEAR_CUE.search(before[-12:]) or re.match(r" (?:BC|AD|CE)", after)
    return year(digits) if int(digits) in PLAIN_YEARS or cued else None


def _years(match: re.Match[str]) -> str | None:
    """`1914-18` nineteen fourteen to eighteen."""
    first, last = match["first"], match["last"]
    if len(last) == 2 and int(last) <= int(first[2:]):
        return None
    return f"{year(first)} to {year(last) if len(last) == 4 else pairs(last)}"


def _ordinal(match: re.Match[str]) -> str:
    return ordinal(match["number"])


def _version(match: re.Match[str]) -> str:
    """`2.4.1` two point four point one, `v2.4` version two point four, `192.168.0.1` with "dot" between digits."""
    numbers = match["numbers"].split(".")
    said = "version " if match["v"] else ""
    if len(numbers) == 4 and all(len(n) <= 3 and int(n) < 256 for n in numbers):
        return said + " dot ".join(map(one_by_one, numbers))
    return said + " point ".join(map(cardinal, numbers))


def _digit_groups(match: re.Match[str]) -> str:
    """Digits one by one, with a pause where the writer left a gap."""
    groups = re.findall(r"\d+", match[0])
    return ("plus " if match[0].startswith("+") else "") + ", ".join(map(one_by_one, groups))


def _short_telephone(match: re.Match[str]) -> str | None:
    """`555-0123`; but `300-1000` is a range, as round ends are."""
    rounded = match["last"].endswith("00") and match["last"][0] != "0"
    return None if rounded else _digit_groups(match)


def _international(match: re.Match[str]) -> str | None:
    return _digit_groups(match) if 7 <= sum(map(str.isdigit, match[0])) <= 15 else None


def _after_call(match: re.Match[str]) -> str | None:
    return one_by_one(match[0]) if TELEPHONE.search(match.string[max(0, match.start() - 24) : match.start()]) else None


def _name(match: re.Match[str]) -> str | None:
    before = match.string[max(0, match.start() - 16) : match.start()]
    return pairs(match[0]) if NAMED_BY_NUMBER.search(before) else None


def _scaled(match: re.Match[str]) -> str | None:
    """`10k` ten thousand, `1.5M` one point five million; `4K` and `2B` are names and stay letters."""
    scale = match["scale"]
    if scale in "KB" and "." not in match["number"]:
        return None
    return f"{number(match['number'])} {SCALES[scale]}"


SCALES = {"k": "thousand", "K": "thousand", "M": "million", "m": "million", "mn": "million", "bn": "billion"}
SCALES |= {"B": "billion", "b": "billion", "tn": "trillion", "T": "trillion", "t": "trillion"}

# A number does not end before more of it: a digit, a decimal, a letter.
_END = rf"(?![\d]|[.,:/]\d|{LETTER})"

TELEPHONES: list[Row] = [
    (re.compile(r"(?:\+?1[ .-]?)?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\d-])"), _digit_groups),
    (re.compile(r"\+\d{1,3}(?:[ .-]?\(?\d{1,5}\)?){2,6}(?!\d)"), _international),
    (re.compile(r"0\d{2,4}[ -]\d{3,4}(?:[ -]?\d{3,4})?(?![\d-])"), _digit_groups),
    (re.compile(r"\d{3}-(?P<last>\d{4})(?![\d-])"), _short_telephone),
    (re.compile(r"\d{3}-\d\d-\d{4}(?![\d-])|\d{4}([ -])\d{4}\1\d{4}(?:\1\d{1,7})?(?![\d-])"), _digit_groups),
    (re.compile(r"\d{1,7}(?:-\d{1,7}){3,}(?!\d)"), _digit_groups),
    (re.compile(r"(?<=\b[A-Z][A-Z] )\d{5}(?:-\d{4})?(?![\d,])"), _digit_groups),  # the code after a state
    (re.compile(r"\d{3,}(?![\d,.]*\d)"), _after_call),
]
NUMBERS: list[Row] = [
    (re.compile(rf"(?P<v>v\.?|V(?=\d+\.\d))(?P<numbers>\d+(?:\.\d+)*){_END}"), _version),
    (re.compile(r"(?P<v>)(?P<numbers>\d+(?:\.\d+){2,})(?!\.?\d)"), _version),
    (re.compile(rf"(?:(?P<whole>\d{{1,4}})[ -])?(?P<upper>\d{{1,4}})/(?P<lower>[1-9]\d{{0,3}}){_END}"), _fraction),
    (re.compile(rf"'?(?P<century>1[1-9]|20)?(?P<tens>\d0)'?s(?!{LETTER})"), _decade),
    (re.compile(rf"'(\d\d)(?!['\d]|{LETTER})"), lambda match: pairs(match[1])),  # the class of '99
    (re.compile(rf"(?P<first>{YEAR}) ?[-–] ?(?P<last>{YEAR}|\d\d){_END}"), _years),
    (re.compile(rf"(?P<first>{YEAR})/(?P<last>{YEAR}|\d\d){_END}"), _years),
    (re.compile(rf"(?P<year>{YEAR})(?!\d|[.,:]\d|{LETTER}|[%°])"), _year),
    (re.compile(rf"(?P<number>{WHOLE})(?:st|nd|rd|th)(?!{LETTER})", re.IGNORECASE), _ordinal),
    (re.compile(rf"(?P<number>{NUMBER})(?P<scale>bn|mn|tn|[kKMB])(?![\w]|/)"), _scaled),
    (re.compile(rf"\d{{3,4}}{_END}"), _name),
]
PLAIN: list[Row] = [(re.compile(NUMBER), lambda match: number(match[0]))]
