"""Rows that read signs, and the marks that are kept because a pause has a cause.

Every pause becomes one of `. , ? ! ; :`. A dash or a bracket is a comma; an ellipsis is a comma before a
small letter and a stop elsewhere; quotation marks are silent. A hyphen stays only within a word.
"""

from __future__ import annotations

import re

from .spoken_numbers import LETTER, NOT_WITHIN, NUMBER, Reader, Row, before, follows, number
from .spoken_source import BREAK, PLACE
from .spoken_units import PER

STRENGTH = {",": 1, ";": 2, ":": 2, ".": 3, "!": 4, "?": 5}  # where marks meet, the strongest stays
NAMED = {
    "+": "plus",
    "%": "percent",
    "@": "at",
    "#": "hash",
    "$": "dollar",
    "£": "pound",
    "€": "euro",
    "¥": "yen",
    "¢": "cent",
    "₹": "rupee",
    "°": "degrees",
    "§": "section",
    "©": "copyright",
    "\u00d7": "times",
    "÷": "divided by",
    "≈": "approximately",
    "√": "square root of",
    "∞": "infinity",
    "µ": "micro",
    "Ω": "ohm",
    "‰": "per mille",
    "\\": "backslash",
}


def _said(word: str) -> Reader:
    def reader(_match: re.Match[str]) -> str:
        return word

    return reader


def _as_it_is(match: re.Match[str]) -> str:
    return match[0]


def _heart(match: re.Match[str]) -> str:
    """I `<3` you; elsewhere it is decoration."""
    return "love" if re.search(r"\b(?:I|we|We|you|You|they|They) $", before(match)) else ""


def _either(match: re.Match[str]) -> str:
    return f"{match['first']} or {match['last']}"


def _ellipsis(match: re.Match[str]) -> str:
    return "," if follows(match, r" ?[\"'(]*[a-z]") else "."


def _exclaimed(match: re.Match[str]) -> str:
    return "?" if "?" in match[0] else "!"


def _closing(match: re.Match[str]) -> str:
    """A pause, unless nothing more is said or the bracket belongs to a name: `f(x)`."""
    if re.search(r"\S\([^()]*$", before(match)) and match[0] == ")":
        return ""
    return "," if follows(match, rf"(?:(?!{BREAK})[\W_]){{0,80}}[^\W_]") else ""


def _paragraph(match: re.Match[str]) -> str:
    """A stop at the end of a paragraph, a heading or an item that has no mark of its own."""
    return "" if re.search(r"[.!?:;]['\")\]]*$", before(match)) else "."


def _spaced_dash(match: re.Match[str]) -> str:
    """`5 - 3` minus, `10 \u2013 12` and `2019 - 2021` to; else a pause."""
    left, right = re.search(rf"({NUMBER}) ?$", before(match)), follows(match, rf" ?({NUMBER})( ?=)?")
    if not left or not right:
        # Single letters are variables, but "a" and "I" are words.
        sum_ = re.search(r"(?:\d|\b)[b-hj-z] ?$", before(match)) and follows(match, r" ?(?:\d|[b-hj-z]\b)")
        return "minus" if sum_ and "\u2013" not in match[0] else ","
    low, high = (float(side[1].replace(",", "")) for side in (left, right))
    return "to" if "\u2013" in match[0] or (low < high and not right[2]) else "minus"


def _joined_dash(match: re.Match[str]) -> str | None:
    """`3-5` to, `9am-5pm` to; `5-3=2` minus; but `F-16` and `x86-64` are names."""
    left = before(match)
    counted = re.search(rf"(?:^|[^\d.,])([\d.,]*\d) ?(?:{LETTER}{{1,3}}|[ap]\.m\.|°[CF]?|%)?$", left)
    if not counted or re.search(rf"{LETTER}$", left[: counted.start(1)]):
        return None
    return "minus" if follows(match, rf"{NUMBER} ?=") else "to"


def _per(match: re.Match[str]) -> str | None:
    """`$5/month` per month."""
    amount = re.search(rf"\d[\d.,]*[ -]?(?:{LETTER}{{1,8}}|[%°¢])?$", before(match))
    return f"per {PER[match['per']]}" if amount else None


def _slash(match: re.Match[str]) -> str:
    """Silent between two words (`and/or`); said in a path."""
    left, right = re.search(r"\S*$", before(match, 200)), follows(match, r"\S{0,200}")
    whole = (left[0] if left else "") + "/" + (right[0] if right else "")
    path = whole.startswith(("/", "~/", "./")) or whole.count("/") > 2
    return "slash" if path and re.search(r"\w", whole) else ""


