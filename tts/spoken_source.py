"""Typed text to one plain line in which every character still knows where it stood.

What is taken off here is never said: markup, entities, invisible characters, odd shapes of quotes, dashes,
digits and spaces, and letters of other scripts. What stays is a closed alphabet, so that the rows which read
the line need no thought for the rest of Unicode:

- Latin letters in composed form, ASCII digits and marks;
- the symbols in `SYMBOLS`, which have a reading;
- a space, and `BREAK` where a paragraph, a heading or an item of a list ends;
- one character of `PLACES` for each form that a lexicon has settled.

Emoji are left out, not named: who decorates a sentence does not want "smiling face with smiling eyes" said.
Digits of other scripts are digits; a Greek letter that stands alone is read by its name, as in mathematics.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from html.entities import html5

BREAK = "\u2029"
SYMBOLS = "\u2013—°£€¥¢₹§©\u00d7÷±≤≥≠≈→√∞µΩ‰"
PLACES = range(0xF0000, 0x10FFFE)  # private characters: no text means anything by them
PLACE = f"[{chr(PLACES.start)}-{chr(PLACES.stop - 1)}]"
_NUMBER = r"\d{0,6}\.?\d{1,6}"
PAUSE = re.compile(
    rf"\[pause[ \t]{{1,4}}(?P<number>{_NUMBER})[ \t]{{0,4}}(?P<unit>ms|s)[ \t]{{0,4}}\]|"
    rf"<break[ \t]{{1,4}}time[ \t]{{0,2}}=[ \t]{{0,2}}(?P<quote>[\"'])(?P<number_>{_NUMBER})(?P<unit_>ms|s)"
    r"(?P=quote)[ \t]{0,4}/?>",
    re.IGNORECASE | re.ASCII,
)

_SINGLE = "\u2018\u2019\u201a\u201b\u2032\u02bb\u02bc\u02c8\u00b4\uff07"
_DOUBLE = "\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb\u2039\u203a\u300c\u300d\u300e\u300f"
SHAPES = (
    dict.fromkeys(_SINGLE, "'")
    | dict.fromkeys(_DOUBLE, '"')
    | dict.fromkeys("\u2010\u2011\u2212\ufe63\u2043", "-")
    | dict.fromkeys("\u2012\u2013", "\u2013")
    | dict.fromkeys("\u2014\u2015\u2e3a\u2e3b", "—")
    | dict.fromkeys("\u2044\u2215", "/")
    | dict.fromkeys("\r\v\f\x1c\x1d\x1e\x85\u2028\u2029", "\n")
    | dict.fromkeys("•◦▪▫●○‣·\u2219", "•")
    | dict.fromkeys("→⇒➔➜➝⟶⟹", "→")
    | dict.fromkeys("♥❤♡", " <3 ")
    | dict.fromkeys("™®¿¡†‡¶", "")
    | {"…": "...", "‥": "..", "。": ".", "、": ",", "№": "No. ", "º": "°", "\t": " "}
    | {"\u03bc": "µ", "\u2126": "Ω"}  # the Greek letter mu, the sign for ohm
)
KEPT = frozenset("".join(map(chr, range(32, 127))) + SYMBOLS + "\n•")
_GREEK = "alpha beta gamma delta epsilon zeta eta theta iota kappa lamda mu nu xi omicron pi rho sigma tau"
GREEK = frozenset(f"{_GREEK} upsilon phi chi psi omega".split())
ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")


@dataclass(frozen=True)
class Traced:
    """A text whose character i came from `source[spans[i][0]:spans[i][1]]`."""

    text: str
    spans: list[tuple[int, int]]

    def without(self, pattern: re.Pattern[str], put: str) -> Traced:
        """Each match gives way to what its group `keep` holds, if it has one, and then to `put`."""
        parts: list[str] = []
        spans: list[tuple[int, int]] = []
        done = 0
        for match in pattern.finditer(self.text):
            first, last = match.span("keep") if "keep" in pattern.groupindex else (0, 0)
            parts += self.text[done : match.start()], self.text[max(first, 0) : max(last, 0)], put
            spans += self.spans[done : match.start()] + self.spans[max(first, 0) : max(last, 0)]
            spans += [self.spans[match.end() - 1]] * len(put)
            done = match.end()
        if not done:
            return self
        return Traced("".join(parts) + self.text[done:], spans + self.spans[done:])


def plain(source: str, settled: Iterable[tuple[int, int, str]] = ()) -> tuple[Traced, list[str]]:
    """The line to be read, and a note for each run of characters that is left out though it had a sound.

    Args:
        settled: spans of the source, in order and apart, with the character of `PLACES` that stands for each.
    """
    line, notes = _characters(source, settled)
    for pattern, put in MARKUP:
        line = line.without(pattern, put)
    return line, notes


def _characters(source: str, settled: Iterable[tuple[int, int, str]]) -> tuple[Traced, list[str]]:
    parts: list[str] = []
    spans: list[tuple[int, int]] = []
    left_out: list[tuple[str, int, int]] = []  # what, from, to
    for piece, first, last in _pieces(source, settled):
        said = piece if ord(piece[0]) in PLACES else _shaped(piece, source, first, last)
        if said is None:
            said, kind = " ", _kind(piece[0])
            begin = first
            if left_out and left_out[-1][0] == kind and left_out[-1][2] == first:
                begin = left_out.pop()[1]
            left_out.append((kind, begin, last))
        if said.startswith("^") and parts and parts[-1].startswith("^") and piece != "^":
            said = said[1:]  # one power, not a power for every raised digit
        parts.append(said)
        spans += [(first, last)] * len(said)
    notes = [f"characters {first} to {last} are not said: {kind}" for kind, first, last in left_out]
    return Traced("".join(parts), spans), notes


def _pieces(source: str, settled: Iterable[tuple[int, int, str]]) -> Iterable[tuple[str, int, int]]:
    """Settled forms, entities and letters with the accents that follow them, each with its span."""
    at = 0
    for first, last, place in [*settled, (len(source), len(source), "")]:
        while at < first:
            entity = ENTITY.match(source, at, first) if source[at] == "&" else None
            if entity and (entity[0][1] == "#" or entity[0][1:] in html5):
                pieces, end = list(html.unescape(entity[0])), entity.end()
            else:
                end = at + 1
                while end < first and unicodedata.combining(source[end]):
                    end += 1
                pieces = [source[at:end]]
            for piece in pieces:
                if ord(piece[0]) not in PLACES:  # ours alone; whatever the writer meant by it has no sound
                    yield piece, at, end
            at = end
        if place:
            yield place, first, last
        at = last


def _shaped(piece: str, source: str, first: int, last: int) -> str | None:
    """What stands for a character and its accents in the closed alphabet; None for what is left out."""
    char = piece[0]
    if piece in KEPT and not _is_greek(char):
        return piece
    if _is_greek(char):
        return _greek(char, source, first, last)
    if piece in SHAPES:
        return SHAPES[piece]
    category = unicodedata.category(char)
    if category in ("Cc", "Cf", "Mn", "Me", "Mc"):
        return ""
    if category == "Zs":
        # A space that must not break, between digits, groups thousands.
        grouped = char != " " and re.compile(r"\d{3}(?!\d)").match(source, last)
        return "," if grouped and source[:first][-1:].isdigit() else " "
    if category == "Nd":
        return str(unicodedata.digit(char))
    decomposed = unicodedata.decomposition(char)
    if decomposed.startswith("<"):
        return _compatible(char, decomposed)
    composed = unicodedata.normalize("NFC", piece)
    letters = "".join(c for c in composed if unicodedata.category(c)[0] == "L")
    if letters and all(unicodedata.name(c, "").startswith("LATIN ") for c in letters):
        return letters
    if len(piece) > 1 and composed[0] in KEPT:
        return composed[0]
    return None


def _compatible(char: str, decomposed: str) -> str | None:
    """A presentation form as the characters it stands for: a ligature, `½` 1/2, `²` ^2, `①` 1."""
    pieces = unicodedata.normalize("NFKC", char)
    said = "".join(_shaped(c, c, 0, 1) or "" for c in pieces)
    if not said.strip():
        return None
    if decomposed.startswith("<super>") and said[0] in "0123456789+-n":
        return f"^{said}"
    return f" {said}" if decomposed.startswith("<fraction>") else said


def _is_greek(char: str) -> bool:
    return not char.isascii() and (char in "µ\u2126" or unicodedata.name(char, "").startswith("GREEK "))


def _greek(char: str, source: str, first: int, last: int) -> str | None:
    """A letter that stands alone by its name; the two that are units stay, to be read as such."""
    if any(map(_is_greek, source[max(first - 1, 0) : first] + source[last : last + 1])):
        return None
    char = unicodedata.normalize("NFC", SHAPES.get(char, char))
    if char in SYMBOLS:
        return char
    name = unicodedata.name(char).split(" LETTER ")[-1].split(" ")[0].lower()
    return f" {name.replace('lamda', 'lambda')} " if name in GREEK else None


def _kind(char: str) -> str:
    """What a left-out character is, for the note."""
    if unicodedata.category(char)[0] == "L":
        return f"{unicodedata.name(char, 'unnamed').split(' ')[0].capitalize()} script"
    return "an emoji or a sign without a reading"


_INLINE = (
    "a|abbr|b|cite|code|del|em|font|i|img|ins|kbd|mark|q|s|samp|small|span|strike|strong|sub|sup|tt|u|var"
)
_BLOCK = (
    "article|aside|blockquote|body|br|dd|div|dl|dt|footer|h[1-6]|head|header|hr|html|li|main|ol|p|pre|section"
    "|speak|table|tbody|td|th|thead|title|tr|ul"
)
_REST = r"(?:[ \t\n][^<>]{0,300})?/?>"
_LINK = r"\([^()\s]{0,400}(?: \"[^\"\n]{0,200}\")?\)|\[[^\[\]\n]{0,80}\]"

# In order: what holds others comes before what it may hold. Every pattern runs in linear time.
MARKUP: list[tuple[re.Pattern[str], str]] = [
    (re.compile(r" {2,}"), " "),
    (re.compile(r"<!--.{0,2000}?-->", re.DOTALL), " "),
    (PAUSE, " "),
    (re.compile(rf"</?(?:{_BLOCK}){_REST}", re.IGNORECASE), BREAK),
    (re.compile(rf"</?(?:{_INLINE}|break){_REST}", re.IGNORECASE), ""),
    (re.compile(r"<(?P<keep>(?:https?://|mailto:)[^<>\s]{1,300})>"), ""),
    (re.compile(r"^[ \t]*(?:```|~~~)[^\n`]*$", re.MULTILINE), BREAK),  # fences of code
    (re.compile(r"^[ \t]*\|?(?:[ \t]*:?-{3,}:?[ \t]*\|)+(?:[ \t]*:?-{3,}:?)?[ \t]*$", re.MULTILINE), ""),
    (
        re.compile(r"^[ \t]*(?:=[= \t]{2,}|(?:-[ \t]*){3,}|(?:\*[ \t]*){3,}|(?:_[ \t]*){3,})$", re.MULTILINE),
        BREAK,
    ),
    (re.compile(r"^[ \t]*>[> \t]*", re.MULTILINE), ""),
    (re.compile(r"^[ \t]*#{1,6}[ \t]+(?P<keep>[^\n]*)$", re.MULTILINE), BREAK),
    (re.compile(rf" #+ ?(?={BREAK})"), ""),
    (re.compile(r"^[ \t]*[-*+•][ \t]+(?:\[[ xX]\][ \t]+)?(?P<keep>[^\n]*)$", re.MULTILINE), BREAK),
    (re.compile(r"^[ \t]*(?P<keep>\d{1,3}[.)][ \t]+[^\n]*)$", re.MULTILINE), BREAK),
    (re.compile(r"^[ \t]*\|(?P<keep>[^\n]*?)\|?[ \t]*$", re.MULTILINE), BREAK),
    (re.compile(r"(?<=[.,;:!?)\"'])(?:\[\d{1,3}\])+(?![\w(])"), ""),  # marks of references
    (re.compile(rf"!?\[(?P<keep>[^\[\]\n]{{1,400}})\](?:{_LINK})"), ""),
    (re.compile(r"\]\((?:https?:|/|#|www)[^()\s]{0,400}\)"), ""),  # the end of a link that was cut
    (re.compile(r"\[\^[^\[\]\s]{1,40}\]"), ""),
    (re.compile(r"\\(?P<keep>[\\`*_{}\[\]()#+\-.!|>~])"), ""),
    (re.compile(r"(?<=\d)\*\*(?=\d)"), "^"),
    (re.compile(r"(?<![\d.,+-])(?<!\d )(?P<keep>[1-9]\d{0,2}) 000 000(?![\d-]| \d)"), ",000,000"),
    (re.compile(r"(?<![\d.,+-])(?<!\d )(?P<keep>[1-9]\d{0,2}) 000(?![\d-]| \d)"), ",000"),
    (re.compile(r"\*{2,}|~~+|`+|(?<![^\W_])_+|_+(?![^\W_])"), ""),
    (re.compile(r"(?<![\w)*])\*(?=[^\s*])|(?<=[^\s*])\*(?![\w(*])"), ""),
    (re.compile(r"\s?\n[ \t]*\n\s*"), BREAK),
    (re.compile(r"[ \t]?\n[ \t]*"), " "),
    (re.compile(r"(?<=\S)•(?=\S)"), " "),  # a point between factors, as in kg·m
    (re.compile(r"•"), ", "),
]
