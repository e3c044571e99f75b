"""Our models as the engine's listener."""

from __future__ import annotations

import numpy as np
import pytest
from laws.listening import small, waveform

from rillvox.asr.reading import Reading
from rillvox.asr.stream import ASR
from rillvox.errors import ConfigError
from rillvox.streaming.events import (
    Event,
    Final,
    Mark,
    OpenStream,
    Partial,
    SpeechStarted,
    TurnEnded,
    TurnRules,
)
from rillvox.streaming.hearing import BatchListener, LaneUtterance, listen_with
from rillvox.streaming.settings import GatewaySettings


@pytest.fixture
def listener() -> BatchListener:
    return listen_with(small().model, small().tokenizer, GatewaySettings(slots=2, file_slots=1))


def alone(samples: np.ndarray, delay_ms: int = 480) -> str:
    session = ASR(small().model, small().tokenizer).stream(delay_ms)
    session.feed(samples)
    return session.finish().text


def run(listener: BatchListener, utterance: LaneUtterance) -> list[Event]:
    events: list[Event] = []
    while listener.step() > 0:
        events += utterance.take_events()
    return events + utterance.take_events()


def text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Partial))


def test_an_utterance_says_what_a_session_alone_says_and_ends_in_one_final(listener: BatchListener) -> None:
    samples = waveform(1.5, 3)
    utterance = listener.open(OpenStream("s", 240, "en"))
    events: list[Event] = []
    for piece in np.array_split(samples, 11):
        utterance.feed(piece)
        events += run(listener, utterance)
    assert utterance.waiting < 0.16
    utterance.flush("m")
    utterance.finish()
    events += run(listener, utterance)
    finals = [event for event in events if isinstance(event, Final)]
    assert [final.text for final in finals] == [text(events)] == [alone(samples, 240)]
    assert finals[0].seconds == pytest.approx(1.5)
    assert finals[0].prompt_tokens == 33 + 2  # block 8 takes 80 of the 240 ms
    assert [event.id for event in events if isinstance(event, Mark)] == ["m"]
    assert {event.stream for event in events} == {"s"}


def test_a_fault_inside_a_step_ends_one_stream_only(listener: BatchListener) -> None:
    samples = waveform(1.5, 3)
    bad, good = listener.open(OpenStream("bad")), listener.open(OpenStream("good"))

    def breaks(position: int, reading: Reading) -> None:
        raise ZeroDivisionError(position)

    bad.lane.on_reading = breaks
    for utterance in (bad, good):
        utterance.feed(samples)
        utterance.finish()
    events = run(listener, good)
    assert text(events) == alone(samples)
    with pytest.raises(ZeroDivisionError):
        bad.take_events()
    listener.close(bad)
    listener.close(good)
    again = listener.open(OpenStream("again"))
    again.feed(samples)
    again.finish()
    assert text(run(listener, again)) == alone(samples)


def test_settings_of_a_running_stream_can_change(listener: BatchListener) -> None:
    utterance = listener.open(OpenStream("s"))
    utterance.configure(960, TurnRules())
    utterance.feed(waveform(0.3, 1))
    assert utterance.lane.delay_ms == 960
    utterance.configure(None, None)
    with pytest.raises(ConfigError):
        utterance.configure(70, None)
    with pytest.raises(ConfigError):
        listener.open(OpenStream("t", 70))


def test_a_start_comes_before_its_text_and_an_end_behind_it(listener: BatchListener) -> None:
    utterance = listener.open(OpenStream("s", None, None, TurnRules(400)))
    events: list[Event] = []
    for piece in np.array_split(np.concatenate([waveform(1.2, 3), np.zeros(24000, np.float32)]), 30):
        utterance.feed(piece)
        events += run(listener, utterance)
    kinds = [type(event) for event in events]
    assert kinds.index(SpeechStarted) < kinds.index(Partial)
    assert kinds.index(TurnEnded) > kinds.index(Partial)
