"""What time brings: idle clients, late ones, sessions without end, a server that must go."""

from __future__ import annotations

import pytest
from wire.order import check_openai, check_vllm
from wire.play import COMPLETED, FAILED, Table, append, openai, types, update, vllm

from rillvox.errors import ConfigError
from rillvox.streaming.dialects.limits import Limits, Verdict, Watch

COMMIT = {"type": "input_audio_buffer.commit"}
FINAL = {"type": "input_audio_buffer.commit", "final": True}
BOTH = pytest.mark.parametrize("make", [openai, vllm])


def code(reply):
    return reply["error"]["code"] if isinstance(reply["error"], dict) else reply["code"]


@BOTH
def test_a_client_without_audio_is_let_go_after_30_seconds(make):
    table = Table(make())
    assert table.wait(29.9) == []
    (error,) = table.wait(0.1)
    assert code(error) == "idle_timeout"
    assert table.closed is not None
    assert table.closed.code == 1008


@BOTH
def test_a_client_that_falls_silent_is_let_go_after_60_seconds(make):
    table = Table(make())
    table.wait(29)
    table.send(append())
    table.send(FINAL)
    table.finish("Hello")
    assert table.wait(59.9) == []
    (error,) = table.wait(0.1)
    assert code(error) == "idle_timeout"
    assert table.closed is not None
    assert table.closed.code == 1008


def test_audio_left_lying_is_finished_before_an_idle_client_is_let_go():
    table = Table(openai())
    table.send(append())
    table.wait(60)
    assert table.closed is None
    assert types(table.finish("Hello"))[-2:] == [COMPLETED, "error"]
    assert table.closed is not None


@BOTH
def test_waiting_for_our_text_is_not_idle(make):
    table = Table(make())
    table.send(append())
    table.send(FINAL)
    assert table.wait(600) == []
    table.finish("Hello")
    assert table.wait(59) == []
    assert table.closed is None


@BOTH
def test_a_session_ends_at_its_cap_with_the_text_of_what_was_said(make):
    table = Table(make(Limits(session=100)))
    table.send(append())
    if make is vllm:
        table.send(COMMIT)
    table.say(" The end")
    table.wait(50)
    table.send(append())
    table.wait(50)
    assert table.closed is None
    assert table.send(append()) == []  # deaf by now
    replies = table.finish(".")
    assert replies[-1]["type"] == "error"
    assert code(replies[-1]) == "session_expired"
    assert table.closed is not None
    assert table.closed.code == 1000
    if make is openai:
        check_openai(table.replies, settled=True)
        assert replies[-2]["transcript"] == "The end."
    else:
        assert check_vllm(table.replies) == 1


@BOTH
def test_the_last_text_is_waited_for_but_not_for_ever(make):
    table = Table(make(Limits(session=100, grace=5)))
    table.wait(20)
    table.send(append())
    table.send(FINAL)
    table.wait(80)
    assert table.wait(4.9) == []
    replies = table.wait(0.1)
    assert table.closed is not None
    if make is openai:
        assert types(replies) == [FAILED, "error"]
        check_openai(table.replies, settled=True)
    assert table.streams == {}  # none is left with the engine


@BOTH
def test_a_draining_server_finishes_and_closes_with_1012(make):
    table = Table(make())
    table.send(append())
    table.drain()
    assert table.closed is None
    table.finish("Hello")
    assert table.closed is not None
    assert table.closed.code == 1012


@BOTH
def test_a_session_with_nothing_open_drains_at_once(make):
    table = Table(make())
    assert table.drain() == []
    assert table.closed is not None
    assert table.closed.code == 1012
    assert table.drain() == []


def test_the_expiry_is_told_in_wall_clock_time():
    table = Table(openai(Limits(session=600)))
    assert table.started[0]["session"]["expires_at"] == 1_790_000_600
    (updated,) = table.send(update())
    assert updated["session"]["expires_at"] == 1_790_000_600


def test_too_many_unanswered_items_are_refused_and_their_audio_kept():
    table = Table(openai(Limits(unanswered=2)))
    for _ in range(2):
        table.send(append())
        table.send(COMMIT)
    table.send(append())
    (error,) = table.send(COMMIT)
    assert code(error) == "rate_limit_exceeded"
    table.finish()
    assert types(table.send(COMMIT))[0] == "input_audio_buffer.committed"


def test_a_limit_must_be_positive():
    with pytest.raises(ConfigError, match=r"limits\.idle"):
        Limits(idle=0)


def test_a_watch_forgets_old_mistakes():
    watch = Watch(Limits(mistakes=2, mistakes_within=1))
    watch.start(0)
    assert not watch.mistake(1)
    assert not watch.mistake(2.5)
    assert watch.mistake(3)
    assert watch.verdict(3, busy=False) is Verdict.FINE
