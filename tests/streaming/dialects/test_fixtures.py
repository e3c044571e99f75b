"""The wire examples, replayed: what a client sends in them gets what they say it gets."""

from __future__ import annotations

import copy

import pytest
from wire.order import check_openai, check_vllm
from wire.play import COMPLETED, DELTA, Json, Table, fixture, openai, vllm

REALTIME = {
    "openai_realtime_ga_manual_commit": openai,
    "openai_realtime_ga_server_vad": openai,
    "vllm_realtime": vllm,
}


def replay(table: Table, script: list[tuple[str, Json]]) -> list[tuple[Json, Json]]:
    """Pairs of (expected, given) server messages.

    Where an example's server speaks of what it heard, the engine is made to hear that.
    """
    given = list(table.started)
    pairs: list[tuple[Json, Json]] = []
    for direction, message in script:
        if direction == "c2s":
            given += table.send(message)
            continue
        match message["type"]:
            case "transcription.delta" | "conversation.item.input_audio_transcription.delta":
                given += table.say(message["delta"])
            case "transcription.done":
                given += table.finish()
            case "conversation.item.input_audio_transcription.completed":
                given += table.finish()
            case "input_audio_buffer.speech_started":
                given += table.speech(True, message["audio_start_ms"] / 1000 + 0.3)
            case "input_audio_buffer.speech_stopped":
                given += table.speech(False, message["audio_end_ms"] / 1000)
        pairs.append((message, given.pop(0)))
    assert given == []
    return pairs


def assert_same_shape(expected: object, given: object, path: str = "") -> None:
    """Every key of the example is there, with a value of the same kind; null may be anything."""
    if isinstance(expected, dict):
        assert isinstance(given, dict), path
        for key, value in expected.items():
            assert key in given, f"{path}.{key} is missing"
            if key != "usage":  # both forms are allowed
                assert_same_shape(value, given[key], f"{path}.{key}")
    elif isinstance(expected, list):
        assert isinstance(given, list), path
        assert len(given) == len(expected), path
        for a, b in zip(expected, given, strict=True):
            assert_same_shape(a, b, path + "[]")
    elif expected is not None and given is not None:
        assert type(given) is type(expected), path


@pytest.mark.parametrize("name", REALTIME)
def test_an_example_replays_in_type_order_and_shape(name):
    table = Table(REALTIME[name]())
    pairs = replay(table, fixture(name))
    assert [given["type"] for _, given in pairs] == [expected["type"] for expected, _ in pairs]
    for expected, given in pairs:
        assert_same_shape(expected, given)
    if name.startswith("openai"):
        check_openai(table.replies, settled=True)
        example_id = next(message["item_id"] for message, _ in pairs if message["type"] == DELTA)
        given_id = next(given["item_id"] for _, given in pairs if given["type"] == DELTA)
        for expected, given in pairs:
            assert (expected.get("item_id") == example_id) == (given.get("item_id") == given_id)
            assert expected.get("error", {}).get("event_id") == given.get("error", {}).get("event_id")
    else:
        assert check_vllm(table.replies) == 1


@pytest.mark.parametrize("name", ["openai_realtime_ga_manual_commit", "openai_realtime_ga_server_vad"])
def test_settings_that_the_examples_send_are_echoed(name):
    table = Table(openai())
    asked = next(message for _, message in fixture(name) if message["type"] == "session.update")
    (updated,) = table.send(asked)
    assert_contains(updated["session"], asked["session"])


def assert_contains(given: Json, asked: Json) -> None:
    for key, value in asked.items():
        if isinstance(value, dict):
            assert_contains(given[key], value)
        else:
            assert given[key] == value, key


def test_the_completed_text_is_that_of_the_example():
    pairs = replay(Table(openai()), fixture("openai_realtime_ga_server_vad"))
    expected, given = next(pair for pair in pairs if pair[0]["type"] == COMPLETED)
    assert given["transcript"] == expected["transcript"] == "Good morning everyone."


def test_the_comparison_sees_a_missing_key_and_a_wrong_kind():
    expected = fixture("openai_realtime_ga_manual_commit")[0][1]
    without = copy.deepcopy(expected)
    del without["session"]["audio"]["input"]["format"]
    with pytest.raises(AssertionError, match=r"format is missing"):
        assert_same_shape(expected, without)
    with pytest.raises(AssertionError):
        assert_same_shape(expected, {**expected, "event_id": 7})
