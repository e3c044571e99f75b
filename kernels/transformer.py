"""One transformer for every stack of rillvox; what differs between them is the config.

Users: the Realtime encoder and decoder, Ministral 3 (3B, 8B, 14B), the codec's stages, the
flow head, and Whisper's encoder made causal. `forward` takes a whole signal, `step` the next
chunk of every active slot; both give the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .attention import Attention, Geometry, Ring, grouped, joined, ring_positions, visible
from .mlp import GELUMLP, SwiGLU
from .norm import AdaScale, LayerNorm, RMSNorm
from .position import YarnScaling, alibi_slopes, query_scale, rope_angles, rope_frequencies
from .state import StateTree, active_rows, leaf, put, spread, subtree, take

UNBOUNDED = 2**62  # a window that no position reaches the end of
LINEARS = ("wq", "wk", "wv", "wo", "w1", "w2", "w3")


@dataclass(frozen=True)
class TransformerConfig:
    """Shape and habits of one stack.

    `window` counts keys including the query's own unless `window_includes_self` is off; None
    means that a query sees everything before it, which `forward` can do and `step` cannot.
    `block` > 1: positions of one block see each other, the window reaches back from each query.
    """

    dim: int
    n_layers: int
    n_heads: int
    head_dim: int
    hidden_dim: int
    n_kv_heads: int | None = None  # None: one per query head
    causal: bool = True
    window: int | None = None
    window_includes_self: bool = True
    block: int = 1
    norm: Literal["rms", "layer"] = "rms"
    norm_eps: float = 1e-5
    final_norm: bool = True
    mlp: Literal["swiglu", "gelu"] = "swiglu"
    position: Literal["rope", "alibi", "none"] = "rope"
    rope_theta: float = 1e6
    rope_layout: Literal["interleaved", "half"] = "interleaved"
    rope_scaling: YarnScaling | None = None
    query_scale_beta: float = 0.0
    query_scale_length: int = 16384
    biases: tuple[str, ...] = ()  # which of wq wk wv wo w1 w2 w3 have one
    ada_dim: int = 0  # inner width of the Ada RMS-Norm scale; 0: none
    qk_norm_eps: float | None = None
    layer_scale: float | None = None  # initial value; None: none

    def __post_init__(self) -> None:
        for name in ("dim", "n_layers", "n_heads", "head_dim", "hidden_dim", "block"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.n_heads % self.kv_heads:
            raise ConfigError(f"n_kv_heads must divide n_heads, got {self.kv_heads} and {self.n_heads}")
        if self.window is not None and self.window < 1:
            raise ConfigError(f"window must be at least 1, got {self.window}")
        if self.position == "rope" and self.head_dim % 2:
            raise ConfigError(f"head_dim must be even for rope, got {self.head_dim}")
        unknown = sorted(set(self.biases) - set(LINEARS))
        if unknown:
            raise ConfigError(f"biases names no linear: {unknown[0]!r}; known are {', '.join(LINEARS)}")

    @property
    def kv_heads(self) -> int:
        """Key heads, after the default."""
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def span(self) -> int | None:
        """Visible keys including the query's own."""
        if self.window is None:
            return None
        return self.window if self.window_includes_self else self.window + 1


