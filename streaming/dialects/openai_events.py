"""Server events of the OpenAI GA transcription session, written out.

Required keys follow the event classes of the official `openai` package (3.54.0).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..events import Final, Reply
from .message import JsonObject
from .names import NewId
from .text import logprobs_json, words_json

if TYPE_CHECKING:
    from ...asr.transcript import Word

_ITEM = "conversation.item"
_TEXT = "conversation.item.input_audio_transcription"


class EventWriter:
    """Builds events, each with a fresh `event_id`."""

    def __init__(self, new_id: NewId) -> None:
        self._new_id = new_id

    def event(self, kind: str, **fields: object) -> Reply:
        """Any event."""
        return Reply({"type": kind, "event_id": self._new_id("event"), **fields})

    def speech(self, started: bool, seconds: float, item_id: str) -> Reply:
        """`speech_started` or `speech_stopped`; seconds on the session's audio clock."""
        at = max(0, round(seconds * 1000))
        if started:
            return self.event("input_audio_buffer.speech_started", audio_start_ms=at, item_id=item_id)
        return self.event("input_audio_buffer.speech_stopped", audio_end_ms=at, item_id=item_id)

    def committed(self, item_id: str, previous: str | None) -> list[Reply]:
        """The three events that make an item of a piece of audio."""
        item = {
            "id": item_id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        return [
            self.event("input_audio_buffer.committed", item_id=item_id, previous_item_id=previous),
            self.event(f"{_ITEM}.added", item=item, previous_item_id=previous),
            self.event(f"{_ITEM}.done", item=item, previous_item_id=previous),
        ]

    def delta(self, item_id: str, text: str, scored: Sequence[Word] | None) -> Reply:
        """A piece of text; `scored`: words whose log-probabilities were asked for."""
        extra: JsonObject = {} if scored is None else {"logprobs": logprobs_json(scored)}
        return self.event(f"{_TEXT}.delta", item_id=item_id, content_index=0, delta=text, **extra)

    def completed(
        self, item_id: str, text: str, final: Final, offset: float, logprobs: bool, words: bool
    ) -> Reply:
        """The text of an item; word times are on the session's audio clock."""
        extra: JsonObject = {}
        if final.language:
            extra["languages"] = [{"code": final.language}]
        if logprobs:
            extra["logprobs"] = logprobs_json(final.words)
        if words:
            extra["words"] = words_json(final.words, offset)
        usage = {"type": "duration", "seconds": round(final.seconds, 3)}
        return self.event(
            f"{_TEXT}.completed", item_id=item_id, content_index=0, transcript=text, usage=usage, **extra
        )

    def failed(self, item_id: str, code: str, text: str) -> Reply:
        """There will be no text for an item."""
        error = {"type": "server_error", "code": code, "message": text, "param": None}
        return self.event(f"{_TEXT}.failed", item_id=item_id, content_index=0, error=error)

    def error(
        self,
        code: str,
        text: str,
        param: str | None = None,
        cause: str | None = None,
        kind: str | None = None,
    ) -> Reply:
        """An error; `cause` is the `event_id` of the client's message."""
        error = {
            "type": kind or "invalid_request_error",
            "code": code,
            "message": text,
            "param": param,
            "event_id": cause,
        }
        return self.event("error", error=error)
