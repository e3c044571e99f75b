"""Blank ruts: what counts as one, what softening does, and that reading again loses nothing."""

from __future__ import annotations

import pytest
import torch
from laws.listening import (
    LEFT_PAD,
    adapter_vectors,
    batch,
    decoder_position,
    expected,
    small,
    watch,
    waveform,
)

from rillvox import ConfigError
from rillvox.asr.batch import Batch
from rillvox.asr.lanes import Lane
from rillvox.asr.reading import Reading
from rillvox.asr.rut import RutRules, RutWatch

PAD = 32
RUN = 24


def run_of(rules: RutRules, length: int, margin: float) -> RutWatch:
    """A watch that saw so many [P]."""
    watch = RutWatch(rules)
    for _ in range(length):
        watch.see(True, margin)
    return watch


@pytest.mark.parametrize(
    ("length", "margin", "level_db", "caught"),
    [
        (200, 5.2, -80.0, True),  # [P] leads by too little for silence
        (200, 9.0, -20.0, True),  # there is sound
        (200, 9.0, -80.0, False),  # true silence
        (199, 5.2, -20.0, False),  # no longer than natural pauses
    ],
)
def test_a_rut_is_a_long_run_that_is_no_silence(
    length: int, margin: float, level_db: float, caught: bool
) -> None:
    assert run_of(RutRules(), length, margin).caught(level_db) == caught


def test_the_margin_is_that_of_the_recent_run() -> None:
    watch = run_of(RutRules(), 300, 5.0)
    for _ in range(50):
        watch.see(True, 9.0)
    assert not watch.caught(-80.0)
    watch.see(False, -1.0)
    assert watch.run == 0


def test_the_penalty_grows_with_the_run_and_is_bounded() -> None:
    rules = RutRules(action="soft")
    assert run_of(rules, 200, 5.0).penalty(-80.0) == 0
    assert run_of(rules, 206, 5.0).penalty(-80.0) == 3.0
    assert run_of(rules, 400, 5.0).penalty(-80.0) == 7.0
    assert run_of(rules, 400, 9.0).penalty(-80.0) == 0
    assert run_of(RutRules(), 400, 5.0).penalty(-80.0) == 0


@pytest.mark.parametrize("settings", [{"action": "loud"}, {"run_tokens": 0}, {"recent_tokens": 0}])
def test_rules_that_make_no_sense_are_refused(settings: dict) -> None:
    with pytest.raises(ConfigError):
        RutRules(**settings)


def test_a_penalty_takes_the_lead_from_pad_and_nothing_else() -> None:
    room = batch(small())
    lane = room.open(480)
    logits = torch.zeros(1, 300)
    logits[0, PAD], logits[0, 40] = 5.0, 4.0
    (plain,) = room.bank._choose([lane], logits)
    assert plain.token == PAD
    assert plain.pad_margin == 1.0
    lane.penalty = lambda: 1.5  # type: ignore[method-assign]
    (soft,) = room.bank._choose([lane], logits)
    assert soft.token == 40
    assert soft.pad_margin == 1.0  # what the model said, so that a rut is still seen
    assert logits[0, PAD] == 5.0


def test_rules_change_nothing_where_there_is_no_rut() -> None:
    for action in ("off", "soft", "reread"):
        room = batch(small(), rut=RutRules(action=action))  # type: ignore[arg-type]
        lane = room.open(480)
        tokens = watch(lane)
        lane.push(waveform(2.9))
        lane.finish()
        room.drain()
        assert tokens == expected(2.9, 3, 16)


def in_a_rut(room: Batch, lane: Lane, begin: int) -> list[tuple[int, int]]:
    """Let the own reading say [P] from step `begin` until it adopts another; returns (step, token) pairs."""
    read, adopt, free = room.bank.read, lane.adopt, False

    def stuck(lanes, audio):
        return [
            reading if free or reader.position < begin else Reading(PAD, -0.1, 5.0, -5.0)
            for reader, reading in zip(lanes, read(lanes, audio), strict=True)
        ]

    def adopted(other: Lane) -> None:
        nonlocal free
        free = True
        adopt(other)

    room.bank.read, lane.adopt = stuck, adopted  # type: ignore[method-assign]
    written: list[tuple[int, int]] = []
    lane.on_reading = lambda step, reading: written.append((step, reading.token))
    return written


def test_reading_again_recovers_the_text_of_a_rut() -> None:
    samples = waveform(6.0)
    room = batch(small(), rut=RutRules(action="reread", run_tokens=RUN))
    lane = room.open(480)
    room.close(room.fork(lane))  # the scratch slot is not fresh
    first = LEFT_PAD + 8
    written = in_a_rut(room, lane, first)
    for begin in range(0, len(samples), 1280):
        lane.push(samples[begin : begin + 1280])
        room.drain()
    lane.finish()
    room.drain()
    assert decoder_position(room, lane) == lane.position - lane.start
    # What a decoder says that starts where the run began, prompt and all, on the same audio.
    begin = first - lane.delay_tokens
    start = max(begin - LEFT_PAD, 0)
    audio = adapter_vectors(small(), samples, 3, 16)[:, start:]
    tokens = [1] + [PAD] * (LEFT_PAD + 3)
    with torch.no_grad():
        while len(tokens) <= audio.shape[1]:
            logits = small().model.decoder(audio[:, : len(tokens)], torch.tensor([tokens]), torch.tensor([3]))
            tokens.append(int(logits[0, -1].argmax()))
    again = tokens[LEFT_PAD + 4 :]  # of the steps from `begin + 3` on
    before = [token for step, token in written if step < first]
    said = small().tokenizer.decode(before + again[first - begin - 3 :]).lstrip()
    assert lane.text == said
    # After the hand-over the session's own steps are those of the second reading.
    adopted = 1 + max(step for step, token in written if first <= step <= first + RUN and token == PAD)
    assert adopted == first + RUN
    assert [token for step, token in written if step >= adopted] == again[adopted - begin - 3 :]
    room.close(lane)
    room.fork(room.open(480))  # the scratch slot is free again


def test_a_rut_without_the_rules_stays_lost() -> None:
    samples = waveform(6.0)
    texts = []
    for rules in (RutRules(), RutRules(action="reread", run_tokens=RUN)):
        room = batch(small(), rut=rules)
        lane = room.open(480)
        in_a_rut(room, lane, LEFT_PAD + 8)
        for begin in range(0, len(samples), 1280):
            lane.push(samples[begin : begin + 1280])
            room.drain()
        lane.finish()
        room.drain()
        texts.append(lane.text)
    assert len(texts[1]) > len(texts[0])


def test_silence_is_read_again_once_in_a_run_and_then_left_alone() -> None:
    room = batch(small(), rut=RutRules(action="reread", run_tokens=RUN))
    lane = room.open(480)
    in_a_rut(room, lane, 0)
    added: list[int] = []
    add = room._add

    def counted(*arguments, **named):
        other = add(*arguments, **named)
        # This one finds nothing either.
        other.accept = lambda reading: type(other).accept(other, Reading(PAD, -0.1, 5.0, -5.0))
        added.append(lane.position)
        return other

    room._add = counted
    for _ in range(100):
        lane.push(waveform(0.08))
        room.drain()
    assert lane.text == ""
    assert len(added) == (lane.position - lane.prompt_length) // RUN
    room.close(lane)
    assert room.free == 1
