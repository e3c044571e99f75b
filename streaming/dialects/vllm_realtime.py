"""vLLM's realtime transcription protocol.

A non-final `commit` starts an utterance on what was and will be appended, a final one ends it; audio may
come before either. Events carry no ids, so utterances are told strictly one after the other: text of one
that was not started yet, or whose predecessor still talks, is held back.

Unusual, next to vLLM itself: audio sent between a final commit and its `done` belongs to the next utterance
(vLLM throws it away); a final commit without any audio is answered by an empty `done` at once; deltas are
never empty; `session.update` takes `delay_ms` and `word_timestamps`, and isn't required; a delay that the
model cannot do is refused, not rounded.
"""

from __future__ import annotations

from collections import deque
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
    OpenStream,
    Output,
    Partial,
    PushAudio,
    Reply,
)
from .limits import Limits
from .message import JsonObject, MessageError, audio_field, delay_field, flag_field, text_field
from .names import ModelNames, NewId, random_id
from .pcm import AudioFormat, PcmDecoder
from .session import RealtimeSession
from .text import SentText, words_json


@dataclass
class _Utterance:
    stream: str
    start: float  # on the session's audio clock, seconds
    opened: bool = False  # the engine knows the stream
    started: bool = False  # the client wants to hear it
    finished: bool = False  # the client has sent its end
    sent: SentText = field(default_factory=SentText)
    held: str = ""  # text that may not be sent yet
    final: Final | None = None
    error: RillvoxError | None = None
    told: bool = False  # `error` was sent

    @property
    def running(self) -> bool:
        """Whether the engine still works on it."""
        return self.opened and self.final is None and self.error is None


