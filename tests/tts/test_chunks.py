"""Text cut into what is spoken at once: where, how long, and that it does not matter how the text arrives."""

from __future__ import annotations

import doctest
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rillvox.errors import ConfigError
from rillvox.tts import chunks as room
from rillvox.tts import spoken_abbreviations, spoken_sentences
from rillvox.tts.chunks import Chunk, Chunker, chunks
from rillvox.tts.spoken import speakable

_WRITTEN = (
    "Dr. St. Mr. No. U.S. e.g. etc. Inc. J. R. I I. A. The the He he Bob Elm 3 3. 3.5 $ $5 million km May "
    "Jan. a.m. vs. fig. no. c. p. lb. - -- — * # ## 1. 1) > | ``` word long-word ! ? ?! ... . , ; : \" ' ( ) "
    "[ ] < 😀 [pause [pa 0.5s] /> @bob #tag a@b.com http://x.y/z"
)
PIECES = [
    *_WRITTEN.split(),
    "[pause 0.5s]",
    '<break time="500ms"/>',
    "<break ",
    "\n",
    "\n\n",
    "  ",
    "\t",
    " ",
    " ",
]
TEXTS = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(PIECES), max_size=20).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=20).map(" ".join),
)


def fed(text: str, cuts: list[int], most: int) -> list[Chunk]:
    """The chunks of a text that arrives cut at these places."""
    chunker = Chunker(most)
    ends = [0, *sorted(cuts), len(text)]
    given = [chunk for a, b in pairwise(ends) for chunk in chunker.feed(text[a:b])]
    return given + chunker.finish()


def texts(text: str, most: int = 240) -> list[str]:
    return [chunk.text for chunk in chunks(text, most)]


WHOLE = [  # what must not be cut at its points
    "It costs $3.50 or 1,000.25 a day.",
    "Dr. Smith and Mrs. Jones met Prof. Lee.",
    "J. R. R. Tolkien met C. S. Lewis.",
    "George W. Bush spoke.",
    "it was approx. five or so",
    "a lot, lb. for lb.",
    "I like fruit, e.g. Apples, i.e. The best.",
    "Mail a.b@c.co.uk or see www.x.org/a.b now.",
    "The U.S. Army has 5 km. of road vs. Bob.",
    "At 5 p.m. Bob came.",
    "He met Ms. He and Mr. So.",
    "See no. 5, fig. 3 and pp. 5 to 7.",
    "See vol. II and ch. IV of it.",
    "It was c. 1850 or so.",
    "On Jan. 5 it rained.",
    "Acme Inc. Bob left.",
    "Wait... what?",
    '"Stop!" he said.',
    "Nice . . .",
    "Wow! 😀",
    "5 lb. of flour",
    "Version 2.4.1 is out.",
    "He said (e.g. Bob) so.",
]
CUT = [
    ("Hello there. How are you? Fine! Yes", ["Hello there.", "How are you?", "Fine!", "Yes"]),
    ("It costs 3. 5 is more.", ["It costs 3.", "5 is more."]),
    ("He left. \u201cWhy?\u201d she asked.", ["He left.", "\u201cWhy?\u201d she asked."]),
    ('He left." She (too) did.) Then', ['He left."', "She (too) did.)", "Then"]),
    ("In the U.S. They did.", ["In the U.S.", "They did."]),
    ("At 5 p.m. He slept.", ["At 5 p.m.", "He slept."]),
    ("Acme Inc. The firm.", ["Acme Inc.", "The firm."]),
    ("Pens, etc. Then ink, etc. and more.", ["Pens, etc.", "Then ink, etc. and more."]),
    ("No. I won't. So did I. Then", ["No.", "I won't.", "So did I.", "Then"]),
    ("Plan B. Then we ran.", ["Plan B.", "Then we ran."]),
    ("It was I. Bob left.", ["It was I.", "Bob left."]),
    ("It did 20 km/h. Bob left.", ["It did 20 km/h.", "Bob left."]),
    ("5 Elm St. He left. St. Paul.", ["5 Elm St.", "He left.", "St. Paul."]),
    ("In Jan. It snowed. In May. Bob", ["In Jan.", "It snowed.", "In May.", "Bob"]),
    ("It weighs 5 lb. The end.", ["It weighs 5 lb.", "The end."]),
    ("hello. how are you? e.g. this.", ["hello.", "how are you?", "e.g. this."]),
    ("Thanks. @bob said. #tag", ["Thanks.", "@bob said.", "#tag"]),
    ("Wow! 😀 Next. \u0416", ["Wow! 😀", "Next.", "\u0416"]),
    ("Well... I know. Oh… We", ["Well...", "I know.", "Oh…", "We"]),
    ("# Title\nSoft\nwrap.\n\nNext", ["# Title", "Soft\nwrap.", "Next"]),
    (
        "Buy:\n- milk\n- eggs. Two\n1. Mix\n2. Go\nend",
        ["Buy:", "- milk", "- eggs.", "Two", "1. Mix", "2. Go", "end"],
    ),
    ("Dr.\n\nSmith", ["Dr.", "Smith"]),
    ("1. Mix it.\n2. Go", ["1. Mix it.", "2. Go"]),
    ("What ?! So", ["What ?!", "So"]),
    ("iPhone. iPad", ["iPhone.", "iPad"]),
    ("  a  ", ["a"]),
    ("", []),
    (" \n ", []),
]


