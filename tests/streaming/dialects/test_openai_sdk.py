"""Everything we write parses strictly with the event classes of the official OpenAI client."""

from __future__ import annotations

import json

import pytest
from wire.play import COMPLETED, DELTA, FAILED, NAMES, Table, append, openai, update, words

from rillvox import Transcript
from rillvox.errors import RillvoxError
from rillvox.streaming import events as ev
from rillvox.streaming.dialects.http_transcription import TranscriptionStream, read_form, render

sdk = pytest.importorskip("openai.types.realtime", reason="the openai package is not installed")
pydantic = pytest.importorskip("pydantic")

from openai.types import audio as sdk_audio  # noqa: E402

CLASSES = {
    "session.created": sdk.SessionCreatedEvent,
    "session.updated": sdk.SessionUpdatedEvent,
    "error": sdk.RealtimeErrorEvent,
    "input_audio_buffer.speech_started": sdk.InputAudioBufferSpeechStartedEvent,
    "input_audio_buffer.speech_stopped": sdk.InputAudioBufferSpeechStoppedEvent,
    "input_audio_buffer.committed": sdk.InputAudioBufferCommittedEvent,
    "input_audio_buffer.cleared": sdk.InputAudioBufferClearedEvent,
    "conversation.item.added": sdk.ConversationItemAdded,
    "conversation.item.done": sdk.ConversationItemDone,
    DELTA: sdk.ConversationItemInputAudioTranscriptionDeltaEvent,
    COMPLETED: sdk.ConversationItemInputAudioTranscriptionCompletedEvent,
    FAILED: sdk.ConversationItemInputAudioTranscriptionFailedEvent,
}


def parse(kind: type, text: str):
    """Strictly: no coercion, and validation, which the client itself skips."""
    return pydantic.TypeAdapter(kind).validate_json(text, strict=True)


def session() -> list[dict]:
    """A session that draws every event out of the server."""
    table = Table(openai())
    message = update(transcription={"model": "whisper-1", "delay": "low"})
    message["session"]["include"] = ["item.input_audio_transcription.logprobs"]
    table.send(message)
    table.send(append())
    table.speech(True, 0.0)
    table.say(" Hi", timed=words("Hi"))
    table.speech(False, 0.1)
    table.finish(" you", words=words("Hi you"), language="en")
    table.send(update(turn_detection={"type": "semantic_vad"}, noise_reduction={"type": "far_field"}))
    table.send(update(turn_detection=None, format={"type": "audio/pcmu"}))
    table.send(append())
    table.send({"type": "input_audio_buffer.clear"})
    table.send({"type": "input_audio_buffer.commit", "event_id": "mine"})
    table.send(append())
    table.send({"type": "input_audio_buffer.commit"})
    table.fail(RillvoxError("the model stumbled"))
    table.send({"type": "response.create"})
    table.send("{")
    return table.replies


def test_every_realtime_event_parses():
    replies = session()
    assert {reply["type"] for reply in replies} == set(CLASSES)
    for reply in replies:
        parsed = parse(CLASSES[reply["type"]], json.dumps(reply))
        assert parsed.event_id == reply["event_id"]


def test_the_session_object_is_read_as_a_transcription_session():
    parsed = parse(CLASSES["session.created"], json.dumps(session()[0]))
    assert parsed.session.type == "transcription"
    assert parsed.session.audio.input.turn_detection.silence_duration_ms == 500


def test_strict_parsing_sees_a_missing_key():
    completed = next(reply for reply in session() if reply["type"] == COMPLETED)
    del completed["usage"]
    with pytest.raises(pydantic.ValidationError):
        parse(CLASSES[COMPLETED], json.dumps(completed))


TRANSCRIPT = Transcript("Hello there.", words("Hello there."), 1.2)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ([], "Transcription"),
        ([("include[]", "logprobs")], "Transcription"),
        (
            [("response_format", "verbose_json"), ("timestamp_granularities[]", "word")],
            "TranscriptionVerbose",
        ),
        ([("response_format", "verbose_json")], "TranscriptionVerbose"),
    ],
)
def test_every_json_answer_parses(fields, kind):
    body = render(read_form(fields, True, NAMES), TRANSCRIPT)
    assert parse(getattr(sdk_audio, kind), body.text).text == "Hello there."


@pytest.mark.parametrize("fields", [[("stream", "true")], [("stream", "true"), ("include[]", "logprobs")]])
def test_every_streamed_answer_parses(fields):
    stream = TranscriptionStream(read_form(fields, True, NAMES))
    chunks = stream.report(ev.Partial("s", " Hi", words("Hi")))
    chunks += stream.report(ev.Final("s", " Hi you", words("Hi you"), 1.2, 15, 4))
    kinds = [sdk_audio.TranscriptionTextDeltaEvent] * 2 + [sdk_audio.TranscriptionTextDoneEvent]
    for kind, chunk in zip(kinds, chunks, strict=True):
        parse(kind, chunk.removeprefix("data: "))