def _power(match: re.Match[str]) -> str:
    """`x^2` x squared, `10^-3` ten to the power of minus three; a raised digit after a word is a footnote."""
    power = match["power"]
    if re.search(rf"{LETTER}{{3}}$", before(match)):
        return ""
    if power in ("2", "3"):
        return "squared" if power == "2" else "cubed"
    sign, power = "minus " if power[0] in "-\u2013" else "", power.lstrip("+-\u2013")
    return f"to the power of {sign}{number(power) if power[0].isdigit() else power}"


def _operator(match: re.Match[str]) -> str:
    """`*` between operands; as decoration it is silent."""
    return "times" if re.search(r"[\w)] ?$", before(match)) and follows(match, r" ?[\d(]| [a-z]\b") else ""


def _named(match: re.Match[str]) -> str:
    return NAMED[match[0]]


_BEGINS = rf"(?:{LETTER}|{PLACE})"
_FIRST = r"[$£€¥]?\.?\d"  # the first characters of an amount
_PER = "|".join(sorted(map(re.escape, PER), key=len, reverse=True))
SHORTHAND: list[Row] = [
    (re.compile(rf"(?<!\S)[:;=]['-]?[()DPp/|\]\[](?!\w)|(?<!\S)x[dD]{NOT_WITHIN}"), _said("")),  # :-)
    (re.compile(rf"(?<!\S)<3{NOT_WITHIN}"), _heart),
    (re.compile(rf"WW(?:II|2){NOT_WITHIN}"), _said("World War two")),
    (re.compile(rf"WW[I1]{NOT_WITHIN}"), _said("World War one")),
    (re.compile(rf"w/o(?:ut)?{NOT_WITHIN}"), _said("without")),
    (re.compile(r"w/(?= ?\w)"), _said("with")),
    (re.compile(rf"c/o{NOT_WITHIN}"), _said("care of")),
    (re.compile(rf"[nN]/[aA]{NOT_WITHIN}"), _said("not applicable")),
    (re.compile(rf"s/he{NOT_WITHIN}"), _said("she or he")),
    (
        re.compile(
            rf"(?P<first>[Hh]e|[Hh]is|[Hh]im|[Ss]he|[Hh]er)/(?P<last>she|hers?|he|him|his){NOT_WITHIN}"
        ),
        _either,
    ),
]
SIGNS: list[Row] = [
    (re.compile(rf"(?<=\S)'s{NOT_WITHIN}"), _said("'s")),  # of a number or an acronym; a word has its own
    (re.compile(r"<?[-=]+>|→"), _said("to")),
    (re.compile(r"#(?=\d)"), _said("number")),
    (re.compile(r"&+"), _said("and")),
    (re.compile(rf"(?<=[\w)])\^(?P<power>[-\u2013+]?\d{{1,15}}|{LETTER}{NOT_WITHIN})"), _power),
    (re.compile(rf"~ ?(?={_FIRST})"), _said("about")),
    (re.compile(rf"/ ?(?P<per>{_PER}){NOT_WITHIN}"), _per),
    (re.compile(r"/"), _slash),
    (re.compile(r"\*"), _operator),
    # Dashes: what stands on either side decides.
    (re.compile(r"—+|-{2,}|\u2013{2,}"), _said(",")),
    (re.compile(r"(?<!\S)[-\u2013](?= )"), _spaced_dash),
    (re.compile(rf"(?<![\w)%°])-(?={_FIRST})"), _said("minus")),
    (re.compile(rf"[-\u2013](?={_FIRST})"), _joined_dash),
    (re.compile(rf"(?<=[^\W_])-(?={LETTER}{{1,3}}\d)"), _said("")),  # R2-D2
    (re.compile(rf"(?<=[^\W_]|{PLACE})-(?={_BEGINS})|(?<={LETTER})\u2013(?={_BEGINS})"), _said("-")),
    (re.compile(r"[-\u2013]"), _said("")),
    (re.compile(r"\.{2,}"), _ellipsis),
    (re.compile(r"!=|≠"), _said("not equal to")),
    (re.compile(r"[!?]+"), _exclaimed),
    (re.compile(r"(?<!\S)[(\[]"), _said(",")),
    (re.compile(r"[)\]|]"), _closing),
    (re.compile(BREAK), _paragraph),
    (re.compile(r":(?=\\)"), _said("")),  # C:\
    (re.compile(r"[.,;:]"), _as_it_is),
    (re.compile(r"<=|≤"), _said("less than or equal to")),
    (re.compile(r">=|≥"), _said("greater than or equal to")),
    (re.compile(r"\+/?-|±"), _said("plus or minus")),
    (re.compile(r"=+"), _said("equals")),
    (re.compile(r"(?:(?<=[\s\w)])|^)<(?= ?\S)"), _said("less than")),
    (re.compile(r"(?:(?<=[\s\w)])|^)>(?= ?\S)"), _said("greater than")),
    (re.compile("|".join(map(re.escape, NAMED))), _named),
]
