"""Rows that read money, percentages, units and sizes."""

from __future__ import annotations

import re

from .spoken_numbers import (
    LETTER,
    NOT_WITHIN,
    NUMBER,
    SCALES,
    Row,
    before,
    cardinal,
    follows,
    fraction,
    mixed_fraction,
    number,
    pairs,
)
from .spoken_units import ATTACHED, CURRENCIES, DOLLARS_OF, LENGTHS, PER, UNITS

WINDS = {"N": "north", "S": "south", "E": "east", "W": "west"}


def _describes(match: re.Match[str]) -> bool:
    """Whether the amount describes one thing: a ninety degree turn, a five dollar bill."""
    return bool(re.search(r"\b[Aa]n? $", before(match))) and bool(follows(match, " [a-z]"))


def _money(match: re.Match[str]) -> str | None:
    """`$5`, `£3.50` three pounds and fifty pence, `€1.2 million`, `$5-10` five to ten dollars."""
    mark = match["mark"]
    if match["land"] and mark != "$":
        return None
    land = DOLLARS_OF.get(match["land"] or "", "")
    one, many, *hundredth = CURRENCIES[mark]
    names = (land + one, land + (one if _describes(match) else many), *hundredth)
    if not match["scale"] and not match["to"]:
        return _coins(match["amount"], names)
    span = f" to {number(match['to'])}" if match["to"] else ""
    scale = f" {SCALES.get(match['scale'], match['scale'])}" if match["scale"] else ""
    return f"{number(match['amount'])}{span}{scale} {names[1]}"


def _coins(amount: str, names: tuple[str, ...]) -> str:
    """`3.50` three dollars and fifty cents, for `names` of one and many dollars, one and many cents."""
    one, many, cent, cents = names
    whole, _, decimals = amount.partition(".")
    if len(decimals) != 2 or not cent:
        return f"{number(amount)} {one if amount == '1' else many}"
    count, small = whole.replace(",", "").lstrip("0"), decimals.lstrip("0")
    parts = [f"{cardinal(count)} {one if count == '1' else many}"] if count else []
    if small:
        parts.append(f"{cardinal(small)} {cent if small == '1' else cents}")
    return " and ".join(parts) or f"zero {many}"


def _money_after(match: re.Match[str]) -> str | None:
    """`99¢`, `50p`, `5 €`, `20 USD`."""
    amount = match["amount"]
    if match["penny"] and (not amount.isdigit() or int(amount) > 99):
        return None  # 1080p are no pence
    return _coins(amount, CURRENCIES[match["penny"] or match["mark"]])


def _share(match: re.Match[str]) -> str:
    """`$AAPL`: a share by its letters."""
    return " ".join(match["letters"])


def _measure(match: re.Match[str]) -> str | None:
    """`5 km`, `3kg`, `-20 °C`, `50 m^2`, `60 km/h`, `1/2 mi`, `a 5-km run`."""
    unit, gap = re.sub(r"fl.*", "floz", match["unit"]), match["gap"]
    pointed = unit == "in" and (match["dot"] or re.search(r"\d ?(?:ft\.?|feet|foot) $", before(match)))
    if (gap == " " and unit in ATTACHED and not pointed) or (gap != " " and unit == "K"):
        return None  # 4K is a name
    one, many = UNITS[unit]
    if match["power"] and unit not in LENGTHS:
        return None
    shape = {"2": "square ", "3": "cubic "}[match["power"][-1]] if match["power"] else ""
    shape = "square " if match["square"] else shape
    # The point of "5 lbs." belongs to the unit where the sentence goes on.
    stop = match["dot"] and not follows(match, r" [a-z0-9(]|[,;:!?)]")
    return _quantity(match, shape + one, shape + many) + _per(match) + ("." if stop else "")


def _per(match: re.Match[str]) -> str:
    """`/h` per hour, `/s^2` per second squared, `/m^3` per cubic meter."""
    if not match["per"]:
        return ""
    name = PER[match["per"]]
    if not match["per_power"]:
        return f" per {name}"
    square = match["per_power"][-1] == "2"
    if match["per"] in LENGTHS:
        return f" per {'square' if square else 'cubic'} {name}"
    return f" per {name} {'squared' if square else 'cubed'}"


def _quantity(match: re.Match[str], one: str, many: str) -> str:
    whole, upper, lower = match["whole"], match["upper"], match["lower"]
    if upper is None:
        said = number(match["number"])
        if match["gap"] == "-":
            return f"{said}-{one}"  # a five-kilometer run
        return f"{said} {one if match['number'] == '1' or _describes(match) else many}"
    if whole is not None:
        return f"{mixed_fraction(whole, upper, lower)} {many}"
    part = fraction(upper, lower)
    if int(upper) >= int(lower):
        return f"{part} {many}"
    if one.endswith("spoon"):
        return f"{part} {one}"  # recipes say "one half teaspoon salt"
    article = "an" if one[0] in "aeiou" or one.startswith("hour") else "a"
    return f"half {article} {one}" if part == "one half" else f"{part} of {article} {one}"


def _feet(match: re.Match[str]) -> str:
    """`5'10"` five foot ten."""
    return f"{cardinal(match['feet'])} foot {number(match['inches'])}"


def _feet_alone(match: re.Match[str]) -> str:
    return f"{number(match['number'])} {'foot' if match['number'] == '1' else 'feet'}"


