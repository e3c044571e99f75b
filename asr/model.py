"""Voxtral Realtime: a causal audio encoder, an adapter, and a decoder that writes one token per 80 ms.

Voxtral Realtime (arXiv 2602.11298). Unusual:
- there is no cross-attention and no audio token: audio and text embeddings are summed, one
  audio vector for each text position;
- the delay enters twice and nowhere else: the length of the prompt, and a scale on the
  decoder's feed-forward norms (Ada RMS-Norm);
- both stem convolutions pad on the left only, with the number 0 in the normalised log-mel
  domain, which is not silence (-0.625);
- the output head is the token embedding.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..kernels.conv import CausalConv1d
from ..kernels.fused import FusedStack, fits_one_call
from ..kernels.pack import pack_int8
from ..kernels.position import sinusoids
from ..kernels.state import StateTree, active_rows, leaf, spread, subtree, take
from ..kernels.transformer import Transformer
from .config import FRAMES_PER_TOKEN, ASRConfig, AudioEncoderConfig
from .delays import MAX_DELAY_TOKENS
from .search import PhoneScores, SearchConfig, WordSearch


class AudioEncoder(nn.Module):
    """Log-mel frames (100 Hz) to encoder frames (50 Hz)."""

    def __init__(self, config: AudioEncoderConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.stack.dim
        self.conv1 = CausalConv1d(config.n_mels, dim, 3)
        self.conv2 = CausalConv1d(dim, dim, 3, stride=2)
        self.transformer = Transformer(config.stack)

    def initial_state(
        self,
        slots: int,
        *,
        max_tokens: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> StateTree:
        """Fresh slots for steps of at most `max_tokens` x 80 ms."""
        return {
            "conv1": self.conv1.initial_state(slots, dtype=dtype, device=device),
            "conv2": self.conv2.initial_state(slots, dtype=dtype, device=device),
            "transformer": self.transformer.initial_state(
                slots, max_chunk=max_tokens * FRAMES_PER_TOKEN, dtype=dtype, device=device
            ),
        }

    def stem(self, mel: Tensor) -> Tensor:
        """[batch, n_mels, 2 frames] -> [batch, frames, dim]: both convolutions, before positions."""
        x = F.gelu(self.conv1(mel))
        return F.gelu(self.conv2(x)).transpose(1, 2)

    def forward(self, mel: Tensor, *, block: int | None = None, start: Tensor | int = 0) -> Tensor:
        """[batch, n_mels, 2 frames] -> [batch, frames, dim].

        `block` overrides the attention block; `start` is the position of the first frame (int
        or int64 [batch]), which training draws at random so that positions never run out.
        """
        x = self.stem(mel)
        offset = torch.as_tensor(start, dtype=torch.int64, device=x.device).reshape(-1, 1)
        x = self._place(x, offset + torch.arange(x.shape[1], device=x.device))
        return self.transformer(x, start=start, block=block)

    def step(self, mel: Tensor, state: StateTree, active: Tensor, *, block: int | None = None) -> Tensor:
        """[slots, n_mels, 2 frames] -> [slots, frames, dim]; frames a multiple of the block."""
        x = F.gelu(self.conv1.step(mel, subtree(state, "conv1"), active))
        x = F.gelu(self.conv2.step(x, subtree(state, "conv2"), active)).transpose(1, 2)
        stack = subtree(state, "transformer")
        first = leaf(stack, "position").unsqueeze(-1)
        x = self._place(x, first + torch.arange(x.shape[1], device=x.device))
        return self.transformer.step(x, stack, active, block=block)

    def _place(self, x: Tensor, positions: Tensor) -> Tensor:
        if self.config.position_table == "none":
            return x
        return x + sinusoids(positions, x.shape[-1], self.config.longest_period).to(x.dtype)


class Adapter(nn.Sequential):
    """Four encoder frames side by side to one vector of the decoder's width; no biases, no norm."""

    def __init__(self, encoder_dim: int, inner: int, dim: int) -> None:
        width = FRAMES_PER_TOKEN * encoder_dim
        super().__init__(nn.Linear(width, inner, bias=False), nn.GELU(), nn.Linear(inner, dim, bias=False))

    def forward(self, input: Tensor) -> Tensor:
        """[batch, 4 n, encoder_dim] -> [batch, n, dim]."""
        batch, frames, width = input.shape
        x = input.reshape(batch, frames // FRAMES_PER_TOKEN, FRAMES_PER_TOKEN * width)
        for layer in self:
            x = layer(x)
        return x


class TextDecoder(nn.Module):
    """Sum of audio vector and token embedding to logits, conditioned on the delay."""

    def __init__(self, config: ASRConfig) -> None:
        super().__init__()
        self.config = config
        self.tok_embeddings = nn.Embedding(config.vocab_size, config.dim)
        self.transformer = Transformer(config.text_decoder)
        self._ada_table: list[Tensor] | None = None
        self.fused: FusedStack | None = None  # the stack's step in one call, once packed

    def initial_state(
        self,
        slots: int,
        *,
        max_tokens: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> StateTree:
        """Fresh slots for steps of at most `max_tokens` positions."""
        return self.transformer.initial_state(slots, max_chunk=max_tokens, dtype=dtype, device=device)

    def forward(self, audio: Tensor, token_in: Tensor, delay: Tensor, *, start: int = 0) -> Tensor:
        """Logits for a whole stream.

        Args:
            audio: adapter vectors [batch, time, dim].
            token_in: int64 [batch, time], what was written one position earlier (BOS first).
            delay: int64 tokens, [batch] or [batch, time] where it changes in mid-stream.
            start: position of the first token.

        Returns:
            [batch, time, vocab_size].
        """
        x = audio + self.tok_embeddings(token_in)
        hidden = self.transformer(x, ada=self._ada(delay), start=start)
        return F.linear(hidden, self.tok_embeddings.weight)

    def step(
        self, audio: Tensor, token_in: Tensor, delay: Tensor, state: StateTree, active: Tensor
    ) -> Tensor:
        """The next positions of every active slot; shapes as in `forward`, delay [slots]."""
        x = audio + self.tok_embeddings(token_in)
        if self.fused is not None and x.shape[1] == 1:
            hidden = self.fused.step(x, state, active, self._ada(delay))
        else:
            hidden = self.transformer.step(x, state, active, ada=self._ada(delay))
        return F.linear(hidden, self.tok_embeddings.weight)

    def train(self, mode: bool = True) -> TextDecoder:
        """Switch between training and inference; the table of delay scales is made anew."""
        self._ada_table = None
        super().train(mode)
        return self

    def _ada(self, delay: Tensor) -> list[Tensor]:
        """Scale of every layer, [batch, 1 or time, dim]."""
        if delay.dim() == 1:
            delay = delay.unsqueeze(-1)
        dtype = self.tok_embeddings.weight.dtype
        if self.training or torch.is_grad_enabled():
            return self.transformer.ada_scales(self._embed_delay(delay).to(dtype))
        table = self._ada_table
        if table is None or table[0].device != delay.device or table[0].dtype != dtype:
            # g depends on the delay alone: one row per delay, computed once.
            every = torch.arange(MAX_DELAY_TOKENS + 1, device=delay.device)
            table = self.transformer.ada_scales(self._embed_delay(every).to(dtype))
            self._ada_table = table
        return [rows[delay] for rows in table]

    def _embed_delay(self, delay: Tensor) -> Tensor:
        kind = torch.bfloat16 if self.config.time_embedding_dtype == "bfloat16" else torch.float32
        return delay_embedding(delay, self.config.dim, kind)


class RealtimeASR(nn.Module):
    """The whole listener."""

    def __init__(self, config: ASRConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = AudioEncoder(config.encoder)
        width = config.encoder.stack.dim
        self.adapter: Adapter | PhoneScores
        self.decoder: TextDecoder | WordSearch
        if isinstance(config.decoder, SearchConfig):
            self.adapter = PhoneScores(width)
            self.decoder = WordSearch(config.decoder)
        else:
            self.adapter = Adapter(width, config.adapter_dim or config.dim, config.dim)
            self.decoder = TextDecoder(config)

    @property
    def text_decoder(self) -> TextDecoder:
        """The decoder of a listener that writes tokens.

        Raises:
            ConfigError: it searches for words.
        """
        if isinstance(self.decoder, WordSearch):
            raise ConfigError("this listener has no text decoder: it searches for words")
        return self.decoder

    @property
    def kind(self) -> Tensor:
        """A weight that keeps device and dtype of the whole model, packed or not."""
        return self.encoder.conv1.weight

    def pack(self) -> None:
        """Turn into an int8 model for a CPU, in place.

        A session's numbers are then equal bit for bit whatever its neighbours, its cuts and the threads:
        int8 rounding would blow a last bit up to something that changes a near-tie.
        """
        decoder = self.decoder
        if isinstance(decoder, TextDecoder) and fits_one_call(decoder.transformer):
            decoder.fused = FusedStack(decoder.transformer)
        pack_int8(self)
        self.encoder.transformer.attend_in_pieces(FRAMES_PER_TOKEN, max(self.config.encoder.blocks))
        if isinstance(decoder, TextDecoder):
            decoder.transformer.attend_in_pieces(1, 1)

    def encode(self, mel: Tensor, *, block: int | None = None, start: Tensor | int = 0) -> Tensor:
        """[batch, n_mels, 8 n] -> adapter vectors [batch, n, dim]."""
        return self.adapter(self.encoder(mel, block=block, start=start))

    def forward(self, mel: Tensor, token_in: Tensor, delay: Tensor, *, block: int | None = None) -> Tensor:
        """[batch, n_mels, 8 n], int64 [batch, n], int64 [batch] -> logits [batch, n, vocab_size]."""
        return self.text_decoder(self.encode(mel, block=block), token_in, delay)

    def initial_encoder_state(self, slots: int, *, max_tokens: int = 4, **kind: torch.dtype) -> StateTree:
        """Fresh encoder slots on the model's device and in its dtype."""
        weight = self.encoder.conv1.weight
        dtype = kind.get("dtype", weight.dtype)
        return self.encoder.initial_state(slots, max_tokens=max_tokens, dtype=dtype, device=weight.device)

    def initial_decoder_state(self, slots: int, *, max_tokens: int = 1, **kind: torch.dtype) -> StateTree:
        """Fresh decoder slots; two of them may listen to one encoder slot with two delays."""
        if isinstance(self.decoder, WordSearch):
            return self.decoder.initial_state(slots)
        weight = self.decoder.tok_embeddings.weight
        dtype = kind.get("dtype", weight.dtype)
        return self.decoder.initial_state(slots, max_tokens=max_tokens, dtype=dtype, device=weight.device)

    def encode_step(
        self, mel: Tensor, state: StateTree, active: Tensor, *, block: int | None = None
    ) -> Tensor:
        """[slots, n_mels, 8 k] -> adapter vectors [slots, k, dim]; 4 k a multiple of the block."""
        frames = self.encoder.step(mel, state, active, block=block)
        rows = active_rows(active)
        return spread(self.adapter(take(frames, rows)), rows, len(active))

    def decode_step(
        self, audio: Tensor, token_in: Tensor, delay: Tensor, state: StateTree, active: Tensor
    ) -> Tensor:
        """[slots, k, dim], int64 [slots, k], int64 [slots] -> logits [slots, k, vocab_size]."""
        return self.text_decoder.step(audio, token_in, delay, state, active)


def delay_embedding(delay: Tensor, dim: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Sinusoidal embedding of a delay in tokens: [...] -> float32 [..., dim], cosines first.

    `dtype` is that of the arithmetic, see `ASRConfig.time_embedding_dtype`.
    """
    half = dim // 2
    steps = torch.arange(half, dtype=torch.float32, device=delay.device)
    frequencies = torch.exp(-math.log(10000.0) * steps / half).to(dtype)
    angle = delay.to(dtype).unsqueeze(-1) * frequencies
    return torch.cat([angle.cos(), angle.sin()], dim=-1).float()
