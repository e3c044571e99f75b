"""Which library reads which file. Gives native blocks; `audio.py` mixes, checks and resamples them.

soundfile reads wav, flac, ogg, opus, aiff and their kin. miniaudio reads mp3, since libsndfile stops early in
one whose header was never patched, and FLAC streams that do not know their length. PyAV, from the `media`
extra, reads m4a, aac, mp4, webm and a few more. Headers are never believed about lengths.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
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
        AudioError: the file cannot be opened, or no reader knows it. The iterator raises it for later damage.
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
    try:
        opened = sf.SoundFile(file)
    except (sf.LibsndfileError, TypeError) as error:  # TypeError: headerless raw, which must be described
        raise AudioError(f"{name}: not an audio file that can be read here ({_plain(error)})") from error
    if opened.format == "FLAC" and opened.frames > _UNKNOWN_LENGTH:
        opened.close()
        file.seek(start)
        return _read_miniaudio(file, name, block_seconds, miniaudio.FileFormat.FLAC)
    if opened.format == "MP3":
        opened.close()
        file.seek(start)
        return _read_miniaudio(file, name, block_seconds, miniaudio.FileFormat.MP3)
    frames = _block_frames(name, opened.samplerate, opened.channels, block_seconds)

    def blocks() -> Iterator[Block]:
        done = 0
        with opened:
            while True:
                try:
                    block = cast(Block, opened.read(frames, dtype="float32", always_2d=True))
                except (sf.LibsndfileError, ValueError) as error:
                    seconds = done / opened.samplerate
                    raise AudioError(f"{name}: damaged after {seconds:.1f} s ({_plain(error)})") from error
                if not len(block):
                    return
                done += len(block)
                yield block

    return opened.samplerate, blocks()


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
    mp3 = kind is miniaudio.FileFormat.MP3
    try:
        if mp3:
            info = miniaudio.mp3_get_info(head)
            rate, channels = info.sample_rate, info.nchannels
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
        raise AudioError(f"{name}: cannot be read as {kind.name.lower()} ({_plain(error)})") from error

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
            raise AudioError(f"{name}: damaged after {done / rate:.1f} s ({_plain(error)})") from error

    return rate, blocks()


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
        raise AudioError(f"{name}: damaged after {seconds:.1f} s ({_plain(error)})") from error


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


def _plain(error: Exception) -> str:
    """A library's message as part of one line of ours."""
    # soundfile and PyAV put the file's repr around what happened.
    what = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    text = " ".join(str(what).split()).rstrip(".")
    return text[:120].lower() or type(error).__name__