class VllmRealtime(RealtimeSession):
    """One vLLM-style session. `rate`: of the s16le audio, from the query string."""

    name = "vllm"

    def __init__(
        self,
        names: ModelNames,
        *,
        rate: int = 16000,
        limits: Limits | None = None,
        new_id: NewId = random_id,
    ) -> None:
        super().__init__(limits or Limits())
        self._names = names
        self._new_id = new_id
        self._decoder = PcmDecoder(AudioFormat("s16le", rate))
        self._session_id = new_id("sess").replace("_", "-", 1)
        self._clock = 0.0
        self._language: str | None = None
        self._delay_ms: int | None = None
        self._with_words = False
        self._queue: deque[_Utterance] = deque()  # only the last one may be unfinished

    # ---- messages ------------------------------------------------------------------------

    def _opening(self, unix: float) -> list[Output]:
        return [Reply({"type": "session.created", "id": self._session_id, "created": int(unix)})]

    def _handle(self, kind: str, message: JsonObject, now: float) -> list[Output]:
        match kind:
            case "input_audio_buffer.append":
                return self._append(message, now)
            case "input_audio_buffer.commit":
                final = flag_field(message, "final", "final")
                if not final:
                    return self._start_utterance()
                if len(self._queue) > self.limits.unanswered:
                    raise MessageError("Too many utterances wait for their text", "processing_error")
                return self._end_utterance()
            case "session.update":
                return self._update(message)
            case _:
                raise MessageError(f"Unknown event type: {kind}", "unknown_event")

    def _update(self, message: JsonObject) -> list[Output]:
        model = text_field(message, "model", "model")
        if self._names.resolve(model) is None:
            raise MessageError(f"The model {model!r} does not exist here", "model_not_found")
        language, delay_ms, with_words = self._language, self._delay_ms, self._with_words
        if "language" in message:
            language = text_field(message, "language", "language", 64)
        if "delay_ms" in message:
            delay_ms = delay_field(message, "delay_ms", "delay_ms")
        if "word_timestamps" in message:
            with_words = bool(flag_field(message, "word_timestamps", "word_timestamps"))
        changed = delay_ms != self._delay_ms
        self._language, self._delay_ms, self._with_words = language, delay_ms, with_words
        current = self._current()
        if changed and current is not None and current.running:
            return [Configure(current.stream, delay_ms, None)]
        return []

    def _append(self, message: JsonObject, now: float) -> list[Output]:
        data = audio_field(message, "audio", self.limits.append_bytes)
        if not data:
            raise MessageError("audio is empty", "invalid_audio", "audio")
        samples = self._decoder.push(data)
        if samples.size == 0:
            return []
        self._watch.audio(now)
        rate = self._decoder.format.rate
        current = self._current() or self._add()
        outputs: list[Output] = []
        if not current.opened:
            current.opened, current.start = True, self._clock
            outputs.append(OpenStream(current.stream, self._delay_ms, self._language))
        self._clock += samples.size / rate
        if current.running:
            outputs.append(PushAudio(current.stream, samples, rate))
        return outputs

    # ---- utterances ----------------------------------------------------------------------

    def _current(self) -> _Utterance | None:
        """The utterance that takes audio, if there is one."""
        return self._queue[-1] if self._queue and not self._queue[-1].finished else None

    def _add(self) -> _Utterance:
        self._queue.append(_Utterance(self._new_id("utt"), self._clock))
        return self._queue[-1]

    def _start_utterance(self) -> list[Output]:
        current = self._current()
        if current is not None and current.told:  # it broke and the client knows: this begins the next one
            self._queue.pop()
            current = None
        current = current or self._add()
        current.started = True
        return self._tell()

    def _end_utterance(self) -> list[Output]:
        current = self._current() or self._add()
        current.started = current.finished = True
        self._decoder.reset()
        finish: list[Output] = [Finish(current.stream)] if current.running else []
        if not current.opened:
            current.final = Final(current.stream, "")
        return [*finish, *self._tell()]

    def _translate(self, event: Event) -> list[Output]:
        utterance = next((one for one in self._queue if one.stream == event.stream and one.running), None)
        if utterance is None:
            return []
        match event:
            case Partial():
                utterance.held += utterance.sent.push(event.text)
            case Final():
                utterance.held += utterance.sent.finish(event.text)
                utterance.final = event
            case Failed():
                utterance.error = event.error
                if event.fatal or isinstance(event.error, CapacityError):
                    return self._break_down(event.error)
            case _:
                return []
        return self._tell()

    def _tell(self) -> list[Output]:
        """Say all that may be said now, oldest utterance first."""
        outputs: list[Output] = []
        while self._queue and self._queue[0].started:
            head = self._queue[0]
            if head.held:
                outputs.append(Reply({"type": "transcription.delta", "delta": head.held}))
                head.held = ""
            if head.error is not None and not head.told:
                head.told = True
                outputs.append(self._error("processing_error", str(head.error)))
            if head.final is not None:
                head.finished = True  # an engine may end an utterance by itself
                outputs.append(self._done(head, head.final))
            if not head.finished or head.running:
                break
            self._queue.popleft()
        return outputs

    def _done(self, utterance: _Utterance, final: Final) -> Reply:
        prompt, completion = final.prompt_tokens, final.completion_tokens
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": None,
        }
        done: JsonObject = {"type": "transcription.done", "text": utterance.sent.text, "usage": usage}
        if self._with_words:
            done["words"] = words_json(final.words, utterance.start)
        return Reply(done)

    # ---- ends ----------------------------------------------------------------------------

    def _break_down(self, error: RillvoxError) -> list[Output]:
        refused = isinstance(error, CapacityError)
        told = self._error("overloaded" if refused else "processing_error", str(error))
        close = CloseSocket(1013, "overloaded") if refused else CloseSocket(1011, "engine failed")
        return [told, *self._close(close)]

    def _error(
        self, code: str, text: str, param: str | None = None, cause: JsonObject | None = None
    ) -> Reply:
        del param, cause  # its errors name neither the field nor the message
        # It knows no code for JSON that is no object; to its clients that is JSON gone wrong.
        code = {"invalid_event": "unknown_event", "no_object": "invalid_json"}.get(code, code)
        return Reply({"type": "error", "error": text, "code": code})

    def _busy(self) -> bool:
        return any(one.finished for one in self._queue)

    def _finish(self) -> list[Output]:
        return [] if self._current() is None else self._end_utterance()

    def _give_up(self, code: str, text: str) -> list[Output]:
        outputs: list[Output] = [CloseStream(one.stream) for one in self._queue if one.running]
        outputs += [self._error(code, text) for one in self._queue if not one.told]
        self._queue.clear()
        return outputs

    def _live_streams(self) -> list[str]:
        return [one.stream for one in self._queue if one.running]
