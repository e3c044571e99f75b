"""The numbers of a speech codec, from the released 300 M shape to the small default."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import log2, prod
from typing import Any, Literal, cast

from ..errors import ConfigError
from ..kernels.transformer import TransformerConfig

SAMPLE_RATE = 24000


@dataclass(frozen=True)
class CodecConfig:
    """Voxtral Codec (arXiv 2603.25551); the defaults are the released one.

    A patch of samples is one position at the fast end; the encoder's strides make a frame of
    several. Attention windows shrink and grow with the rates, so each looks back equally far.
    """

    patch: int = 240  # samples
    patch_kernel: int = 7
    dim: int = 1024
    hidden_dim: int = 4096
    n_heads: int = 8
    head_dim: int = 128
    window: int = 16  # past positions at the fast end
    norm_eps: float = 1e-2
    qk_norm_eps: float = 1e-6
    layer_scale: float = 0.01  # initial value
    semantic_codes: int = 8192
    semantic_dim: int = 256
    acoustic_levels: int = 21
    acoustic_dim: int = 36
    encoder_layers: tuple[int, ...] = (2, 2, 2, 2)
    encoder_kernels: tuple[int, ...] = (4, 4, 4, 3)
    encoder_strides: tuple[int, ...] = (2, 2, 2, 1)
    decoder_layers: tuple[int, ...] = (2, 2, 2, 2)
    decoder_kernels: tuple[int, ...] = (3, 4, 4, 4)
    decoder_strides: tuple[int, ...] = (1, 2, 2, 2)
    conv_weight_norm: bool = True  # how files store convolutions; in memory they are plain
    # What a small codec may do otherwise: hear the spectrum of four patches instead of the samples of
    # one, and write a spectrum that overlaps, which takes `output_delay` samples more: "istft" out of
    # nothing, "source" by filtering pulses and noise.
    encoder_input: Literal["patch", "logspec"] = "patch"
    head: Literal["patch", "istft", "source"] = "patch"
    output_delay: int = 0
    # What `Codec.load` makes of the weights on a CPU: int8 weights with float32 signals, or neither.
    cpu_weights: Literal["float32", "int8"] = "float32"
    name: str = "codec"

    def __post_init__(self) -> None:
        for field in fields(self):
            value: Any = getattr(self, field.name)
            if field.name in ("conv_weight_norm", "output_delay") or isinstance(value, str):
                continue
            sizes = cast("tuple[float, ...]", value if isinstance(value, tuple) else (value,))
            if any(size <= 0 for size in sizes):
                raise ConfigError(f"codec.{field.name} must be above 0, got {value}")
        for side in ("encoder", "decoder"):
            lengths = {len(getattr(self, f"{side}_{part}")) for part in ("layers", "kernels", "strides")}
            if len(lengths) != 1:
                raise ConfigError(f"codec.{side}_layers, _kernels and _strides must be equally long")
            kernels, strides = getattr(self, f"{side}_kernels"), getattr(self, f"{side}_strides")
            if any(kernel < stride for kernel, stride in zip(kernels, strides, strict=True)):
                raise ConfigError(f"codec.{side}_kernels: a kernel shorter than its stride leaves gaps")
        if prod(self.encoder_strides) != prod(self.decoder_strides):
            raise ConfigError("codec.decoder_strides must lead back to the rate that encoder_strides leave")
        if self.decoder_strides[0] != 1:
            raise ConfigError("codec.decoder_strides must begin with 1")
        if self.patch_kernel > self.positions:
            raise ConfigError(
                f"codec.patch_kernel must be at most the {self.positions} patches of a frame, "
                f"got {self.patch_kernel}"
            )
        if self.acoustic_levels < 2:
            raise ConfigError(f"codec.acoustic_levels must be at least 2, got {self.acoustic_levels}")
        if self.output_delay and self.head == "patch":
            raise ConfigError("codec.output_delay: patches do not overlap, so there is nothing to wait for")
        if not 0 <= self.output_delay <= 3 * self.patch:
            raise ConfigError(f"codec.output_delay must be 0 to {3 * self.patch}, got {self.output_delay}")

    @property
    def positions(self) -> int:
        """Patches in a frame."""
        return prod(self.encoder_strides)

    @property
    def frame(self) -> int:
        """Samples in a frame."""
        return self.patch * self.positions

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return SAMPLE_RATE / self.frame

    @property
    def latent_dim(self) -> int:
        """Numbers in a frame before they are rounded."""
        return self.semantic_dim + self.acoustic_dim

    @property
    def codes(self) -> int:
        """Codes in a frame: one semantic, the rest acoustic."""
        return 1 + self.acoustic_dim

    @property
    def alphabets(self) -> tuple[int, ...]:
        """How many values each code of a frame can have."""
        return (self.semantic_codes, *(self.acoustic_levels,) * self.acoustic_dim)

    @property
    def bits_per_second(self) -> float:
        """What the codes need when packed without loss."""
        return self.frame_rate * sum(map(log2, self.alphabets))

    def frames_of(self, samples: int) -> int:
        """Frames that hold so many samples."""
        return -(-samples // self.frame)

    def stage(self, layers: int, stride: int) -> TransformerConfig:
        """A stack whose positions are `stride` patches apart."""
        return TransformerConfig(
            dim=self.dim,
            n_layers=layers,
            n_heads=self.n_heads,
            head_dim=self.head_dim,
            hidden_dim=self.hidden_dim,
            window=max(1, self.window // stride),
            window_includes_self=False,
            norm_eps=self.norm_eps,
            final_norm=False,
            position="alibi",
            qk_norm_eps=self.qk_norm_eps,
            layer_scale=self.layer_scale,
        )


def voxtral_codec() -> CodecConfig:
    """The codec inside the released Voxtral-4B-TTS-2603."""
    return CodecConfig(name="voxtral-codec")


def small_codec(semantic_codes: int = 512) -> CodecConfig:
    """The default codec: the released shape made narrow, with spectra at both ends."""
    return CodecConfig(
        dim=256,
        hidden_dim=640,
        n_heads=4,
        head_dim=64,
        window=32,
        layer_scale=0.1,
        semantic_codes=semantic_codes,
        conv_weight_norm=False,
        encoder_input="logspec",
        head="source",
        output_delay=720,
        cpu_weights="int8",
        name="codec-24k",
    )