class Block(nn.Module):
    """Pre-norm attention and feed-forward with residuals; optional Ada scale and LayerScale."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        norm = RMSNorm if config.norm == "rms" else LayerNorm
        mlp = SwiGLU if config.mlp == "swiglu" else GELUMLP
        self.attention_norm = norm(config.dim, config.norm_eps)
        self.attention = Attention(
            config.dim,
            config.n_heads,
            config.kv_heads,
            config.head_dim,
            biases=config.biases,
            rope_layout=config.rope_layout,
            qk_norm_eps=config.qk_norm_eps,
        )
        self.ffn_norm = norm(config.dim, config.norm_eps)
        self.feed_forward = mlp(config.dim, config.hidden_dim, config.biases)
        self.ada_rms_norm_t_cond = AdaScale(config.dim, config.ada_dim) if config.ada_dim else None
        scale = config.layer_scale
        self.attention_scale = None if scale is None else nn.Parameter(torch.full((config.dim,), scale))
        self.ffn_scale = None if scale is None else nn.Parameter(torch.full((config.dim,), scale))

    def forward(
        self, x: Tensor, geometry: Geometry, ada: Tensor | None = None, state: StateTree | None = None
    ) -> Tensor:
        """x [batch, time, dim]; `ada` [batch, 1 or time, dim] or None; `state` None for a whole signal."""
        normed = self.attention_norm(x)
        if state is None:
            y = self.attention(normed, geometry)
        else:
            y = self.attention.step(normed, state, geometry)
        x = x + (y if self.attention_scale is None else y * self.attention_scale)
        y = self.ffn_norm(x)
        if ada is not None:
            y = y * (1 + ada)
        y = self.feed_forward(y)
        return x + (y if self.ffn_scale is None else y * self.ffn_scale)


class Transformer(nn.Module):
    """A stack of blocks.

    A step brings at most `max_chunk` positions (given to `initial_state`), and whole blocks.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        norm = RMSNorm if config.norm == "rms" else LayerNorm
        self.norm = norm(config.dim, config.norm_eps) if config.final_norm else None
        # Tables are made anew on whatever device a call runs on: kept as plain attributes they
        # survive `to`, `half` and meta-device construction without turning into buffers.
        self._tables: dict[torch.device, tuple[Tensor, Tensor]] = {}
        self._pieces: tuple[int, int] | None = None

    def attend_in_pieces(self, least: int, most: int) -> None:
        """Let a step attend over one block at a time, whatever its chunk: same sums for any chunking.

        With linear layers whose rows don't depend on each other (`kernels/int8.py`) the results are then
        equal bit for bit however a stream is cut, and the rings need room for one piece only.

        Args:
            least: positions of a piece where the block is smaller; every chunk is a multiple of it.
            most: the largest block that a step will name.
        """
        self._pieces = least, max(least, most)

    def initial_state(
        self,
        slots: int,
        *,
        max_chunk: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> StateTree:
        """Fresh slots: int64 positions and one ring of `span + max_chunk - 1` keys a layer.

        Raises:
            ConfigError: the config has no window, so no constant memory either.
        """
        span = self.config.span
        if span is None or not self.config.causal:
            raise ConfigError("window: a stack that streams needs a window and causal attention")
        device = torch.device(device)
        # Queries of one block also see keys after themselves, up to block - 1 of them, all
        # inside the chunk, so the chunk length covers them.
        capacity = span + (max_chunk if self._pieces is None else self._pieces[1]) - 1
        state: StateTree = {"position": torch.zeros(slots, dtype=torch.int64, device=device)}
        for i, block in enumerate(self.blocks):
            state[f"layers_{i}"] = block.attention.initial_state(slots, capacity, dtype, device)
        return state

    def forward(
        self,
        x: Tensor,
        *,
        ada: Sequence[Tensor] | None = None,
        start: Tensor | int = 0,
        block: int | None = None,
    ) -> Tensor:
        """[batch, time, dim] -> [batch, time, dim].

        Args:
            x: the whole signal.
            ada: one [batch, 1 or time, dim] scale per layer (`AdaScale` outputs), or None.
            start: position of the first frame, an int or int64 [batch].
            block: another block size than the config's, for this call.
        """
        time = x.shape[1]
        positions = torch.arange(time, device=x.device)[None]
        # A number as it is: as a tensor it would have to be sent to the device.
        positions = positions + (start if isinstance(start, int) else start.to(x.device).reshape(-1, 1))
        geometry = self._geometry(positions, positions, block or self.config.block, x.dtype)
        for i, layer in enumerate(self.blocks):
            x = layer(x, geometry, None if ada is None else ada[i])
        return x if self.norm is None else self.norm(x)

    def step(
        self,
        x: Tensor,
        state: StateTree,
        active: Tensor,
        *,
        ada: Sequence[Tensor] | None = None,
        block: int | None = None,
    ) -> Tensor:
        """The next chunk of every active slot; updates `state` in place.

        Args:
            x: [slots, time, dim]; time is a multiple of the block, at most `max_chunk`.
            state: from `initial_state`.
            active: [slots] bool; other slots keep their state bit for bit.
            ada: one [slots, 1 or time, dim] scale per layer, or None.
            block: another block size than the config's, for this call.

        Returns:
            [slots, time, dim]; zero for slots that are not active.
        """
        size = block or self.config.block
        slots, time = x.shape[:2]
        span = self.config.span
        assert span is not None
        capacity = leaf(subtree(state, "layers_0"), "k").shape[2]
        piece = time if self._pieces is None else max(size, self._pieces[0])
        if time % size or time % piece or span + piece - 1 > capacity:
            raise ValueError(
                f"a step takes a multiple of {size} positions, at most {capacity - span + 1}, got {time}"
            )
        if not bool(active.any()):
            return torch.zeros_like(x)
        rows = active_rows(active)
        x = take(x, rows)
        counter = leaf(state, "position")
        first = take(counter, rows)
        positions = first.unsqueeze(-1) + torch.arange(time, device=x.device)
        geometries: list[Geometry] = []
        for begin in range(0, time, piece):
            now = positions[:, begin : begin + piece]
            held, ring = ring_positions(now[:, -1], capacity), Ring.of(now, capacity, rows)
            geometries.append(self._geometry(now, held, size, x.dtype, ring))
        geometry = geometries[0] if len(geometries) == 1 else joined(geometries)
        for i, layer in enumerate(self.blocks):
            scale = None if ada is None else take(ada[i], rows)
            x = layer(x, geometry, scale, subtree(state, f"layers_{i}"))
        put(counter, rows, first + time)
        y = x if self.norm is None else self.norm(x)
        return spread(y, rows, slots)

    def ada_scales(self, condition: Tensor) -> list[Tensor]:
        """Scale g of every layer for a condition [..., dim]: a list of [..., dim]."""
        scales: list[Tensor] = []
        for layer in self.blocks:
            if layer.ada_rms_norm_t_cond is None:
                raise ConfigError("ada_dim is 0: this stack has no conditioned norm")
            scales.append(layer.ada_rms_norm_t_cond(condition))
        return scales

    @property
    def blocks(self) -> list[Block]:
        """The layers, in order."""
        return cast("list[Block]", list(self.layers))

    def _geometry(
        self, query: Tensor, key: Tensor, block: int, dtype: torch.dtype, ring: Ring | None = None
    ) -> Geometry:
        """Everything that depends on positions only; int64 query and key positions [batch, n]."""
        config = self.config
        frequencies, slopes = self._table(query.device)
        if config.causal:
            mask = visible(query, key, config.span or UNBOUNDED, block)
        else:
            mask = torch.ones(1, query.shape[-1], key.shape[-1], dtype=torch.bool, device=query.device)
        mask = mask.unsqueeze(1)
        if config.position == "alibi":
            # The difference of two int64 is exact; a difference of two floats would not be.
            distance = (key.unsqueeze(-2) - query.unsqueeze(-1)).unsqueeze(1).float()
            bias = slopes.view(1, -1, 1, 1) * distance
        else:
            bias = torch.zeros((), device=query.device)
        # A float bias even where a bool mask would do: attention would turn it into one in every layer.
        bias = torch.where(mask, bias, float("-inf")).to(dtype)
        bias = grouped(bias, config.kv_heads, config.n_heads // config.kv_heads)
        cos = sin = scale = None
        if config.position == "rope":
            cos, sin = rope_angles(query, frequencies)
            if config.query_scale_beta:
                scale = query_scale(query, config.query_scale_beta, config.query_scale_length)
        return Geometry(bias, cos, sin, scale, ring)

    def _table(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if device not in self._tables:
            config = self.config
            frequencies = rope_frequencies(config.head_dim, config.rope_theta, config.rope_scaling)
            self._tables[device] = (frequencies.to(device), alibi_slopes(config.n_heads).to(device))
        return self._tables[device]
