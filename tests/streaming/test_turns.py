"""Turns from loudness and text."""

from __future__ import annotations

import numpy as np

from rillvox.streaming.events import Event, SpeechStarted, TurnEnded, TurnRules
from rillvox.streaming.turns import TurnWatch

RATE = 16000


def noise(seconds: float, level_db: float) -> np.ndarray:
    samples = np.random.default_rng(0).standard_normal(round(seconds * RATE))
    return (samples * 10 ** (level_db / 20)).astype(np.float32)


def follow(
    watch: TurnWatch, audio: np.ndarray, text_until: float = 0.0, cut: int = 1280, text_from: float = 0.7
) -> list[Event]:
    """Feed audio; the model writes a word every step from `text_from` to `text_until` seconds."""
    events: list[Event] = []
    for begin in range(0, len(audio), cut):
        watch.hear(audio[begin : begin + cut])
        now = (begin + cut) / RATE
        events += watch.report(" word" if text_from <= now <= text_until else "", max(0.0, now - text_until))
    return events


TALK = np.concatenate([noise(0.5, -70), noise(1.0, -25), noise(2.0, -70)])


def test_a_turn_starts_with_sound_and_ends_after_its_silence() -> None:
    started, ended = follow(TurnWatch("s", TurnRules(500)), TALK, text_until=1.9)
    assert isinstance(started, SpeechStarted)
    assert isinstance(ended, TurnEnded)
    assert abs(started.at - 0.5) < 0.05
    assert abs(ended.at - 1.5) < 0.05


def test_the_cut_of_the_audio_does_not_matter() -> None:
    for cut in (100, 320, 1281):
        events = follow(TurnWatch("s", TurnRules(500)), TALK, text_until=1.9, cut=cut)
        assert [round(event.at, 6) for event in events] == [0.5, 1.5]  # type: ignore[union-attr]


def test_a_longer_silence_is_waited_for() -> None:
    assert len(follow(TurnWatch("s", TurnRules(2500)), TALK, text_until=1.9)) == 1


def test_no_turn_ends_while_text_is_still_written() -> None:
    watch = TurnWatch("s", TurnRules(500))
    events = follow(watch, TALK[: round(2.4 * RATE)], text_until=2.4)  # 0.9 s of silence, words until the end
    assert [type(event) for event in events] == [SpeechStarted]


def test_silence_and_clicks_are_no_speech() -> None:
    silence = noise(3.0, -70)
    silence[RATE : RATE + 300] = 0.5
    assert follow(TurnWatch("s", TurnRules(500)), silence) == []


def test_where_it_never_gets_quiet_the_text_decides() -> None:
    loud = noise(4.0, -25)
    kinds = [type(event) for event in follow(TurnWatch("s", TurnRules(500)), loud, text_until=1.0)]
    assert kinds[:2] == [SpeechStarted, TurnEnded]


def test_text_is_speech_however_quiet_it_is() -> None:
    (started, *_) = follow(TurnWatch("s", TurnRules(500)), noise(1.0, -80), 0.3, text_from=0.1)
    assert isinstance(started, SpeechStarted)


def test_an_unfinished_sentence_gets_more_patience() -> None:
    def ends(text: str) -> bool:
        watch = TurnWatch("s", TurnRules(500, patience_ms=4000))
        watch.hear(TALK[: round(1.6 * RATE)])
        watch.report(text, 0.0)
        watch.hear(TALK[round(1.6 * RATE) :])
        return any(isinstance(event, TurnEnded) for event in watch.report("", 1.0))

    assert ends(" that is all")
    assert not ends(" and then we went to the")
    assert not ends(" first,")
