"""Rows that read dates and times of day."""

from __future__ import annotations

import re

from .spoken_abbreviations import stop_after
from .spoken_lists import COUNTED
from .spoken_numbers import LETTER, YEAR, Row, before, cardinal, follows, ordinal, year

_MONTHS = "January February March April May June July August September October November December"
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
NAMES = _MONTHS.split()
MONTHS = {form: name for name in NAMES for form in (name, name[:3], name.upper())} | {"Sept": "September"}
DAYS = {form: name for name in _DAYS.split() for form in (name, name[:3])} | {
    "Tues": "Tuesday",
    "Weds": "Wednesday",
    "Thur": "Thursday",
    "Thurs": "Thursday",
}
LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

# Longest first: `Mar` must not take the beginning of `March`.
MONTH = "(?:" + "|".join(sorted(MONTHS, key=len, reverse=True)) + rf")(?!{LETTER})\.?"
DAY = "(?:" + "|".join(sorted(DAYS, key=len, reverse=True)) + rf")(?!{LETTER})\.?"
_SHORT = "Mon|Tues?|Weds?|Thu(?:rs?)?|Fri"  # with a point, days; "Sat." and "Sun." may be words
_NTH = r"(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?"
_HALF = r"(?P<half>[AaPp]\.? ?[Mm])(?![^\W\d_])(?P<dot>\.?)"


def _month(written: str) -> str:
    return MONTHS[written.rstrip(".")]


def _nth(written: str) -> str:
    return ordinal(re.sub(r"\D", "", written).lstrip("0"))


def _stop(match: re.Match[str], written: str) -> str:
    """A stop where the point of a short form also ends the sentence."""
    return "." if written.endswith(".") and stop_after(match.string, match.end()) else ""


def _month_first(match: re.Match[str]) -> str | None:
    """`May 3rd, 2021` May third, twenty twenty-one; `May 3-5` May third to fifth."""
    if not match["year"] and follows(match, rf" (?:{COUNTED})\b"):
        return None
    said = f"{_month(match['month'])} {_nth(match['day'])}"
    if match["to"]:
        said += f" to {_nth(match['to'])}"
    return f"{said}, {year(match['year'])}" if match["year"] else said


def _day_first(match: re.Match[str]) -> str:
    """`3 May 2021` the third of May twenty twenty-one."""
    the = "" if re.search(r"\bthe $", before(match), re.IGNORECASE) else "the "
    to = f" to the {_nth(match['to'])}" if match["to"] else ""
    said = f"{the}{_nth(match['day'])}{to} of {_month(match['month'])}"
    return f"{said} {year(match['year'])}" if match["year"] else said + _stop(match, match["month"])


def _month_and_year(match: re.Match[str]) -> str:
    return f"{_month(match['month'])} {year(match['year'])}"


def _month_alone(match: re.Match[str]) -> str:
    return _month(match["month"]) + _stop(match, match["month"])


def _day_alone(match: re.Match[str]) -> str:
    return DAYS[match["day"].rstrip(".")] + _stop(match, match["day"])


def _span(match: re.Match[str]) -> str:
    """`Mon-Fri` Monday to Friday."""
    names = MONTHS | DAYS
    return f"{names[match['first'].rstrip('.')]} to {names[match['last'].rstrip('.')]}"


def _date(y: str, m: str, d: str) -> str | None:
    """`2021`, `05`, `03` May third, twenty twenty-one; None where the calendar has no such day."""
    if not (1 <= int(m) <= 12 and 1 <= int(d) <= LONGEST[int(m) - 1]):
        return None
    full = y if len(y) == 4 else ("20" if int(y) < 50 else "19") + y
    return f"{NAMES[int(m) - 1]} {ordinal(d.lstrip('0'))}, {year(full)}"


def _iso(match: re.Match[str]) -> str | None:
    """`2021-05-03`, perhaps with `T09:30:00Z`."""
    said = _date(match["y"], match["m"], match["d"])
    if said is None or match["hour"] is None:
        return said
    return f"{said}, {_clock(match['hour'], match['minute'])}{' U T C' if match['zone'] else ''}"


def _american(match: re.Match[str]) -> str | None:
    """`5/3/2021` May third, unless that cannot be."""
    first, second = match["first"], match["second"]
    return _date(match["y"], first, second) or _date(match["y"], second, first)


def _european(match: re.Match[str]) -> str | None:
    """`5/3/2021` March fifth, unless that cannot be."""
    first, second = match["first"], match["second"]
    return _date(match["y"], second, first) or _date(match["y"], first, second)


def _with_points(match: re.Match[str]) -> str | None:
    """`3.5.2021`: where dates have points the day is first."""
    return _date(match["y"], match["month"], match["day"])


def _year_and_month(match: re.Match[str]) -> str:
    return f"{NAMES[int(match['m']) - 1]} {year(match['y'])}"


