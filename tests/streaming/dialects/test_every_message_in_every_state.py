"""Every kind of client message, good and bad, in every state of both dialects.

An expectation is the type of the one reply, `error:CODE`, several of these joined by spaces, or "" for
silence. Where the state matters, it is a table of exceptions with "*" for the rest.
"""

from __future__ import annotations

import base64
import json

import pytest
from wire.play import Json, Table, append, openai, update, vllm

from rillvox.errors import RillvoxError
from rillvox.streaming.dialects.limits import Limits
from rillvox.streaming.dialects.session import RealtimeSession, State

LIMITS = Limits(append_bytes=64_000, message_chars=100_000)
B = "input_audio_buffer"
ADDED = f"{B}.committed conversation.item.added conversation.item.done"
STOPPED = f"{B}.speech_stopped {ADDED}"
EMPTY = f"error:{B}_commit_empty"


def audio(text: object) -> Json:
    return {"type": f"{B}.append", "audio": text}


# ---- states ----------------------------------------------------------------------------------------


def new(table: Table) -> None:
    pass


def manual(table: Table) -> None:
    table.send(update(turn_detection=None))


def heard(table: Table) -> None:
    manual(table)
    table.send(append())
    table.say(" One two")


def speaking(table: Table) -> None:
    table.send(append())
    table.speech(True, 0.0)


def committed(table: Table) -> None:
    heard(table)
    table.send({"type": f"{B}.commit"})


def answered(table: Table) -> None:
    committed(table)
    table.finish(" three.")


def broken(table: Table) -> None:
    heard(table)
    table.fail(RillvoxError("the model stumbled"))


def expiring(table: Table) -> None:
    heard(table)
    table.now += 3600 - 50
    table.send(append())
    table.wait(50)


def closed(table: Table) -> None:
    table.send(b"\x00")
    assert table.closed is not None


OPENAI_STATES = [new, manual, heard, speaking, committed, answered, broken, expiring, closed]


def validated(table: Table) -> None:
    table.send({"type": "session.update", "model": "asr-en"})


def waiting(table: Table) -> None:
    """Audio before the start."""
    table.send(append())
    table.say(" One")


def started(table: Table) -> None:
    waiting(table)
    table.send({"type": f"{B}.commit"})


def ended(table: Table) -> None:
    started(table)
    table.send({"type": f"{B}.commit", "final": True})


def done(table: Table) -> None:
    ended(table)
    table.finish(" two.")


def vllm_broken(table: Table) -> None:
    started(table)
    table.fail(RillvoxError("the model stumbled"))


def vllm_expiring(table: Table) -> None:
    started(table)
    table.now += 3600 - 50
    table.send(append())
    table.wait(50)


VLLM_STATES = [new, validated, waiting, started, ended, done, vllm_broken, vllm_expiring, closed]

# ---- messages: name -> (frame, expected of OpenAI, expected of vLLM) -------------------------------

BAD = {
    "not JSON": ("{", "error:invalid_json", "error:invalid_json"),
    "no text": ("", "error:invalid_json", "error:invalid_json"),
    "a deep nest": ("[" * 50_000, "error:invalid_json", "error:invalid_json"),
    "a deep nest of objects": ('{"a":' * 15_000, "error:invalid_json", "error:invalid_json"),
    "NaN": ('{"type": NaN}', "error:invalid_json", "error:invalid_json"),
    "minus infinity in a field": (
        '{"type": "session.update", "x": -Infinity}',
        "error:invalid_json",
        "error:invalid_json",
    ),
    "an array": ("[1, 2]", "error:invalid_event", "error:invalid_json"),
    "a number": ("7", "error:invalid_event", "error:invalid_json"),
    "a number of 5000 digits": ("9" * 5000, "error:invalid_json", "error:invalid_json"),
    "null": ("null", "error:invalid_event", "error:invalid_json"),
    "a text": ('"commit"', "error:invalid_event", "error:invalid_json"),
    "no type": ({}, "error:invalid_event", "error:unknown_event"),
    "a type that is an object": ({"type": {}}, "error:invalid_event", "error:unknown_event"),
    "an unknown type": ({"type": "mystery.event"}, "error:invalid_event", "error:unknown_event"),
    "a type of half a character": ('{"type": "\\ud800"}', "error:invalid_event", "error:unknown_event"),
    "a huge type": ({"type": "x" * 90_000}, "error:invalid_event", "error:unknown_event"),
    "an oversize message": ({"type": "x" * 100_001}, "error:payload_too_large", "error:payload_too_large"),
    "an event of conversations": (
        {"type": "response.create"},
        "error:unsupported_event",
        "error:unknown_event",
    ),
    "a beta update": (
        {"type": "transcription_session.update", "session": {}},
        "error:unsupported_event",
        "error:unknown_event",
    ),
    "audio that is no base64": (audio("@@@@"), "error:invalid_audio", "error:invalid_audio"),
    "audio that is no ASCII": (audio("ÄÖÜß"), "error:invalid_audio", "error:invalid_audio"),
    "audio cut off": (audio("AAAAA"), "error:invalid_audio", "error:invalid_audio"),
    "audio padded inside": (audio("AA==AAAA"), "error:invalid_audio", "error:invalid_audio"),
    "audio that is a number": (audio(7), "error:invalid_audio", "error:invalid_audio"),
    "audio that is a list": (audio([0, 0]), "error:invalid_audio", "error:invalid_audio"),
    "audio that is null": (audio(None), "error:invalid_audio", "error:invalid_audio"),
    "audio missing": ({"type": f"{B}.append"}, "error:invalid_audio", "error:invalid_audio"),
    "too much audio": (append(64_002), "error:invalid_audio", "error:invalid_audio"),
}

