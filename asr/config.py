"""The numbers of a Realtime listener, from the released 4B shape to the small default."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ..errors import ConfigError
from ..kernels.transformer import TransformerConfig
from .delays import ENCODER_PER_STEP as FRAMES_PER_TOKEN
from .delays import MAX_DELAY_TOKENS, delay_tokens
from .search import SearchConfig


@dataclass(frozen=True)
class AudioEncoderConfig:
    """Log-mel in, 50 Hz frames out.

    `blocks` lists the attention blocks (in frames) that the weights were trained for, smallest
    first. A block of 1 or 4 adds no delay, a larger one makes a token wait for the frames after
    it: block 8 adds 80 ms, block 16 adds 240 ms, block 64 adds 1200 ms.
    """

    stack: TransformerConfig
    n_mels: int = 128
    global_log_mel_max: float = 1.5
    position_table: Literal["none", "sinusoid"] = "none"
    longest_period: float = 1500.0  # sinusoids that are slower than this many frames stand still
    blocks: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        if not self.blocks or list(self.blocks) != sorted(set(self.blocks)):
            raise ConfigError(f"encoder.blocks must be rising and not empty, got {self.blocks}")
        for block in self.blocks:
            if block != 1 and block % FRAMES_PER_TOKEN:
                raise ConfigError(f"encoder.blocks: {block} is no multiple of {FRAMES_PER_TOKEN}")
        if self.stack.window is None:
            raise ConfigError("encoder.stack.window must be set: a listener streams")


@dataclass(frozen=True)
class ASRConfig:
    """A whole listener: encoder, adapter, decoder, and the clock that ties them.

    What writes is Voxtral's decoder, a transformer that gives one token a step, or a search for words.
    """

    encoder: AudioEncoderConfig
    decoder: TransformerConfig | SearchConfig
    vocab_size: int
    adapter_dim: int | None = None  # inner width of the adapter; None: the decoder's
    left_pad_tokens: int = 32
    buffer_tokens: int = 10
    block_delays_ms: tuple[int, ...] = (0,)  # from which delay on each of `encoder.blocks` is used
    # D is at most this, and what is left of a longer delay goes unused: a small decoder does not gain by
    # waiting with what it has understood, only by larger blocks.
    most_delay_tokens: int = MAX_DELAY_TOKENS
    name: str = "asr"
    # Reference packages compute the delay embedding in the model's dtype; which one training used
    # is not published. In bfloat16 it is off by up to 0.111 at delay 30.
    time_embedding_dtype: Literal["float32", "bfloat16"] = "float32"
    # What `ASR.load` makes of the linear layers on a CPU: int8 where a paired test saw no loss.
    cpu_weights: Literal["float32", "int8"] = "float32"

    def __post_init__(self) -> None:
        if self.vocab_size < 4:
            raise ConfigError(f"vocab_size must be at least 4, got {self.vocab_size}")
        if isinstance(self.decoder, TransformerConfig):
            if self.decoder.window is None:
                raise ConfigError("decoder.window must be set: a listener streams")
            if not self.decoder.ada_dim:
                raise ConfigError("decoder.ada_dim must be at least 1: the delay conditions the decoder")
        if len(self.block_delays_ms) != len(self.encoder.blocks):
            raise ConfigError("block_delays_ms needs one entry for each of encoder.blocks")
        if not 1 <= self.most_delay_tokens <= MAX_DELAY_TOKENS:
            raise ConfigError(
                f"most_delay_tokens must be 1 to {MAX_DELAY_TOKENS}, got {self.most_delay_tokens}"
            )

    @property
    def dim(self) -> int:
        """Width of the adapter's output, and of a text decoder with its embeddings."""
        return self.decoder.dim

    @property
    def text_decoder(self) -> TransformerConfig:
        """The transformer that writes.

        Raises:
            ConfigError: this listener searches for words.
        """
        if not isinstance(self.decoder, TransformerConfig):
            raise ConfigError("this listener has no text decoder: it searches for words")
        return self.decoder

    def split_delay(self, delay_ms: int) -> tuple[int, int]:
        """(delay tokens D, encoder block) whose sum is what the user waits for, at most `delay_ms`.

        Raises:
            ConfigError: not a multiple of 80 ms, or outside what the model can do.
        """
        block = self.encoder.blocks[0]
        for candidate, begin in zip(self.encoder.blocks, self.block_delays_ms, strict=True):
            if delay_ms >= begin:
                block = candidate
        # To the clock a strictly causal encoder is one of block 4: a step brings four frames anyway.
        tokens = delay_tokens(delay_ms, max(block, FRAMES_PER_TOKEN))
        return min(tokens, self.most_delay_tokens), block


def voxtral_realtime_4b() -> ASRConfig:
    """The released Voxtral-Mini-4B-Realtime-2602."""
    encoder = TransformerConfig(
        dim=1280,
        n_layers=32,
        n_heads=32,
        head_dim=64,
        hidden_dim=5120,
        window=750,
        biases=("wq", "wv", "wo", "w2"),
    )
    decoder = TransformerConfig(
        dim=3072,
        n_layers=26,
        n_heads=32,
        n_kv_heads=8,
        head_dim=128,
        hidden_dim=9216,
        window=8192,
        ada_dim=32,
    )
    return ASRConfig(AudioEncoderConfig(encoder), decoder, vocab_size=131072, name="voxtral-mini-4b-realtime")


def small_decoder() -> TransformerConfig:
    """A text decoder for `small_english`."""
    return TransformerConfig(
        dim=320,
        n_layers=4,
        n_heads=5,
        head_dim=64,
        hidden_dim=864,
        window=128,  # 10 s: no longer than the rows it learns from
        rope_theta=1e4,
        ada_dim=32,
    )


def small_english(vocab_size: int, decoder: TransformerConfig | SearchConfig | None = None) -> ASRConfig:
    """The default listener: Whisper base's encoder made block-causal, and a search for words.

    `decoder`: what writes instead of a search with its usual numbers.
    """
    encoder = TransformerConfig(
        dim=512,
        n_layers=6,
        n_heads=8,
        head_dim=64,
        hidden_dim=2048,
        window=250,
        block=16,
        norm="layer",
        mlp="gelu",
        position="none",
        biases=("wq", "wv", "wo", "w1", "w2"),
    )
    writes = isinstance(decoder, TransformerConfig)
    return ASRConfig(
        AudioEncoderConfig(encoder, n_mels=80, position_table="sinusoid", blocks=(4, 8, 16, 32, 64)),
        decoder or SearchConfig(),
        vocab_size=vocab_size,
        adapter_dim=640 if writes else None,
        block_delays_ms=(0, 160, 320, 800, 1440),
        most_delay_tokens=3 if writes else MAX_DELAY_TOKENS,
        name="asr-en",
        cpu_weights="int8",
    )


def with_window(config: ASRConfig, encoder: int, decoder: int) -> ASRConfig:
    """The same listener with other attention windows (tests of wrap-around use short ones)."""
    stack = replace(config.encoder.stack, window=encoder)
    return replace(
        config,
        encoder=replace(config.encoder, stack=stack),
        decoder=replace(config.text_decoder, window=decoder),
    )
