"""OpenAI Realtime transcription sessions, the generally available (GA) shape.

Unusual:
- text flows while somebody still speaks, so an item has its id, and deltas, before it is committed;
- items overlap: a new one may be open while older ones wait for the end of their text;
- many clients treat any `error` as fatal, so harmless things (empty append, late settings, repeated
  clear) are not errors. A commit without audio is the one that must be.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...errors import CapacityError, RillvoxError
from ..events import (
    CloseSocket,
    CloseStream,
    Configure,
    Event,
    Failed,
    Final,
    Finish,
    Mark,
    OpenStream,
    Output,
    Partial,
    PushAudio,
    Reply,
    SpeechStarted,
    TurnEnded,
)
from .limits import Limits
from .message import JsonObject, MessageError, audio_field, echo, object_field
from .names import ModelNames, NewId, random_id
from .openai_events import EventWriter
from .openai_settings import LOGPROBS, WORDS, Settings
from .pcm import PcmDecoder
from .session import RealtimeSession, State
from .text import SentText

_CONVERSATION = ("response.", "conversation.item.", "output_audio_buffer.", "transcription_session.")


@dataclass
class _Item:
    """Audio that is or will be one conversation item; its id names the engine's stream too."""

    id: str
    start: float  # on the session's audio clock, seconds
    seconds: float = 0.0
    sent: SentText = field(default_factory=SentText)
    speaking: bool = False  # `speech_started` was sent
    error: RillvoxError | None = None


