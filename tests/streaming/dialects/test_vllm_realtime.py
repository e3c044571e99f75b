"""Stories of vLLM sessions."""

from __future__ import annotations

import pytest
from wire.order import check_vllm
from wire.play import Table, append, types, vllm, words

from rillvox.errors import CapacityError, RillvoxError
from rillvox.streaming import events as ev

DELTA, DONE = "transcription.delta", "transcription.done"
COMMIT = {"type": "input_audio_buffer.commit"}
FINAL = {"type": "input_audio_buffer.commit", "final": True}


def of_type(table: Table, command: type) -> list:
    return [one for one in table.commands if isinstance(one, command)]


def test_the_order_of_its_example_client():
    table = Table(vllm())
    table.send(COMMIT)
    table.send(append())
    assert [reply["delta"] for reply in table.say(" The train")] == ["The train"]
    table.send(append())
    table.send(FINAL)
    assert types(table.finish(" is late.", prompt_tokens=39, completion_tokens=26)) == [DELTA, DONE]
    assert table.replies[-1]["text"] == "The train is late."
    assert table.replies[-1]["usage"] == {
        "prompt_tokens": 39,
        "completion_tokens": 26,
        "total_tokens": 65,
        "prompt_tokens_details": None,
    }


def test_the_order_of_guidellm():
    table = Table(vllm())
    table.send({"type": "session.update", "model": "asr-en", "temperature": 0.0, "extra": {"a": 1}})
    table.send(append())
    assert table.say(" Hello") == []  # held until the start
    assert types(table.send(COMMIT)) == [DELTA]
    table.send(FINAL)
    assert types(table.finish(" there")) == [DELTA, DONE]
    assert check_vllm(table.replies) == 1


def test_a_final_commit_starts_and_ends_at_once():
    table = Table(vllm())
    table.send(append())
    table.say(" Hel")
    assert types(table.send(FINAL)) == [DELTA]
    assert types(table.finish("lo")) == [DELTA, DONE]


def test_a_final_commit_without_audio_is_done_at_once():
    table = Table(vllm())
    (done,) = table.send(FINAL)
    assert done["text"] == ""
    table.send(COMMIT)
    assert types(table.send(FINAL)) == [DONE]
    assert of_type(table, ev.OpenStream) == []


def test_audio_sent_before_done_belongs_to_the_next_utterance_and_is_told_after_it():
    table = Table(vllm())
    table.send(append())
    first = table.last()
    table.send(FINAL)
    table.send(append())
    second = table.last()
    table.send(COMMIT)
    assert table.say(" Two", second) == []
    table.send(FINAL)
    assert table.finish(" three", second) == []
    replies = table.finish("One", first)
    assert types(replies) == [DELTA, DONE, DELTA, DONE]
    assert [reply["text"] for reply in replies if reply["type"] == DONE] == ["One", "Two three"]


def test_a_start_while_one_is_running_is_ignored():
    table = Table(vllm())
    for _ in range(3):
        assert table.send(COMMIT) == []
        table.send(append())
    assert len(of_type(table, ev.OpenStream)) == 1


def test_a_session_update_needs_no_answer_and_is_not_needed():
    table = Table(vllm())
    assert table.send({"type": "session.update", "model": "mistralai/Voxtral-Mini-4B-Realtime-2602"}) == []
    (error,) = table.send({"type": "session.update", "model": "gpt-99"})
    assert error["code"] == "model_not_found"
    assert isinstance(error["error"], str)


@pytest.mark.parametrize(("asked", "given"), [(480, 480), (80, 80), (2400, 2400), (480.0, 480), (None, None)])
def test_a_delay_may_be_asked_for(asked, given):
    table = Table(vllm())
    table.send({"type": "session.update", "model": "asr-en", "delay_ms": asked, "language": "en"})
    table.send(append())
    assert of_type(table, ev.OpenStream) == [ev.OpenStream(table.last(), given, "en", None)]


@pytest.mark.parametrize("asked", [500, 1, 0, -80, 9999, 2480, 520.5, "480", True, [480], 10**400, 1e300])
def test_a_delay_that_the_model_cannot_do_is_refused_not_rounded(asked):
    table = Table(vllm())
    table.send({"type": "session.update", "delay_ms": 960})
    (error,) = table.send({"type": "session.update", "delay_ms": asked, "language": "en"})
    assert error["code"] == "invalid_value"
    assert error["error"].startswith("delay_ms must be a multiple of 80 from 80 to 2400, got ")
    assert len(error["error"]) < 100
    table.send(append())
    # The refused update changed nothing.
    assert of_type(table, ev.OpenStream) == [ev.OpenStream(table.last(), 960, None, None)]


def test_json_that_is_no_object_is_invalid_json():
    table = Table(vllm())
    for frame in ("[1,2]", "7", "null", '"commit"'):
        (error,) = table.send(frame)
        assert (error["type"], error["code"]) == ("error", "invalid_json")
        assert "a message is a JSON object, got " in error["error"]
    assert table.closed is None


def test_a_delay_may_change_while_text_flows():
    table = Table(vllm())
    table.send(append())
    table.send({"type": "session.update", "delay_ms": 960})
    table.send({"type": "session.update", "model": "asr-en"})
    assert of_type(table, ev.Configure) == [ev.Configure(table.last(), 960, None)]


def test_words_come_with_the_text_where_asked_for():
    table = Table(vllm())
    table.send({"type": "session.update", "word_timestamps": True})
    for _ in range(2):
        table.send(append(32_000))
        table.send(FINAL)
        done = table.finish(" Hi", words=words("Hi"))[-1]
    assert done["words"] == [{"word": "Hi", "start": 1.0, "end": 1.2, "confidence": 0.9}]


def test_an_utterance_that_fails_says_so_once_and_the_next_one_works():
    table = Table(vllm())
    table.send(COMMIT)
    table.send(append())
    table.say(" One")
    (error,) = table.fail(RillvoxError("the model stumbled"))
    assert (error["error"], error["code"]) == ("the model stumbled", "processing_error")
    assert table.send(append()) == []
    assert table.send(FINAL) == []
    table.send(append())
    table.send(FINAL)
    assert types(table.finish("Hello")) == [DELTA, DONE]
    check_vllm(table.replies)


def test_a_new_start_after_a_failure_begins_anew():
    table = Table(vllm())
    table.send(COMMIT)
    table.send(append())
    table.fail(RillvoxError("no"))
    table.send(COMMIT)
    table.send(append())
    table.send(FINAL)
    assert types(table.finish("Hello")) == [DELTA, DONE]


def test_a_failure_nobody_waits_for_is_told_when_somebody_does():
    table = Table(vllm())
    table.send(append())
    assert table.fail(RillvoxError("no")) == []
    assert types(table.send(FINAL)) == ["error"]


@pytest.mark.parametrize(
    ("error", "fatal", "code"), [(RillvoxError("gone"), True, 1011), (CapacityError("full"), False, 1013)]
)
def test_an_engine_that_died_or_is_full_closes_the_socket(error, fatal, code):
    table = Table(vllm())
    table.send(append())
    table.send(FINAL)
    assert types(table.fail(error, fatal=fatal)) == ["error"]
    assert table.closed is not None
    assert table.closed.code == code
