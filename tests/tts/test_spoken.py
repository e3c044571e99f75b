"""What is said for what is typed: the table, row by row, and what holds for any text."""

from __future__ import annotations

import doctest
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rillvox.errors import TextError
from rillvox.tts import spoken, spoken_net, spoken_numbers, spoken_source
from rillvox.tts.spoken import Spoken, speakable
from rillvox.tts.spoken_lexicon import load_lexicon

from .spoken_table import SPOKEN

ROWS = [(kind, typed, said) for kind, rows in SPOKEN.items() for typed, said in rows]

# What rows read, cut small and thrown together: here the rows get into each other's way.
_WRITTEN = (
    "Dr St Mr Mrs No U.S e.g i.e etc Inc Henry Chapter I V VIII IV II NASA FBI STOP the The in a A B May Jan "
    "Mon 3 5 12 1984 2021 007 1,234 3.5 1/2 9:30 pm p.m km kg $ € % °C C # @ x ² 😀 я é π ' s 's - — . ... , "
    "! ? : ; ( ) [ ] & * ** _ ` ~ / \\ ^ + = < <b> www. com http:// R2 MP3 4K v OK US IT GPUs am o'clock '90 "
    "90s call al J R ½ | th st Elm &amp; by"
)
WRITTEN = _WRITTEN.split()
PIECES = [*WRITTEN, " ", " ", " ", "\n", "\n\n", "\n- ", "\n# ", "\n1. ", "\u2019", "\u2013", "[pause 1s]"]
TEXTS = st.one_of(st.text(max_size=40), st.lists(st.sampled_from(PIECES), max_size=9).map("".join))


def allowed(char: str) -> bool:
    return char in " .,?!;:-'" or (char.isalpha() and unicodedata.name(char).startswith("LATIN "))


def assert_spans(said: Spoken, source: str) -> None:
    """The spans are in order, apart in what is said, and leave out its spaces only."""
    end = began = 0
    for start, stop, first, last in said.spans:
        assert end <= start < stop <= len(said.text)
        assert said.text[end:start].strip() == ""
        assert began <= first < last <= len(source)
        end, began = stop, first
    assert said.text[end:] == ""


@pytest.mark.parametrize(("kind", "typed", "said"), ROWS)
def test_a_careful_reader_says(kind: str, typed: str, said: str) -> None:
    assert speakable(typed).text == said


def test_the_table_has_rows_of_all_kinds_and_none_twice() -> None:
    assert len({typed for _, typed, _ in ROWS}) == len(ROWS) >= 300
    assert all(len(rows) >= 4 for rows in SPOKEN.values())


def test_the_table_needs_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[str] = set()

    def watched(row: spoken_numbers.Row) -> spoken_numbers.Row:
        pattern, reader = row

        def read(match: re.Match[str]) -> str | None:
            said = reader(match)
            if said is not None:
                used.add(pattern.pattern)
            return said

        return pattern, read

    monkeypatch.setattr(spoken, "ROWS", [watched(row) for row in spoken.ROWS])
    for _, typed, _ in ROWS:
        speakable(typed)
    rows = [*spoken.ROWS]
    assert [pattern.pattern for pattern, _ in rows if pattern.pattern not in used] == []


@pytest.mark.parametrize(
    ("room", "rows", "kind"),
    [
        (spoken_numbers, "TELEPHONES", "telephones and codes"),
        (spoken_numbers, "NUMBERS", "years and decades"),
        (spoken_net, "NET", "addresses of the net"),
        (spoken, "DATES", "dates"),
        (spoken, "TIMES", "times"),
        (spoken, "MONEY", "money"),
        (spoken, "AMOUNTS", "units"),
        (spoken, "SHORT_FORMS", "abbreviations"),
        (spoken, "WORDS", "acronyms"),
        (spoken, "SIGNS", "marks"),
    ],
)
def test_the_table_catches_missing_rows(
    room: object, rows: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = [pattern for pattern, _ in getattr(room, rows)]
    monkeypatch.setattr(spoken, "ROWS", [row for row in spoken.ROWS if row[0] not in gone])
    wrong = [typed for typed, said in SPOKEN[kind] if speakable(typed).text != said]
    assert len(wrong) > len(SPOKEN[kind]) // 3


def test_the_table_catches_markup_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spoken_source, "MARKUP", [])
    wrong = [typed for typed, said in SPOKEN["markup"] if speakable(typed).text != said]
    assert len(wrong) > len(SPOKEN["markup"]) // 2


