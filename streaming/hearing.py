"""Our models as the engine's listener: a batch of lanes, and their events with the streams' names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from ..asr import events as heard
from ..asr.batch import Batch
from ..asr.delays import ENCODER_PER_STEP, FRAME_MS
from ..asr.lanes import Lane
from .events import Event, Final, Mark, OpenStream, Partial, SpeechStarted, TurnRules
from .listener import Samples
from .turns import TurnWatch

if TYPE_CHECKING:
    from ..asr.model import RealtimeASR
    from ..tekken import Tekken
    from .listener import Utterance
    from .settings import GatewaySettings

_STEP_SECONDS = FRAME_MS / 1000


class LaneUtterance:
    """One lane of the batch as one stream of the engine."""

    def __init__(self, batch: Batch, lane: Lane, order: OpenStream, default_delay_ms: int) -> None:
        self.lane = lane
        self._batch = batch
        self._stream = order.stream
        self._language = order.language
        self._default_delay_ms = default_delay_ms
        self._delay_ms: int | None = order.delay_ms
        self._turns = None if order.turns is None else TurnWatch(order.stream, order.turns)
        self._written = lane.position  # the step that wrote last

    @property
    def waiting(self) -> float:
        """Seconds fed and not heard."""
        return self.lane.lag

    def feed(self, samples: Samples) -> None:
        """More audio."""
        self.lane.push(samples)
        if self._turns is not None:
            self._turns.hear(samples)

    def configure(self, delay_ms: int | None, turns: TurnRules | None) -> None:
        """A new delay from the next pause on; new rules at once."""
        if delay_ms != self._delay_ms:
            self._batch.change_delay(self.lane, delay_ms or self._default_delay_ms)
            self._delay_ms = delay_ms
        if turns is None:
            self._turns = None
        elif self._turns is None:
            self._turns = TurnWatch(self._stream, turns)
        else:
            self._turns.rules = turns

    def flush(self, id: str) -> None:
        """Mark the audio so far."""
        self.lane.mark(id)

    def finish(self) -> None:
        """The rest, then `Final`."""
        self.lane.finish()
        self._turns = None

    def take_events(self) -> list[Event]:
        """What is new."""
        text = ""
        events: list[Event] = []
        for event in self.lane.poll():
            match event:
                case heard.Partial():
                    text += event.text
                    events.append(Partial(self._stream, event.text, event.words, event.stable_until))
                case heard.Final():
                    transcript = event.transcript
                    events.append(
                        Final(
                            self._stream,
                            transcript.text,
                            transcript.words,
                            transcript.seconds,
                            event.prompt_tokens,
                            event.completion_tokens,
                        )
                    )
                case heard.Mark():
                    events.append(Mark(self._stream, event.id))
                case _:
                    pass
        if text:
            self._written = self.lane.position
        if self._turns is not None:
            quiet = (self.lane.position - self._written) * _STEP_SECONDS
            for event in self._turns.report(text, quiet):
                # A start belongs before its first text, an end behind its last.
                events.insert(0 if isinstance(event, SpeechStarted) else len(events), event)
        return events


class BatchListener:
    """A `Listener` over a `Batch`."""

    def __init__(self, batch: Batch, default_delay_ms: int) -> None:
        self._batch = batch
        self._default_delay_ms = default_delay_ms
        _, block = batch.model.config.split_delay(default_delay_ms)
        self._block_seconds = max(block // ENCODER_PER_STEP, 1) * _STEP_SECONDS

    @property
    def block_seconds(self) -> float:
        """Audio that one step takes from a lane at the default delay."""
        return self._block_seconds

    def open(self, order: OpenStream) -> LaneUtterance:
        """Take a lane."""
        delay_ms = order.delay_ms or self._default_delay_ms
        return LaneUtterance(self._batch, self._batch.open(delay_ms), order, self._default_delay_ms)

    def close(self, utterance: Utterance) -> None:
        """Give it back."""
        if isinstance(utterance, LaneUtterance):
            self._batch.close(utterance.lane)

    def step(self, report: Callable[[], None] | None = None) -> float:
        """One tick of the batch."""
        lanes = self._batch.lanes  # `report` may close some
        before = [lane.position for lane in lanes]
        if not self._batch.step(report):
            return 0.0
        steps = sum(max(lane.position - begin, 0) for lane, begin in zip(lanes, before, strict=True))
        return max(steps * _STEP_SECONDS, _STEP_SECONDS)


def listen_with(model: RealtimeASR, tokenizer: Tekken, settings: GatewaySettings) -> BatchListener:
    """A listener with a lane for every seat, from a model in memory. For the thread that will use it."""
    # OpenMP keeps this number per thread, and the split of a sum over threads decides near-ties.
    torch.set_num_threads(settings.threads)
    lanes = settings.slots + settings.file_slots
    # One block a tick: sessions that catch up must not hold up those that keep pace.
    _, block = model.config.split_delay(settings.delay_ms)
    batch = Batch(model, tokenizer, lanes, max_tokens=max(block // ENCODER_PER_STEP, 1))
    return BatchListener(batch, settings.delay_ms)


def load_listener(model: str, settings: GatewaySettings) -> BatchListener:
    """Load a model and make room for every seat. Runs on the thread that will use it.

    Raises:
        RillvoxError: the model is missing or damaged, or cannot have the default delay.
    """
    from ..asr.stream import ASR

    asr = ASR.load(model)
    return listen_with(asr.model, asr.tokenizer, settings)
