"""The codec from Python: whole recordings, or 80 ms at a time, both ways.

codec = Codec.load()
codes = codec.encode("speech.wav")     # Codes; codes.values [frames, 37]
audio = codec.decode(codes)            # Audio, 24 kHz

ear = codec.stream_encode()
frames = ear.feed(samples)             # int16 [k, 37], as many as are complete
mouth = codec.stream_decode()
sound = mouth.feed(frames)             # float32, 1920 samples a frame

Law: whatever the cuts, the same codes and (to 1e-5) the same samples as at once.
"""

from __future__ import annotations

import hashlib
import os
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..audio import Audio, Samples, Source, StreamResampler, check_samples, open_audio
from ..errors import AudioError, CheckpointError, ConfigError
from .checkpoint import load_model
from .codes import Codes, Frames, Layout
from .config import SAMPLE_RATE
from .model import CodecDecoder, CodecEncoder, CodecModel

DEFAULT_MODEL = "codec-24k"
LONGEST_STEP = 25  # frames; 2 s at once where there is as much


class Codec:
    """A codec, ready to use; see the module's text."""

    def __init__(self, model: CodecModel) -> None:
        self.model = model
        self.config = model.config

    @classmethod
    def load(
        cls,
        model: str | Path = DEFAULT_MODEL,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        weights: Literal["float32", "int8"] | None = None,
    ) -> Codec:
        """Load a codec that comes along by name, or the one in a model folder, as the released Voxtral TTS.

        Args:
            device: where it runs.
            dtype: type of the weights; None: float32.
            weights: "int8" for weights in int8 with float inputs, which streams faster on a CPU
                (`rillvox bench codec`); "float32" for none of it. None: what RILLVOX_WEIGHTS says; else int8
                on a CPU for a model that asks for it.

        Raises:
            CheckpointError: there is no such model, or its files are not whole.
            ConfigError: int8 on another device than a CPU.
        """
        folder = Path(model)
        if isinstance(model, str) and "/" not in model and model.strip("."):
            # Whatever lies in the working directory: a folder of that name is meant by `./NAME`.
            shipped = resources.files("rillvox") / "weights" / model
            folder = Path(str(shipped)) if shipped.is_dir() else folder
        if isinstance(model, str) and not folder.exists():
            raise CheckpointError(
                f"{model}: no such codec comes along, and there is no such folder; name the folder of a "
                "Voxtral TTS checkpoint, or of a codec made with `rillvox train codec`"
            )
        codec = cls(load_model(folder, device=device, dtype=dtype))
        if _choose_weights(codec.model, weights, dtype) == "int8":
            _ = codec.fingerprint  # of the weights as they are stored
            codec.model.pack()
        return codec

    @cached_property
    def fingerprint(self) -> str:
        """32 hexadecimal digits of what turns codes into sound: only the same decoder can read them."""
        digest = hashlib.sha256()
        parts = [(f"decoder.{k}", v) for k, v in self.model.decoder.state_dict().items()]
        parts += [("codebook", self.model.quantizer.semantic_codebook.entries())]
        for name, value in parts:
            digest.update(f"{name} {list(value.shape)}".encode())
            # As bfloat16: the same whether it was loaded as that or as float32.
            digest.update(value.detach().to("cpu", torch.bfloat16).view(torch.int16).numpy().tobytes())
        return digest.hexdigest()[:32]

    @property
    def layout(self) -> Layout:
        """What the codes of this codec look like."""
        return Layout.of(self.config, self.fingerprint)

    @property
    def can_encode(self) -> bool:
        """Whether there is an encoder; the released checkpoint has none."""
        return self.model.encoder is not None

    def encode(self, audio: Audio | NDArray[np.floating[Any]] | Source, rate: int = SAMPLE_RATE) -> Codes:
        """Codes of a recording: a file, an `Audio`, or float mono samples [n] at `rate`.

        Raises:
            AudioError: it is no sound.
            CheckpointError: this codec has no encoder.
        """
        if isinstance(audio, np.ndarray):
            audio = Audio(audio.astype(np.float32), rate)
        stream = self.stream_encode()
        if isinstance(audio, Audio):
            blocks = iter([audio.resample(SAMPLE_RATE).samples])
        else:
            blocks = open_audio(audio, SAMPLE_RATE)
        parts = [stream.feed(block) for block in blocks]
        parts.append(stream.finish())
        return Codes(np.concatenate(parts), stream.samples, self.layout)

    def decode(self, codes: Codes) -> Audio:
        """The recording, 24 kHz, as long as it was; what was near full scale may come back beyond 1.

        Raises:
            AudioError: codes of another codec.
        """
        self.check_layout(codes.layout)
        stream = self.stream_decode()
        parts = [stream.feed(codes.values), stream.finish()]
        return Audio(np.concatenate(parts)[: codes.samples], SAMPLE_RATE)

    def stream_encode(self, rate: int = SAMPLE_RATE) -> EncodeStream:
        """A stream of samples at `rate` to frames of codes.

        Raises:
            CheckpointError: this codec has no encoder.
        """
        return EncodeStream(self.model, self._encoder(), rate)

    def stream_decode(self) -> DecodeStream:
        """A stream of frames of codes to samples."""
        return DecodeStream(self.model, self.layout)

    def check_layout(self, layout: Layout) -> None:
        """Refuse codes that another codec made.

        Raises:
            AudioError: they are of another codec; it would turn them into noise.
        """
        if layout != self.layout:
            raise AudioError(
                f"codes of another codec (fingerprint {layout.fingerprint[:8]}, this is "
                f"{self.fingerprint[:8]}): decode them with the model that made them"
            )

    def _encoder(self) -> CodecEncoder:
        if self.model.encoder is None:
            raise CheckpointError(
                f"{self.config.name}: has no encoder, as the released checkpoint has none; it decodes only. "
                "Encode with a codec that has one, such as one made with `rillvox train codec`"
            )
        return self.model.encoder


