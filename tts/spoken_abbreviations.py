"""Short forms with a point: what they stand for, and whether their point ends a sentence.

Shared by the rows that read text and by the cutter of chunks, so that both see the same sentences.
"""

from __future__ import annotations

import re

from .spoken_lists import words_of
from .spoken_source import BREAK

# Before a name; their point never ends a sentence.
TITLES = {
    "Mr": "Mister",
    "Mrs": "Missus",
    "Ms": "Ms",
    "Messrs": "Messrs",
    "Mx": "Mx",
    "Dr": "Doctor",
    "Drs": "Doctors",
    "Prof": "Professor",
    "St": "Saint",
    "Rev": "Reverend",
    "Hon": "Honorable",
    "Gen": "General",
    "Col": "Colonel",
    "Capt": "Captain",
    "Cpt": "Captain",
    "Cmdr": "Commander",
    "Lt": "Lieutenant",
    "Sgt": "Sergeant",
    "Maj": "Major",
    "Sen": "Senator",
    "Rep": "Representative",
    "Gov": "Governor",
    "Pres": "President",
    "Mt": "Mount",
    "Ft": "Fort",
}
# After a name: a street, unless another name follows.
STREETS = {
    "St": "Street",
    "Dr": "Drive",
    "Ave": "Avenue",
    "Blvd": "Boulevard",
    "Rd": "Road",
    "Ln": "Lane",
    "Hwy": "Highway",
    "Pkwy": "Parkway",
    "Sq": "Square",
    "Pl": "Place",
}
# Before a number; elsewhere these are words, or are left as they are.
BEFORE_NUMBERS = {
    "no": "number",
    "nos": "numbers",
    "p": "page",
    "pp": "pages",
    "vol": "volume",
    "vols": "volumes",
    "ch": "chapter",
    "chap": "chapter",
    "fig": "figure",
    "figs": "figures",
    "eq": "equation",
    "sec": "section",
    "art": "article",
    "pt": "part",
    "ed": "edition",
    "ep": "episode",
    "ext": "extension",
    "apt": "apartment",
    "rm": "room",
    "rte": "route",
    "hwy": "highway",
    "tel": "telephone",
    "ca": "circa",
    "est": "established",
    "c": "circa",
    "b": "born",
    "d": "died",
}
BEFORE_YEARS = words_of("c b d")
WORDS_TOO = words_of("no p art b d")  # with a point and no number after it these end a sentence
# Anywhere; a sentence may end with them.
CLOSING = {
    "etc": "et cetera",
    "inc": "Incorporated",
    "ltd": "Limited",
    "co": "Company",
    "corp": "Corporation",
    "bros": "Brothers",
    "jr": "Junior",
    "sr": "Senior",
    "al": "al",
    "dept": "department",
    "govt": "government",
    "univ": "University",
    "assn": "association",
    "esq": "Esquire",
}
ONLY_CAPITALISED = words_of("inc ltd co corp bros jr sr univ esq")
# Anywhere; more of the sentence follows.
OPENING = {
    "e.g": "for example",
    "i.e": "that is",
    "vs": "versus",
    "cf": "compare",
    "viz": "namely",
    "approx": "approximately",
    "incl": "including",
    "excl": "excluding",
    "max": "maximum",
    "min": "minimum",
    "avg": "average",
    "misc": "miscellaneous",
    "ibid": "ibidem",
    "a.k.a": "also known as",
}
# Units that are written with a point; `spoken_amounts` reads them.
POINTED_UNITS = words_of("lb lbs oz ft hr hrs sec secs mins mi yd yds tsp tbsp sq gal yr yrs")

# A capital here rather begins a sentence than a name.
STARTERS = words_of(
    """The He She It They We You I This That These Those There Here But And Or So Then Now When What Who
    Where Why How If As At In On For From With After Before Since While Though Although Because Not No
    Yes My His Her Its Our Their Your Is Are Was Were Do Does Did Can Could Will Would Should May Please
    Let However Meanwhile Later Next Some Many Most All Both Each Every Another Nobody Everyone Someone
    Nothing Everything Today Tomorrow Yesterday Once Only Also Even Still Just Perhaps Maybe Thus
    Therefore Have Has Had An A"""
)
_NEXT = re.compile(r"[\"')\]]* [\"'(\[]*([^\W\d_]+)")
_CLOSE = re.compile(rf"[\"')\]]*(?: *$| ?{BREAK})")


def stop_after(text: str, end: int) -> bool:
    """Whether the abbreviation whose point stands before `end` is also the end of its sentence."""
    if _CLOSE.match(text, end):
        return True
    word = _NEXT.match(text, end)
    return bool(word and word[1] in STARTERS)


def is_initial(letter: str, following: str) -> bool:
    """Whether a capital with a point is an initial: the next word is another initial, or a name.

    `I.` ends a sentence ("So did I.") unless another initial follows.
    """
    if len(following) == 2 and following[0].isupper() and following[1] == ".":
        return True
    return letter != "I" and following[:1].isupper() and following.rstrip(".") not in STARTERS
