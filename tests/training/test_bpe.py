"""The trained vocabulary against the library that trained it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from rillvox.errors import ConfigError
from rillvox.tekken import Tekken
from rillvox.training import bpe
from rillvox.training.bpe import BOS_PLAIN, PATTERN, SPECIALS, train_bpe

tokenizers = pytest.importorskip("tokenizers", reason="tokenizers comes with rillvox[train]")

TEXTS = [
    "the old man didn't see the ships until the evening, and then there were three of them",
    "three ships came sailing in; nobody on the shore had seen such ships before",
    '"don\'t go there", she said, "the sea is rising and the shore isn\'t safe"',
    "it was the best of times, it was the worst of times, in 1842 and in 1859",
    "the naïve façade of the café and of the other cafés",
]
SIZE = 340

WORDS = st.lists(st.sampled_from(" ".join(TEXTS).split(" ")), max_size=6).map(" ".join)
SPELT = st.text(st.sampled_from(list("theors anid'\u2019,1 é\n")), max_size=30)
ANY = st.text(st.characters(codec="utf-8", categories=("L", "M", "N", "P", "Zs"), max_codepoint=0x2FFF))


@pytest.fixture(scope="module")
def tekken() -> Tekken:
    return train_bpe(TEXTS, SIZE)


@pytest.fixture(scope="module")
def library() -> Any:
    return bpe._train(TEXTS, SIZE - bpe.N_SPECIAL, PATTERN)


@given(text=WORDS | SPELT | ANY)
def test_tiktoken_cuts_text_as_the_training_library_does(tekken: Tekken, library: Any, text: str) -> None:
    byte_of = {letter: byte for byte, letter in enumerate(bpe._byte_letters())}
    expected = [bytes(byte_of[letter] for letter in piece) for piece in library.encode(text).tokens]
    ids = tekken.encode(text)
    assert [tekken.token_bytes(token) for token in ids] == expected
    merged = [(token, piece) for token, piece in zip(ids, expected, strict=True) if len(piece) > 1]
    assert [token - tekken.n_special for token, _ in merged] == [
        library.token_to_id(piece) for piece in library.encode(text).tokens if len(piece) > 1
    ]


def test_the_letters_of_bytes_are_the_librarys() -> None:
    level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    letters = bpe._byte_letters()
    assert sorted(letters) == sorted(level.alphabet())
    for char in [chr(code) for code in range(0x800)] + ["日", "😀"]:
        assert level.pre_tokenize_str(char)[0][0] == "".join(letters[byte] for byte in char.encode())


def test_the_comparison_notices_two_merges_in_the_wrong_order(tekken: Tekken, library: Any) -> None:
    pieces = list(tekken.pieces)
    pieces[256:] = pieces[:255:-1]
    other = Tekken.build(pieces, PATTERN, SPECIALS, n_special=bpe.N_SPECIAL)
    with pytest.raises(AssertionError):
        test_tiktoken_cuts_text_as_the_training_library_does.hypothesis.inner_test(
            other, library, " the ships of the shore"
        )


def test_the_size_is_the_size_asked_for(tekken: Tekken) -> None:
    assert tekken.vocab_size == SIZE
    assert tekken.special(BOS_PLAIN) == SPECIALS.index(BOS_PLAIN)
    assert (tekken.bos, tekken.pad, tekken.left_pad_tokens, tekken.delay_ms) == (1, 3, 32, 480)


def test_training_twice_gives_one_vocabulary(tekken: Tekken) -> None:
    assert train_bpe(iter(TEXTS), SIZE) == tekken


def test_a_trained_vocabulary_survives_the_file(tekken: Tekken, tmp_path: Path) -> None:
    tekken.save(tmp_path / "tekken.json")
    assert Tekken.load(tmp_path / "tekken.json") == tekken


def test_a_frequent_word_is_one_piece_with_its_space(tekken: Tekken) -> None:
    assert [tekken.name(token) for token in tekken.encode(" the ships")] == [" the", " ships"]


def test_the_first_word_is_learned_like_any_other() -> None:
    learned = train_bpe(["river"] * 9, 8 + 256 + 5).pieces[256:]
    assert learned[-1] == b" river"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (" don't", [" don't"]),
        (" don\u2019t stop", [" don\u2019t", " stop"]),
        ("a  b", ["a", " ", " b"]),
        (" in 1842.", [" in", " 1", "8", "4", "2", "."]),
        ('he said, "no!"', ["he", " said", ",", ' "', "no", '!"']),
        ("end  ", ["end", " ", " "]),
        ("a\nb", ["a", "\n", "b"]),
        (" cafe\u0301s", [" cafe\u0301s"]),
    ],
)
def test_text_is_split_into_words_with_their_spaces(text: str, parts: list[str]) -> None:
    assert regex.findall(PATTERN, text) == parts


@given(text=st.text())
def test_no_character_falls_through_the_split(text: str) -> None:
    assert "".join(regex.findall(PATTERN, text)) == text


@pytest.mark.parametrize(
    ("size", "message"), [(263, "at least 264, got 263"), (5000, "the text yields only")]
)
def test_a_size_that_cannot_be_had_is_refused(size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train_bpe(TEXTS, size)
