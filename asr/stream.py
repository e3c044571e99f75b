"""Listening from Python: whole recordings, many of them, or a live stream.

asr = ASR.load()
print(asr.transcribe("speech.wav").text)

session = asr.stream(delay_ms=480)
session.feed(samples)              # float32 mono, any cut
for event in session.poll():
    ...
transcript = session.finish()
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from ..audio import Audio, Samples, Source, StreamResampler, read_audio
from ..errors import AudioError, CheckpointError, ConfigError
from ..kernels.int8 import has_fast_int8
from ..tekken import Tekken
from .batch import Batch
from .checkpoint import load_listener
from .delays import RATE
from .events import Event
from .heard_phones import HeardPhone, phones_of
from .lanes import Lane
from .model import RealtimeASR
from .prefix import Prefixes
from .recordings import blocks_of, refuse_single
from .rut import RutRules
from .saved import SavedSession, save_session
from .search import WordSearch
from .transcript import Transcript, Word

DEFAULT_MODEL = "asr-en"
Weights = Literal["float32", "int8"]
# Steps of one encoder call for recordings: a second spent on 4 s of audio at once, not on 50 single steps.
_FILE_TOKENS = 64
MOST_PHONES = 60.0  # seconds of a recording whose phones are told: the encoder hears all of it at once


class Session:
    """One live stream. `feed` takes audio, `poll` runs the model and tells what is new.

    Law: the sum of the partial texts is the final text, whatever the cuts of the audio.
    """

    def __init__(self, batch: Batch, lane: Lane) -> None:
        self._batch, self._lane = batch, lane
        self._rate: int | None = None
        self._resampler: StreamResampler | None = None
        self._cancelled = False
        self._transcript: Transcript | None = None

    @property
    def text(self) -> str:
        """All text so far."""
        return self._lane.text

    @property
    def words(self) -> tuple[Word, ...]:
        """All complete words so far."""
        return tuple(self._lane.words.all)

    @property
    def seconds(self) -> float:
        """Audio received."""
        return self._lane.ear.seconds

    @property
    def delay_ms(self) -> int:
        """How long text waits for more audio."""
        return self._lane.delay_ms

    def feed(self, audio: NDArray[np.floating[Any]] | Audio, rate: int = RATE) -> None:
        """Take more audio; nothing is computed yet.

        Args:
            audio: float mono samples [n] in [-1, 1], any n; or an `Audio`, which knows its rate.
            rate: samples per second. It may change: the sound then goes on in time all the same.

        Raises:
            AudioError: samples that are no sound, or the session is over; nothing is taken then.
        """
        if self._cancelled or self._lane.ear.finished:
            raise AudioError("audio after the end of the session: open a new one with ASR.stream")
        if not isinstance(audio, Audio):
            audio = Audio(cast("Samples", audio), rate)
        if audio.rate != self._rate:
            self._push(self._drain_resampler())
            self._rate = audio.rate
            self._resampler = None if audio.rate == RATE else StreamResampler(audio.rate, RATE)
        self._push(audio.samples if self._resampler is None else self._resampler.push(audio.samples))

    def poll(self) -> list[Event]:
        """Run the model on what is ready, and tell what has happened since the last call."""
        if self._cancelled:
            return []
        self._batch.drain()
        return self._lane.poll()

    def mark(self, id: str) -> None:
        """Ask for a `Mark(id)` event once all text of the audio so far has been said.

        After `finish` that is at once, behind `Final`; a cancelled session gives none.
        """
        if not self._cancelled:
            self._lane.mark(id)

    def flush(self) -> str:
        """The text as it would be if the audio ended now; the stream itself goes on untouched.

        A copy of the session hears the closing zeros and is thrown away. Up to 36 ms of audio that a
        resampler holds back are not in it. After `finish` it is the final text, after `cancel` what had been
        said until then.
        """
        if self._cancelled or self._lane.ear.finished:
            self._batch.drain()
            return self._lane.text
        self._batch.drain()
        fork = self._batch.fork(self._lane)
        try:
            fork.finish()
            self._batch.drain()
            return fork.text
        finally:
            self._batch.close(fork)

    def finish(self) -> Transcript:
        """End the audio and return the whole text with its words. A second call returns the same."""
        if self._transcript is None:
            if not self._cancelled:
                self._push(self._drain_resampler())
                self._lane.finish()
                self._batch.drain()
            self._transcript = self._lane.transcript()
            self._batch.close(self._lane)
        return self._transcript

    def cancel(self) -> None:
        """Give everything back at once; nothing more is said. After the end, or twice, it does nothing."""
        self._cancelled = True
        self._batch.close(self._lane)

    def set_delay(self, delay_ms: int, at: str = "pause") -> None:
        """Change the delay in mid-stream, see `Batch.change_delay`. After the end it does nothing.

        Raises:
            ConfigError: a delay that the model cannot do, or another `at` than "pause" and "now".
        """
        if not self._cancelled:
            self._batch.change_delay(self._lane, delay_ms, at)

    def save(self, path: str | Path) -> None:
        """Write the session to a file that `ASR.resume` goes on from, bit for bit; this one goes on too.

        Raises:
            ConfigError: the session has ended, or was fed at another rate than 16 kHz: what the resampler
                holds cannot be written down.
        """
        if self._resampler is not None:
            raise ConfigError(
                f"a session fed at {self._rate} Hz cannot be saved; resample to {RATE} Hz first"
            )
        save_session(self._batch, self._lane, path)

    def _push(self, samples: Samples) -> None:
        if len(samples):
            self._lane.push(samples)

    def _drain_resampler(self) -> Samples:
        return np.zeros(0, np.float32) if self._resampler is None else self._resampler.finish()


class ASR:
    """A listener: model and tokenizer, from which sessions are made."""

    def __init__(self, model: RealtimeASR, tokenizer: Tekken, name: str = "asr") -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.name = name
        self._prefixes: dict[int, Prefixes] = {}

    @classmethod
    def load(
        cls,
        name_or_path: str | Path = DEFAULT_MODEL,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        weights: Weights | None = None,
    ) -> ASR:
        """Load a packaged model by name, or any model folder by path, in the native or Hugging Face format.

        Args:
            device: where it runs.
            dtype: type of the weights; None: float32 on a CPU, elsewhere bfloat16 if stored so.
            weights: "int8" for linear layers in int8 (a CPU's choice; `kernels/int8.py`), "float32" for
                none of it. None: what RILLVOX_WEIGHTS says; else int8 for a model that asks for it, on a
                CPU that is faster with it.

        Raises:
            CheckpointError: there is no such model, or the first thing that is wrong with it.
            ConfigError: int8 on another device than a CPU.
        """
        folder = find_model(name_or_path)
        model, tokenizer = load_listener(folder, device=device, dtype=dtype)
        if choose_weights(model, weights, plain=dtype is None) == "int8":
            model.pack()
        return cls(model, tokenizer, folder.absolute().name)

    def batch(
        self,
        slots: int = 1,
        *,
        drafts: int = 0,
        scratch: int = 1,
        max_tokens: int = 8,
        rut: RutRules | None = None,
    ) -> Batch:
        """Slots for `slots` sessions; the starts of sessions are shared by all batches of this listener."""
        batch = Batch(
            self.model,
            self.tokenizer,
            slots,
            drafts=drafts,
            scratch=scratch,
            max_tokens=max_tokens,
            rut=rut,
            prefixes=self._prefixes.get(max_tokens),
        )
        self._prefixes[max_tokens] = batch.prefixes
        return batch

    def stream(
        self, delay_ms: int = 480, *, draft_ms: int | None = None, rut: RutRules | None = None
    ) -> Session:
        """Begin a live session.

        Args:
            delay_ms: how long text may wait for more audio, a multiple of 80.
            draft_ms: also give out `Draft` events, at this shorter delay, from the same encoder pass.
            rut: what to do about blank ruts; nothing by default.
        """
        batch = self.batch(drafts=0 if draft_ms is None else 1, rut=rut)
        return Session(batch, batch.open(delay_ms, draft_ms=draft_ms))

    def resume(self, path: str | Path, *, rut: RutRules | None = None) -> Session:
        """Go on with a session that `Session.save` wrote, with the same model.

        Raises:
            CheckpointError: the file is damaged, no session, or of another model.
        """
        saved = SavedSession(path)
        batch = self.batch(drafts=int(saved.has_draft), max_tokens=saved.max_tokens, rut=rut)
        return Session(batch, saved.resume(batch))

    def phones(self, audio: Audio | Source) -> list[HeardPhone]:
        """The phones that are heard in a recording of at most a minute, without dictionary and language.

        Raises:
            AudioError: it cannot be read, or is longer.
            ConfigError: this listener writes tokens and knows no phones.
        """
        if not isinstance(self.model.decoder, WordSearch):
            raise ConfigError(f"{self.name} writes tokens and knows no phones; the default listener does")
        heard = audio if isinstance(audio, Audio) else read_audio(audio)
        if heard.seconds > MOST_PHONES:
            raise AudioError(
                f"phones are told of at most {MOST_PHONES:g} s, this is {heard.seconds:.1f} s; cut it"
            )
        return phones_of(self.model, heard.resample(RATE).samples)

    def transcribe(
        self,
        audio: Audio | Source,
        delay_ms: int = 480,
        on_progress: Callable[[float], None] | None = None,
        on_damage: Callable[[AudioError], None] | None = None,
    ) -> Transcript:
        """Text and words of a recording, in bounded memory; equal to what a live session gives.

        Args:
            audio: a path, a binary file, or samples with their rate.
            delay_ms: what the model may hear beyond a word before it writes it.
            on_progress: called with the seconds of audio read so far.
            on_damage: called with the error of a file that breaks off; the text is then that of what could be
                read. Without it, and where nothing could be read, the error is raised.

        Raises:
            AudioError: it cannot be read, or is no recording: samples go in an `Audio`.
            ConfigError: a delay that the model cannot do.
        """

        def tell(_: int, seconds: float) -> None:
            if on_progress is not None:
                on_progress(seconds)

        def excuse(_: int, error: AudioError) -> None:
            if on_damage is None:
                raise error
            on_damage(error)

        return self.transcribe_many([audio], delay_ms, slots=1, on_progress=tell, on_damage=excuse)[0]

    def transcribe_many(
        self,
        recordings: Iterable[Audio | Source],
        delay_ms: int = 480,
        slots: int = 8,
        on_progress: Callable[[int, float], None] | None = None,
        on_damage: Callable[[int, AudioError], None] | None = None,
    ) -> list[Transcript]:
        """Transcripts of many recordings, `slots` at a time; each equals that of the recording alone.

        `on_progress` is called with the index of a recording and the seconds of it that were read,
        `on_damage` with the index and the error of one that breaks off, see `transcribe`.

        Raises:
            AudioError: the first recording that cannot be read.
            ConfigError: one recording instead of several, or a delay that the model cannot do.
        """
        refuse_single(recordings)
        batch = self.batch(slots, scratch=0, max_tokens=_FILE_TOKENS)
        waiting = enumerate(recordings)
        done: dict[int, Transcript] = {}
        running: dict[int, tuple[Lane, Iterator[Samples]]] = {}
        while True:
            while batch.free and (item := next(waiting, None)) is not None:
                index, excuse = item[0], None if on_damage is None else partial(on_damage, item[0])
                running[index] = batch.open(delay_ms), blocks_of(item[1], excuse)
            if not running:
                return [done[index] for index in sorted(done)]
            for lane, blocks in running.values():
                if not lane.ear.finished and lane.ear.waiting < _FILE_TOKENS * 1280:
                    block = next(blocks, None)
                    if block is None:
                        lane.finish()
                    else:
                        lane.push(block)
            batch.step()
            for index, (lane, _) in list(running.items()):
                lane.poll()
                if on_progress is not None:
                    on_progress(index, lane.ear.seconds - lane.ear.waiting / RATE)
                if lane.done:
                    done[index] = lane.transcript()
                    del running[index]
                    batch.close(lane)


def choose_weights(model: RealtimeASR, wanted: str | None, plain: bool = True) -> Weights:
    """Which kind of weights a loaded model gets; `plain`: nobody asked for a dtype.

    Raises:
        ConfigError: an unknown kind, or int8 on another device than a CPU.
    """
    device = model.kind.device.type
    if device == "cpu":
        wanted = wanted or os.environ.get("RILLVOX_WEIGHTS") or None
    if wanted is None:
        asked = plain and device == "cpu" and model.config.cpu_weights == "int8"
        wanted = "int8" if asked and has_fast_int8() else "float32"
    if wanted not in ("float32", "int8"):
        raise ConfigError(f"weights (or RILLVOX_WEIGHTS) must be float32 or int8, got {wanted!r}")
    if wanted == "float32":
        return "float32"
    if device != "cpu" or model.kind.dtype != torch.float32:
        raise ConfigError("int8 weights need device='cpu' and no dtype but float32 beside them")
    return "int8"


def find_model(name_or_path: str | Path) -> Path:
    """Folder of a packaged model, or the path itself.

    Raises:
        CheckpointError: neither exists; the message lists the packaged names.
    """
    path = Path(name_or_path)
    package = (__package__ or "rillvox.asr").rpartition(".")[0]
    weights = Path(str(resources.files(package) / "weights"))
    packaged = weights / path.name
    # Whatever lies in the working directory: a folder of a packaged name is meant by `./NAME`, or a Path.
    if path.is_dir() and (path.name != name_or_path or not packaged.is_dir()):
        return path
    if path.name and path.name == str(name_or_path) and packaged.is_dir():
        return packaged
    known = sorted(folder.name for folder in weights.iterdir() if (folder / "params.json").is_file())
    raise CheckpointError(
        f"{name_or_path}: no such folder and no packaged model (packaged: {', '.join(known) or 'none'})"
    )
