"""Which dialect a client of `/v1/realtime` gets, by its request or by its first message."""

from __future__ import annotations

import pytest
from wire.order import check_openai, check_vllm
from wire.play import NAMES, Table, append, counted_ids, types, update

from rillvox.errors import ProtocolError
from rillvox.streaming.dialects.choose import Handshake, Service, Undecided, choose, name_dialect

COMMIT = {"type": "input_audio_buffer.commit"}
FINAL = {"type": "input_audio_buffer.commit", "final": True}
PYTHON = {"user-agent": "AsyncOpenAI/Python 3.54.0", "x-stainless-lang": "python"}


def service(**fields):
    return Service(NAMES, new_id=counted_ids(), **fields)


def undecided(**fields):
    return Table(choose(Handshake(), service(**fields)))


@pytest.mark.parametrize(
    ("handshake", "name"),
    [
        (Handshake(), None),
        (Handshake(headers={"user-agent": "Python/3.11 websockets/15.0"}), None),
        (Handshake(query={"model": "asr-en"}), None),
        (Handshake(query={"intent": "transcription"}), "openai"),
        (Handshake(query={"model": "asr-en"}, headers=PYTHON), "openai"),
        (Handshake(headers={"user-agent": "OpenAI/JS 7.57.0"}), "openai"),
        (Handshake(headers={"user-agent": "LiveKit Agents 1.8.9"}), "openai"),
        (Handshake(subprotocols=("realtime", "openai-insecure-api-key.k")), "openai"),
        (Handshake(headers={"openai-beta": "realtime=v1"}), "openai"),
        (Handshake(query={"dialect": "vllm"}, headers=PYTHON), "vllm"),
        (Handshake(query={"dialect": "openai"}), "openai"),
        (Handshake(prefix="/vllm"), "vllm"),
        (Handshake(prefix="/openai"), "openai"),
    ],
)
def test_the_request_tells(handshake, name):
    assert name_dialect(handshake) == name
    assert choose(handshake, service()).name == (name or "undecided")


@pytest.mark.parametrize(
    "query",
    [
        {"dialect": "klingon"},
        {"rate": "fast"},
        {"rate": "0"},
        {"rate": "-8000"},
        {"rate": "9" * 5000},
        {"rate": "²"},
    ],
)
def test_a_wrong_query_is_refused_before_the_upgrade(query):
    with pytest.raises(ProtocolError):
        choose(Handshake(query=query), service())


@pytest.mark.parametrize(
    ("first", "name"),
    [
        (update(turn_detection=None), "openai"),
        ({"type": "session.update", "session": {}}, "openai"),
        ({"type": "session.update", "session": {}, "model": "asr-en"}, "openai"),
        ({"type": "session.update", "model": "asr-en"}, "vllm"),
        ({"type": "session.update", "model": "asr-en", "session": None}, "vllm"),
        ({"type": "session.update", "model": "nope"}, "vllm"),
        (COMMIT, "vllm"),
        (FINAL, "vllm"),
        ({"type": "transcription_session.update", "session": {}}, "openai"),
    ],
)
def test_the_first_message_tells(first, name):
    table = undecided()
    table.send(first)
    assert table.dialect.name == name


@pytest.mark.parametrize("default", ["openai", "vllm"])
@pytest.mark.parametrize("first", [append(), {"type": "session.update"}, {"type": "x"}, "{", "[]", b"\x00"])
def test_a_message_of_both_or_neither_means_the_default(first, default):
    table = undecided(default_dialect=default)
    table.send(first)
    assert table.dialect.name == default
    errors = [reply for reply in table.replies if reply["type"] == "error"]
    assert all(isinstance(error["error"], dict) == (default == "openai") for error in errors)


def test_the_first_greeting_suits_both():
    (created,) = undecided().started
    assert created["type"] == "session.created"
    assert created["event_id"]
    assert created["session"]["type"] == "transcription"
    assert created["id"].startswith("sess-")
    assert created["created"] == 1_790_000_000


def test_an_undecided_client_is_served_whole_in_either_dialect():
    table = undecided()
    table.send({"type": "session.update", "model": "asr-en"})
    table.send(append())
    table.send(FINAL)
    table.finish("Hello")
    assert types(table.replies) == ["session.created", "transcription.delta", "transcription.done"]
    check_vllm(table.replies)
    assert table.hang_up() == set()

    table = undecided()
    table.send(update(turn_detection=None))
    table.send(append())
    table.send(COMMIT)
    table.finish("Hello")
    check_openai(table.replies, settled=True)


def test_the_lock_holds_whatever_comes_later():
    table = undecided()
    table.send(COMMIT)
    table.send(update(turn_detection=None))
    assert table.dialect.name == "vllm"
    assert types(table.replies) == ["session.created"]


def test_time_passes_and_servers_drain_before_a_choice_too():
    table = undecided()
    table.wait(30)
    assert table.closed is not None
    table = undecided()
    table.drain()
    assert table.closed is not None
    assert table.dialect.name == "undecided"
    assert table.hang_up() == set()
    # And time spent undecided counts.
    table = undecided()
    table.wait(20)
    table.send(COMMIT)
    table.wait(10)
    assert table.closed is not None


def test_an_unknown_model_in_the_query_is_told_after_the_greeting():
    table = Table(choose(Handshake(query={"model": "nope", "intent": "transcription"}), service()))
    assert types(table.started) == ["session.created", "error"]
    assert table.started[1]["error"]["code"] == "model_not_found"
    table = Table(choose(Handshake(query={"model": "gpt-realtime", "intent": "transcription"}), service()))
    assert types(table.started) == ["session.created"]


def test_a_rate_in_the_query_is_that_of_vllm_audio():
    table = Table(choose(Handshake(query={"dialect": "vllm", "rate": "48000"}), service()))
    table.send(append())
    assert table.streams[table.last()].rates == {48000}
    assert isinstance(choose(Handshake(query={"rate": "8000"}), service()), Undecided)