@pytest.mark.parametrize("text", WHOLE)
def test_what_belongs_together_is_one_chunk(text: str) -> None:
    assert texts(text) == [text]
    assert chunks(text)[0].ends == "sentence"


@pytest.mark.parametrize(("text", "parts"), CUT)
def test_sentences_are_cut_where_they_end(text: str, parts: list[str]) -> None:
    assert texts(text) == parts
    assert {chunk.ends for chunk in chunks(text)} <= {"sentence"}


@pytest.mark.parametrize(
    ("room", "table"),
    [
        (spoken_abbreviations, "TITLES"),
        (spoken_abbreviations, "OPENING"),
        (spoken_abbreviations, "BEFORE_NUMBERS"),
        (spoken_abbreviations, "CLOSING"),
        (spoken_abbreviations, "POINTED_UNITS"),
        (spoken_abbreviations, "STARTERS"),
        (spoken_sentences, "_NEVER_LAST"),
        (spoken_sentences, "_CALENDAR"),
    ],
)
def test_the_cuts_need_every_table(room: object, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, table, {})
    whole = all(texts(text) == [text] for text in WHOLE)
    assert not (whole and all(texts(text) == parts for text, parts in CUT))


@settings(deadline=None, max_examples=300)
@given(TEXTS, st.data(), st.integers(1, 60))
def test_it_does_not_matter_how_the_text_arrives(text: str, data: st.DataObject, most: int) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=8))
    assert fed(text, cuts, most) == fed(text, list(range(len(text))), most) == chunks(text, most)


def test_that_law_catches_a_chunk_given_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    def hasty(words: list[str], following: str, complete: bool, small: bool) -> bool:
        return bool(spoken_sentences.ends_sentence(words, following, True, small))

    text = "J. Andrews left."  # after "A" alone the J would end a sentence
    assert fed(text, list(range(len(text))), 240) == chunks(text)
    monkeypatch.setattr(room, "ends_sentence", hasty)
    assert fed(text, list(range(len(text))), 240) != chunks(text)


@settings(deadline=None, max_examples=300)
@given(TEXTS, st.integers(1, 60))
def test_the_chunks_are_the_text_without_white_space_between(text: str, most: int) -> None:
    end = 0
    for chunk in chunks(text, most):
        start, stop = chunk.source
        assert end <= start < stop
        assert text[end:start].strip() == ""
        if chunk.pause is None:
            assert chunk.text == text[start:stop] == chunk.text.strip()
        else:
            assert chunk.text == ""
            assert 0 <= chunk.pause <= 10
        end = stop
    assert text[end:].strip() == ""


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "bee", "cider,", "drummer", "egg;"]), max_size=60), st.integers(7, 60))
def test_no_chunk_is_longer_than_asked_for_and_no_word_is_cut(words: list[str], most: int) -> None:
    found = chunks(" ".join(words), most)
    assert [word for chunk in found for word in chunk.text.split()] == words
    assert all(len(chunk.text) <= most for chunk in found)


def test_a_long_sentence_is_cut_at_its_clauses_and_then_at_spaces() -> None:
    text = "When it rains, the old dog sleeps; otherwise it runs and runs and runs and runs."
    found = chunks(text, 40)
    assert [(chunk.text, chunk.ends) for chunk in found] == [
        ("When it rains, the old dog sleeps;", "clause"),
        ("otherwise it runs and runs and runs and", "cut"),
        ("runs.", "sentence"),
    ]


def test_a_clause_too_short_to_be_spoken_alone_is_no_place_to_cut() -> None:
    assert texts("Oh, this sentence goes on without marks for a while.", 40)[0] == (
        "Oh, this sentence goes on without marks"
    )


@pytest.mark.parametrize(
    ("text", "most", "parts"),
    [
        ("we saw Dr. Lee today", 10, ["we saw", "Dr. Lee", "today"]),
        ("they met J. R. R. Tolkien there", 12, ["they met", "J. R. R. Tolkien", "there"]),
        ("it cost $5 million then", 10, ["it cost", "$5 million", "then"]),
        ("a run of 20 km today", 11, ["a run of", "20 km today"]),
        ("on May 3, 2021 we left", 9, ["on", "May 3, 2021", "we left"]),
        ("take no. 5 now", 8, ["take", "no. 5", "now"]),
        ("incomprehensibilities are long", 10, ["incomprehensibilities", "are long"]),
        ("incomprehensibilities", 2, ["incomprehensibilities"]),
    ],
)
def test_a_name_an_amount_and_a_date_stay_together(text: str, most: int, parts: list[str]) -> None:
    assert texts(text, most) == parts


def test_what_belongs_together_is_cut_at_twice_the_length() -> None:
    names = "A. " * 400 + "Lee"
    assert max(map(len, texts(names, 20))) <= 40
    assert " ".join(texts(names, 20)) == names


