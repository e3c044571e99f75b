"""The step of a voice with packed weights on a CPU: compiled code around two Fourier transforms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..kernels.fused import as_array
from ..kernels.fused_stage import WeightInt8Linear
from ..kernels.state import StateTree, active_rows, leaf, spread, take
from .config import SAMPLE_RATE
from .spectrum import irfft, rfft

if TYPE_CHECKING:
    from .source import SourceFilter


class FusedSource:
    """`SourceFilter.step` with the same state; right to float32 rounding against it with the same weights."""

    def __init__(self, head: SourceFilter, limits: tuple[float, float, float], power: float) -> None:
        """A head whose projection is packed already.

        Args:
            limits: lowest and highest Hz, and the loudest log-gain.
            power: what the squares of overlapping windows add up to.
        """
        projection, pitch = head.projection, head.pitch
        assert isinstance(projection, WeightInt8Linear)  # pyright does not see that packing replaced it
        self.projection = projection
        # By inputs first: neighbouring outputs are added up side by side.
        self.weights = tuple(as_array(weight.T) for weight in (pitch.first, pitch.second, pitch.last))
        self.biases = tuple(map(as_array, (pitch.first_bias, pitch.second_bias, pitch.last_bias)))
        self.lowest, self.highest, self.loudest = limits
        self.bins, self.size = head.bins, head.size
        window = head.window.on(torch.device("cpu"))
        self.window, self.closing = as_array(window), as_array(window / power)
        self.hiss = _parts(head.noise_spectra(torch.device("cpu")))

    def step(self, x: Tensor, latents: Tensor, state: StateTree, active: Tensor) -> Tensor:
        """See `SourceFilter.step`."""
        from ..kernels.numba_source import colour, listen, overlap

        slots, _, time = x.shape
        rows = active_rows(active)
        if rows is not None and not len(rows):
            return x.new_zeros(slots, self.size // 4, time)
        own = np.arange(slots) if rows is None else rows.numpy()
        memory = ("latents", "pulses", "last", "pitch", "phase")
        x = take(x, rows).transpose(1, 2)
        windows = listen(
            as_array(x),
            as_array(take(latents, rows)),
            own,
            tuple(leaf(state, name).numpy() for name in memory),
            self.weights,
            self.biases,
            self.lowest,
            self.highest,
            float(SAMPLE_RATE),
            self.window,
        )
        said = self.projection(x).flatten(0, 1)
        said[:, : 2 * self.bins].clamp_(max=self.loudest).exp_()
        tonal = rfft(torch.from_numpy(windows))  # pyright: ignore[reportUnknownMemberType]
        colour(_parts(tonal), said.numpy(), self.hiss, own, leaf(state, "position").numpy())
        y = overlap(irfft(tonal, self.size).numpy(), self.closing, own, leaf(state, "begun").numpy())
        return spread(torch.from_numpy(y).transpose(1, 2).to(x.dtype), rows, slots)  # pyright: ignore[reportUnknownMemberType]


def _parts(spectra: Tensor) -> NDArray[np.float32]:
    """Real and imaginary parts side by side, of the same memory."""
    return torch.view_as_real(spectra).numpy()
