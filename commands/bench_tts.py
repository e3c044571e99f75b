"""`rillvox bench tts`: how soon a speaker is heard, how fast it speaks, and where a frame's time goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..codec.config import SAMPLE_RATE
from ..codec.stream import DecodeStream
from ..errors import ConfigError
from ..kernels.fused import FusedStack
from ..streaming.bench import Table, header
from ..tts.flow import FlowHead
from ..tts.model import SpeakerModel
from ..tts.speaker import TTS
from ..tts.voices import Voice
from .bench import show

# Short and long, with what has to be read out: a user waits for the first sound of any of them.
SENTENCES = (
    "Good morning.",
    "The train to Boston leaves at 9:30.",
    "She put the letter on the table, took her coat, and went out without a word.",
    "It cost $3.50 in 1998, and now, thirty years later, nobody would sell it for less than a hundred.",
    "When the rain had stopped, the children ran down to the river to see how high the water had come, "
    "and whether the old bridge was still there.",
)
BACKBONE, HEAD, CODEC, REST, WHOLE = "backbone step", "flow head", "codec decode", "rest", "whole"


@dataclass
class Clock:
    """Seconds spent in watched functions since they were last taken."""

    spent: dict[str, float] = field(default_factory=dict[str, float])

    @contextmanager
    def watch(self, part: str, owner: Any, name: str) -> Generator[None]:
        """Count what `owner.name` takes as this part's."""
        real: Callable[..., Any] = getattr(owner, name)
        own = name in vars(owner)

        def timed(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            found = real(*args, **kwargs)
            self.spent[part] = self.spent.get(part, 0.0) + time.perf_counter() - begun
            return found

        setattr(owner, name, timed)
        try:
            yield
        finally:
            if own:
                setattr(owner, name, real)
            else:
                delattr(owner, name)

    def take(self) -> dict[str, float]:
        """Seconds by part; counting begins anew."""
        found, self.spent = self.spent, {}
        return found


@dataclass
class Times:
    """What was measured, in seconds."""

    first: list[float] = field(default_factory=list[float])
    pace: list[float] = field(default_factory=list[float])  # for each second of audio
    frames: list[dict[str, float]] = field(default_factory=list[dict[str, float]])


def tts(model: str, voice: str | None, repeats: int, output: Path | None) -> None:
    """Built-in sentences, each so many times after one that is not counted, on one thread.

    Raises:
        ConfigError: no repeats.
        VoiceError: no such voice, or the model has none.
    """
    if repeats < 1:
        raise ConfigError(f"--repeats must be at least 1, got {repeats}")
    torch.set_num_threads(1)
    table = Table("bench tts", header(model, 1), ["what", "p50", "p95", "n"])
    speaker = TTS.load(model)
    chosen = speaker.voice(voice)
    reading: list[float] = []
    for _ in range(repeats + 1):
        begun = time.perf_counter()
        heard = speaker.remember(replace(chosen, state=None))
        reading.append(time.perf_counter() - begun)
    times = measure(speaker, heard, SENTENCES, repeats)
    table.rows.append(["a voice read, once, ms", *_quantiles([1000 * value for value in reading[1:]], 1)])
    table.rows.append(["first audio, ms", *_quantiles([1000 * value for value in times.first], 1)])
    table.rows.append(["work for a second of speech, ms", *_quantiles([1000 * p for p in times.pace], 1)])
    for part in (BACKBONE, HEAD, CODEC, REST, WHOLE):
        values = [1000 * frame[part] for frame in times.frames]
        table.rows.append([f"a frame of {_frame_ms(speaker):g} ms: {part}, ms", *_quantiles(values, 2)])
    table.notes.append(
        f"- {len(SENTENCES)} sentences, {repeats} times each, voice {chosen.name}, "
        f"{speaker.model.config.flow.steps} steps of the flow head; frames after the first of a sentence"
    )
    show(table, output)


def measure(speaker: TTS, voice: Voice, sentences: Sequence[str], repeats: int) -> Times:
    """Speak every sentence `repeats` times, after once for whatever has to be compiled or cached."""
    times, clock = Times(), Clock()
    # A backbone's step is one of the two, whether or not it was packed.
    parts = ((BACKBONE, FusedStack, "step"), (BACKBONE, SpeakerModel, "step"), (HEAD, FlowHead, "solve"))
    with ExitStack() as watched:
        for part, owner, name in (*parts, (CODEC, DecodeStream, "feed")):
            watched.enter_context(clock.watch(part, owner, name))
        for repeat in range(-1, repeats):
            for sentence in sentences:
                _speak(speaker, voice, sentence, repeat, clock, Times() if repeat < 0 else times)
    return times


def _speak(speaker: TTS, voice: Voice, text: str, repeat: int, clock: Clock, times: Times) -> None:
    begun = last = time.perf_counter()
    samples = 0
    for piece in speaker.stream(text, voice, seed=max(0, repeat)):
        now = time.perf_counter()
        parts = clock.take()
        if not samples and len(piece.samples):
            times.first.append(now - begun)
        # The first frame waits for the text to be read, the last one holds two.
        elif not piece.finish:
            rest = now - last - sum(parts.values())
            times.frames.append(
                {BACKBONE: 0.0, HEAD: 0.0, CODEC: 0.0, **parts, REST: rest, WHOLE: now - last}
            )
        samples += len(piece.samples)
        last = time.perf_counter()
    times.pace.append((last - begun) / (samples / SAMPLE_RATE))


def _frame_ms(speaker: TTS) -> float:
    return 1000 * speaker.codec.config.frame / SAMPLE_RATE


def _quantiles(values: Sequence[float], digits: int) -> tuple[float, float, int]:
    low, high = np.percentile(values, [50, 95])
    return round(float(low), digits), round(float(high), digits), len(values)
