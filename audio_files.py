"""Which library reads which file. Gives native blocks; `audio.py` mixes, checks and resamples them.

soundfile reads wav, flac, ogg, opus, aiff and their kin. miniaudio reads mp3, since libsndfile stops early in
one whose header was never patched, and FLAC streams that do not know their length. PyAV, from the `media`
extra, reads m4a, aac, mp4, webm and a few more. Headers are never believed about lengths; but where a FLAC or
an MP3 names more than it has, that is said after its last block.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import miniaudio
import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from .errors import AudioError

Block = NDArray[np.float32]  # [n, channels]

# libsndfile accepts up to 1024 channels; more than a film's worth is a header gone wrong.
_MOST_CHANNELS = 64
_UNKNOWN_LENGTH = 2**62  # what libsndfile reports for a FLAC stream is 2**63 - 1 frames
# FFmpeg also knows playlists, which name other files and hosts: an upload must not make us open those.
_HARMLESS = {
    "format_whitelist": "mov,matroska,webm,aac,asf,avi,flv,mpegts,mpeg,amr,ac3,eac3,wv,tta,ape",
    "protocol_whitelist": "none",
}
# Format not recognised, system error, encoding not supported, format not implemented.
_UNKNOWN_TO_SNDFILE = (1, 2, 4, 18)
_MEDIA_HINT = "`pip install rillvox[media]` adds a reader for it"


class Native(NamedTuple):
    """A file opened for reading, nothing changed yet."""

    name: str  # for messages
    rate: int
    blocks: Iterator[Block]


def open_native(source: str | Path | BinaryIO, block_seconds: float) -> Native:
    """The file's own rate, and its samples as blocks of [n, channels] of at most `block_seconds`.

    A path is opened here and closed when the iterator ends or is dropped; an open file stays the caller's.

    Raises:
        AudioError: the file cannot be opened, or no reader knows it. The iterator raises it for later damage,
            behind all that could be read.
    """
    _refuse_other(source)
    if isinstance(source, str | Path):
        name = str(source)
        try:
            file = cast(BinaryIO, Path(source).open("rb"))  # noqa: SIM115, closed with the iterator
        except OSError as error:
            raise AudioError(f"{name}: {(error.strerror or str(error)).lower()}") from error
    else:
        name = str(getattr(source, "name", None) or "audio")
        if source.seekable():
            return Native(name, *_read(source, name, block_seconds))
        file = _spooled(source)
    try:
        rate, blocks = _read(file, name, block_seconds)
    except BaseException:
        file.close()
        raise
    return Native(name, rate, _then_close(blocks, file))


def kind_of(head: bytes) -> str:
    """The container by its first bytes: "sndfile", "mp3", "media", or "" if none is known.

    Names and suffixes lie; the first bytes rarely do.
    """
    # An ADTS frame (raw aac) also starts with eleven ones, but its layer bits are zero; mp3's are not.
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return "mp3" if head[1] & 0x06 else "media"
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"FORM", b".snd", b"caff", b"riff"):
        return "sndfile"
    if head[4:8] == b"ftyp" or head[:4] == b"\x1a\x45\xdf\xa3":
        return "media"
    return ""


def _refuse_other(source: object) -> None:
    """Say what to do with sound that is no file."""
    if isinstance(source, str | Path):
        return
    kind = type(source).__name__
    if isinstance(source, bytes | bytearray | memoryview):
        raise AudioError(f"audio must be a path or an open file, got {kind}; wrap the file in io.BytesIO")
    if isinstance(source, io.TextIOBase):
        raise AudioError("the file is open as text; open it in binary mode, with 'rb'")
    if not hasattr(source, "read"):
        raise AudioError(
            f"audio must be a path or an open file, got {kind}; wrap samples: Audio(samples, rate)"
        )


def _then_close(blocks: Iterator[Block], file: BinaryIO) -> Iterator[Block]:
    with file:
        yield from blocks


def _spooled(pipe: BinaryIO) -> BinaryIO:
    """A copy that can seek, as every reader must: small ones in memory, long ones on disk."""
    spool = cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=8 << 20))  # noqa: SIM115
    while piece := pipe.read(1 << 20):
        spool.write(piece)
    spool.seek(0)
    return spool


def _read(file: BinaryIO, name: str, block_seconds: float) -> tuple[int, Iterator[Block]]:
    start = file.tell()
    head = file.read(16)
    if not head:
        raise AudioError(f"{name}: the file is empty")
    if head[:3] == b"ID3":  # a tag of up to 256 MB, with pictures, before the first frame
        start += 10 + int.from_bytes(_seven_bits(head[6:10]), "big")
        file.seek(start)
        # What follows a tag is mp3 unless it says otherwise; padding may come first.
        kind = kind_of(file.read(16)) or "mp3"
    else:
        kind = kind_of(head)
    file.seek(start)
    if kind == "mp3":
        return _read_miniaudio(file, name, block_seconds, miniaudio.FileFormat.MP3)
    if kind == "media":
        return _read_media(file, name, block_seconds)
    try:
        return _read_sndfile(file, name, block_seconds)
    except AudioError:
        if kind or find_spec("av") is None:
            raise
    file.seek(start)
    return _read_media(file, name, block_seconds)


def _seven_bits(size: bytes) -> bytes:
    """An ID3 size, seven bits a byte, as four plain bytes."""
    value = 0
    for byte in size:
        value = value << 7 | byte & 0x7F
    return value.to_bytes(4, "big")


def _block_frames(name: str, rate: int, channels: int, block_seconds: float) -> int:
    if not 1 <= channels <= _MOST_CHANNELS:
        raise AudioError(f"{name}: {channels} channels; at most {_MOST_CHANNELS} are read")
    if not 1000 <= rate <= 768_000:
        raise AudioError(f"{name}: a sample rate of {rate} Hz is outside 1000 to 768000 Hz")
    # Bounded by samples too: 10 s of 64 channels at 192 kHz would be half a gigabyte.
    return max(1, min(int(rate * block_seconds), (1 << 23) // channels))


def _read_sndfile(file: BinaryIO, name: str, block_seconds: float) -> tuple[int, Iterator[Block]]:
    start = file.tell()
    flac = file.read(4) == b"fLaC"
    file.seek(start)
    try:
        opened = sf.SoundFile(cast(BinaryIO, _Patient(file)))
    except (sf.LibsndfileError, TypeError) as error:  # TypeError: headerless raw, which must be described
        if flac or getattr(error, "code", 1) not in _UNKNOWN_TO_SNDFILE:
            raise _broken(name) from error
        raise AudioError(f"{name}: not an audio file that can be read here ({_plain(error)})") from error
    if opened.format == "FLAC" and opened.frames > _UNKNOWN_LENGTH:
        opened.close()
        file.seek(start)
        return _read_miniaudio(file, name, block_seconds, miniaudio.FileFormat.FLAC)
    if opened.format == "MP3":
        opened.close()
        file.seek(start)
        return _read_miniaudio(file, name, block_seconds, miniaudio.FileFormat.MP3)
    rate, channels = opened.samplerate, opened.channels
    frames = _block_frames(name, rate, channels, block_seconds)
    # Of the formats here only FLAC's length is written by those who know it.
    promised = opened.frames / rate if flac else 0.0

    def blocks() -> Iterator[Block]:
        done = 0
        with opened:
            while True:
                # Behind the last frame may be a tag, on which a decoder would stumble.
                n = max(min(frames, opened.frames - done), 0)
                block = np.full((n, channels), np.nan, np.float32)
                try:
                    n = len(cast(Block, opened.read(dtype="float32", always_2d=True, out=block)))
                    damage = None
                except (sf.LibsndfileError, ValueError) as error:
                    # What was decoded before it is in the block; the position is lost.
                    n, damage = int(np.isfinite(block[:, 0]).sum()), error
                if n:
                    done += n
                    yield block[:n]
                if damage is not None or not n:
                    break
            if damage is not None or done / rate < promised:
                cut_short = not file.read(1)
                raise _broken(name, done / rate, promised, cut_short) from damage

    return rate, blocks()


class _Patient:
    """A file for libsndfile: a damaged header may send it anywhere, and its callbacks cannot raise."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with suppress(ValueError, OSError):
            self._file.seek(offset, whence)
        return self._file.tell()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _Bytes(miniaudio.StreamableSource):
    """A file as miniaudio wants it: from here on, and with its own kind of seek."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._start = file.tell()

    def read(self, num_bytes: int) -> bytes:
        return self._file.read(num_bytes)

    def seek(self, offset: int, origin: miniaudio.SeekOrigin) -> bool:
        if origin == miniaudio.SeekOrigin.START:
            self._file.seek(self._start + offset)
        else:
            self._file.seek(offset, os.SEEK_CUR)
        return True


def _read_miniaudio(
    file: BinaryIO, name: str, block_seconds: float, kind: miniaudio.FileFormat
) -> tuple[int, Iterator[Block]]:
    start = file.tell()
    # Enough for the first frame, so that counting the frames of the whole file is spared.
    head = file.read(1 << 16)
    file.seek(start)
    promised = 0.0
    try:
        if kind is miniaudio.FileFormat.MP3:
            info = miniaudio.mp3_get_info(head)
            rate, channels = info.sample_rate, info.nchannels
            available = file.seek(0, os.SEEK_END) - start
            file.seek(start)
            promised = _length_of_cut_mp3(head, available, rate)
        else:
            described = sf.info(io.BytesIO(head))
            rate, channels = described.samplerate, described.channels
        # miniaudio's buffer holds 16384 frames unless more are asked for at once.
        frames = _block_frames(name, rate, channels, block_seconds)
        source = _Bytes(file)
        stream = miniaudio.stream_any(
            source, kind, miniaudio.SampleFormat.FLOAT32, channels, rate, frames_to_read=frames
        )
    except (miniaudio.MiniaudioError, sf.LibsndfileError) as error:
        raise _broken(name) from error

    def blocks() -> Iterator[Block]:
        # The stream has only a bare pointer to its source: collected too early, it ends the process.
        _held = source
        done = 0
        try:
            for samples in stream:
                block = np.frombuffer(samples, np.float32).reshape(-1, channels)
                done += len(block)
                yield block
        except miniaudio.MiniaudioError as error:
            raise _broken(name, done / rate) from error
        if promised:
            raise _broken(name, done / rate, promised, cut_short=True)

    return rate, blocks()


def _length_of_cut_mp3(head: bytes, available: int, rate: int) -> float:
    """Seconds that an MP3 had before its end was lost; 0 if nothing shows that it was.

    Encoders name the bytes and frames of the whole in a first frame without sound ("Xing" or "Info"). One of
    a live stream names none or too few, which says nothing.

    Args:
        head: the file's begin, the first frame included.
        available: bytes of the file from the begin of `head` on.
        rate: samples per second.
    """
    at = next((i for i in range(len(head) - 3) if head[i] == 0xFF and head[i + 1] & 0xE6 == 0xE2), 0)
    frame = head[at : at + 4 + 32 + 16]
    if len(frame) < 4:
        return 0.0
    mpeg1, mono = frame[1] & 0x18 == 0x18, frame[3] >> 6 == 3
    tag = frame[4 + ((17 if mono else 32) if mpeg1 else (9 if mono else 17)) :]
    if len(tag) < 16 or tag[:4] not in (b"Xing", b"Info") or tag[7] & 3 != 3:
        return 0.0
    n_frames, n_bytes = (int.from_bytes(tag[i : i + 4], "big") for i in (8, 12))
    return n_frames * (1152 if mpeg1 else 576) / rate if available - at < n_bytes else 0.0


def _read_media(file: BinaryIO, name: str, block_seconds: float) -> tuple[int, Iterator[Block]]:
    try:
        import av  # 0.2 s and an extra: only for the files that need it
        from av.error import FFmpegError
    except ImportError as error:
        raise AudioError(f"{name}: m4a, aac, mp4 and webm need PyAV; {_MEDIA_HINT}") from error
    try:
        container = av.open(file, "r", options=_HARMLESS)
    except (FFmpegError, ValueError) as error:
        raise AudioError(f"{name}: not an audio file that can be read here ({_plain(error)})") from error
    if not container.streams.audio:
        container.close()
        raise AudioError(f"{name}: holds no audio stream")
    stream = container.streams.audio[0]
    frames = _frames_of(container, stream, name, FFmpegError)
    # The container's rate is half the true one for some AAC profiles; the first decoded frame knows.
    first = next(frames, None)
    if first is None:
        container.close()
        raise AudioError(f"{name}: holds no audio that can be decoded")
    rate, channels = int(first.sample_rate), len(first.layout.channels)
    wanted = _block_frames(name, rate, channels, block_seconds)
    planar = av.AudioResampler(format="fltp", layout=first.layout, rate=rate)

    def converted() -> Iterator[Block]:
        for frame in chain([first], frames):
            for piece in planar.resample(frame):
                yield cast(Block, np.ascontiguousarray(piece.to_ndarray().T))

    def blocks() -> Iterator[Block]:
        with container:
            yield from _gathered(converted(), wanted)

    return rate, blocks()


def _frames_of(container: Any, stream: Any, name: str, broken: type[Exception]) -> Iterator[Any]:
    """Decoded frames, with FFmpeg's errors as ours. A stream that breaks off is read as far as it goes."""
    seconds = 0.0
    try:
        for frame in container.decode(stream):
            yield frame
            seconds += frame.samples / frame.sample_rate
    except (broken, ValueError) as error:
        raise _broken(name, seconds) from error


def _gathered(pieces: Iterator[Block], wanted: int) -> Iterator[Block]:
    """Join codec frames of some 20 ms to blocks of at most `wanted`: what follows costs per block."""
    held: list[Block] = []
    length = 0
    for piece in pieces:
        if held and length + len(piece) > wanted:
            yield np.concatenate(held)
            held, length = [], 0
        held.append(piece)
        length += len(piece)
    if held:
        yield np.concatenate(held)


def _broken(name: str, read: float = 0.0, promised: float = 0.0, cut_short: bool = False) -> AudioError:
    """What to say of a file of which `read` seconds could be read, of `promised` if that is known."""
    if not read:
        return AudioError(f"{name}: nothing of it can be read; the file seems damaged or cut short")
    whole = f"{read:.2f} of {promised:.2f} s" if promised > read else f"the first {read:.2f} s"
    return AudioError(
        f"{name}: only {whole} could be read; the file seems {'cut short' if cut_short else 'damaged'}"
    )


def _plain(error: Exception) -> str:
    """A library's message as part of one line of ours."""
    # soundfile and PyAV put the file's repr around what happened.
    what = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    text = " ".join(str(what).split()).rstrip(".")
    return text[:120].lower() or type(error).__name__
