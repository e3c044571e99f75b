"""Other recognisers on the same clips: rows to compare with. Optional, never needed by the product."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .delays import RATE


class Peer(Protocol):
    """A recogniser that takes whole clips."""

    name: str

    def transcribe(self, samples: NDArray[np.float32], /) -> str: ...


class PocketSphinx:
    """CMU pocketsphinx (BSD) with the models of its wheel: GMM-HMM and a trigram. Hears whole clips."""

    def __init__(self, module: Any) -> None:
        self.name = f"pocketsphinx {version('pocketsphinx')} (peer, whole clips, not streamed)"
        self._decoder = module.Decoder(samprate=RATE, loglevel="FATAL")

    def transcribe(self, samples: NDArray[np.float32], /) -> str:
        """Text of a clip, 16 kHz mono."""
        self._decoder.start_utt()
        self._decoder.process_raw((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""


def installed_peers() -> list[Peer]:
    """The peers that can run here."""
    try:
        module = importlib.import_module("pocketsphinx")
    except ImportError:
        return []
    return [PocketSphinx(module)]