@settings(deadline=None, max_examples=300)
@given(TEXTS)
def test_any_text_comes_out_in_letters_and_marks(text: str) -> None:
    said = speakable(text).text
    assert [char for char in said if not allowed(char)] == []
    assert said == " ".join(said.split())


@settings(deadline=None, max_examples=300)
@given(TEXTS)
def test_saying_what_is_said_changes_nothing(text: str) -> None:
    said = speakable(text).text
    assert speakable(said).text == said


@pytest.mark.parametrize("typed", ["{0} {0}b1", "{0}{0}B{0} STOP!", "a{0}'S {0}.{0}. #{0}a @{0} x.com/{0}"])
def test_every_latin_letter_is_said_as_letters(typed: str) -> None:
    codes = range(0x80, 0x20000)
    latin = [char for char in map(chr, codes) if unicodedata.name(char, "").startswith("LATIN ")]
    said = speakable(" ".join(map(typed.format, latin))).text
    assert [char for char in said if not allowed(char)] == []
    assert speakable(said).text == said


def test_one_reading_is_not_enough_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "0A.B"  # the first reading sets the initials apart, the second takes their points
    assert speakable(text).text == "zero A B"
    monkeypatch.setattr(spoken, "ROUNDS", 0)
    assert speakable(text).text != speakable(speakable(text).text).text


@settings(deadline=None, max_examples=300)
@given(TEXTS)
def test_every_piece_knows_where_it_came_from(text: str) -> None:
    assert_spans(speakable(text), text)


def test_the_law_of_spans_catches_a_lost_piece() -> None:
    said = speakable("one two")
    with pytest.raises(AssertionError):
        assert_spans(Spoken(said.text, said.spans[:-1]), "one two")
    with pytest.raises(AssertionError):
        assert_spans(Spoken(said.text, said.spans[::-1]), "one two")


@settings(deadline=None)
@given(st.lists(st.text("abcxyzé", min_size=3, max_size=8), max_size=8))
def test_plain_words_are_said_as_they_are(words: list[str]) -> None:
    text = " ".join(words)
    said = speakable(text)
    assert said.text == text
    assert all(said.text[a:b] == text[c:d] for a, b, c, d in said.spans)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("He paid $3.50, then left.", ["He", "paid", "$3.50", ",", "then", "left", "."]),
        ("Dr. Lee's 3-year-old", ["Dr.", "Lee's", "3", "-", "year", "-", "old"]),
        ("fish &amp; **chips**", ["fish", "&amp;", "chips"]),
        ("cafe\u0301 now", ["cafe\u0301", "now"]),
        ("[the page](http://x.y) ½", ["the", "page", "½"]),
        ("Hi\u200b  the\u00adre", ["Hi", "the\u00adre"]),
        ("King George VI's", ["King", "George", "VI", "'s"]),
        ("0A.B", ["0A", "0A.", "B"]),
    ],
)
def test_a_piece_leads_back_to_what_was_typed(text: str, pieces: list[str]) -> None:
    said = speakable(text)
    assert [text[first:last] for _, _, first, last in said.spans] == pieces
    assert_spans(said, text)


def test_what_is_left_out_is_noted() -> None:
    assert speakable("Да 😀🎉 yes").notes == [
        "characters 0 to 2 are not said: Cyrillic script",
        "characters 3 to 5 are not said: an emoji or a sign without a reading",
    ]
    assert speakable("Plain *text*, naïve \u201cquotes\u201d and 5 µm.").notes == []


def test_a_greek_letter_has_a_name_and_a_greek_word_has_none() -> None:
    assert speakable("\u03b1 and β").text == "alpha and beta"
    assert speakable("λόγος and word").text == "and word"
    assert speakable("Ωμέγα 5 Ω").text == "five ohms"


@pytest.mark.parametrize("digits", [16, 306, 307, 5000])
def test_a_number_without_a_name_is_read_digit_by_digit(digits: int) -> None:
    assert speakable("7" * digits).text == " ".join(["seven"] * digits)