OTHER = {
    "audio": (append(), "", ""),
    "half a sample": (append(1), "", ""),
    "no bytes": (audio(""), "", "error:invalid_audio"),
    "audio in URL alphabet without padding": (
        audio(base64.urlsafe_b64encode(b"\xff\xfb" * 5).decode().rstrip("=")),
        "",
        "",
    ),
    "audio with line breaks": (audio(base64.encodebytes(bytes(300)).decode()), "", ""),
    "commit": (
        {"type": f"{B}.commit"},
        {
            "*": EMPTY,
            "heard": ADDED,
            "speaking": STOPPED,
            "broken": f"{ADDED} conversation.item.input_audio_transcription.failed",
        },
        {"*": "", "waiting": "transcription.delta"},
    ),
    "a final commit": (
        {"type": f"{B}.commit", "final": True},
        {
            "*": EMPTY,
            "heard": ADDED,
            "speaking": STOPPED,
            "broken": f"{ADDED} conversation.item.input_audio_transcription.failed",
        },
        {
            "*": "transcription.done",
            "waiting": "transcription.delta",
            "started": "",
            "ended": "",
            "vllm_broken": "",
        },
    ),
    "a commit that is final to a degree": (
        {"type": f"{B}.commit", "final": 0.5},
        {
            "*": EMPTY,
            "heard": ADDED,
            "speaking": STOPPED,
            "broken": f"{ADDED} conversation.item.input_audio_transcription.failed",
        },
        "error:invalid_value",
    ),
    "clear": ({"type": f"{B}.clear"}, f"{B}.cleared", "error:unknown_event"),
    "an update": (update(turn_detection=None), "session.updated", ""),
    "an update of nothing": ({"type": "session.update", "session": {}}, "session.updated", ""),
    "an update without session": ({"type": "session.update"}, "error:invalid_value", ""),
    "a vLLM update": ({"type": "session.update", "model": "voxtral"}, "error:invalid_value", ""),
    "a vLLM update of an unknown model": (
        {"type": "session.update", "model": "nope"},
        "error:invalid_value",
        "error:model_not_found",
    ),
    "a vLLM update to half a model": (
        {"type": "session.update", "model": ["nope"]},
        "error:invalid_value",
        "error:invalid_value",
    ),
    "a vLLM delay that is no number": (
        {"type": "session.update", "delay_ms": "fast"},
        "error:invalid_value",
        "error:invalid_value",
    ),
    "a vLLM delay beyond all numbers": (
        '{"type": "session.update", "delay_ms": 1e999}',
        "error:invalid_value",
        "error:invalid_value",
    ),
    "a session that is a list": ({"type": "session.update", "session": []}, "error:invalid_value", ""),
    "a speech session": (
        {"type": "session.update", "session": {"type": "realtime"}},
        "error:invalid_session_type",
        "",
    ),
    "an unknown model": (update(transcription={"model": "nope"}), "error:model_not_found", ""),
    "a language that is a number": (update(transcription={"language": 7}), "error:invalid_value", ""),
    "keywords with a hole": (update(transcription={"keywords": ["a", None]}), "error:invalid_value", ""),
    "a delay of another world": (update(transcription={"delay": "eternal"}), "session.updated", ""),
    "an unknown format": (update(format={"type": "audio/opus"}), "error:invalid_value", ""),
    "a format in the beta's words": (update(format="pcm16"), "error:invalid_value", ""),
    "a wrong rate": (update(format={"type": "audio/pcm", "rate": 12345}), "error:invalid_value", ""),
    "a rate beyond all numbers": (
        '{"type":"session.update","session":{"audio":{"input":{"format":{"type":"audio/pcm","rate":1e999}}}}}',
        "error:invalid_value",
        "",
    ),
    "a rate of 400 digits": (
        update(format={"type": "audio/pcm", "rate": 10**400}),
        "error:invalid_value",
        "",
    ),
    "an unknown turn detection": (update(turn_detection={"type": "psychic"}), "error:invalid_value", ""),
    "a threshold of true": (update(turn_detection={"threshold": True}), "error:invalid_value", ""),
    "unknown fields": (
        {"type": "session.update", "session": {"voice": "x", "audio": {"output": 3}}, "more": [1]},
        "session.updated",
        "",
    ),
}

