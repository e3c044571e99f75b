"""What is measured of one coded recording against the original; scores of installed judges where they are.

Definitions are part of a number: see each function. Both signals are float32 [n] at 24 kHz, brought together
by `aligned` first.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module, util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..audio import Audio
from .config import SAMPLE_RATE
from .losses import mel_filters, spectrum, stft_distance

Wave = NDArray[np.float32]
FURTHEST = SAMPLE_RATE // 40  # 25 ms: how far a codec may be late
SHORTEST = 1024  # samples: nothing is told of the delay of less
LOUD_DB = 50.0  # frames this far below the loudest do not count
LONGEST_PESQ = 12.0  # seconds
DNSMOS_DBFS = -26.0


def aligned(original: Wave, coded: Wave) -> tuple[Wave, Wave]:
    """Both without the delay between them, at most 25 ms, equally long.

    The delay of the highest correlation, or none where mel bands fit better so: a codec that keeps spectra
    but no phases has its highest correlation where some pulses happen to meet.
    """
    if min(len(original), len(coded)) < SHORTEST:
        size = min(len(original), len(coded))
        return original[:size], coded[:size]
    moved = _moved(original, coded, _delay(original, coded))
    size = min(len(original), len(coded))
    unmoved = original[:size], coded[:size]
    return moved if mel_db(*moved) < mel_db(*unmoved) else unmoved


def _delay(original: Wave, coded: Wave) -> int:
    size = min(len(original), len(coded))
    fast = 1 << (2 * size).bit_length()
    product = np.fft.rfft(coded[:size], fast) * np.conj(np.fft.rfft(original[:size], fast))
    similar = np.fft.irfft(product, fast)
    furthest = min(FURTHEST, size - 1)
    lags = np.concatenate([np.arange(0, furthest + 1), np.arange(-furthest, 0)])
    return int(lags[np.argmax(similar[lags])])


def _moved(original: Wave, coded: Wave, late: int) -> tuple[Wave, Wave]:
    if late > 0:
        coded = coded[late:]
    elif late < 0:
        original = original[-late:]
    size = min(len(original), len(coded))
    return original[:size], coded[:size]


def mel_db(original: Wave, coded: Wave) -> float:
    """Mean absolute difference in dB over 80 mel bands up to 12 kHz, windows of 1024 samples every 256.

    Power below 1e-7 counts as that; frames 50 dB below the loudest do not count.
    """
    bands = mel_filters(1024, 80, torch.device("cpu"))
    a, b = (
        10 * torch.log10((bands @ spectrum(torch.as_tensor(x)[None], 1024, 256)[0].square()).clamp(min=1e-7))
        for x in (original, coded)
    )
    level = a.amax(0)
    loud = level > level.max() - LOUD_DB
    return float((a - b).abs()[:, loud].mean())


def stft(original: Wave, coded: Wave) -> float:
    """`losses.stft_distance`: magnitudes of five resolutions, relative to the original's."""
    a, b = torch.as_tensor(coded)[None], torch.as_tensor(original)[None]
    return float(stft_distance(a, b, torch.tensor([float(SAMPLE_RATE)])))


def at_16k(wave: Wave) -> Wave:
    """For judges that hear 16 kHz."""
    return Audio(wave, SAMPLE_RATE).resample(16000).samples


def installed_measures() -> dict[str, Callable[[Wave, Wave], float]]:
    """Name and function of all that can be measured here; what needs a judge only if it is installed."""
    found: dict[str, Callable[[Wave, Wave], float]] = {"mel_db": mel_db, "stft": stft}
    if util.find_spec("pesq"):
        found["pesq_wb"] = _pesq
    if util.find_spec("pystoi"):
        found["stoi"] = lambda a, b: _stoi(a, b, False)
        found["estoi"] = lambda a, b: _stoi(a, b, True)
    if util.find_spec("resemblyzer"):
        found["similarity"] = Similarity()
    if util.find_spec("speechmos") and util.find_spec("onnxruntime"):
        mos = NoReference()
        found["dnsmos_ovrl"] = lambda _, b: mos(b)[0]
        found["dnsmos_p808"] = lambda _, b: mos(b)[1]
    return found


def _pesq(original: Wave, coded: Wave) -> float:
    """ITU-T P.862.2, the first 12 s; 1.0 where it finds no speech."""
    module: Any = import_module("pesq")
    count = round(LONGEST_PESQ * 16000)
    a, b = at_16k(original)[:count], at_16k(coded)[:count]
    try:
        return float(module.pesq(16000, a, b, "wb"))
    except (module.NoUtterancesError, module.BufferTooShortError):
        return 1.0


def _stoi(original: Wave, coded: Wave, extended: bool) -> float:
    module: Any = import_module("pystoi")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a clip under half a second it says that it can't, and gives 0
        return float(module.stoi(at_16k(original), at_16k(coded), 16000, extended=extended))


def _quietly(name: str) -> Any:
    """A judge's module, without what it says of its own old imports."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module(name)


class Similarity:
    """Cosine of resemblyzer's speaker embeddings."""

    def __init__(self) -> None:
        self._encoder: Any = None

    def __call__(self, original: Wave, coded: Wave) -> float:
        """-1 to 1; 0 for what holds no voice."""
        return float(np.dot(self.embed(original), self.embed(coded)))

    def embed(self, wave: Wave) -> NDArray[np.float32]:
        """[256], of length 1."""
        module = _quietly("resemblyzer")
        if self._encoder is None:
            self._encoder = module.VoiceEncoder("cpu", verbose=False)
        heard = module.preprocess_wav(at_16k(wave), 16000)
        if len(heard) < 1600:
            return np.zeros(256, np.float32)
        return self._encoder.embed_utterance(heard)


class NoReference:
    """DNSMOS (speechmos, models of Microsoft's DNS Challenge): OVRL of P.835 and P.808.

    Clips under 3 s are not scored; the level is brought to -26 dBFS, on which the score depends. It hears
    noise and damage, not naturalness.
    """

    def __init__(self) -> None:
        self._model: Any = None
        self._last: tuple[Wave, tuple[float, float]] | None = None

    def __call__(self, coded: Wave) -> tuple[float, float]:
        """OVRL and P.808, 1 to 5; NaN for a clip under 3 s."""
        if len(coded) < 3 * SAMPLE_RATE:
            return float("nan"), float("nan")
        if self._last is None or self._last[0] is not coded:
            level = float(np.sqrt(np.square(coded).mean())) + 1e-9
            heard = at_16k(coded) * (10 ** (DNSMOS_DBFS / 20) / level)
            found = self.model()(np.clip(heard, -1, 1), 16000, False)
            self._last = coded, (float(found["ovrl_mos"]), float(found["p808_mos"]))
        return self._last[1]

    def model(self) -> Any:
        """Its networks, on one thread: by default they take a thread for each core, and spin."""
        if self._model is None:
            module: Any = import_module("speechmos.dnsmos")
            runtime: Any = import_module("onnxruntime")
            options = runtime.SessionOptions()
            options.intra_op_num_threads = 1
            folder = Path(module.__file__).parent / "dnsmos_models"
            model = module.DNSMOS.__new__(module.DNSMOS)
            model.onnx_sess = runtime.InferenceSession(str(folder / "sig_bak_ovr.onnx"), options)
            model.p808_onnx_sess = runtime.InferenceSession(str(folder / "model_v8.onnx"), options)
            self._model = model
        return self._model