def test_a_grouped_number_is_read_as_far_as_there_are_names() -> None:
    named, too_long = "1" + ",000" * 101, "1" + ",000" * 102
    assert speakable(named).text == "one centillion"
    assert speakable(too_long).text == "one" + " zero" * 306


def test_dates_with_slashes_may_have_the_day_first() -> None:
    assert speakable("5/3/2021").text == "May third, twenty twenty-one"
    assert speakable("5/3/2021", day_first=True).text == "March fifth, twenty twenty-one"
    assert speakable("12/25/2021", day_first=True).text == "December twenty-fifth, twenty twenty-one"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SQL runs", "sequel runs"),
        ("the SQL's rows", "the sequel's rows"),
        ("MySQL and sql stay", "MySQL and sql stay"),
        ("Nginx and NGINX", "engine ex and engine ex"),
        ("a nginx-based site", "a engine ex-based site"),
        ("I can, but I can't", "I am able to, but I can't"),
        ("don\u2019t ask", "do not ask"),
        ("New York and York", "the big apple and the old town"),
        ("C++ beats C", "see plus plus beats C"),
        ("5% off", "five per hundred off"),
        ("call **SQL**", "call sequel"),
        ("#1 at 5 kn", "number one at five knots"),
        ("agent X9", "agent ex nine"),
    ],
)
def test_a_lexicon_goes_before_the_rows(text: str, said: str) -> None:
    lexicon = {
        "SQL": "sequel",
        "nginx": "engine ex",
        "can": "am able to",
        "don't": "do not",
        "york": "the old town",
        "New York": "the big apple",
        "C++": "see plus plus",
        "%": " per hundred ",
        "kn": "knots",
        "X9": "ex 9",
    }
    found = speakable(text, lexicon)
    assert found.text == said
    assert_spans(found, text)


@settings(deadline=None)
@given(TEXTS, st.dictionaries(st.sampled_from(WRITTEN), st.text(max_size=8), max_size=5))
def test_any_lexicon_leaves_letters_and_marks(text: str, lexicon: dict[str, str]) -> None:
    said = speakable(text, lexicon)
    assert all(map(allowed, said.text))
    assert_spans(said, text)


def test_private_characters_in_a_text_are_not_taken_for_places_of_a_lexicon() -> None:
    assert speakable("a \U000f0000 SQL &#xF0000; b", {"SQL": "sequel"}).text == "a sequel b"
    assert speakable("\U000f0001").text == ""


def test_a_lexicon_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.tsv"
    path.write_text("\ufeff# names\nSQL\tsequel\r\n\nC#\tsee sharp \n", encoding="utf-8")
    assert load_lexicon(path) == {"SQL": "sequel", "C#": "see sharp"}
    assert speakable("SQL in C#", load_lexicon(str(path))).text == "sequel in see sharp"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"SQL\tsequel\nSQL sequel\n", r"lexicon\.tsv:2: expected written<TAB>spoken, found 'SQL sequel'"),
        (b"SQL\t\n", r"lexicon\.tsv:1: expected written<TAB>spoken"),
        (b"\n# x\n\tsequel\n", r"lexicon\.tsv:3: expected written<TAB>spoken"),
        (b"a\tb\tc\n", r"lexicon\.tsv:1: expected written<TAB>spoken"),
        (b"a\tb\nc\td\na\te\n", r"lexicon\.tsv:3: 'a' is there already, as 'b'"),
        (b"a\tb\nc\xff\td\n", r"lexicon\.tsv:2: expected UTF-8, found the byte 0xff"),
    ],
)
def test_a_line_of_a_lexicon_that_is_wrong_is_named(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "lexicon.tsv"
    path.write_bytes(content)
    with pytest.raises(TextError, match=complaint):
        load_lexicon(path)


def test_a_lexicon_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"nowhere\.tsv: cannot be read: No such file"):
        load_lexicon(tmp_path / "nowhere.tsv")
    with pytest.raises(TextError, match="cannot be read: Is a directory"):
        load_lexicon(tmp_path)


def test_an_empty_written_form_is_refused() -> None:
    with pytest.raises(TextError, match="the written form of 'nothing' is empty"):
        speakable("text", {" ": "nothing"})


def test_the_example_is_true() -> None:
    assert doctest.testmod(spoken).attempted > 0
    assert doctest.testmod(spoken).failed == 0