def _inches(match: re.Match[str]) -> str | None:
    """`12"` twelve inches, unless the mark closes a quotation."""
    if before(match, 400).count('"') % 2:
        return None
    return f"{number(match['number'])} {'inch' if match['number'] == '1' or _describes(match) else 'inches'}"


def _by(match: re.Match[str]) -> str:
    """`3 x 4` three by four; the last number is read with its unit."""
    first = match["number"]
    if re.fullmatch(r"\d{3,4}", first) and follows(match, r"\d{3,4}(?![\d.,])"):
        return f"{pairs(first)} by"  # a screen of 1920x1080
    return number(first) + (" times" if match["sign"] == " \u00d7 " else " by")


def _pairs(match: re.Match[str]) -> str:
    return pairs(match[0])


def _times(match: re.Match[str]) -> str:
    """`2x` two times, as in "2x faster"; in a sum like "2x + 5" it is two X."""
    return number(match["number"]) + (" X" if follows(match, r" ?[-+=^*/] ?[\w(]") else " times")


def _scientific(match: re.Match[str]) -> str:
    """`6.02e23` six point zero two times ten to the power of twenty-three."""
    sign = "minus " if match["sign"] == "-" else ""
    return f"{number(match['number'])} times ten to the power of {sign}{cardinal(str(int(match['power'])))}"


def _two(match: re.Match[str]) -> str:
    """`2h 15m` two hours fifteen minutes."""
    large, small = ("hour", "minute") if match["unit"] == "h" else ("minute", "second")
    first, second = str(int(match["first"])), str(int(match["second"]))
    said = f"{cardinal(first)} {large}" + ("" if first == "1" else "s")
    return f"{said} {cardinal(second)} {small}" + ("" if second == "1" else "s")


def _bearing(match: re.Match[str]) -> str:
    """`50°N` fifty degrees north."""
    return f"{number(match['number'])} degree{'' if match['number'] == '1' else 's'} {WINDS[match['wind']]}"


_CODES = "USD|EUR|GBP|JPY|CHF|CAD|AUD|INR|CNY"
_UNIT = "|".join(sorted(map(re.escape, UNITS), key=len, reverse=True)).replace("floz", r"fl\.? ?oz")
_PER = "|".join(sorted(map(re.escape, PER), key=len, reverse=True))
_AMOUNT = (
    rf"(?:(?:(?P<whole>\d{{1,4}}) )?(?P<upper>\d{{1,3}})/(?P<lower>[1-9]\d{{0,2}})|(?P<number>{NUMBER}))"
)
_SCALE = rf"(?:hundred|thousand|million|billion|trillion|(?<! )(?:[kKmMbBtT]|[mbt]n))(?!{LETTER})"

MONEY: list[Row] = [
    (re.compile(rf"\$(?P<letters>[A-Z]{{1,5}}){NOT_WITHIN}"), _share),
    (
        re.compile(
            rf"(?P<land>US|C|CA|A|AU|NZ|HK)?(?P<mark>[$£€¥₹]|(?:{_CODES})(?= ?\d)) ?(?P<amount>{NUMBER})"
            rf"(?: ?[-\u2013] ?(?P<to>{NUMBER})(?![\d/:]))?(?:[ -]?(?P<scale>{_SCALE}))?"
        ),
        _money,
    ),
    (re.compile(rf"(?P<amount>{NUMBER})(?:(?P<penny>p)| ?(?P<mark>[¢€£¥₹]|{_CODES}))(?!\w)"), _money_after),
]
AMOUNTS: list[Row] = [
    (re.compile(r"(?P<feet>\d)' ?(?P<inches>\d\d?(?:\.\d)?)(?:\"|''|(?![\d']))"), _feet),
    (re.compile(rf"(?P<number>{NUMBER})'(?= (?:tall|high|long|wide|deep|by|x)\b)"), _feet_alone),
    (re.compile(rf"(?P<number>{NUMBER})\"(?!\w)"), _inches),
    (re.compile(rf"(?P<number>(?!0x){NUMBER})(?P<sign> ?[x\u00d7] ?|X)(?=\.?\d)"), _by),
    (re.compile(r"(?<=\d{3}[x\u00d7])\d{3,4}(?![\d.,])"), _pairs),
    (re.compile(rf"(?P<number>{NUMBER})[x\u00d7](?!\w)"), _times),
    (re.compile(rf"(?P<first>\d{{1,4}})(?P<unit>h) ?(?P<second>\d\d?)m(?:in)?{NOT_WITHIN}"), _two),
    (re.compile(rf"(?P<first>\d{{1,4}})(?P<unit>m)(?:in)? ?(?P<second>\d\d?)s{NOT_WITHIN}"), _two),
    (re.compile(rf"(?P<number>{NUMBER})° ?(?P<wind>[NSEW]){NOT_WITHIN}"), _bearing),
    (re.compile(rf"(?P<number>{NUMBER})[eE](?P<sign>[-+]?)(?P<power>\d{{1,3}})(?![\w.])"), _scientific),
    (
        re.compile(
            rf"{_AMOUNT}(?P<gap>[ -]?)(?:(?P<square>sq\.? ?)(?=m|km|mi|ft|in|yd))?(?P<unit>{_UNIT})"
            rf"(?P<power>\^?[23])?(?:/(?P<per>{_PER})(?P<per_power>\^[23])?)?(?!{LETTER}|\d|\^)(?P<dot>\.(?!\w))?"
        ),
        _measure,
    ),
]
