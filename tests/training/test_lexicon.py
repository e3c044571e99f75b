"""Words to phones, with flite where it is installed and with a stand-in that counts its calls."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rillvox.errors import ConfigError, TextError
from rillvox.training.lexicon import PHONE_IDS, PHONES, Lexicon, say

needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="the program flite is not installed")

# A flite of a few lines: says each letter of a word as one phone, with a pause at each full stop, but "dr."
# is an abbreviation: it swallows its stop as the real program does.
STAND_IN = """#!/bin/sh
echo run >> "{log}"
printf '%s' "$5" | sed -e 's/dr\\./dr/g' -e 's/\\./ pau /g' -e 's/\\([a-z]\\)\\([a-z]\\)/\\1 \\2/g' \
  -e 's/\\([a-z]\\)\\([a-z]\\)/\\1 \\2/g' -e 's/p a u/pau/g' -e 's/a/aa/g' -e 's/paau/pau/g' -e 's/o/ax/g'
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> tuple[Path, Path]:
    """A program in flite's place, and the log of its runs."""
    program, log = tmp_path / "flite", tmp_path / "runs.txt"
    program.write_text(STAND_IN.format(log=log))
    program.chmod(0o755)
    log.touch()
    return program, log


def runs(log: Path) -> int:
    return len(log.read_text().split())


def test_many_words_take_one_call(stand_in: tuple[Path, Path]):
    program, log = stand_in
    said = Lexicon(program=str(program)).lookup(["dog", "bad", "log"])
    assert said == {"dog": ("d", "ah", "g"), "bad": ("b", "aa", "d"), "log": ("l", "ah", "g")}
    assert runs(log) == 1


def test_a_batch_whose_pauses_do_not_fit_is_halved_until_they_do(stand_in: tuple[Path, Path]):
    program, log = stand_in
    said = Lexicon(program=str(program)).lookup(["dog", "dr", "bad", "log"])
    assert said["dr"] == ("d", "r")
    assert said["bad"] == ("b", "aa", "d")
    assert runs(log) > 2


def test_a_lexicon_asks_only_for_new_words_and_keeps_them(stand_in: tuple[Path, Path], tmp_path: Path):
    program, log = stand_in
    cache = tmp_path / "kept" / "lexicon.json"
    Lexicon(cache, str(program)).lookup(["dog", "bad"])
    again = Lexicon(cache, str(program))
    assert again.lookup(["bad", "dog", "bad"]) == {"bad": ("b", "aa", "d"), "dog": ("d", "ah", "g")}
    assert runs(log) == 1
    again.lookup(["log", "dog"])
    assert runs(log) == 2
    assert set(json.loads(cache.read_text())) == {"dog", "bad", "log"}
    assert list(cache.parent.iterdir()) == [cache]


def test_words_of_running_speech_are_reduced_without_asking():
    assert Lexicon(program="no such program").lookup(["a", "the"]) == {"a": ("ah",), "the": ("dh", "ah")}


def test_ids_follow_the_text():
    assert Lexicon(program="no such program").ids(["the", "a", "the"]) == [[10, 3], [3], [10, 3]]
    assert PHONES[10 - 1] == "dh"
    assert len(PHONES) == len(PHONE_IDS) == 39


def test_without_flite_the_error_says_what_to_do():
    with pytest.raises(ConfigError, match=r"not installed.*apt install flite"):
        Lexicon(program="no such program").lookup(["dog"])


def test_a_flite_that_fails_or_speaks_another_language_is_refused(tmp_path: Path):
    program = tmp_path / "flite"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(ConfigError, match="failed on 'dog'"):
        say(["dog"], str(program))
    program.write_text("#!/bin/sh\necho pau rr pau\n")
    with pytest.raises(ConfigError, match="said 'rr'"):
        say(["dog"], str(program))
    program.write_text("#!/bin/sh\necho pau\n")
    with pytest.raises(TextError, match="no sound in 'dog'"):
        say(["dog"], str(program))


@pytest.mark.parametrize("word", ["", "Dog", "-t", "'", "two words", "café", "4"])
def test_what_is_no_word_is_refused_before_any_call(word: str):
    with pytest.raises(TextError, match="normalise the text first"):
        Lexicon(program="no such program").lookup([word])


@pytest.mark.parametrize("content", ["{", "[]", '{"dog": []}', '{"dog": ["xx"]}', '{"dog": 3}'])
def test_a_cache_that_is_no_lexicon_is_refused(tmp_path: Path, content: str):
    cache = tmp_path / "lexicon.json"
    cache.write_text(content)
    with pytest.raises(ConfigError, match=r"lexicon\.json"):
        Lexicon(cache)


@needs_flite
def test_flite_says_words_in_a_batch_as_it_says_them_alone():
    words = ["cat", "don't", "bottle", "quilter"]
    batch = Lexicon().lookup(words)
    assert batch == {word: say([word], "flite")[word] for word in words}
    assert batch["cat"] == ("k", "ae", "t")
    assert batch["bottle"] == ("b", "aa", "t", "ah", "l")
    assert all(phone in PHONE_IDS for phones in batch.values() for phone in phones)


@needs_flite
def test_a_voice_of_flites_tells_two_vowels_apart(tmp_path: Path):
    cache = tmp_path / "lexicon.json"
    said = Lexicon(cache, voice="slt").lookup(["cut", "cot"])
    assert said == {"cut": ("k", "ah", "t"), "cot": ("k", "aa", "t")}
    assert Lexicon().lookup(["cut"]) == {"cut": ("k", "aa", "t")}
    with pytest.raises(ConfigError, match=r"no voice nobody; it has: .*slt"):
        Lexicon(voice="nobody").lookup(["cut"])
