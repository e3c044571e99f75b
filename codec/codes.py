"""Codes in memory and in files of the size that the bit rate says.

A `.rvc` file, numbers little-endian:

| bytes | what |
|---|---|
| 4 | `RVXC` |
| 2 | version, 1 |
| 2 | codes in a frame |
| 4 | samples a second |
| 4 | samples in a frame |
| 4 | values of the semantic code |
| 4 | values of an acoustic code |
| 8 | frames |
| 8 | samples of the recording |
| 16 | fingerprint of the codec (`Codec.fingerprint`) |
| 4 | CRC-32 of the bytes before |
| ... | blocks of 64 frames, the last one shorter |
| 4 | CRC-32 of the blocks |

A block is one number, big-endian, in as many bytes as its largest value needs: for each frame and each code
in turn, times the code's count of values plus the code. 64 frames of 8192 and 36 x 21 values take 1369 bytes,
2.139 kbit/s as 12.5 log2(8192 x 21^36) says, and the rest of the file 68 bytes.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import AudioError
from .config import SAMPLE_RATE, CodecConfig

MAGIC, VERSION = b"RVXC", 1
BLOCK = 64  # frames
_HEADER = struct.Struct("<4sHHIIIIQQ16s")
_CHECK = struct.Struct("<I")
_READ = 1 << 20

Frames = NDArray[np.int16]


@dataclass(frozen=True)
class Layout:
    """What a frame of codes looks like, and whose codes they are."""

    semantic_codes: int
    acoustic_levels: int
    codes: int  # in a frame
    frame: int  # samples
    fingerprint: str  # 32 hexadecimal digits

    @classmethod
    def of(cls, config: CodecConfig, fingerprint: str) -> Layout:
        """The codes that a codec makes."""
        return cls(config.semantic_codes, config.acoustic_levels, config.codes, config.frame, fingerprint)

    @property
    def alphabets(self) -> tuple[int, ...]:
        """How many values each code of a frame can have."""
        return (self.semantic_codes, *(self.acoustic_levels,) * (self.codes - 1))

    def block_bytes(self, frames: int) -> int:
        """Bytes that so many frames take as one number."""
        values = self.semantic_codes * self.acoustic_levels ** (self.codes - 1)
        return ((values**frames - 1).bit_length() + 7) // 8

    def check(self, frames: NDArray[Any]) -> Frames:
        """Frames as they are kept.

        Raises:
            AudioError: not whole numbers [frames, codes] within their alphabets.
        """
        frames = np.asarray(frames)
        if frames.ndim != 2 or frames.shape[1] != self.codes:
            raise AudioError(f"codes: expected shape [frames, {self.codes}], got {list(frames.shape)}")
        if not np.issubdtype(frames.dtype, np.integer):
            raise AudioError(f"codes: expected whole numbers, got {frames.dtype}")
        wrong = (frames < 0) | (frames >= np.asarray(self.alphabets))
        if wrong.any():
            frame, code = (int(i) for i in np.argwhere(wrong)[0])
            raise AudioError(
                f"codes: code {code} of frame {frame} is {frames[frame, code]}, "
                f"must be 0 to {self.alphabets[code] - 1}"
            )
        return frames.astype(np.int16)


@dataclass(frozen=True)
class Codes:
    """A recording as codes.

    Raises:
        AudioError: values outside their alphabets, or another number of frames than the samples need.
    """

    values: NDArray[Any]  # [frames, 37] int16, the semantic code first, all from 0
    samples: int  # of the 24 kHz recording
    layout: Layout

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", self.layout.check(self.values))
        needed = -(-self.samples // self.layout.frame)
        if self.samples < 0 or len(self.values) != needed:
            raise AudioError(f"codes: {self.samples} samples need {needed} frames, got {len(self.values)}")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return self.samples / SAMPLE_RATE

    def save(self, path: str | Path) -> None:
        """Write a `.rvc` file; what was there is replaced when the new file is whole."""
        with CodesWriter(path, self.layout) as writer:
            writer.add(self.values)
            writer.finish(self.samples)

    @classmethod
    def load(cls, path: str | Path) -> Codes:
        """Read a `.rvc` file.

        Raises:
            AudioError: another kind of file, of another version, cut short, or damaged.
        """
        with CodesReader(path) as reader:
            parts = [np.zeros((0, reader.layout.codes), np.int16), *reader]
            return cls(np.concatenate(parts), reader.samples, reader.layout)


class CodesWriter:
    """A `.rvc` file that is written as frames come; a context manager.

    Written beside the path and moved there by `finish`; left without it, nothing is changed.
    """

    def __init__(self, path: str | Path, layout: Layout) -> None:
        self.path, self.layout = Path(path), layout
        self._draft = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            self._file = self._draft.open("wb")
        except OSError as error:
            raise AudioError(f"{path} cannot be written: {(error.strerror or str(error)).lower()}") from error
        self._file.write(bytes(_HEADER.size + _CHECK.size))
        self._waiting = np.zeros((0, layout.codes), np.int16)
        self._frames = self._check = 0
        self._finished = False

    def __enter__(self) -> CodesWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        if not self._finished:
            self._draft.unlink(missing_ok=True)

    def add(self, frames: NDArray[Any]) -> None:
        """More frames [n, codes]."""
        frames = self.layout.check(frames)
        self._frames += len(frames)
        self._waiting = np.concatenate([self._waiting, frames])
        while len(self._waiting) >= BLOCK:
            self._write(self._waiting[:BLOCK])
            self._waiting = self._waiting[BLOCK:]

    def finish(self, samples: int) -> None:
        """All frames are there; they stand for so many samples."""
        if self._frames != -(-samples // self.layout.frame):
            raise AudioError(f"codes: {samples} samples do not fit {self._frames} frames")
        if len(self._waiting):
            self._write(self._waiting)
        self._file.write(_CHECK.pack(self._check))
        layout = self.layout
        head = _HEADER.pack(
            MAGIC, VERSION, layout.codes, SAMPLE_RATE, layout.frame, layout.semantic_codes,
            layout.acoustic_levels, self._frames, samples, bytes.fromhex(layout.fingerprint),
        )  # fmt: skip
        self._file.seek(0)
        self._file.write(head + _CHECK.pack(zlib.crc32(head)))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._draft.replace(self.path)
        self._finished = True

    def _write(self, frames: Frames) -> None:
        block = _pack(frames, self.layout)
        self._check = zlib.crc32(block, self._check)
        self._file.write(block)


class CodesReader:
    """Frames of a `.rvc` file, block by block; a context manager and an iterable.

    The whole file is checked when it is opened, so what comes out of it is what went in.

    Raises:
        AudioError: another kind of file, of another version, cut short, or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._file: BinaryIO = self.path.open("rb")
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise AudioError(f"{path} cannot be read: {reason}") from error
        try:
            self._open()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> CodesReader:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Frames]:
        self._file.seek(_HEADER.size + _CHECK.size)
        for begin in range(0, self.frames, BLOCK):
            count = min(BLOCK, self.frames - begin)
            yield _unpack(self._file.read(self.layout.block_bytes(count)), count, self.layout, self.path)

    def _open(self) -> None:
        head = self._file.read(_HEADER.size + _CHECK.size)
        if head[: len(MAGIC)] != MAGIC:
            raise AudioError(f"{self.path}: is no file of codes; it does not begin with {MAGIC.decode()}")
        if len(head) < _HEADER.size + _CHECK.size:
            raise AudioError(f"{self.path}: is cut short, within its first {_HEADER.size} bytes")
        version = int.from_bytes(head[4:6], "little")
        if version != VERSION:
            raise AudioError(f"{self.path}: has version {version}; this program reads version {VERSION}")
        if _CHECK.unpack(head[_HEADER.size :])[0] != zlib.crc32(head[: _HEADER.size]):
            raise AudioError(f"{self.path}: is damaged; its header does not fit its checksum")
        _, _, codes, rate, frame, semantic, levels, self.frames, self.samples, print_ = _HEADER.unpack(
            head[: _HEADER.size]
        )
        if rate != SAMPLE_RATE or not frame or not semantic or levels < 2 or not codes or semantic > 1 << 15:
            raise AudioError(f"{self.path}: holds codes of a kind that no codec here makes")
        if self.frames != -(-self.samples // frame):
            raise AudioError(f"{self.path}: is damaged; {self.samples} samples are not {self.frames} frames")
        self.layout = Layout(semantic, levels, codes, frame, print_.hex())
        whole, rest = divmod(self.frames, BLOCK)
        expected = whole * self.layout.block_bytes(BLOCK) + (self.layout.block_bytes(rest) if rest else 0)
        found = os.fstat(self._file.fileno()).st_size - len(head) - _CHECK.size
        if found != expected:
            what = "is cut short" if found < expected else "has something behind its end"
            raise AudioError(
                f"{self.path}: {what}; {expected} bytes of codes were promised, {found} are there"
            )
        check = 0
        for part in _parts(self._file, expected):
            check = zlib.crc32(part, check)
        if _CHECK.unpack(self._file.read(_CHECK.size))[0] != check:
            raise AudioError(f"{self.path}: is damaged; its codes do not fit their checksum")


def _parts(file: BinaryIO, total: int) -> Iterable[bytes]:
    while total:
        part = file.read(min(_READ, total))
        if not part:
            return
        total -= len(part)
        yield part


def _pack(frames: Frames, layout: Layout) -> bytes:
    number = 0
    alphabets = layout.alphabets
    for frame in frames.tolist():
        own = 0  # a frame is a small number: big ones are multiplied once a frame only
        for code, values in zip(frame, alphabets, strict=True):
            own = own * values + code
        number = number * _values(layout) + own
    return number.to_bytes(layout.block_bytes(len(frames)), "big")


def _unpack(block: bytes, count: int, layout: Layout, path: Path) -> Frames:
    number = int.from_bytes(block, "big")
    frames = np.zeros((count, layout.codes), np.int16)
    alphabets = layout.alphabets
    for row in range(count - 1, -1, -1):
        number, own = divmod(number, _values(layout))
        for column in range(layout.codes - 1, -1, -1):
            own, frames[row, column] = divmod(own, alphabets[column])
    if number:
        raise AudioError(f"{path}: is damaged; a block holds more than its codes can say")
    return frames


def _values(layout: Layout) -> int:
    return layout.semantic_codes * layout.acoustic_levels ** (layout.codes - 1)
