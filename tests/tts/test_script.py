"""What a speaker reads: tokens of a text, and which piece of the text each belongs to."""

from __future__ import annotations

import re
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rillvox.tts.hard_texts import HARD
from rillvox.tts.pronounce import Pronouncer
from rillvox.tts.script import Script, script
from rillvox.tts.tokens import FIRST, PAUSE, PHONES, STOP, TOKENS, word_tokens


@cache
def pronouncer() -> Pronouncer:
    return Pronouncer.load()


def letters(text: str) -> list[tuple[int, list[int]]]:
    """A phone for every letter, so that tests see what was read."""
    return [
        (word.start(), [ord(letter) - 96 for letter in word[0].lower() if letter.isalpha()])
        for word in re.finditer(r"[A-Za-z][A-Za-z']*", text)
    ]


def read(text: str, lexicon: dict[str, str] | None = None) -> tuple[Script, list[str]]:
    """The script, and what each of its words is made of, letters and `|` for a pause."""
    found = script(text, letters, lexicon)
    names = ["|" if token == PAUSE else chr(96 + (token - 1) % FIRST + 1) for token in found.tokens]
    return found, ["".join(names[word.first : word.last]) for word in found.words]


@pytest.mark.parametrize(
    ("text", "pieces", "said"),
    [
        ("It cost $3.50.", ["It", "cost", "$3.50"], ["it", "cost", "threedollarsandfiftycents"]),
        ("a well-known trick", ["a", "well", "known", "trick"], ["a", "well", "known", "trick"]),
        ('"Yes," he said.', ["Yes", "he", "said"], ["yes", "he", "said"]),
        ("don't go", ["don't", "go"], ["dont", "go"]),
        ("no no no", ["no", "no", "no"], ["no", "no", "no"]),
        ("Dr. Who", ["Dr.", "Who"], ["doctor", "who"]),
        ("call NATO 2x", ["call", "NATO", "2x"], None),
    ],
)
def test_words_are_pieces_of_the_text_as_typed(text: str, pieces: list[str], said: list[str] | None) -> None:
    found, spelled = read(text)
    assert [word.text for word in found.words] == pieces
    assert [text[slice(*word.source)] for word in found.words] == pieces
    if said is not None:
        assert spelled == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("one, two; three: four", "one|two|three|four"),
        ("Stop! Go? Now.", "stop|go|now"),
        ("what?! really", "what|really"),
        ("...so it is", "soitis"),
        ("well-known 'quoted'", "wellknownquoted"),
        ("so it is...", "soitis"),
    ],
)
def test_marks_are_pauses_between_words_and_nowhere_else(text: str, said: str) -> None:
    tokens = script(text, letters).tokens
    assert "".join("|" if t == PAUSE else chr(97 + (t - 1) % FIRST) for t in tokens) == said


def test_first_phones_of_words_are_marked() -> None:
    assert script("ab cd", letters).tokens == [1 + FIRST, 2, 3 + FIRST, 4]


@pytest.mark.parametrize("text", ["", "   \n", "***", "\U0001f600\U0001f680", "--- ... !!!"])
def test_there_may_be_nothing_to_say(text: str) -> None:
    assert script(text, pronouncer().placed) == Script([], [])


def test_a_lexicon_says_what_it_is_told_of_what_was_typed() -> None:
    found, spelled = read("the GIF, again", {"GIF": "jif file"})
    assert [word.text for word in found.words] == ["the", "GIF", "again"]
    assert spelled == ["the", "jiffile", "again"]


@pytest.mark.parametrize(
    ("text", "word", "said"),
    [
        ("a Café here", "Café", "k ah f ey"),
        ("so naïve", "naïve", "n ay iy v"),
        ("vitamin A is good", "A", "ey"),
        ("A good one", "A", "ah"),
        ("the USA", "USA", "y uw eh s ey"),
    ],
)
def test_words_are_read_whole_and_where_they_stand(text: str, word: str, said: str) -> None:
    found = script(text, pronouncer().placed)
    (place,) = [each for each in found.words if each.text == word]
    names = [PHONES[(token - 1) % FIRST] for token in found.tokens[place.first : place.last]]
    assert " ".join(names) == said


def check(text: str) -> None:
    found = script(text, pronouncer().placed)
    assert all(0 < token < STOP < TOKENS for token in found.tokens)
    if not found.tokens:
        assert not found.words
        return
    assert PAUSE not in (found.tokens[0], found.tokens[-1])
    assert (PAUSE, PAUSE) not in zip(found.tokens, found.tokens[1:], strict=False)
    at = 0
    last = (0, 0)
    for word in found.words:
        # Every word has tokens of its own; between words there are pauses alone.
        assert at <= word.first < word.last
        assert all(token == PAUSE for token in found.tokens[at : word.first])
        assert found.tokens[word.first] > FIRST
        assert found.tokens[word.first] != PAUSE
        assert 0 <= word.source[0] < word.source[1] <= len(text)
        assert word.source[0] >= last[0]
        assert word.text == text[slice(*word.source)]
        at, last = word.last, word.source
    assert all(token == PAUSE for token in found.tokens[at:])


@pytest.mark.parametrize("text", HARD)
def test_hard_texts_are_read(text: str) -> None:
    check(text)
    assert script(text, pronouncer().placed).words


@settings(deadline=None, max_examples=80)
@given(st.text(max_size=40) | st.text("abc I'$3.5-,?!\"(:/%\n", max_size=40))
def test_any_text_gives_tokens_that_a_model_knows(text: str) -> None:
    check(text)


def test_tokens_of_a_word_stay_within_their_halves() -> None:
    every = list(range(1, len(PHONES) + 1))
    for phone in every:
        first, *rest = word_tokens([phone, *every])
        assert first == phone + len(PHONES)
        assert rest == every
    assert TOKENS == 81
