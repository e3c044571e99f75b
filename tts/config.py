"""The numbers of a speaker, from the released 4B model to the small default."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ..codec.config import CodecConfig, voxtral_codec
from ..errors import ConfigError
from ..kernels.transformer import TransformerConfig
from .tokens import TOKENS

SPECIAL = 2  # ids that every codebook keeps for itself: nothing, and the end of the audio
EMPTY, END = 0, 1
ROW_MULTIPLE = 128  # tables of codes are filled up to it
CONTEXT = 4096  # positions that the reference serves


@dataclass(frozen=True)
class FlowConfig:
    """The head that turns a hidden state into acoustic codes; Voxtral TTS (arXiv 2603.25551) section 2.2."""

    dim: int = 3072
    n_layers: int = 3
    n_heads: int = 32
    n_kv_heads: int = 8
    head_dim: int = 128
    hidden_dim: int = 9216
    norm_eps: float = 1e-5
    steps: int = 7  # of Euler's method where nobody asks for another number
    guidance: float = 1.2  # alpha, where nobody asks for another
    named: bool = False  # the head knows which semantic code was chosen (ours; the released one doesn't)
    spans: bool = False  # it knows how far a step goes: a flow map, for one step in place of many (ours)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"flow.steps must be at least 1, got {self.steps}")
        if self.dim % 2:
            raise ConfigError(f"flow.dim must be even, got {self.dim}")

    @property
    def stack(self) -> TransformerConfig:
        """Full attention among three tokens that know no places."""
        return TransformerConfig(
            dim=self.dim,
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            n_kv_heads=self.n_kv_heads,
            head_dim=self.head_dim,
            hidden_dim=self.hidden_dim,
            norm_eps=self.norm_eps,
            causal=False,
            position="none",
        )


@dataclass(frozen=True)
class AlignedTextConfig:
    """Text beside the frames in place of before them: every frame knows the tokens around it.

    After the delayed streams of Kyutai (arXiv 2509.08753), but finer than whole words.
    """

    tokens: int
    width: int = 128  # of a token's embedding
    behind: int = 3  # tokens before the one that is being said
    ahead: int = 8
    most: int = 8  # tokens that begin in one frame
    longest: int = 15  # frames after which a token's age counts no further

    def __post_init__(self) -> None:
        for name in ("tokens", "width", "most", "longest"):
            if getattr(self, name) < 1:
                raise ConfigError(f"text.{name} must be at least 1, got {getattr(self, name)}")
        if self.behind < 0 or self.ahead < 0:
            raise ConfigError("text.behind and text.ahead must not be negative")

    @property
    def window(self) -> int:
        """Tokens that a frame knows."""
        return self.behind + 1 + self.ahead


@dataclass(frozen=True)
class TTSConfig:
    """Voxtral TTS; the defaults are the released one."""

    backbone: TransformerConfig
    flow: FlowConfig
    codec: CodecConfig
    vocab_size: int = 131072
    name: str = "tts"
    text: AlignedTextConfig | None = None  # None: text is read before anything is said

    def __post_init__(self) -> None:
        if self.backbone.window is None:
            raise ConfigError("backbone.window is missing: it is the longest context, in positions")

    @property
    def alphabets(self) -> tuple[int, ...]:
        """Values of each code of a frame as the backbone knows them."""
        return tuple(size + SPECIAL for size in self.codec.alphabets)

    @property
    def table_rows(self) -> int:
        """Rows of the table of code embeddings, filled up."""
        return _filled(sum(self.alphabets))

    @property
    def semantic_rows(self) -> int:
        """Outputs of the semantic head, filled up."""
        return _filled(self.alphabets[0])


def backbone(
    dim: int,
    n_layers: int,
    n_heads: int,
    n_kv_heads: int,
    head_dim: int,
    hidden_dim: int,
    *,
    rope_theta: float = 1e6,
    norm_eps: float = 1e-5,
    context: int = CONTEXT,
    rope_layout: Literal["interleaved", "half"] = "interleaved",
) -> TransformerConfig:
    """A decoder of the Ministral family, as deep and wide as asked for."""
    return TransformerConfig(
        dim=dim,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        hidden_dim=hidden_dim,
        rope_theta=rope_theta,
        norm_eps=norm_eps,
        window=context,
        rope_layout=rope_layout,
    )


def voxtral_tts() -> TTSConfig:
    """The released Voxtral-4B-TTS-2603."""
    return TTSConfig(
        backbone(3072, 26, 32, 8, 128, 9216),
        FlowConfig(),
        replace(voxtral_codec(), name="voxtral-tts"),
        name="voxtral-tts",
    )


def small_tts(codec: CodecConfig, tokens: int = TOKENS) -> TTSConfig:
    """The default speaker, for a laptop's CPU."""
    return TTSConfig(
        backbone(384, 8, 6, 6, 64, 1024, rope_theta=1e4, context=1024),
        FlowConfig(384, 4, 6, 6, 64, 1024, named=True, steps=8, guidance=2.0),
        codec,
        0,
        "tts",
        AlignedTextConfig(tokens),
    )


def _filled(rows: int) -> int:
    return -(-rows // ROW_MULTIPLE) * ROW_MULTIPLE
