"""Rows that read addresses: e-mail, the web, files, @handles and #hashtags.

Of a web address host and path are said; the scheme, `www`, the query and the fragment are not.
"""

from __future__ import annotations

import re

from .spoken_lists import words_of
from .spoken_numbers import LETTER, Row
from .spoken_words import letters, pieces

SIGNS = {".": "dot", "-": "dash", "_": "underscore", "+": "plus", "/": "slash", "@": "at", "~": "tilde"}
SAID_TOPS = words_of("com org net gov info co app dev me blog shop online xyz")
SAID_ENDINGS = words_of("zip log wav gif tar java bat doc json toml yaml")
# A bare host is taken for one only with these ends: "end.it" lacks a space.
_TOPS = "com|org|net|edu|gov|info|io|co|uk|de|fr|eu|us|ca|au|jp|ai|app|dev|tv|me|ly|gg|xyz|blog|shop|online"
_FILES = (
    "txt|pdf|docx?|xlsx?|pptx?|csv|json|xml|html?|css|jsx?|tsx?|py|rs|cpp|java|md|png|jpe?g|gif|svg|mp[34]|wav"
    "|flac|ogg|zip|gz|tar|exe|dll|ini|cfg|ya?ml|toml|log|sh|bat|sql"
)


def _spelled(address: str) -> str:
    """Names as words, signs by name: `john.doe@x` john dot doe at X."""
    parts = re.findall(r"[.\-_+/@~]|[^.\-_+/@~]+", address)
    said = (SIGNS[part] if part in SIGNS else pieces(part) for part in parts)
    return " ".join(filter(None, said))


def _host(written: str) -> str:
    """`www.bbc.co.uk` B B C dot co dot U K."""
    *names, top = written.lower().removeprefix("www.").split(".")
    ends = [top]
    if len(names) > 1 and names[-1] in ("co", "com", "ac", "org", "gov"):
        ends.insert(0, names.pop())
    tops = (end if end in SAID_TOPS or len(end) > 3 else letters(end) for end in ends)
    return " dot ".join([*map(_spelled, names), *tops])


def _email(match: re.Match[str]) -> str:
    return f"{_spelled(match['user'])} at {_host(match['host'])}"


def _web(match: re.Match[str]) -> str:
    port = f"port {pieces(match['port'][1:])}" if match["port"] else ""
    return " ".join(filter(None, [_host(match["host"]), port, _spelled(match["path"].rstrip("/"))]))


def _file(match: re.Match[str]) -> str:
    """`main.py` main dot P Y, `song.mp3` song dot M P three."""
    ending = match["ending"]
    if ending not in SAID_ENDINGS:
        ending = pieces(ending) if ending[-1].isdigit() else letters(ending)
    return f"{_spelled(match['name'])} dot {ending}"


def _handle(match: re.Match[str]) -> str:
    return f"at {_spelled(match['name'])}"


def _hashtag(match: re.Match[str]) -> str:
    """`#MeToo` hashtag Me Too."""
    words = re.findall(rf"\d+|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|{LETTER}", match["name"])
    return f"hashtag {' '.join(map(pieces, words))}"


_NAMES = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?\.){1,8}"
_REST = (
    r"(?P<port>:\d{2,5})?(?P<path>(?:/[\w.~%+@-]{0,200}(?<![.,])){0,20})"
    r"(?:[?#][^\s\"'<>()]{0,600}(?<![.,;:!?]))?"
)
NET: list[Row] = [
    (
        re.compile(
            rf"(?:mailto:)?(?P<user>[A-Za-z0-9][\w.+-]{{0,63}})@(?P<host>{_NAMES}[A-Za-z]{{2,24}})(?![\w-])"
        ),
        _email,
    ),
    (
        re.compile(
            rf"(?:https?|ftp)://(?P<host>{_NAMES}[A-Za-z0-9]{{1,24}}|localhost){_REST}", re.IGNORECASE
        ),
        _web,
    ),
    (re.compile(rf"(?P<host>www\.{_NAMES}[A-Za-z]{{2,24}}){_REST}", re.IGNORECASE), _web),
    (re.compile(rf"(?P<host>{_NAMES}(?:{_TOPS}))(?![\w-]|\.\w){_REST}"), _web),
    (re.compile(rf"(?P<name>[A-Za-z0-9_-]{{1,64}})\.(?P<ending>{_FILES})(?![\w-]|\.\w)"), _file),
    (re.compile(rf"@(?P<name>{LETTER}[\w.-]{{0,38}}(?<![.-]))"), _handle),
    (re.compile(rf"#(?P<name>\d{{0,8}}{LETTER}\w{{0,60}})"), _hashtag),
]
