"""Transcription forms and their answers, by the wire examples and by their laws."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire.play import NAMES, fixture, words

from rillvox import Transcript, Word
from rillvox.errors import CapacityError, CheckpointError, RillvoxError
from rillvox.streaming import events as ev
from rillvox.streaming.dialects.http_errors import HttpError
from rillvox.streaming.dialects.http_transcription import (
    TranscriptionRequest,
    TranscriptionStream,
    read_form,
    render,
)

HELLO = Transcript("Hello there.", (Word("Hello", 0.1, 0.5), Word("there.", 0.5, 0.9)), 1.2)
TEXT = [(part, value) for part, value in (("model", "whisper-1"), ("language", "en"))]


def read(*fields: tuple[str, str], has_file: bool = True) -> TranscriptionRequest:
    return read_form([*TEXT, *fields], has_file, NAMES)


def exchanges():
    """(form, response, server-sent events) of the example."""
    found = []
    for direction, message in fixture("http_transcriptions_openai"):
        if direction == "c2s":
            found.append((message["_http"]["form"], [], []))
        elif "_http" in message:
            found[-1][1].append(message["_http"])
        else:
            found[-1][2].append(message["_sse"]["data"])
    return found


def ask(form):
    fields = [(key, value) for key, value in form if not value.startswith("@")]
    return read_form(fields, len(fields) < len(form), NAMES)


def test_the_examples_replay():
    for form, (response,), sent in exchanges():
        if response["status"] != 200:
            with pytest.raises(HttpError) as refused:
                ask(form)
            assert refused.value.status == response["status"]
            assert refused.value.body() == response["json"]
            continue
        request = ask(form)
        if request.stream:
            stream = TranscriptionStream(request)
            assert stream.content_type == response["headers"]["content-type"]
            chunks = [*stream.report(ev.Partial("s", " Hello")), *stream.report(ev.Partial("s", " there."))]
            chunks += stream.report(ev.Final("s", " Hello there."))
            given_events = [json.loads(chunk.removeprefix("data: ")) for chunk in chunks]
            assert [event["type"] for event in given_events] == [event["type"] for event in sent]
            for given_event, event in zip(given_events, sent, strict=True):
                assert event.keys() <= given_event.keys()
            continue
        body = render(request, HELLO)
        assert body.content_type == response["headers"]["content-type"]
        if "json" in response:
            answer, expected = json.loads(body.text), response["json"]
            assert answer.keys() == expected.keys()
            assert answer["segments"][0].keys() == expected["segments"][0].keys()
            assert answer["words"][0] == expected["words"][0]
            assert (answer["language"], answer["duration"]) == (expected["language"], expected["duration"])
        else:  # times may be held longer on screen than the words last
            assert body.text.split(" --> ")[0] == response["text"].split(" --> ")[0]
            assert body.text.endswith("Hello there.\n\n")


def test_plain_answers():
    assert render(read(("response_format", "text")), HELLO).text == "Hello there.\n"
    assert json.loads(render(read(), HELLO).text) == {
        "text": "Hello there.",
        "usage": {"type": "duration", "seconds": 1.2},
    }
    scored = json.loads(render(read(("include[]", "logprobs")), HELLO).text)["logprobs"]
    assert [one["token"] for one in scored] == ["Hello", "there."]


def test_nothing_said_is_an_answer_in_every_format():
    empty = Transcript("", (), 2.0)
    assert json.loads(render(read(), empty).text)["text"] == ""
    assert render(read(("response_format", "text")), empty).text == "\n"
    assert render(read(("response_format", "srt")), empty).text == ""
    assert render(read(("response_format", "vtt")), empty).text.startswith("WEBVTT\n")
    assert json.loads(render(read(("response_format", "verbose_json")), empty).text)["segments"] == []


@pytest.mark.parametrize("name", ["timestamp_granularities", "timestamp_granularities[]"])
def test_words_come_only_if_asked_for_and_segments_unless_only_words_are(name):
    verbose = ("response_format", "verbose_json")
    assert json.loads(render(read(verbose), HELLO).text).keys() >= {"segments"}
    assert "words" not in json.loads(render(read(verbose), HELLO).text)
    only_words = json.loads(render(read(verbose, (name, "word")), HELLO).text)
    assert "words" in only_words
    assert "segments" not in only_words


def test_the_language_is_told_in_english():
    verbose = read(("response_format", "verbose_json"))
    assert json.loads(render(verbose, HELLO, "de").text)["language"] == "german"
    assert json.loads(render(verbose, HELLO, "pt-BR").text)["language"] == "portuguese"
    assert json.loads(render(verbose, HELLO, "eo").text)["language"] == "eo"


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ([("model", "nope")], 404, "model"),
        ([("response_format", "yaml")], 400, "response_format"),
        ([("response_format", "diarized_json")], 400, "response_format"),
        ([("diarize", "true")], 400, "diarize"),
        ([("temperature", "hot")], 400, "temperature"),
        ([("temperature", "nan")], 400, "temperature"),
        ([("temperature", "-1")], 400, "temperature"),
        ([("temperature", "9" * 5000)], 400, "temperature"),
        ([("stream", "perhaps")], 400, "stream"),
        ([("timestamp_granularities[]", "letter")], 400, "timestamp_granularities"),
        ([("file_url", "file:///etc/passwd")], 400, "file_url"),
        ([("file_id", "f")], 400, "file_id"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused_by_name(fields, status, param):
    with pytest.raises(HttpError) as refused:
        read(*fields)
    assert (refused.value.status, refused.value.param) == (status, param)


def test_advice_for_other_models_is_ignored():
    fields = [
        ("prompt", "x"),
        ("keywords[]", "y"),
        ("chunking_strategy", "auto"),
        ("chunking_strategy[type]", "server_vad"),
        ("known_speaker_names[]", "Ada"),
        ("context_bias", "z"),
        ("diarize", "false"),
        ("stream", "False"),
        ("temperature", "0.2"),
        ("temperature", ""),
        ("unknown", "?"),
    ]
    assert read(*fields) == read()


@given(st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12)), max_size=6), st.booleans())
@settings(deadline=None)
def test_any_form_is_read_or_refused(fields, has_file):
    try:
        read_form(fields, has_file, NAMES)
    except HttpError as refused:
        json.dumps(refused.body(), allow_nan=False).encode()


pieces = st.text(alphabet=" ab.é\n", max_size=6)


@given(st.lists(pieces, max_size=8), pieces)
@settings(deadline=None)
def test_streamed_deltas_add_up_to_the_text_of_done(parts, rest):
    stream = TranscriptionStream(TranscriptionRequest(stream=True, with_logprobs=True))
    chunks = [chunk for part in parts for chunk in stream.report(ev.Partial("s", part))]
    chunks += stream.report(ev.Final("s", "".join(parts) + rest, words("a b"), 1.0, 4, 9))
    assert all(chunk.startswith("data: ") and chunk.endswith("\n\n") for chunk in chunks)
    sent = [json.loads(chunk[6:]) for chunk in chunks]
    assert [event["type"] for event in sent] == ["transcript.text.delta"] * (len(sent) - 1) + [
        "transcript.text.done"
    ]
    assert "".join(event["delta"] for event in sent[:-1]) == sent[-1]["text"]
    assert sent[-1]["usage"]["total_tokens"] == 13
    assert stream.over
    assert stream.report(ev.Partial("s", "late")) == []


def test_a_failure_in_mid_stream_is_an_event_that_clients_raise_on():
    stream = TranscriptionStream(TranscriptionRequest(stream=True))
    (chunk,) = stream.report(ev.Failed("s", CapacityError("no room")))
    assert json.loads(chunk[6:])["error"]["code"] == "overloaded"
    assert stream.report(ev.Final("s", "x")) == []


def test_what_went_wrong_inside_is_not_told():
    stream = TranscriptionStream(TranscriptionRequest(stream=True))
    (chunk,) = stream.report(ev.Failed("s", CheckpointError("/srv/secret/model is broken")))
    assert "secret" not in chunk


sentences = st.lists(
    st.tuples(st.sampled_from(["Ada", "ran", "home.", "Why?", "so,"]), st.floats(0.01, 2), st.floats(0, 1)),
    max_size=30,
)


@given(sentences, st.booleans())
@settings(deadline=None)
def test_segments_joined_are_the_text_and_lie_in_time(spoken, timed):
    clock, made = 0.0, []
    for text, length, confidence in spoken:
        made.append(Word(text, clock, clock + length / 2, confidence))
        clock += length
    text = " ".join(text for text, _, _ in spoken)
    transcript = Transcript(text, tuple(made) if timed else (), clock)
    request = TranscriptionRequest(response_format="verbose_json", with_words=True)
    segments = json.loads(render(request, transcript).text)["segments"]
    assert "".join(segment["text"] for segment in segments) == (" " + text if text else "")
    times = [time for segment in segments for time in (segment["start"], segment["end"])]
    assert times == sorted(times)
    assert [segment["id"] for segment in segments] == list(range(len(segments)))
    assert all(math.isfinite(segment["avg_logprob"]) and segment["avg_logprob"] <= 0 for segment in segments)


def test_words_that_are_not_in_the_text_lose_nothing():
    transcript = Transcript("Quite another text", (Word("Hello.", 0, 1), Word("you", 1, 2)), 2.0)
    request = TranscriptionRequest(response_format="verbose_json")
    segments = json.loads(render(request, transcript).text)["segments"]
    assert "".join(segment["text"] for segment in segments).strip() == transcript.text


def test_marks_that_are_not_in_the_words_stay_with_their_segment():
    transcript = Transcript("Yes! No.", (Word("Yes", 0, 1), Word("No", 5, 6)), 6.0)
    request = TranscriptionRequest(response_format="verbose_json")
    segments = json.loads(render(request, transcript).text)["segments"]
    assert [segment["text"] for segment in segments] == [" Yes!", " No."]


def test_an_http_error_is_an_exception_like_others():
    error = HttpError(400, "no")
    with pytest.raises(HttpError), _ignored():
        raise error
    assert error != HttpError(400, "no")
    assert isinstance(RillvoxError("x"), Exception)


class _ignored:
    """Re-raises as contextlib does, which sets the traceback."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        error.__traceback__ = None
        return False
