"""Words, their times and their confidence, from scripted tokens."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from laws.listening import LEFT_PAD, tekken

from rillvox.asr.delays import DelayClock
from rillvox.asr.ears import Ear
from rillvox.asr.lanes import Lane
from rillvox.asr.reading import Reading
from rillvox.asr.targets import target_tokens
from rillvox.asr.words import SECONDS_PER_CHARACTER, Words

PAD, WORD = 32, 33
VOCABULARY = tekken(34, (b" a", b" the", b" of", b"lo", b"ing", b" hel", b" w", b"or", b"ld"))


def ids(*pieces: str) -> list[int]:
    """Token ids of pieces of the vocabulary."""
    return [34 + VOCABULARY.pieces.index(piece.encode()) for piece in pieces]


def lane_with(seconds: float = 30.0, delay: int = 6, audio: dict | None = None) -> Lane:
    """A lane that has read its prompt over so much silence."""
    vocabulary = VOCABULARY
    if audio is not None:
        vocabulary = type(VOCABULARY).build(
            VOCABULARY.pieces, VOCABULARY.pattern, VOCABULARY.specials, audio, 34
        )
    ear = Ear(0, 4, LEFT_PAD, 400)
    lane = Lane(ear, 0, vocabulary, delay, 4)
    ear.push(np.zeros(round(seconds * 16000), np.float32))
    lane.skip(lane.prompt_length - 1)
    return lane


def read(lane: Lane, tokens: list[int], score: float = -0.1, margin: float = 5.0) -> None:
    """Let the model write these tokens next."""
    for token in tokens:
        lane.accept(Reading(token, score, 9.0, margin))


def write_words(lane: Lane, words: list[tuple[list[int], int]], delay: int = 6) -> None:
    """Let the model write exactly what it is taught to: words with ends in ms."""
    tokens = target_tokens(DelayClock(delay), words, 400, PAD, WORD)
    read(lane, [int(token) for token in tokens[lane.position :]])


@pytest.mark.parametrize("delay", [1, 6, 30])
def test_marked_words_end_where_they_ended_to_a_step(delay: int) -> None:
    lane = lane_with(delay=delay)
    write_words(lane, [(ids(" hel", "lo"), 1000), (ids(" w", "or", "ld"), 2440)], delay)
    hello, world = lane.transcript().words
    assert (hello.text, world.text) == ("hello", "world")
    assert hello.end == pytest.approx(1.04)  # the step that covers 1.0 s ends there
    assert world.end == pytest.approx(2.48)
    assert not hello.approximate
    assert not world.approximate
    assert lane.text == "hello world"


def test_forgetting_the_padding_would_be_seen() -> None:
    lane = lane_with()
    write_words(lane, [(ids(" hel", "lo"), 1000)])
    lane = lane_with()
    lane.ear.left_pad_tokens = 1
    write_words(lane, [(ids(" hel", "lo"), 1000)])
    assert lane.transcript().words[0].end != pytest.approx(1.04)


def test_later_words_of_a_group_are_guessed_between_their_bounds_and_flagged() -> None:
    lane = lane_with()
    write_words(
        lane, [(ids(" hel", "lo", "ing", "ing"), 1000), (ids(" w", "or", "ld"), 1200), (ids(" a"), 1300)]
    )
    first, second, third = lane.transcript().words
    assert [word.text for word in (first, second, third)] == ["helloinging", "world", "a"]
    assert not first.approximate
    assert second.approximate
    assert third.approximate
    # Its first piece was written 5 steps behind the mark, so it had ended by then.
    assert first.end < second.end <= 1.04 + 5 * 0.08 + 1e-9
    assert second.end == pytest.approx(first.end + 6 * SECONDS_PER_CHARACTER)
    assert second.end < third.end


def test_words_start_where_sound_begins_behind_the_last_word() -> None:
    lane = lane_with(0)
    sound = np.zeros(5 * 16000, np.float32)
    sound[8000:16000] = 0.1  # 0.5 to 1.0 s
    sound[32000:35200] = 0.1  # 2.0 to 2.2 s
    lane.push(sound)
    while steps := lane.ear.ready(8)[1]:
        lane.ear.take(4, steps)
    tokens = target_tokens(DelayClock(6), [(ids(" a"), 1000), (ids(" the"), 2200)], 93, PAD, WORD)
    read(lane, [int(token) for token in tokens[lane.position :]])
    a, the = lane.transcript().words
    assert a.start == pytest.approx(0.5, abs=0.03)
    assert the.start == pytest.approx(2.0, abs=0.03)


def test_times_never_run_backwards_and_stay_inside_the_audio() -> None:
    rng = np.random.default_rng(0)
    for seed in range(20):
        lane = lane_with(3.0)
        read(lane, [int(token) for token in rng.choice([PAD, WORD, *ids(" a", "lo", " of")], 60)])
        lane.finish()
        lane.end_now()
        words = lane.transcript().words
        assert words, seed
        times = [time for word in words for time in (word.start, word.end)]
        assert times == sorted(times)
        assert 0 <= times[0] <= times[-1] <= 3.0


def test_the_words_are_the_text_cut_at_blanks() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        lane = lane_with()
        # No [W] inside of a word: there a new word begins, blank or not.
        read(lane, [int(token) for token in rng.choice([PAD, *ids(" a", "lo", " of", "or", " ", "\n")], 80)])
        lane.words.finish()
        transcript = lane.transcript()
        assert [word.text for word in transcript.words] == transcript.text.split()


def test_a_word_that_goes_on_after_a_pause_is_one_word_in_the_end() -> None:
    lane = lane_with()
    read(lane, [WORD, *ids(" hel")])
    read(lane, [PAD])
    assert [word.text for event in lane.poll() for word in event.words] == ["hel"]  # type: ignore
    read(lane, [*ids("lo"), PAD])
    assert [word.text for word in lane.transcript().words] == ["hello"]
    assert lane.text == "hello"


def test_confidence_is_the_mean_probability_of_tokens_and_mark() -> None:
    lane = lane_with()
    read(lane, [WORD], margin=2.0)
    read(lane, ids(" hel"), score=-0.5)
    read(lane, ids("lo"), score=-0.1)
    read(lane, ids(" the"), score=-1.0)
    read(lane, [PAD])
    mark = -math.log1p(math.exp(-2.0))
    first, second = lane.transcript().words
    assert first.confidence == pytest.approx(math.exp((mark - 0.6) / 3))
    assert second.confidence == pytest.approx(math.exp(-1.0))


def test_half_characters_wait_also_across_pads() -> None:
    lane = lane_with()
    euro = "€".encode()
    read(lane, [WORD, 34 + euro[0], PAD, 34 + euro[1], WORD])
    assert lane.text == ""
    read(lane, [34 + euro[2], PAD])
    assert lane.text == "€"
    assert [word.text for word in lane.transcript().words] == ["€"]


def test_the_leading_blank_is_stripped_once() -> None:
    lane = lane_with()
    read(lane, ids(" ", " a", " the"))
    assert lane.text == "a the"
    lane = lane_with()
    read(lane, [*ids(" a"), PAD, *ids(" the")])
    assert lane.text == "a the"


def test_the_end_symbol_does_not_end_a_live_stream() -> None:
    lane = lane_with()
    read(lane, [*ids(" a"), VOCABULARY.eos, *ids(" the")])
    assert lane.text == "a the"
    assert not lane.done


def test_a_model_may_bring_its_own_offset() -> None:
    lane = lane_with(audio={**VOCABULARY.audio, "word_time_offset_ms": -40})
    write_words(lane, [(ids(" hel", "lo"), 1000)])
    assert lane.transcript().words[0].end == pytest.approx(1.0)


def test_the_state_survives_json() -> None:
    words = Words()
    words.mark(1.0, -0.1)
    words.write(" hel", 1.08, -0.3)
    copy = Words()
    copy.restore(json.loads(json.dumps(words.state())))
    for either in (words, copy):
        either.write("lo", 1.16, -0.2)
        either.pause()
        either.write(" a", 1.4, -0.2)
        either.finish()
    assert copy.all == words.all
    assert copy.take() == words.take()


def test_without_keeping_nothing_is_remembered() -> None:
    words = Words(keep=False)
    for i in range(100):
        words.write(" a", float(i), -0.1)
        words.pause()
        assert len(words.take()) == 1
    assert words.all == []
