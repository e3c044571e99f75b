"""Properties: whatever a client sends, in whatever order, while an obedient engine says whatever it hears."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire.order import check_openai, check_vllm
from wire.play import Json, Table, openai, types, update, vllm

from rillvox.errors import CapacityError, RillvoxError
from rillvox.streaming.dialects.text import SentText
from rillvox.streaming.events import PushAudio

B = "input_audio_buffer"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
appends = st.binary(max_size=400).map(
    lambda data: {"type": f"{B}.append", "audio": base64.b64encode(data).decode()}
)
turn_rules = st.sampled_from([None, {"type": "server_vad"}, {"type": "semantic_vad"}])
formats = st.sampled_from(
    [{"type": "audio/pcm", "rate": 24000}, {"type": "audio/pcmu"}, {"type": "audio/pcm", "rate": 16000}]
)
updates = (
    st.builds(lambda turns: update(turn_detection=turns), turn_rules)
    | st.builds(lambda fmt: update(format=fmt), formats)
    | st.builds(
        lambda delay: update(transcription={"delay": delay}), st.sampled_from(["low", "xhigh", "none"])
    )
    | st.builds(
        lambda model, delay: {"type": "session.update", "model": model, "delay_ms": delay},
        st.sampled_from(["voxtral-mini", "nope", None]),
        st.sampled_from([80, 481.5, 99999, None]),
    )
)
typed = st.builds(
    lambda kind, rest: {**rest, "type": kind},
    st.sampled_from([f"{B}.append", f"{B}.commit", f"{B}.clear", "session.update"]),
    st.dictionaries(st.sampled_from(["audio", "final", "session", "model", "event_id"]), json_values),
)
messages = st.one_of(
    appends,
    appends,
    st.sampled_from(
        [{"type": f"{B}.commit"}, {"type": f"{B}.commit", "final": True}, {"type": f"{B}.clear"}]
    ),
    updates,
    typed,
    json_values,
    st.text(max_size=20).map(lambda text: ("raw", text)),
)
pieces = st.text(alphabet=" ab.é\n", max_size=6)
engine = st.tuples(
    st.sampled_from(["say", "say", "say", "started", "stopped", "finish", "finish", "fail", "refuse"]),
    st.integers(0, 3),
    pieces,
)
steps = st.one_of(
    st.tuples(st.just("send"), messages),
    st.tuples(st.just("send"), messages),
    st.tuples(st.just("engine"), engine),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.3, 20.0, 45.0, 4000.0])),
    st.tuples(st.just("drain"), st.none()),
)
# Most sessions see no engine failure and no end of time, or few would get far.
calm = st.one_of(
    st.tuples(st.just("send"), messages),
    st.tuples(st.just("send"), appends),
    st.tuples(st.just("engine"), engine.filter(lambda event: event[0] not in ("fail", "refuse"))),
)
scripts = st.lists(calm, max_size=40) | st.lists(steps, max_size=40)


def play(table: Table, script: list[tuple[str, Any]]) -> None:
    for actor, action in script:
        match actor:
            case "send":
                is_raw = isinstance(action, tuple)
                table.send(action[1] if is_raw else json.dumps(action))
            case "engine":
                _engine(table, *action)
            case "wait":
                table.wait(action)
            case "drain":
                table.drain()


def _engine(table: Table, what: str, which: int, text: str) -> None:
    running = list(table.streams)
    finished = [name for name in running if table.streams[name].finished]
    if not running:
        return
    stream = running[which % len(running)]
    match what:
        case "say":
            table.say(text, stream)
        case "started" | "stopped":
            table.speech(what == "started", which / 10, stream)
        case "finish" if finished:
            table.finish(text, finished[which % len(finished)])
        case "fail":
            table.fail(RillvoxError("the model stumbled"), stream, fatal=which == 3)
        case "refuse" if which == 0:
            table.fail(CapacityError("no room"), stream)
        case _:
            pass


def settle(table: Table) -> None:
    """The engine ends all it was told to end."""
    while finished := [name for name, known in table.streams.items() if known.finished]:
        table.finish(".", finished[0])


@settings(max_examples=100, deadline=None)
@given(scripts)
def test_any_openai_session_is_legal(script):
    table = Table(openai())
    play(table, script)
    settle(table)
    check_openai(table.replies, settled=table.closed is None or table.closed.code in (1000, 1012))
    assert table.hang_up() == set(table.streams)
    assert table.send({"type": f"{B}.commit"}) == []


@settings(max_examples=100, deadline=None)
@given(scripts)
def test_any_vllm_session_is_legal(script):
    table = Table(vllm())
    play(table, script)
    settle(table)
    check_vllm(table.replies)
    assert table.hang_up() == set(table.streams)


@settings(max_examples=100, deadline=None)
@given(st.lists(calm, max_size=40))
def test_every_final_commit_of_vllm_gets_one_done(script):
    table = Table(vllm())
    finals = 0
    for step in script:
        is_final = step[0] == "send" and isinstance(step[1], dict) and step[1].get("final") is True
        finals += is_final and step[1].get("type") == f"{B}.commit" and table.closed is None
        play(table, [step])
    settle(table)
    assert check_vllm(table.replies) == finals


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=2, max_size=600), st.lists(st.integers(0, 599), max_size=8))
def test_the_engine_hears_the_same_however_the_audio_is_cut(data, cuts):
    def heard(bounds: list[int]) -> bytes:
        table = Table(openai())
        for a, b in itertools.pairwise(bounds):
            table.send({"type": f"{B}.append", "audio": base64.b64encode(data[a:b]).decode()})
        return b"".join(
            command.samples.tobytes() for command in table.commands if isinstance(command, PushAudio)
        )

    bounds = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    assert heard(bounds) == heard([0, len(data)])


@settings(deadline=None)
@given(st.lists(pieces, max_size=10), pieces)
def test_sent_pieces_add_up_to_the_final_text(parts, rest):
    sent = SentText()
    final = "".join(parts) + rest
    told = [sent.push(part) for part in parts] + [sent.finish(final)]
    assert "".join(told) == sent.text == final.lstrip()


def test_a_final_text_that_contradicts_what_was_sent_changes_nothing():
    sent = SentText()
    sent.push(" One")
    assert sent.finish("Two") == ""
    assert sent.text == "One"


# ---- negative controls: the checkers see what they are for -------------------------------------------


def session(*changes: tuple[int, Json | None]) -> list[Json]:
    table = Table(openai())
    table.send(update(turn_detection=None))
    table.send({"type": f"{B}.append", "audio": "AAAA"})
    table.say(" One")
    table.send({"type": f"{B}.commit"})
    table.finish(" two")
    replies = list(table.replies)
    for at, change in changes:
        replies[at : at + 1] = [] if change is None else [{**replies[at], **change}]
    return replies


def test_the_order_law_accepts_the_untouched_session():
    assert types(session())[2:] == [
        "conversation.item.input_audio_transcription.delta",
        f"{B}.committed",
        "conversation.item.added",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.completed",
    ]
    check_openai(session(), settled=True)


@pytest.mark.parametrize(
    "change",
    [
        (0, None),
        (3, None),
        (4, None),
        (6, None),
        (7, None),
        (6, {"delta": "x"}),
        (3, {"previous_item_id": "x"}),
        (5, {"event_id": "event_000002"}),
        (2, {"delta": ""}),
        (7, {"item_id": "other"}),
    ],
)
def test_the_order_law_sees_a_spoilt_session(change):
    with pytest.raises((AssertionError, KeyError)):
        check_openai(session(change), settled=True)