@pytest.mark.parametrize(
    "text", [*WHOLE, *(text for text, _ in CUT), "it cost $5 million then or 20 km more"]
)
@pytest.mark.parametrize("most", [4, 10, 240])
def test_it_does_not_matter_that_the_text_arrives_by_characters(text: str, most: int) -> None:
    assert fed(text, list(range(len(text))), most) == chunks(text, most)


@pytest.mark.parametrize(
    ("mark", "seconds"),
    [
        ("[pause 0.5s]", 0.5),
        ("[pause 500ms]", 0.5),
        ("[Pause 2 s ]", 2.0),
        ("[pause .25s]", 0.25),
        ('<break time="0.5s"/>', 0.5),
        ("<break time='750ms' />", 0.75),
        ('<BREAK TIME = "1s">', 1.0),
        ("[pause 0s]", 0.0),
        ("[pause 600s]", 10.0),
        ("[pause 999999ms]", 10.0),
    ],
)
def test_a_pause_is_a_chunk_of_its_own(mark: str, seconds: float) -> None:
    text = f"Hello{mark}there. {mark} Bye"
    at, again = len("Hello"), text.rindex(mark)
    assert chunks(text) == [
        Chunk("Hello", None, (0, at), "clause"),
        Chunk("", seconds, (at, at + len(mark)), "clause"),
        Chunk("there.", None, (at + len(mark), again - 1), "sentence"),
        Chunk("", seconds, (again, again + len(mark)), "clause"),
        Chunk("Bye", None, (len(text) - 3, len(text)), "sentence"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "[pause]",
        "[pause -1s]",
        "[pause 1]",
        "[pauses 1s]",
        "[pause 1e9s]",
        "<break/>",
        "[pause 1234567890123s]",
    ],
)
def test_what_only_looks_like_a_pause_is_text(text: str) -> None:
    assert [chunk.pause for chunk in chunks(text)] == [None]


@pytest.mark.parametrize(
    ("text", "given_at"),
    [
        ("Hello there. How", "Hello there. H"),
        ("It costs 3. 5", "It costs 3. 5"),
        ("It costs 3.50. So", "It costs 3.50. S"),
        ("Ask Dr. Lee. He", "Ask Dr. Lee. H"),
        ("In the U.S. They did", "In the U.S. They "),
        ("Plan B. Then we", "Plan B. Then "),
        ('"No!" She', '"No!" S'),
        ("Oh! \u201cNo", "Oh! \u201cN"),
        ("One\n\n", "One\n\n"),
        ("# One\nt", "# One\nt"),
        ("Buy:\n- milk", "Buy:\n- "),
        ("Hi [pause 1s]", "Hi [pause 1s]"),
        ("Hi [paused", None),
        ("See [pauses] now. So", "See [pauses] now. S"),
        ("hello. how", "hello. h"),
        ("Ask Dr. Lee", None),
        ("It costs $", None),
        ("It is 3. ", None),
    ],
)
def test_a_chunk_is_given_out_as_soon_as_it_is_certain(text: str, given_at: str | None) -> None:
    chunker = Chunker()
    heard = ""
    for char in text:
        heard += char
        if chunker.feed(char):
            break
    else:
        heard = None
    assert heard == given_at


def test_a_long_sentence_is_given_out_before_it_ends() -> None:
    chunker = Chunker(20)
    assert chunker.feed("one two three, four ") == []
    assert [chunk.text for chunk in chunker.feed("fives")] == ["one two three,"]


def test_a_chunker_begins_anew_after_the_end() -> None:
    chunker = Chunker()
    assert chunker.feed("- One. Two") == chunks("- One. T")[:1]
    assert [chunk.text for chunk in chunker.finish()] == ["Two"]
    assert chunker.finish() == []
    assert chunker.feed("Three. F") == chunks("Three. F")[:1]


@pytest.mark.parametrize("most", [0, -5])
def test_a_chunk_holds_at_least_a_character(most: int) -> None:
    with pytest.raises(ConfigError, match=f"most must be at least 1 character, got {most}"):
        chunks("text", most)


STORY = """
Dr. Smith paid $3.50 at 9:30 PM. "Really?" asked Mrs. Jones of Acme Inc. The room was cold (about -5°C), i.e.
not warm... On May 3, 2021, they left the U.S. for good.

- No. 5 Elm St. was sold for €1.2 million
- J. R. R. Tolkien wrote Chapter IV

See https://example.com/a.b or mail a.b@c.org. END of story!
"""


def test_a_story_is_said_the_same_in_chunks_as_at_once() -> None:
    words = re.compile(r"[^ .,?!;:]+")
    whole = words.findall(speakable(STORY).text)
    for most in (240, 60):
        pieces = [speakable(chunk.text).text for chunk in chunks(STORY, most)]
        assert [word for piece in pieces for word in words.findall(piece)] == whole


def test_the_example_is_true() -> None:
    assert doctest.testmod(room).attempted > 0
    assert doctest.testmod(room).failed == 0
