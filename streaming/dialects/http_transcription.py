"""`POST /v1/audio/transcriptions`: the form that asks, and the bodies that answer.

Form fields are read under their plain and their bracket names (`include`, `include[]`), since clients differ.
Fields that are advice to other models are accepted and ignored; a wish that cannot be met is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast, get_args

from ..events import Event, Failed, Final, Partial
from .http_errors import HttpError, bad_request, from_error, not_found
from .message import JsonObject, echo
from .names import ModelNames
from .segments import segments_json
from .text import SentText, logprobs_json

if TYPE_CHECKING:
    from ...asr.transcript import Transcript

ResponseFormat = Literal["json", "text", "verbose_json", "srt", "vtt"]

_LANGUAGES = {
    "ar": "arabic",
    "de": "german",
    "en": "english",
    "es": "spanish",
    "fr": "french",
    "hi": "hindi",
    "it": "italian",
    "ja": "japanese",
    "ko": "korean",
    "nl": "dutch",
    "pt": "portuguese",
    "ru": "russian",
    "zh": "chinese",
}


@dataclass(frozen=True)
class TranscriptionRequest:
    """A form, checked. `language` is as the client named it."""

    response_format: ResponseFormat = "json"
    stream: bool = False
    language: str | None = None
    with_words: bool = False
    with_segments: bool = True
    with_logprobs: bool = False


@dataclass(frozen=True)
class Body:
    """A response body with its content type."""

    content_type: str
    text: str


def read_form(fields: Iterable[tuple[str, str]], has_file: bool, names: ModelNames) -> TranscriptionRequest:
    """Check the text fields of a multipart form; `has_file`: whether it has a part `file`.

    Raises:
        HttpError: 400 for a wrong field, 404 for an unknown model; `param` names the field.
    """
    form: dict[str, list[str]] = {}
    for key, value in fields:
        form.setdefault(key.removesuffix("[]"), []).append(value)
    _refuse_unmet(form, has_file)
    model = _one(form, "model")
    if names.resolve(model) is None:
        raise not_found(f"there is no model {echo(model or '', 200)!r} here", "model_not_found", "model")
    _check_temperature(_one(form, "temperature"))
    granularities = form.get("timestamp_granularities", [])
    if not set(granularities) <= {"word", "segment"}:
        raise bad_request("timestamp_granularities must be word or segment", "timestamp_granularities")
    return TranscriptionRequest(
        response_format=_response_format(_one(form, "response_format")),
        stream=_flag(form, "stream"),
        language=echo(_one(form, "language") or "", 64) or None,
        with_words="word" in granularities,
        with_segments=not granularities or "segment" in granularities,
        with_logprobs="logprobs" in form.get("include", []),
    )


def render(request: TranscriptionRequest, transcript: Transcript, language: str | None = None) -> Body:
    """The whole answer at once; `language`: the one heard, as a code, if the model knows it."""
    match request.response_format:
        case "text":
            return Body("text/plain; charset=utf-8", transcript.to_text())
        case "srt":
            captions = transcript.to_srt()
            return Body("text/plain; charset=utf-8", captions and captions + "\n")
        case "vtt":
            return Body("text/vtt; charset=utf-8", transcript.to_vtt() + "\n")
        case "json":
            answer: JsonObject = {"text": transcript.text, "usage": _duration(transcript)}
            if request.with_logprobs:
                answer["logprobs"] = logprobs_json(transcript.words)
        case "verbose_json":
            answer = _verbose(request, transcript, language)
    return Body("application/json", json.dumps(answer, ensure_ascii=False, allow_nan=False))


class TranscriptionStream:
    """The same as server-sent events, from the events of one stream of the engine.

    Law: the deltas joined are the text of `done`. After `done`, or an error, nothing more is said.
    """

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, request: TranscriptionRequest) -> None:
        self._request = request
        self._sent = SentText()
        self.over = False

    def report(self, event: Event) -> list[str]:
        """Chunks of the response body."""
        if self.over:
            return []
        match event:
            case Partial():
                return self._delta(self._sent.push(event.text), event)
            case Final():
                self.over = True
                return [*self._delta(self._sent.finish(event.text), event), self._done(event)]
            case Failed():
                self.over = True
                # The official client raises on an object with a key `error`.
                return [_sse({"type": "error", **from_error(event.error).body()})]
            case _:
                return []

    def _delta(self, text: str, event: Partial | Final) -> list[str]:
        if not text:
            return []
        delta: JsonObject = {"type": "transcript.text.delta", "delta": text}
        if self._request.with_logprobs:
            delta["logprobs"] = logprobs_json(event.words if isinstance(event, Partial) else ())
        return [_sse(delta)]

    def _done(self, final: Final) -> str:
        given, made = final.prompt_tokens, final.completion_tokens
        usage = {
            "type": "tokens",
            "input_tokens": given,
            "output_tokens": made,
            "total_tokens": given + made,
            "input_token_details": {"audio_tokens": given, "text_tokens": 0},
        }
        done: JsonObject = {"type": "transcript.text.done", "text": self._sent.text, "usage": usage}
        if self._request.with_logprobs:
            done["logprobs"] = logprobs_json(final.words)
        return _sse(done)


def _verbose(request: TranscriptionRequest, transcript: Transcript, language: str | None) -> JsonObject:
    code = (language or "en").lower()  # what the model heard, not what the client hoped for
    answer: JsonObject = {
        "task": "transcribe",
        "language": _LANGUAGES.get(code.split("-")[0], code),  # whisper's habit: an English word
        "duration": round(transcript.seconds, 3),
        "text": transcript.text,
    }
    if request.with_words:
        answer["words"] = [
            {"word": word.text.strip(), "start": round(word.start, 3), "end": round(word.end, 3)}
            for word in transcript.words
        ]
    if request.with_segments:
        answer["segments"] = segments_json(transcript)
    answer["usage"] = _duration(transcript)
    return answer


def _refuse_unmet(form: dict[str, list[str]], has_file: bool) -> None:
    for key in ("file_url", "file_id"):
        if _one(form, key):
            raise bad_request(
                f"{key} is not supported; upload the audio as `file`", key, "unsupported_parameter"
            )
    if not has_file:
        raise bad_request("Missing required part: file", "file")
    if _one(form, "response_format") == "diarized_json" or _flag(form, "diarize"):
        param = "diarize" if "diarize" in form else "response_format"
        raise bad_request("speakers are not told apart here", param, "unsupported_response_format")


def _response_format(asked: str | None) -> ResponseFormat:
    known = get_args(ResponseFormat)
    if asked is not None and asked not in known:
        text = f"response_format must be one of {', '.join(known)}"
        raise bad_request(text, "response_format", "unsupported_response_format")
    return cast(ResponseFormat, asked or "json")


def _check_temperature(asked: str | None) -> None:
    if asked is None:
        return
    try:
        good = math.isfinite(float(asked)) and 0 <= float(asked) <= 2
    except ValueError:
        good = False
    if not good:
        raise bad_request("temperature must be a number from 0 to 2", "temperature")


def _one(form: dict[str, list[str]], key: str) -> str | None:
    """The last non-empty value, as forms have it."""
    return next((value for value in reversed(form.get(key, [])) if value), None)


def _flag(form: dict[str, list[str]], key: str) -> bool:
    asked = (_one(form, key) or "false").lower()
    if asked not in ("true", "false", "1", "0"):
        raise bad_request(f"{key} must be true or false", key)
    return asked in ("true", "1")


def _duration(transcript: Transcript) -> JsonObject:
    return {"type": "duration", "seconds": round(transcript.seconds, 3)}


def _sse(data: JsonObject) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False, allow_nan=False)}\n\n"


__all__ = [
    "Body",
    "HttpError",
    "TranscriptionRequest",
    "TranscriptionStream",
    "read_form",
    "render",
]
