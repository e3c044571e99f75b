"""A text that is still being written: what goes out early is what the whole sentence begins with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rillvox.errors import TextError
from rillvox.tts import word_feed
from rillvox.tts.chunks import chunks
from rillvox.tts.hard_texts import HARD
from rillvox.tts.pieces import Pause
from rillvox.tts.pronounce import Pronouncer
from rillvox.tts.script import Script, ScriptWord, script
from rillvox.tts.tokens import PAUSE
from rillvox.tts.word_feed import Growing, WordFeed, certain

from .spoken_table import SPOKEN

ROWS = [typed for rows in SPOKEN.values() for typed, _ in rows]
AMONG = "I said {} to him and then we all went home"
SENTENCE = "The quick brown fox jumps over the lazy dog near the river and then it goes home again."


@cache
def pronouncer() -> Pronouncer:
    return Pronouncer.load()


@cache
def read(text: str) -> Script:
    return script(text, pronouncer().placed)


Found = list[tuple[list[int], list[ScriptWord]] | Pause]


def collected(feed: WordFeed) -> tuple[Found, bool]:
    """Sentences and pauses; whether one was broken."""
    found: Found = []
    broken = False
    for item in feed:
        if isinstance(item, Pause):
            found.append(item)
            continue
        while not item.whole:
            sent, words = list(item.tokens), list(item.words)
            item.more(item)
            assert item.tokens[: len(sent)] == sent  # what has gone out stays
            assert item.words[: len(words)] == words
        broken |= item.broken
        found.append((item.tokens, item.words))
    return found, broken


def by_word(text: str) -> list[str]:
    return re.findall(r"\S+\s*|\s+", text)


def wrong(texts: Sequence[str], cut: str) -> list[str]:
    """Texts whose sentences are others when they come in parts."""
    odd: list[str] = []
    for text in texts:
        whole, _ = collected(WordFeed.of(text, read))
        found, broken = collected(WordFeed(list(text) if cut == "character" else by_word(text), read))
        if broken or found != whole:
            odd.append(text)
    return odd


@pytest.mark.parametrize("cut", ["character", "word"])
def test_a_text_in_parts_is_read_as_the_whole(cut: str) -> None:
    assert wrong([*ROWS, *HARD], cut) == []


@pytest.mark.slow
@pytest.mark.parametrize("among", [AMONG, "They say that {}, but nobody in the house believes it any more."])
def test_and_so_is_what_stands_among_plain_words(among: str) -> None:
    assert wrong([among.format(row) for row in ROWS], "word") == []


@pytest.mark.parametrize(
    ("name", "value", "texts"),
    [
        (
            "SETTLED",
            0,
            ["386 sq mi", "on the 5th of May", "They say that f(x) = 2x - 5, but not here."],
        ),
        ("READINGS", 1, ["Mary I think is right", "I said 9:30 PM to him", "Lee et al. found"]),
    ],
)
def test_every_caution_is_needed(
    name: str, value: int, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wrong(texts, "word") == []
    reckless = {"SETTLED": 0, "READINGS": 1} if name == "READINGS" else {name: value}
    for key, number in reckless.items():
        monkeypatch.setattr(word_feed, key, number)
    assert wrong(texts, "word") == texts


def test_words_go_out_long_before_the_sentence_is_whole() -> None:
    given: list[str] = []

    def writing() -> Iterator[str]:
        for part in by_word(SENTENCE):
            given.append(part)
            yield part

    feed = iter(WordFeed(writing(), read))
    sentence = next(feed)
    assert isinstance(sentence, Growing)
    assert (len(given), [word.text for word in sentence.words]) == (2, ["The"])
    while len(sentence.tokens) < 8:
        sentence.more(sentence)
    assert len(given) == 4
    while len(given) < 12:
        sentence.more(sentence)
    assert len(sentence.words) == 11
    assert not sentence.whole


def test_what_is_no_plain_word_waits_for_plain_words_behind_it() -> None:
    given: list[str] = []

    def writing() -> Iterator[str]:
        for part in by_word("It cost $3.50 in the year before this one."):
            given.append(part)
            yield part

    sentence = next(iter(WordFeed(writing(), read)))
    assert isinstance(sentence, Growing)
    seen = {}
    while not sentence.whole:
        seen[len(given)] = len(sentence.words)
        sentence.more(sentence)
    assert [seen[count] for count in (3, 4, 5, 6, 7)] == [1, 2, 2, 5, 6]


PLAIN = st.sampled_from(["the", "I", "it's", "wonderful", "international"])
SPECIAL = st.sampled_from(
    ["Dr.", "A", "5", "km,", "end.", "-", "\n", "\n\n", "(see", "that)", "No.", "St.", "[pause 1s]", "<b>",
     "and,", "etc.", '"Yes', 'no,"', "wonderful;", "1."]
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.one_of(PLAIN, PLAIN, PLAIN, SPECIAL), max_size=20),
    st.sampled_from([" ", "  ", "\n"]),
    st.integers(12, 60),
)
@example(["the cat sat,", "the dog ran home again and then it slept all day"], " ", 40)
@example(["the", "Dr.", "the"], "  ", 12)
def test_what_is_certain_is_in_the_first_chunk(words: list[str], space: str, most: int) -> None:
    text = space.join(words).lstrip()
    for at in range(len(text) + 1):
        ends = certain(text[:at], most)
        if ends:
            first = chunks(text, most)[0]
            assert first.pause is None
            assert ends[-1] <= len(first.text)
            assert all(text[end - 1 : end + 1].strip() != text[end - 1 : end + 1] for end in ends)


def spelled(text: str) -> Script:
    """A token for each letter."""
    return script(
        text,
        lambda said: [
            (word.start(), [ord(letter) - 96 for letter in word[0].lower() if letter.isalpha()])
            for word in re.finditer(r"[A-Za-z][A-Za-z']*", said)
        ],
    )


@pytest.mark.parametrize(
    "text", ["We met on May 5 at No. 8 in St. James, and paid $3.50.", "One. Two, 3 km. Go"]
)
def test_no_word_is_said_twice_even_where_it_was_wrong(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whatever is there goes out at once, read as if nothing followed.
    monkeypatch.setattr(word_feed, "certain", lambda rest, most: [m.end() for m in re.finditer(r"\S+", rest)])
    for key, number in (("SETTLED", 0), ("READINGS", 1)):
        monkeypatch.setattr(word_feed, key, number)
    for parts in (list(text), by_word(text)):
        found, broken = collected(WordFeed(parts, spelled))
        assert broken
        places = [word.source for item in found if not isinstance(item, Pause) for word in item[1]]
        assert all(before[1] <= after[0] for before, after in pairwise(places))
        assert places[0][0] == 0
        for item in found:
            assert not isinstance(item, Pause)
            tokens, words = item
            assert all(0 <= word.first < word.last <= len(tokens) for word in words)
            covered = [token for word in words for token in tokens[word.first : word.last]]
            assert [token for token in tokens if token != PAUSE] == covered


def test_a_part_that_is_no_text_is_refused() -> None:
    with pytest.raises(TextError, match="a part of the text is int"):
        list(WordFeed(["one ", 2], spelled))  # type: ignore[list-item]
