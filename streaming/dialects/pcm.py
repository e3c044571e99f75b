"""Audio as it comes over the wire: base64 text to bytes to float32 samples.

G.711 follows ITU-T G.711 (1988); its decoders are tables of 256 values, since Python 3.13
has no `audioop` any more.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ...errors import AudioError, ConfigError

Samples = npt.NDArray[np.float32]
Encoding = Literal["s16le", "mulaw", "alaw"]

_CLEAN = str.maketrans("-_", "+/", "\r\n\t ")


@dataclass(frozen=True)
class AudioFormat:
    """Mono audio bytes: how a sample is written, and how many come in a second."""

    encoding: Encoding = "s16le"
    rate: int = 16000

    def __post_init__(self) -> None:
        if not 1000 <= self.rate <= 192_000:
            raise ConfigError(f"rate must be 1000 to 192000 Hz, got {self.rate}")

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample."""
        return 2 if self.encoding == "s16le" else 1


def decode_base64(text: str, max_bytes: int) -> bytes:
    """Bytes of base64 text: padded or not, standard or URL alphabet, line breaks allowed.

    Raises:
        AudioError: a character outside the alphabets, a cut-off group, or more than
            `max_bytes` (told from the text's length, before anything is decoded).
    """
    if len(text) // 4 * 3 > max_bytes + max_bytes // 32 + 3:  # line breaks make it up to 3 % longer
        raise AudioError(f"audio is longer than {max_bytes} bytes; send it in smaller pieces")
    core = text.rstrip("\r\n\t =")
    if "=" in core:
        raise AudioError("audio is not base64: padding inside the text")
    core = core.translate(_CLEAN)
    if len(core) % 4 == 1:
        raise AudioError("audio is not base64: the last group is cut off")
    try:
        data = base64.b64decode(core + "=" * (-len(core) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise AudioError("audio is not base64: a character outside the alphabet") from None
    if len(data) > max_bytes:
        raise AudioError(f"audio is longer than {max_bytes} bytes; send it in smaller pieces")
    return data


class PcmDecoder:
    """Bytes to samples across chunks: half a sample waits for its other half."""

    def __init__(self, fmt: AudioFormat) -> None:
        self.format = fmt
        self._rest = b""

    def push(self, data: bytes) -> Samples:
        """Decode the next bytes.

        Returns:
            float32 [n] in [-1, 1]; n may be 0.
        """
        if self.format.encoding != "s16le":
            table = _MULAW if self.format.encoding == "mulaw" else _ALAW
            return table[np.frombuffer(data, np.uint8)]
        data = self._rest + data
        whole = len(data) & ~1
        self._rest = data[whole:]
        return np.frombuffer(data[:whole], "<i2").astype(np.float32) / np.float32(32768)

    def reset(self) -> None:
        """Drop half a sample that waits."""
        self._rest = b""


def _mulaw_table() -> Samples:
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84 << (code >> 4 & 7)) - 0x84
    return (np.where(code & 0x80, -magnitude, magnitude) / 32768).astype(np.float32)


def _alaw_table() -> Samples:
    code = np.arange(256, dtype=np.int32) ^ 0x55
    exponent = code >> 4 & 7
    step = (code & 0x0F) << 4
    magnitude = np.where(exponent == 0, step + 8, step + 0x108 << np.maximum(exponent - 1, 0))
    return (np.where(code & 0x80, magnitude, -magnitude) / 32768).astype(np.float32)


_MULAW = _mulaw_table()
_ALAW = _alaw_table()
