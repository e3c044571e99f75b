"""Stories of OpenAI GA sessions."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from wire.order import check_openai
from wire.play import COMPLETED, DELTA, FAILED, Table, append, openai, types, update, words

from rillvox.errors import CapacityError, RillvoxError
from rillvox.streaming import events as ev

B = "input_audio_buffer"
COMMIT = {"type": f"{B}.commit"}
CLEAR = {"type": f"{B}.clear"}
LOGPROBS = "item.input_audio_transcription.logprobs"
WORDS = "item.input_audio_transcription.words"


def manual(**audio_input) -> Table:
    table = Table(openai())
    table.send(update(turn_detection=None, **audio_input))
    return table


def of_type(table: Table, command: type) -> list:
    return [one for one in table.commands if isinstance(one, command)]


def test_text_flows_before_the_commit_under_the_id_the_item_will_have():
    table = manual()
    table.send(append())
    (early,) = table.say(" Turn left")
    committed = table.send(COMMIT)[0]
    assert early["type"] == DELTA
    assert early["delta"] == "Turn left"
    assert committed["item_id"] == early["item_id"]


def test_items_overlap_and_each_event_names_its_own():
    table = manual()
    table.send(append())
    first = table.last()
    table.send(COMMIT)
    table.send(append())
    second = table.last()
    (late,) = table.say(" next", second)
    table.send(COMMIT)
    done = table.finish("", second) + table.finish(" first", first)
    assert late["item_id"] == second
    assert [(reply["item_id"], reply["type"]) for reply in done] == [
        (second, COMPLETED),
        (first, DELTA),
        (first, COMPLETED),
    ]
    check_openai(table.replies, settled=True)


def test_an_item_without_words_is_completed_with_empty_text():
    table = manual()
    table.send(append(48_000))
    table.send(COMMIT)
    (completed,) = table.finish()
    assert completed["transcript"] == ""
    assert completed["usage"] == {"type": "duration", "seconds": 1.0}


def test_commit_then_clear_keeps_the_committed_text():
    # openai-agents does this at the end of its input and waits for both answers.
    table = manual()
    table.send(append())
    table.send(COMMIT)
    assert types(table.send(CLEAR)) == [f"{B}.cleared"]
    assert types(table.finish("Hello")) == [DELTA, COMPLETED]


def test_clear_forgets_the_open_audio_and_closes_its_stream():
    table = manual()
    table.send(append())
    stream = table.last()
    table.send(CLEAR)
    assert stream in table.gone
    assert table.dialect.report(ev.Partial(stream, " ghost"), table.now) == []
    assert types(table.send(COMMIT)) == ["error"]
    assert types(table.send(CLEAR)) == [f"{B}.cleared"]
    table.send(append())
    table.send(COMMIT)
    assert table.replies[-3]["previous_item_id"] is None


def test_a_turn_found_by_the_engine_commits_itself():
    table = Table(openai())
    table.send(append(96_000))
    (begun,) = table.speech(True, 0.7)
    ended = table.speech(False, 1.5)
    assert begun["audio_start_ms"] == 400  # 300 ms of padding
    assert types(ended) == [
        f"{B}.speech_stopped",
        f"{B}.committed",
        "conversation.item.added",
        "conversation.item.done",
    ]
    assert ended[0]["audio_end_ms"] == 1500
    assert isinstance(table.commands[-1], ev.Finish)
    table.finish("Hello")
    table.send(append(96_000))
    (begun,) = table.speech(True, 0.5)
    assert begun["audio_start_ms"] == 2200  # the clock of the session, not of the item
    table.speech(False, 1.0)
    table.finish("again")
    check_openai(table.replies, settled=True)


def test_without_turn_detection_turns_are_not_told():
    table = manual()
    table.send(append())
    assert table.speech(True, 0.0) == []
    assert table.speech(False, 0.1) == []
    assert of_type(table, ev.OpenStream)[0].turns is None


def test_text_is_speech_even_if_the_engine_has_not_said_so():
    table = Table(openai())
    table.send(append())
    assert types(table.say(" Hi")) == [f"{B}.speech_started", DELTA]
    assert table.speech(True, 0.0) == []


def test_a_turn_in_which_nobody_spoke_is_no_item():
    table = Table(openai())
    table.send(append())
    assert table.speech(False, 0.1) == []


def test_semantic_turns_are_accepted_and_become_patience():
    table = Table(openai())
    (updated,) = table.send(update(turn_detection={"type": "semantic_vad", "eagerness": "low"}))
    assert updated["session"]["audio"]["input"]["turn_detection"] == {
        "type": "semantic_vad",
        "eagerness": "low",
    }
    table.send(append())
    assert of_type(table, ev.OpenStream)[0].turns == ev.TurnRules(500, 8000, 0.5)


def test_turn_settings_are_merged_and_reach_a_running_stream():
    table = Table(openai())
    table.send(append())
    table.send(update(turn_detection={"type": "server_vad", "silence_duration_ms": 900}))
    table.send(update(turn_detection={"type": "server_vad", "threshold": 0.8}))
    assert of_type(table, ev.Configure)[-1] == ev.Configure(table.last(), None, ev.TurnRules(900, None, 0.8))


@pytest.mark.parametrize(
    ("delay", "ms"),
    [("minimal", 160), ("low", 320), ("medium", 480), ("high", 960), ("xhigh", 1920), ("?", None), (7, None)],
)
def test_a_delay_is_asked_for_in_words(delay, ms):
    table = manual(transcription={"delay": delay, "language": "en"})
    table.send(append())
    assert of_type(table, ev.OpenStream) == [ev.OpenStream(table.last(), ms, "en", None)]


def test_a_delay_can_change_while_text_flows():
    table = manual()
    table.send(append())
    table.send(update(transcription={"delay": "high"}))
    assert of_type(table, ev.Configure) == [ev.Configure(table.last(), 960, None)]


def test_absent_settings_stay_and_null_brings_the_default_back():
    table = manual(transcription={"language": "fr", "prompt": "names", "keywords": ["Ada"]})
    table.send(update(noise_reduction={"type": "near_field"}))
    shown = table.send(update(transcription={"language": None}))[0]["session"]["audio"]["input"]
    assert shown["transcription"] == {
        "model": "asr-en",
        "language": None,
        "prompt": "names",
        "keywords": ["Ada"],
    }
    assert shown["noise_reduction"] == {"type": "near_field"}
    shown = table.send(update(transcription=None, noise_reduction=None))[0]["session"]["audio"]["input"]
    assert shown["transcription"] == {"model": "asr-en", "language": None, "prompt": None}
    assert shown["noise_reduction"] is None
    assert shown["turn_detection"] is None


def test_an_update_that_is_wrong_anywhere_changes_nothing():
    table = manual()
    table.send(update(turn_detection={"type": "server_vad"}, transcription={"model": "nope"}))
    (updated,) = table.send(update())
    assert updated["session"]["audio"]["input"]["turn_detection"] is None


@pytest.mark.parametrize("model", ["whisper-1", "gpt-realtime-whisper", "gpt-4o-transcribe", "asr-en", None])
def test_models_that_frameworks_hard_wire_are_the_default(model):
    table = Table(openai())
    assert types(table.send(update(transcription={"model": model}))) == ["session.updated"]


def test_a_realtime_session_with_transcription_is_one_of_ours():
    table = Table(openai())
    message = update(transcription={"model": "whisper-1"})
    message["session"]["type"] = "realtime"
    (updated,) = table.send(message)
    assert updated["session"]["type"] == "transcription"


@pytest.mark.parametrize(("kind", "value"), [("audio/pcmu", 16764 / 32768), ("audio/pcma", 5504 / 32768)])
def test_telephone_audio_is_decoded(kind, value):
    table = manual(format={"type": kind})
    table.send(
        {"type": f"{B}.append", "audio": base64.b64encode(b"\x8f" if kind[-1] == "u" else b"\x80").decode()}
    )
    (push,) = of_type(table, ev.PushAudio)
    assert push.rate == 8000
    np.testing.assert_array_equal(push.samples, np.array([value], np.float32))


def test_half_a_sample_waits_for_its_other_half_and_is_dropped_at_a_commit():
    table = manual()
    for data in (b"\x00", b"\x40\x00", b"\x40\x11"):
        table.send({"type": f"{B}.append", "audio": base64.b64encode(data).decode()})
    table.send(COMMIT)
    table.send({"type": f"{B}.append", "audio": base64.b64encode(b"\x00\x20").decode()})
    assert [push.samples.tolist() for push in of_type(table, ev.PushAudio)] == [[0.5], [0.5], [0.25]]


def test_scores_and_words_come_where_they_were_asked_for():
    table = manual()
    message = update()
    message["session"]["include"] = [LOGPROBS, WORDS, "item.future"]
    (updated,) = table.send(message)
    assert updated["session"]["include"] == [LOGPROBS, WORDS]
    table.send(append(48_000))
    table.send(CLEAR)  # one second that is not in the item
    table.send(append(48_000))
    delta = table.say(" Hi", timed=words("Hi"))[0]
    table.send(COMMIT)
    completed = table.finish("", words=words("Hi you"))[0]
    assert delta["logprobs"] == [{"token": "Hi", "logprob": -0.1054, "bytes": [72, 105]}]
    assert [one["token"] for one in completed["logprobs"]] == ["Hi", "you"]
    assert completed["words"][1] == {"word": "you", "start": 1.4, "end": 1.6, "confidence": 0.9}


def test_a_failed_item_says_so_and_the_session_goes_on():
    table = manual()
    table.send(append())
    table.send(COMMIT)
    (failed,) = table.fail(RillvoxError("the model stumbled"))
    assert failed["type"] == FAILED
    assert failed["error"]["message"] == "the model stumbled"
    assert table.closed is None
    table.send(append())
    table.send(COMMIT)
    table.finish("Hello")
    check_openai(table.replies, settled=True)


def test_a_stream_that_fails_early_is_told_at_its_commit_or_at_once_with_turns():
    table = manual()
    table.send(append())
    assert table.fail(RillvoxError("no")) == []
    table.send(append())
    assert types(table.send(COMMIT))[-1] == FAILED
    table = Table(openai())
    table.send(append())
    assert types(table.fail(RillvoxError("no")))[-1] == FAILED
    check_openai(table.replies, settled=True)


@pytest.mark.parametrize(
    ("error", "fatal", "code"), [(RillvoxError("gone"), True, 1011), (CapacityError("full"), False, 1013)]
)
def test_an_engine_that_died_or_is_full_closes_the_socket_after_all_is_answered(error, fatal, code):
    table = manual()
    for _ in range(2):
        table.send(append())
        table.send(COMMIT)
    table.send(append())
    replies = table.fail(error, fatal=fatal)
    assert types(replies) == [FAILED, FAILED, "error"]
    assert replies[-1]["error"]["type"] == "server_error"
    assert table.closed is not None
    assert table.closed.code == code
    check_openai(table.replies, settled=True)
    assert table.hang_up() == set(table.streams)


def test_an_engine_may_end_an_item_by_itself():
    table = manual()
    table.send(append())
    table.streams[table.last()].finished = True
    assert types(table.finish("Hello")) == [
        f"{B}.committed",
        "conversation.item.added",
        "conversation.item.done",
        DELTA,
        COMPLETED,
    ]
    check_openai(table.replies, settled=True)


def test_turns_asked_for_in_the_middle_of_an_item_end_it_too():
    table = manual()
    table.send(append())
    table.say(" Hello")
    table.send(update(turn_detection={"type": "server_vad"}))
    assert types(table.say(" you")) == [DELTA]
    assert types(table.speech(False, 0.1))[0] == f"{B}.committed"
    table.finish()
    check_openai(table.replies, settled=True)