def _clock(hour: str, minute: str, full: str = " o'clock") -> str:
    """`9`, `05` nine oh five. `full` follows an hour without minutes, up to twelve; then come hundreds."""
    said = cardinal(str(int(hour)))
    if minute != "00":
        return f"{said} oh {cardinal(minute[1])}" if minute[0] == "0" else f"{said} {cardinal(minute)}"
    return said + (full if 1 <= int(hour) <= 12 else " hundred")


def _time(match: re.Match[str]) -> str:
    """`9:30 PM` nine thirty P M, `9:00` nine o'clock, `21:05` twenty-one oh five."""
    short = match["half"] or follows(match, r" ?[-\u2013] ?\d")  # from ten to eleven thirty
    said = _clock(match["hour"], match["minute"], "" if short else " o'clock")
    if match["second"]:
        seconds = str(int(match["second"]))
        said += f" and {cardinal(seconds)} second{'' if seconds == '1' else 's'}"
    return said + _half(match)


def _british_time(match: re.Match[str]) -> str:
    return _clock(match["hour"], match["minute"], "") + _half(match)


def _hour(match: re.Match[str]) -> str:
    """`7am`, `7 a.m.` seven A M."""
    return cardinal(match["hour"].lstrip("0")) + _half(match)


def _half(match: re.Match[str]) -> str:
    half = match["half"]
    if not half:
        return ""
    # The point of `p.m.` may also end the sentence; that of `pm.` does nothing else.
    stop = match["dot"] and ("." not in half or stop_after(match.string, match.end()))
    return f" {half[0].upper()} M{'.' if stop else ''}"


def _ratio(match: re.Match[str]) -> str:
    """`3:1` three to one; `25:30` are minutes and seconds."""
    if re.fullmatch(r"[0-5]\d", match["last"]):
        return _clock(match["first"], match["last"], "")
    return f"{cardinal(match['first'])} to {cardinal(match['last'])}"


_NUMERIC = re.compile(r"(?P<first>\d\d?)([/-])(?P<second>\d\d?)\2(?P<y>\d{4}|(?<=/)\d\d)(?![\d/-])")
AMERICAN: Row = (_NUMERIC, _american)
EUROPEAN: Row = (_NUMERIC, _european)
DATES: list[Row] = [
    (
        re.compile(
            r"(?P<y>\d{4})-(?P<m>\d\d)-(?P<d>\d\d)(?!\d|-\d)"
            r"(?:[T ](?P<hour>[01]\d|2[0-3]):(?P<minute>[0-5]\d)(?::\d\d(?:\.\d+)?)?"
            r"(?P<zone>Z|\+00:?00)?(?![\d:]))?"
        ),
        _iso,
    ),
    (re.compile(rf"(?P<day>\d\d?)\.(?P<month>\d\d?)\.(?P<y>{YEAR})(?!\.?\d)"), _with_points),
    (re.compile(rf"(?P<y>{YEAR})-(?P<m>0[1-9])(?![\d-])"), _year_and_month),
    (
        re.compile(
            rf"(?P<month>{MONTH}) (?P<day>{_NTH})(?!\d|[.,:/]\d|{LETTER}|[%\u00b0])"
            rf"(?: ?[-\u2013] ?(?P<to>{_NTH})(?![\d:/]|{LETTER}))?(?:,? (?P<year>{YEAR})(?!\d|,\d))?"
        ),
        _month_first,
    ),
    (
        re.compile(
            rf"(?P<day>{_NTH})(?: ?[-\u2013] ?(?P<to>{_NTH}))?(?: of)? (?P<month>{MONTH})"
            rf"(?:,? (?P<year>{YEAR})(?!\d|,\d))?"
        ),
        _day_first,
    ),
    (re.compile(rf"(?P<month>{MONTH}),? (?P<year>{YEAR})(?!\d|,\d|{LETTER})"), _month_and_year),
    (re.compile(rf"(?P<first>{DAY}|{MONTH}) ?[-\u2013] ?(?P<last>{DAY}|{MONTH})"), _span),
    (re.compile(r"(?P<month>(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\.)"), _month_alone),
    (
        re.compile(rf"(?P<day>(?:{_SHORT}|Sat|Sun)\b\.?)(?=,? (?:{MONTH}|\d))"),
        _day_alone,
    ),
    (re.compile(rf"(?P<day>(?:{_SHORT})\.)(?!\w)"), _day_alone),
]
TIMES: list[Row] = [
    (
        re.compile(
            r"(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?(?![\d:]|[.,]\d)"
            rf"(?: ?{_HALF})?"
        ),
        _time,
    ),
    (re.compile(rf"(?P<hour>0?[1-9]|1[0-2])\.(?P<minute>[0-5]\d) ?{_HALF}"), _british_time),
    (re.compile(rf"(?P<hour>0?[1-9]|1[0-2]) ?{_HALF}"), _hour),
    (re.compile(r"(?P<first>\d{1,3}):(?P<last>\d{1,3})(?![\d:]|[.,]\d)"), _ratio),
]