class OpenAIRealtime(RealtimeSession):
    """One GA transcription session. `model` is the one of the query string, if any."""

    name = "openai"

    def __init__(
        self,
        names: ModelNames,
        *,
        model: str | None = None,
        limits: Limits | None = None,
        new_id: NewId = random_id,
    ) -> None:
        super().__init__(limits or Limits())
        self._asked_model = None if model is None else echo(model, 200)
        known = self._asked_model if names.resolve(self._asked_model) is not None else None
        self._settings = Settings.initial(names, known)
        self._known_model = known is not None or model is None
        self._new_id = new_id
        self._write = EventWriter(new_id)
        self._decoder = PcmDecoder(self._settings.audio)
        self._session_id = new_id("sess")
        self._expires = 0
        self._clock = 0.0  # seconds of audio heard in the session
        self._open: _Item | None = None
        self._committed: dict[str, _Item] = {}  # those that still owe their text
        self._previous: str | None = None

    # ---- messages ------------------------------------------------------------------------

    def _opening(self, unix: float) -> list[Output]:
        self._expires = int(unix + self.limits.session)
        created = self._write.event("session.created", session=self._session_json())
        if self._known_model:
            return [created]
        return [
            created,
            self._write.error("model_not_found", f"there is no model {self._asked_model!r} here", "model"),
        ]

    def _handle(self, kind: str, message: JsonObject, now: float) -> list[Output]:
        match kind:
            case "input_audio_buffer.append":
                return self._append(message, now)
            case "input_audio_buffer.commit":
                return self._commit_message(message)
            case "input_audio_buffer.clear":
                return self._clear()
            case "session.update":
                return self._update(message)
            case _ if kind.startswith(_CONVERSATION):
                text = f"{kind} is not part of a transcription session"
                raise MessageError(text, "unsupported_event", "type")
            case _:
                raise MessageError(f"unknown event type {kind!r}", "invalid_event", "type")

    def _update(self, message: JsonObject) -> list[Output]:
        session = object_field(message, "session", "session")
        if session is None:
            raise MessageError("session.update needs `session`, an object", "invalid_value", "session")
        before, after = self._settings, self._settings.updated(session)
        self._settings = after
        if after.audio != before.audio:
            self._decoder = PcmDecoder(after.audio)
        outputs: list[Output] = [self._write.event("session.updated", session=self._session_json())]
        changed = (after.delay_ms, after.rules()) != (before.delay_ms, before.rules())
        if changed and self._open is not None and self._open.error is None:
            outputs.append(Configure(self._open.id, after.delay_ms, after.rules()))
        return outputs

    def _append(self, message: JsonObject, now: float) -> list[Output]:
        samples = self._decoder.push(audio_field(message, "audio", self.limits.append_bytes))
        if samples.size == 0:
            return []
        self._watch.audio(now)
        rate = self._settings.audio.rate
        outputs: list[Output] = []
        if self._open is None:
            self._open = _Item(self._new_id("item"), self._clock)
            language = self._settings.transcription.language
            outputs.append(
                OpenStream(self._open.id, self._settings.delay_ms, language, self._settings.rules())
            )
        self._open.seconds += samples.size / rate
        self._clock += samples.size / rate
        if self._open.error is None:
            outputs.append(PushAudio(self._open.id, samples, rate))
        return outputs

    def _commit_message(self, message: JsonObject) -> list[Output]:
        if self._open is None:
            # The one standard error; openai-agents provokes it at every end and knows it by its event id.
            text = "the input audio buffer holds no audio to commit"
            return [self._error("input_audio_buffer_commit_empty", text, None, message)]
        if len(self._committed) >= self.limits.unanswered:
            raise MessageError(
                "too many items wait for their text; commit again later", "rate_limit_exceeded"
            )
        return self._commit(self._open)

    def _clear(self) -> list[Output]:
        self._decoder.reset()
        item, self._open = self._open, None
        close: list[Output] = [] if item is None or item.error is not None else [CloseStream(item.id)]
        return [*close, self._write.event("input_audio_buffer.cleared")]

    # ---- items ---------------------------------------------------------------------------

    def _commit(self, item: _Item, stopped: float | None = None) -> list[Output]:
        """Make an item of the open audio; `stopped`: when its speaker fell silent, if VAD says so."""
        outputs: list[Output] = [] if item.error is not None else [Finish(item.id)]
        if item.speaking:
            end = self._clock if stopped is None else item.start + stopped
            outputs.append(self._write.speech(False, end, item.id))
        outputs += self._write.committed(item.id, self._previous)
        self._decoder.reset()
        self._open = None
        self._previous = item.id
        if item.error is not None:
            return [*outputs, self._failure(item, item.error)]
        self._committed[item.id] = item
        return outputs

    def _failure(self, item: _Item, error: RillvoxError) -> Reply:
        code = "overloaded" if isinstance(error, CapacityError) else "transcription_failed"
        return self._write.failed(item.id, code, str(error))

    def _translate(self, event: Event) -> list[Output]:
        is_open = self._open is not None and self._open.id == event.stream
        item = self._open if is_open else self._committed.get(event.stream)
        if item is None or item.error is not None:
            return []
        match event:
            case SpeechStarted():
                return self._speech_started(item, event.at) if is_open else []
            case Partial():
                return self._text(item, event)
            case TurnEnded():
                heard = item.speaking or item.sent.text
                ends = is_open and heard and self._settings.turns is not None
                return self._commit(item, event.at) if ends else []
            case Final():
                return self._final(item, event)
            case Failed():
                return self._failed(item, event)
            case Mark():
                return []

    def _speech_started(self, item: _Item, at: float) -> list[Output]:
        turns = self._settings.turns
        # An item that has text already, from before turns were asked for, cannot begin any more.
        if turns is None or item.speaking or item.sent.text:
            return []
        item.speaking = True
        return [self._write.speech(True, item.start + at - turns.prefix_padding_ms / 1000, item.id)]

    def _text(self, item: _Item, event: Partial) -> list[Output]:
        begin: list[Output] = []
        if item is self._open and event.text.strip():  # text is speech, whether or not the engine said so
            begin = self._speech_started(item, event.words[0].start if event.words else item.seconds)
        text = item.sent.push(event.text)
        return [*begin, self._delta(item, text, event)] if text else begin

    def _delta(self, item: _Item, text: str, event: Partial | Final) -> Reply:
        scored = event.words if LOGPROBS in self._settings.include else None
        return self._write.delta(item.id, text, scored)

    def _final(self, item: _Item, event: Final) -> list[Output]:
        outputs: list[Output] = []
        if item is self._open:  # the engine ended it by itself
            outputs = [output for output in self._commit(item) if not isinstance(output, Finish)]
        del self._committed[item.id]
        rest = item.sent.finish(event.text)
        if rest:
            outputs.append(self._delta(item, rest, event))
        include = self._settings.include
        outputs.append(
            self._write.completed(
                item.id, item.sent.text, event, item.start, LOGPROBS in include, WORDS in include
            )
        )
        return outputs

    def _failed(self, item: _Item, event: Failed) -> list[Output]:
        outputs: list[Output] = []
        if self._committed.pop(item.id, None) is not None:
            outputs.append(self._failure(item, event.error))
        else:
            item.error = event.error  # told when it is committed: by the client, or right now by VAD's rule
            if self._settings.turns is not None or event.fatal:
                outputs += self._commit(item)
        refused = isinstance(event.error, CapacityError)
        if (event.fatal or refused) and self.state is State.LIVE:
            code, close = ("overloaded", 1013) if refused else ("engine_failed", 1011)
            error = self._write.error(code, str(event.error), kind="server_error")
            outputs += self._give_up(code, str(event.error))
            return [*outputs, error, *self._close(CloseSocket(close, code))]
        return outputs

    # ---- ends ----------------------------------------------------------------------------

    def _error(
        self, code: str, text: str, param: str | None = None, cause: JsonObject | None = None
    ) -> Reply:
        code = "invalid_event" if code == "no_object" else code
        event_id = None if cause is None else cause.get("event_id")
        return self._write.error(
            code, text, param, echo(event_id, 512) if isinstance(event_id, str) else None
        )

    def _busy(self) -> bool:
        return bool(self._committed)

    def _finish(self) -> list[Output]:
        return [] if self._open is None else self._commit(self._open)

    def _give_up(self, code: str, text: str) -> list[Output]:
        outputs: list[Output] = []
        for item_id in self._committed:
            outputs += [CloseStream(item_id), self._write.failed(item_id, code, text)]
        self._committed.clear()
        return outputs

    def _live_streams(self) -> list[str]:
        running = [] if self._open is None or self._open.error is not None else [self._open.id]
        return [*self._committed, *running]

    def _session_json(self) -> JsonObject:
        return {
            "id": self._session_id,
            "object": "realtime.transcription_session",
            "type": "transcription",
            "expires_at": self._expires,
            **self._settings.to_json(),
        }