def _choose_weights(
    model: CodecModel, wanted: str | None, dtype: torch.dtype | None
) -> Literal["float32", "int8"]:
    """Which kind of weights a loaded codec gets."""
    device = next(model.decoder.parameters()).device.type
    if wanted is None:
        asked = dtype is None and device == "cpu"
        wanted = (asked and os.environ.get("RILLVOX_WEIGHTS")) or None
        wanted = wanted or ("int8" if asked and model.config.cpu_weights == "int8" else "float32")
    if wanted not in ("float32", "int8"):
        raise ConfigError(f"weights (or RILLVOX_WEIGHTS) must be float32 or int8, got {wanted!r}")
    if wanted == "int8" and (device != "cpu" or dtype not in (None, torch.float32)):
        raise ConfigError("int8 weights need device='cpu' and no dtype but float32 beside them")
    return "int8" if wanted == "int8" else "float32"


class EncodeStream:
    """Samples in, frames of codes out as soon as their last sample is there."""

    def __init__(self, model: CodecModel, encoder: CodecEncoder, rate: int = SAMPLE_RATE) -> None:
        self._quantizer, self._encoder, self._frame = model.quantizer, encoder, model.config.frame
        self._resampler = StreamResampler(rate, SAMPLE_RATE)
        weight = next(encoder.parameters())
        self._dtype, self._device = weight.dtype, weight.device
        self._state = encoder.initial_state(
            1, max_frames=LONGEST_STEP, dtype=weight.dtype, device=weight.device
        )
        self._active = torch.ones(1, dtype=torch.bool, device=weight.device)
        self._waiting = np.zeros(0, np.float32)
        self._codes = model.config.codes
        self._rate, self._given = rate, 0
        self._finished = False
        self.samples = 0  # at 24 kHz, so far

    def feed(self, samples: NDArray[np.floating[Any]]) -> Frames:
        """More audio, float mono [n], any n; int16 [k, codes] of the frames that are complete now.

        Raises:
            AudioError: samples that are no sound, or the stream was finished.
        """
        if self._finished:
            raise AudioError("audio after the end of the stream: begin a new one with Codec.stream_encode")
        samples = np.asarray(samples)
        if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
            raise AudioError(f"expected float mono samples [n], got {samples.dtype} {list(samples.shape)}")
        samples = samples.astype(np.float32)
        check_samples(samples, self._rate, self._given)
        self._given += len(samples)
        return self._encode(self._resampler.push(samples))

    def finish(self) -> Frames:
        """The frames that are left, the last one filled up; nothing the second time."""
        if self._finished:
            return np.zeros((0, self._codes), np.int16)
        self._finished = True
        frames = self._encode(self._resampler.finish())
        if not len(self._waiting):
            return frames
        with torch.inference_mode():
            latents = self._encoder.finish(self._tensor(self._waiting), self._state, self._active)
            return np.concatenate([frames, self._round(latents)])

    @torch.inference_mode()
    def _encode(self, more: Samples) -> Frames:
        self.samples += len(more)
        self._waiting = np.concatenate([self._waiting, more])
        parts = [np.zeros((0, self._codes), np.int16)]
        while count := min(LONGEST_STEP, len(self._waiting) // self._frame):
            piece, self._waiting = np.split(self._waiting, [count * self._frame])
            parts.append(self._round(self._encoder.step(self._tensor(piece), self._state, self._active)))
        return np.concatenate(parts)

    def _tensor(self, samples: Samples) -> Tensor:
        return torch.as_tensor(samples, dtype=self._dtype, device=self._device)[None]

    def _round(self, latents: Tensor) -> Frames:
        return self._quantizer.encode(latents)[0].to("cpu", torch.int16).numpy()


class DecodeStream:
    """Frames of codes in, samples out at once; the last ones with `finish` where the head overlaps."""

    def __init__(self, model: CodecModel, layout: Layout) -> None:
        self._quantizer = model.quantizer
        self._decoder: CodecDecoder = model.decoder
        self._layout = layout
        weight = next(model.decoder.parameters())
        self._dtype, self._device = weight.dtype, weight.device
        self._state = model.decoder.initial_state(
            1, max_frames=LONGEST_STEP, dtype=weight.dtype, device=weight.device
        )
        self._active = torch.ones(1, dtype=torch.bool, device=weight.device)
        self._late = model.config.output_delay  # samples still to be dropped
        self._heard = self._finished = False

    @torch.inference_mode()
    def feed(self, frames: NDArray[Any]) -> Samples:
        """Frames [k, codes] to float32 samples: 1920 each, less the head's delay at the beginning.

        Raises:
            AudioError: no frames of this codec, or the stream was finished.
        """
        if self._finished:
            raise AudioError("codes after the end of the stream: begin a new one with Codec.stream_decode")
        frames = self._layout.check(frames)
        parts = [np.zeros(0, np.float32)]
        for begin in range(0, len(frames), LONGEST_STEP):
            codes = torch.as_tensor(frames[begin : begin + LONGEST_STEP], device=self._device).long()
            latents = self._quantizer.decode(codes[None])
            wave = self._decoder.step(latents, self._state, self._active)[0]
            self._heard = True
            parts.append(self._on_time(wave.float().cpu().numpy()))
        return np.concatenate(parts)

    @torch.inference_mode()
    def finish(self) -> Samples:
        """The samples still due; nothing the second time, and nothing of a stream without frames."""
        if self._finished or not self._heard:
            self._finished = True
            return np.zeros(0, np.float32)
        self._finished = True
        return self._on_time(self._decoder.tail(self._state)[0].float().cpu().numpy())

    def _on_time(self, wave: Samples) -> Samples:
        dropped = min(self._late, len(wave))
        self._late -= dropped
        return wave[dropped:]