MESSAGES = {**BAD, **OTHER}


def expected_in(state: str, table_of: object) -> str:
    if state in ("closed", "expiring", "vllm_expiring"):
        return ""  # deaf
    return table_of.get(state, table_of["*"]) if isinstance(table_of, dict) else str(table_of)


def told(replies: list[Json], is_openai: bool) -> str:
    names: list[str] = []
    for reply in replies:
        if reply["type"] == "error":
            error = reply["error"]
            assert isinstance(error, dict) == is_openai, "the wrong dialect's shape"
            names.append("error:" + (error["code"] if is_openai else reply["code"]))
        else:
            names.append(reply["type"])
    return " ".join(names)


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize(("make", "states"), [(openai, OPENAI_STATES), (vllm, VLLM_STATES)])
def test_a_message_gets_its_answer_in_every_state(make, states, name):
    frame, of_openai, of_vllm = MESSAGES[name]
    is_openai = make is openai
    for state in states:
        table = Table(make(LIMITS))
        state(table)
        before = len(table.commands)
        replies = table.send(frame)
        expected = expected_in(state.__name__, of_openai if is_openai else of_vllm)
        assert told(replies, is_openai) == expected, f"in the state {state.__name__}"
        if name in BAD:
            assert table.commands[before:] == [], "a refused message moved the engine"
        _still_alive(table, is_openai)
        assert table.hang_up() == set(table.streams)


def _still_alive(table: Table, is_openai: bool) -> None:
    """The session takes a normal utterance after whatever happened."""
    assert isinstance(table.dialect, RealtimeSession)
    if table.closed is not None or table.dialect.state is not State.LIVE:
        return
    while any(stream.finished for stream in table.streams.values()):
        table.finish()
    if is_openai:
        table.send({"type": f"{B}.clear"})
    else:
        table.send({"type": f"{B}.commit", "final": True})
        while table.streams:
            table.finish()
    table.send(append())
    replies = (
        table.say(" Still here") + table.send({"type": f"{B}.commit", "final": True}) + table.finish(".")
    )
    texts = [reply.get("transcript") or reply.get("text") for reply in replies]
    assert texts[-1] == "Still here."


@pytest.mark.parametrize("make", [openai, vllm])
def test_twenty_refused_messages_in_ten_seconds_close_with_1008(make):
    table = Table(make())
    for _ in range(19):
        table.send("nonsense")
        table.now += 0.5
    assert table.closed is None
    table.send("nonsense")
    assert table.closed is not None
    assert table.closed.code == 1008


@pytest.mark.parametrize("make", [openai, vllm])
def test_refused_messages_now_and_then_close_nothing(make):
    table = Table(make())
    for _ in range(100):
        table.send("nonsense")
        table.now += 0.6
    assert table.closed is None


def test_empty_commits_are_no_mistakes():
    table = Table(openai())
    for number in range(50):
        (reply,) = table.send({"type": f"{B}.commit", "event_id": f"eof_{number}"})
        assert reply["error"]["event_id"] == f"eof_{number}"
    assert table.closed is None


@pytest.mark.parametrize("event_id", [7, None, ["x"], "\ud800", "x" * 9000])
def test_an_event_id_of_any_kind_is_safe_to_refer_to(event_id):
    table = Table(openai())
    (reply,) = table.send(json.dumps({"type": "nope", "event_id": event_id}))
    assert reply["error"]["event_id"] is None or len(reply["error"]["event_id"]) <= 512


@pytest.mark.parametrize("make", [openai, vllm])
def test_a_binary_frame_closes_with_1003(make):
    table = Table(make())
    table.send(append())
    table.send(b"RIFF")
    assert table.closed is not None
    assert table.closed.code == 1003
    assert table.hang_up() == set(table.streams)
