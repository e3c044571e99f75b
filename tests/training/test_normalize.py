"""The rules of comparison, one row each, and what holds for any text."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rillvox.errors import ConfigError
from rillvox.training.normalize import normalize

WORDS_ONLY = [
    ("Hello World", "hello world"),
    ("  many   spaces\tand\nlines ", "many spaces and lines"),
    ("Café NAÏVE façade Ångström", "cafe naive facade angstrom"),
    ("\u201cDon\u2019t\u201d, she said.", "don't she said"),
    ("\ufb01ne \uff46\uff55\uff4c\uff4c", "fine full"),
    ("well-known — or/not", "well known or not"),
    ("rock 'n' roll", "rock n roll"),
    ("the dogs' bones", "the dogs bones"),
    ("o'clock isn't 'quoted'", "o'clock isn't quoted"),
    ("Mr. Jones and Mrs. Smith", "mister jones and missus smith"),
    ("Dr. Who of St. Ives", "doctor who of saint ives"),
    ("mr jones", "mr jones"),
    ("the first. Next", "the first next"),
    ("salt & pepper", "salt and pepper"),
    ("R&D", "r and d"),
    ("uh I um think hmm mm so", "i think so"),
    ("umbrella", "umbrella"),
    ("colour color", "colour color"),
    ("I'm can't", "i'm can't"),
    ("I love it \U0001f600", "i love it"),
    ("C++ & C#", "c and c"),
    ("ЁЛКА", "ёлка"),
    ("हिन्दी", "हिन्दी"),
    ("soft\u00adhyphen", "softhyphen"),
    ("...", ""),
    ("", ""),
]
NUMBERS = [
    ("42", "forty two"),
    ("101 dalmatians", "one hundred and one dalmatians"),
    ("1,234,567", "one million two hundred and thirty four thousand five hundred and sixty seven"),
    ("1st, 22nd", "first twenty second"),
    ("the 1,000th", "the one thousandth"),
    ("3.14159", "three point one four one five nine"),
    ("2.50", "two point five zero"),
    ("In 1999 and 2024", "in nineteen ninety nine and twenty twenty four"),
    ("not 1,999", "not one thousand nine hundred and ninety nine"),
    ("1905.", "nineteen oh five"),
    ("2012,345", "two thousand and twelve three hundred and forty five"),
    ("1850", "one thousand eight hundred and fifty"),
    ("1999.5", "one thousand nine hundred and ninety nine point five"),
    ("$1999", "one thousand nine hundred and ninety nine dollars"),
    ("50%, 3.5%", "fifty percent three point five percent"),
    ("$5", "five dollars"),
    ("$1", "one dollar"),
    ("$3.50", "three dollars fifty cents"),
    ("$0.01", "one cent"),
    ("$1.5 million", "one point five million dollars"),
    ("mp3", "mp three"),
    ("10-15 degrees", "ten fifteen degrees"),
    ("7,8", "seven eight"),
    ("007", "seven"),
    ("½ cup", "one two cup"),
    ("9" * 61, " ".join(["nine"] * 61)),
]  # fmt: skip


@pytest.mark.parametrize(("written", "compared"), WORDS_ONLY)
def test_words_are_compared_in_one_form(written: str, compared: str):
    assert normalize(written) == compared


@pytest.mark.parametrize(("written", "compared"), NUMBERS)
def test_numbers_are_spelled_out(written: str, compared: str):
    pytest.importorskip("num2words", reason="num2words is not installed")
    assert normalize(written) == compared


def test_the_table_catches_a_rule_that_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("rillvox.training.normalize.SPELLING", [])
    assert normalize("R&D") != "r and d"
    assert normalize("42") != "forty two"


def test_fillers_stay_where_they_are_asked_for():
    assert normalize("uh yes", keep_fillers=True) == "uh yes"


def test_numbers_without_num2words_are_refused_with_the_cure(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "num2words", None)
    with pytest.raises(ConfigError, match=r"number 42.*pip install num2words"):
        normalize("I am 42")
    assert normalize("I am old & wise") == "i am old and wise"


@settings(deadline=None)
@given(st.text())
def test_any_text_comes_out_as_words_and_single_spaces(text: str):
    pytest.importorskip("num2words", reason="num2words is not installed")
    once = normalize(text)
    assert once == " ".join(once.split())
    assert not any(mark in once for mark in '.,;:!?"-/$%&')


@settings(deadline=None)
@given(st.text("abcÉß'. -,$5", max_size=30))
def test_normalising_twice_changes_nothing_more(text: str):
    pytest.importorskip("num2words", reason="num2words is not installed")
    assert normalize(normalize(text)) == normalize(text)
