"""Drives a dialect without a server: a client's script on one side, an obedient engine on the other."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rillvox.asr.transcript import Word
from rillvox.streaming import events as ev
from rillvox.streaming.dialects import Dialect
from rillvox.streaming.dialects.limits import Limits
from rillvox.streaming.dialects.names import ModelNames
from rillvox.streaming.dialects.openai_realtime import OpenAIRealtime
from rillvox.streaming.dialects.vllm_realtime import VllmRealtime

WIRE = Path(__file__).parents[1] / "golden" / "wire"
NAMES = ModelNames("asr-en")
UNIX = 1_790_000_000.0
DELTA = "conversation.item.input_audio_transcription.delta"
COMPLETED = "conversation.item.input_audio_transcription.completed"
FAILED = "conversation.item.input_audio_transcription.failed"

Json = dict[str, Any]


def counted_ids():
    """An id factory that counts, for readable failures."""
    counter = itertools.count(1)
    return lambda prefix: f"{prefix}_{next(counter):06d}"


def openai(limits: Limits | None = None, **options: Any) -> OpenAIRealtime:
    return OpenAIRealtime(NAMES, limits=limits, new_id=counted_ids(), **options)


def vllm(limits: Limits | None = None, **options: Any) -> VllmRealtime:
    return VllmRealtime(NAMES, limits=limits, new_id=counted_ids(), **options)


def fixture(name: str) -> list[tuple[str, Json]]:
    """The (direction, message) lines of a wire example."""
    lines = (WIRE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [(row["dir"], row["json"]) for row in map(json.loads, lines)]


def append(n_bytes: int = 3200) -> Json:
    """An append of silence."""
    return {"type": "input_audio_buffer.append", "audio": base64.b64encode(bytes(n_bytes)).decode()}


def update(**audio_input: Any) -> Json:
    """An OpenAI session.update."""
    return {"type": "session.update", "session": {"type": "transcription", "audio": {"input": audio_input}}}


def words(text: str, step: float = 0.4) -> tuple[Word, ...]:
    """Evenly spaced words."""
    return tuple(
        Word(word, round(i * step, 3), round(i * step + step / 2, 3), 0.9)
        for i, word in enumerate(text.split())
    )


@dataclass
class Stream:
    """What the engine knows of one stream, and the text it has said."""

    text: str = ""
    seconds: float = 0.0
    finished: bool = False
    rates: set[int] = field(default_factory=set)


class Table:
    """A dialect between a client and an engine; keeps all replies, checks all commands."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.now = 100.0
        self.replies: list[Json] = []
        self.streams: dict[str, Stream] = {}
        self.gone: set[str] = set()
        self.commands: list[ev.Command] = []
        self.closed: ev.CloseSocket | None = None
        self.started = self._act(dialect.start(self.now, UNIX))

    def send(self, message: Json | str | bytes) -> list[Json]:
        """One frame from the client; gives the replies to it."""
        frame = json.dumps(message) if isinstance(message, dict) else message
        return self._act(self.dialect.receive(frame, self.now))

    def wait(self, seconds: float) -> list[Json]:
        """Time passes."""
        self.now += seconds
        return self._act(self.dialect.tick(self.now))

    def drain(self) -> list[Json]:
        return self._act(self.dialect.drain(self.now))

    def say(self, text: str, stream: str | None = None, timed: tuple[Word, ...] = ()) -> list[Json]:
        """The engine has more text."""
        name = stream or self.last()
        self.streams[name].text += text
        return self._tell(ev.Partial(name, text, timed, self.streams[name].seconds))

    def speech(self, started: bool, at: float, stream: str | None = None) -> list[Json]:
        name = stream or self.last()
        return self._tell(ev.SpeechStarted(name, at) if started else ev.TurnEnded(name, at))

    def finish(self, rest: str = "", stream: str | None = None, **fields: Any) -> list[Json]:
        """The engine ends a stream; the rest of the text comes only with the final one."""
        name = stream or next(name for name, known in self.streams.items() if known.finished)
        known = self.streams.pop(name)
        self.gone.add(name)
        return self._tell(ev.Final(name, known.text + rest, seconds=round(known.seconds, 3), **fields))

    def fail(self, error: Exception, stream: str | None = None, fatal: bool = False) -> list[Json]:
        name = stream or next(iter(self.streams))
        del self.streams[name]
        self.gone.add(name)
        return self._tell(ev.Failed(name, error, fatal))  # pyright: ignore[reportArgumentType]

    def last(self) -> str:
        """The stream opened last."""
        return list(self.streams)[-1]

    def hang_up(self) -> set[str]:
        named = [command.stream for command in self.dialect.hang_up() if isinstance(command, ev.CloseStream)]
        assert len(named) == len(set(named))
        return set(named)

    def _tell(self, event: ev.Event) -> list[Json]:
        return self._act(self.dialect.report(event, self.now))

    def _act(self, outputs: Iterable[ev.Output]) -> list[Json]:
        replies: list[Json] = []
        for output in outputs:
            assert self.closed is None, f"{output} after the socket was closed"
            if isinstance(output, ev.Reply):
                # What is written to the socket: strict JSON in well-formed Unicode.
                text = json.dumps(output.json, ensure_ascii=False, allow_nan=False)
                text.encode("utf-8")
                replies.append(json.loads(text))
            else:
                self._obey(output)
        self.replies += replies
        return replies

    def _obey(self, command: ev.Command) -> None:
        self.commands.append(command)
        if isinstance(command, ev.CloseSocket):
            self.closed = command
            assert 1000 <= command.code < 5000
            assert len(command.reason.encode()) <= 123
            return
        if isinstance(command, ev.OpenStream):
            assert command.stream not in self.streams, "opened twice"
            assert command.stream not in self.gone, "opened again"
            self.streams[command.stream] = Stream()
            return
        known = self.streams.get(command.stream)
        assert known is not None, f"{type(command).__name__} for a stream that is not open"
        match command:
            case ev.PushAudio():
                assert not known.finished, "audio after the end"
                assert command.samples.size > 0
                assert command.samples.dtype == "float32"
                known.seconds += command.samples.size / command.rate
                known.rates.add(command.rate)
            case ev.Finish():
                assert not known.finished, "finished twice"
                known.finished = True
            case ev.CloseStream():
                del self.streams[command.stream]
                self.gone.add(command.stream)
            case _:
                assert not known.finished


def types(replies: Iterable[Json]) -> list[str]:
    return [reply["type"] for reply in replies]
