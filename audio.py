"""Audio: files of any common format in, wav, flac and ogg out, blocks of bounded memory, exact resampling.

Everything inside rillvox is float32 mono in [-1, 1]. `read_audio` gives a whole recording, `open_audio` the
same samples as a stream of blocks. Which library reads which format is decided in `audio_files.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile as sf
import soxr
from numpy.typing import NDArray

from .audio_files import Native, open_native
from .errors import AudioError

Samples = NDArray[np.float32]
Source = str | Path | BinaryIO
WRITTEN = (".wav", ".flac", ".ogg")  # kinds of files that are written

# Floats this large are integers in disguise; squared in the front end they would become infinities.
_LOUDEST = 1000.0
# A megabyte of compressed silence can unpack to days, so a whole-file read needs a bound: 1 GB at 16 kHz.
_LONGEST_SECONDS = 4 * 3600.0
ACTIVE_FRAME = 320  # samples: 20 ms at 16 kHz
ACTIVE_RANGE_DB = 30.0  # frames this far below the loudest are pauses
PEAK = 0.99


@dataclass(frozen=True)
class Audio:
    """A mono recording in memory.

    Raises:
        AudioError: samples that are not one row of finite floats, or a rate that no recording has.
    """

    samples: Samples  # [n] float32, nominally in [-1, 1]
    rate: int  # samples per second

    def __post_init__(self) -> None:
        # Callers pass lists and float64 arrays too, so nothing is trusted here.
        samples = np.asarray(self.samples)
        if samples.ndim != 1:
            raise AudioError(f"expected mono samples of shape [n], got shape {list(samples.shape)}")
        if not np.issubdtype(samples.dtype, np.floating):
            raise AudioError(
                f"expected float samples in [-1, 1], got {samples.dtype}; divide 16-bit samples by 32768"
            )
        samples = np.ascontiguousarray(samples, dtype=np.float32)
        check_rate(self.rate)
        check_samples(samples, self.rate)
        object.__setattr__(self, "samples", samples)

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.rate

    def resample(self, rate: int) -> Audio:
        """The same sound at another rate; exactly what `StreamResampler` gives for it in pieces."""
        if rate == self.rate:
            return self
        resampler = StreamResampler(self.rate, rate)
        return Audio(np.concatenate([resampler.push(self.samples), resampler.finish()]), rate)

    def save(self, path: str | Path) -> None:
        """Write a .wav, .flac or .ogg; what was there is replaced when the new file is whole.

        Raises:
            AudioError: another suffix, or it can't be written.
        """
        _write(Path(path), self.samples, self.rate)


class StreamResampler:
    """Changes the rate of a stream of samples; law: the output does not depend on how the input is cut.

    soxr's HQ setting: about 36 ms of the signal are held back until `finish`. Does nothing when rates agree.
    """

    def __init__(self, in_rate: int, out_rate: int) -> None:
        check_rate(in_rate)
        check_rate(out_rate)
        self._finished = False
        self._stream: soxr.ResampleStream | None = None
        if in_rate != out_rate:
            self._stream = soxr.ResampleStream(in_rate, out_rate, 1, dtype="float32", quality="HQ")

    def push(self, x: Samples) -> Samples:
        """Resample the next samples, [n] float32 to [m] float32; m may be zero.

        Raises:
            RuntimeError: the stream was finished.
        """
        if self._finished:
            raise RuntimeError("push after finish: make a new StreamResampler for a new stream")
        # soxr refuses strided views, and an empty block would cost a call for nothing.
        return self._run(np.ascontiguousarray(x, dtype=np.float32), last=False) if len(x) else x[:0]

    def finish(self) -> Samples:
        """The samples still held back. A second call gives none."""
        if self._finished:
            return np.zeros(0, np.float32)
        self._finished = True
        return self._run(np.zeros(0, np.float32), last=True)

    def _run(self, x: Samples, last: bool) -> Samples:
        if self._stream is None:
            return x
        return np.asarray(self._stream.resample_chunk(x, last=last), dtype=np.float32)


def open_audio(source: Source, rate: int | None = None, block_seconds: float = 10.0) -> Iterator[Samples]:
    """Decode a recording block by block, as float32 mono at `rate`, in bounded memory.

    The header is read at once; the samples when asked for.

    Args:
        source: a path, or a file opened in binary mode.
        rate: samples per second of the output; the file's own if None.
        block_seconds: upper bound of a block; a shorter one is not the end.

    Raises:
        AudioError: not audio, damaged, of a format that no reader knows, or with samples that are no sound.
            A file damaged in the middle raises after the blocks before the damage.
    """
    if block_seconds <= 0:
        raise AudioError(f"block_seconds must be positive, got {block_seconds}")
    native = open_native(source, block_seconds)
    if rate is not None:
        check_rate(rate)
    return _resampled(native, rate or native.rate)


def read_audio(source: Source, rate: int | None = None, max_seconds: float = _LONGEST_SECONDS) -> Audio:
    """Read a whole recording as mono, at `rate` or at the file's own.

    Raises:
        AudioError: whatever `open_audio` refuses, or a recording longer than `max_seconds`.
    """
    native = open_native(source, 10.0)
    out_rate = rate or native.rate
    parts: list[Samples] = []
    seconds = 0.0
    for part in _resampled(native, out_rate):
        parts.append(part)
        seconds += len(part) / out_rate
        if seconds > max_seconds:
            raise AudioError(
                f"{native.name}: longer than {max_seconds:g} s; read it in blocks with open_audio"
            )
    return Audio(np.concatenate(parts), out_rate)


def active_power(x: Samples) -> float:
    """Mean square over the 20 ms frames that are no pause: at most 30 dB below the loudest; 0 for silence."""
    frames = x[: len(x) // ACTIVE_FRAME * ACTIVE_FRAME] if len(x) >= ACTIVE_FRAME else x
    power = (
        np.square(frames.astype(np.float64)).reshape(-1, min(ACTIVE_FRAME, max(1, len(frames)))).mean(axis=1)
    )
    if len(power) == 0:
        return 0.0
    return float(power[power >= power.max() * 10 ** (-ACTIVE_RANGE_DB / 10)].mean())


def set_level(x: Samples, dbfs: float) -> Samples:
    """`x` with its active speech at `dbfs` (root mean square against full scale), lower if it would clip."""
    power = active_power(x)
    if power == 0:
        return x
    gain = 10 ** (dbfs / 20) / np.sqrt(power)
    return x * np.float32(min(gain, PEAK / float(np.abs(x).max())))


def check_rate(rate: int) -> None:
    """Refuse rates that no recording has.

    Raises:
        AudioError: outside 1000 to 768000 samples per second.
    """
    if not 1000 <= rate <= 768_000:
        raise AudioError(f"a sample rate of {rate} Hz is outside 1000 to 768000 Hz")


def check_samples(x: Samples, rate: int, offset: int = 0) -> None:
    """Refuse samples that cannot be sound: not finite, or far outside [-1, 1].

    Args:
        x: [n] float32.
        rate: for the time in the message.
        offset: index of `x[0]` in its recording, for the message.

    Raises:
        AudioError: naming the first bad sample.
    """
    # One pass in the good case: a NaN makes both comparisons false.
    if len(x) == 0 or (float(x.max()) <= _LOUDEST and float(x.min()) >= -_LOUDEST):
        return
    bad = np.isnan(x) | (np.abs(x) > _LOUDEST)
    at = int(np.argmax(bad))
    where = f"sample {offset + at} ({(offset + at) / rate:.3f} s) is {x[at]:g}"
    raise AudioError(f"{where}; samples must be finite and in [-1, 1]")


def _resampled(native: Native, out_rate: int) -> Iterator[Samples]:
    """Mix, check and resample native blocks of [n, channels]."""
    resampler = StreamResampler(native.rate, out_rate)
    taken = 0
    for block in native.blocks:
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
        try:
            check_samples(mono, native.rate, taken)
        except AudioError as error:
            raise AudioError(f"{native.name}: {error}") from None
        taken += len(mono)
        resampled = resampler.push(mono)
        if len(resampled):
            yield resampled
    if not taken:
        raise AudioError(f"{native.name}: holds no audio, only a header")
    tail = resampler.finish()
    if len(tail):
        yield tail


def _write(path: Path, samples: Samples, rate: int) -> None:
    """Samples [n] to a file of one of the kinds `WRITTEN`, wav and flac in 16 bits; moved there when whole.

    Raises:
        AudioError: another suffix, or it can't be written.
    """
    if path.suffix.lower() not in WRITTEN:
        raise AudioError(f"{path}: name a {', '.join(WRITTEN)} file")
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    try:
        sf.write(draft, samples, rate)  # pyright: ignore[reportUnknownMemberType]
        draft.replace(path)
    except (OSError, RuntimeError) as error:  # soundfile's are of the second kind
        reason = ((error.strerror if isinstance(error, OSError) else "") or str(error)).lower()
        raise AudioError(f"{path} cannot be written: {reason}") from error
    finally:
        draft.unlink(missing_ok=True)
