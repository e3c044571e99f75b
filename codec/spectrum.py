"""The two ends of a small codec: a spectrum to hear, and a spectrum to speak.

Windows of four patches overlap, so both ends have a past: the encoder's three patches, the decoder's sums of
windows that are not complete yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.state import StateTree, active_rows, leaf, put, spread, take
from .config import CodecConfig

rfft = cast("Callable[[Tensor], Tensor]", torch.fft.rfft)  # pyright: ignore[reportUnknownMemberType]
irfft = cast("Callable[[Tensor, int], Tensor]", torch.fft.irfft)  # pyright: ignore[reportUnknownMemberType]

OVERLAP = 4  # patches in a window
QUIETEST = 1e-4  # magnitudes below this are taken for it
LOUDEST = 6.0  # of log-magnitudes


class Hann:
    """A Hann window that is made anew on whatever device it is wanted: a formula is no weight."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._made: dict[torch.device, Tensor] = {}

    def on(self, device: torch.device) -> Tensor:
        """[size] float32."""
        if device not in self._made:
            self._made[device] = torch.hann_window(self.size, device=device)
        return self._made[device]


class LogSpectrum(nn.Module):
    """Patches [batch, patch, time] to positions [batch, dim, time] by the spectrum of the last four."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.patch, self.size = config.patch, OVERLAP * config.patch
        self.projection = nn.Linear(self.size // 2 + 1, config.dim)
        self.window = Hann(self.size)

    def initial_state(
        self, slots: int, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> StateTree:
        """Silence before the first sample."""
        past = torch.zeros((slots, self.patch, OVERLAP - 1), dtype=dtype, device=device)
        return {"past": past}

    def forward(self, patches: Tensor) -> Tensor:
        """A whole signal."""
        return self._hear(F.pad(patches, (OVERLAP - 1, 0)))

    def step(self, patches: Tensor, state: StateTree, active: Tensor) -> Tensor:
        """The next patches of every active slot."""
        rows = active_rows(active)
        padded = torch.cat([take(leaf(state, "past"), rows).to(patches.dtype), take(patches, rows)], -1)
        put(leaf(state, "past"), rows, padded[..., 1 - OVERLAP :])
        return spread(self._hear(padded), rows, len(active))

    def _hear(self, padded: Tensor) -> Tensor:
        """[batch, patch, time + 3] -> [batch, dim, time]."""
        wave = padded.transpose(1, 2).flatten(1)
        spectrum = rfft(wave.unfold(-1, self.size, self.patch) * self.window.on(wave.device))
        power = torch.view_as_real(spectrum).square().sum(-1)
        log = 0.5 * torch.log(power + QUIETEST**2)
        weight = getattr(self.projection, "weight", None)
        kind = weight.dtype if isinstance(weight, Tensor) else torch.float32
        return self.projection(log.to(kind)).transpose(1, 2)


class InverseSpectrum(nn.Module):
    """Positions [batch, dim, time] to patches [batch, patch, time]: spectra, overlapped and added."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.patch, self.size = config.patch, OVERLAP * config.patch
        self.delay = config.output_delay
        self.projection = nn.Linear(config.dim, self.size + 2)
        self.window = Hann(self.size)

    def initial_state(
        self, slots: int, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> StateTree:
        """Nothing begun."""
        return {"begun": torch.zeros((slots, self.patch, OVERLAP - 1), dtype=dtype, device=device)}

    def forward(self, x: Tensor) -> Tensor:
        """A whole signal, and behind it the patches of which `output_delay` samples are still due."""
        parts = self._speak(x)
        more = -(-self.delay // self.patch)
        return overlap_add(parts, x.shape[-1] + more)

    def step(self, x: Tensor, state: StateTree, active: Tensor) -> Tensor:
        """The next positions of every active slot."""
        rows = active_rows(active)
        begun = take(leaf(state, "begun"), rows).to(x.dtype)
        time = x.shape[-1]
        total = overlap_add(self._speak(take(x, rows)), time + OVERLAP - 1)
        total = torch.cat([total[..., : OVERLAP - 1] + begun, total[..., OVERLAP - 1 :]], -1)
        put(leaf(state, "begun"), rows, total[..., time:])
        return spread(total[..., :time], rows, len(active))

    def tail(self, state: StateTree) -> Tensor:
        """[slots, 3 patches of samples]: what has begun."""
        return leaf(state, "begun").transpose(1, 2).flatten(1)

    def _speak(self, x: Tensor) -> Tensor:
        """[batch, dim, time] -> windows [batch, time, 4, patch]."""
        # In half precision there are no spectra.
        log, phase = self.projection(x.transpose(1, 2)).float().chunk(2, -1)
        magnitude = log.clamp(max=LOUDEST).exp()
        spectrum = torch.complex(magnitude * phase.cos(), magnitude * phase.sin())
        # Hann windows a quarter apart add up to 2.
        pieces = irfft(spectrum, self.size) * (self.window.on(x.device) / 2)
        return pieces.reshape(*pieces.shape[:2], OVERLAP, self.patch)


def overlap_add(parts: Tensor, patches: int) -> Tensor:
    """Windows [batch, time, 4, patch] -> [batch, patch, patches], patches <= time + 3."""
    time = parts.shape[1]
    total = parts.new_zeros(parts.shape[0], time + OVERLAP - 1, parts.shape[-1])
    for offset in range(OVERLAP):
        total[:, offset : offset + time] += parts[:, :, offset]
    return total[:, :patches].transpose(1, 2)
