"""A small codec's voice: a source that keeps its own time, and a filter for each hundredth of a second.

Made from spectra alone, the phases of one window would have to fit those of the next, which a small decoder
does not learn: harmonics fall apart above 1 kHz. So the decoder says the pitch, the phase runs on by itself,
and what is learned are the gains of pulses and of noise at every frequency.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.sampling import normal
from ..kernels.state import StateTree, active_rows, leaf, put, spread, take
from .config import SAMPLE_RATE, CodecConfig
from .spectrum import OVERLAP, Hann, irfft, overlap_add, rfft

LOWEST, HIGHEST = 50.0, 550.0  # Hz of the pitch
LOUDEST = 3.0  # of log-gains
NOISE_PATCHES = 256  # after so many the noise comes again
_POWER = 1.5  # squares of Hann windows a quarter apart add up to it


class SourceFilter(nn.Module):
    """Positions [batch, dim, time] to patches [batch, patch, time], `output_delay` samples late.

    The window of a position ends with the position's own patch, so the pitch never looks ahead; it is
    complete three patches later.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.patch, self.size = config.patch, OVERLAP * config.patch
        self.delay = config.output_delay
        self.bins = self.size // 2 + 1
        self.projection = nn.Linear(config.dim, 3 * self.bins)
        self.pitch = nn.Linear(config.dim, 1)
        with torch.no_grad():
            self.projection.weight[2 * self.bins :] *= 0.1
            self.projection.bias[: 2 * self.bins] -= 4.0
        self.window = Hann(self.size)
        self._noise: dict[torch.device, Tensor] = {}

    def initial_state(
        self, slots: int, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> StateTree:
        """Nothing begun; a pitch of 0 is none yet. Spectra, and so pulses, are float32 at least."""
        shape, kind = (slots, self.patch, OVERLAP - 1), torch.promote_types(dtype, torch.float32)
        return {
            "begun": torch.zeros(shape, dtype=kind, device=device),
            "pulses": torch.zeros(shape, dtype=kind, device=device),
            "pitch": torch.zeros((slots, 1), dtype=torch.float64, device=device),
            "phase": torch.zeros((slots, 1), dtype=torch.float64, device=device),
            "position": torch.zeros(slots, dtype=torch.int64, device=device),
        }

    def forward(self, x: Tensor) -> Tensor:
        """A whole signal, and behind it the patches of which `output_delay` samples are still due."""
        return self.voice(x)[0]

    def voice(
        self, x: Tensor, begin: Tensor | None = None, hertz: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The same, and the power to be expected at every frequency of every window [batch, time, bins].

        What is expected has no noise in it, so it teaches gains with fewer examples than the sound does.

        Args:
            begin: int64 [batch], where in the noise each begins; None: at its beginning.
            hertz: the pitch to take where it is not 0, [batch, time]; None: as the positions say.
        """
        x = x.transpose(1, 2)
        said = self._hertz(x)
        if hertz is not None:
            said = torch.where(hertz > 0, hertz, said)
        zeros = x.new_zeros((len(x), 1), dtype=torch.float64)
        pulses, _ = self._pulses(said.double(), zeros, zeros)
        position = begin if begin is not None else zeros[:, 0].long()
        parts, power = self._speak(x, F.pad(pulses, (0, 0, OVERLAP - 1, 0)), position)
        return overlap_add(parts, x.shape[1] + -(-self.delay // self.patch)), power

    def step(self, x: Tensor, state: StateTree, active: Tensor) -> Tensor:
        """The next positions of every active slot."""
        rows = active_rows(active)
        x = take(x, rows).transpose(1, 2)
        begun, before, pitch, phase, position = (
            take(leaf(state, name), rows) for name in ("begun", "pulses", "pitch", "phase", "position")
        )
        time = x.shape[1]
        hertz = self._hertz(x).double()
        pulses, after = self._pulses(hertz, pitch, phase)
        pulses = torch.cat([before.transpose(1, 2), pulses], 1)
        total = overlap_add(self._speak(x, pulses, position)[0], time + OVERLAP - 1)
        total = torch.cat([total[..., : OVERLAP - 1] + begun, total[..., OVERLAP - 1 :]], -1)
        put(leaf(state, "begun"), rows, total[..., time:])
        put(leaf(state, "pulses"), rows, pulses[:, time:].transpose(1, 2))
        put(leaf(state, "pitch"), rows, hertz[:, -1:])
        put(leaf(state, "phase"), rows, after)
        put(leaf(state, "position"), rows, position + time)
        return spread(total[..., :time].to(x.dtype), rows, len(active))

    def tail(self, state: StateTree) -> Tensor:
        """[slots, 3 patches of samples]: what has begun."""
        return leaf(state, "begun").transpose(1, 2).flatten(1)

    def log_pitch(self, x: Tensor) -> Tensor:
        """[batch, dim, time] -> natural logarithms of Hz [batch, time] at the end of each position."""
        with torch.autocast(x.device.type, enabled=False):  # half precision has no fine pitches
            share = torch.sigmoid(self.pitch(x.transpose(1, 2).float()).squeeze(-1))
        return math.log(LOWEST) + share * math.log(HIGHEST / LOWEST)

    def _hertz(self, x: Tensor) -> Tensor:
        """[batch, time, dim] -> [batch, time]. The pitch is taught by itself: sound does not teach it."""
        return self.log_pitch(x.transpose(1, 2)).detach().exp()

    @torch.no_grad()
    def _pulses(self, hertz: Tensor, before: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
        """Pulses [batch, time, patch] of power 1, all harmonics up to the top, and the phase behind them.

        Args:
            hertz: float64 [batch, time] at the end of each patch; within it the pitch runs straight.
            before: [batch, 1] at the end of the patch before; 0: there was none.
            phase: [batch, 1] in cycles at that place.
        """
        first = torch.cat([torch.where(before > 0, before, hertz[:, :1]), hertz[:, :-1]], 1)
        passed = (first + hertz) * (self.patch / 2 / SAMPLE_RATE)
        # One after the other, from where the phase stood: the same bits whatever the cuts.
        ends = torch.cat([phase, passed], 1).cumsum(1)
        j = torch.arange(1, self.patch + 1, device=hertz.device, dtype=hertz.dtype)
        within = first[..., None] * j + (hertz - first)[..., None] * j.square() / (2 * self.patch)
        turns = (ends[:, :-1, None] + within / SAMPLE_RATE).remainder(1)
        count = (SAMPLE_RATE / 2 / torch.maximum(first, hertz)).floor()[..., None]
        half = (math.pi * turns).sin()
        ringing = (math.pi * (2 * count + 1) * turns).sin() / torch.where(half.abs() < 1e-9, 1, half)
        sums = (torch.where(half.abs() < 1e-9, 2 * count + 1, ringing) - 1) / 2
        return (sums * (2 / count).sqrt()).float(), ends[:, -1:].remainder(1)

    def _speak(self, x: Tensor, pulses: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Windows [batch, time, 4, patch] of positions [batch, time, dim], and their power.

        Args:
            pulses: [batch, time + 3, patch], beginning three patches before the first position.
            position: int64 [batch], where in the noise the first position stands.
        """
        # In half precision there are no spectra.
        pulse_log, noise_log, turn = self.projection(x).float().chunk(3, -1)
        window = self.window.on(x.device)
        tonal = rfft(pulses.flatten(1).unfold(-1, self.size, self.patch) * window)
        at = position[:, None] + torch.arange(x.shape[1], device=x.device)
        hiss = self._noise_spectra(x.device)[at.remainder(NOISE_PATCHES)]
        gain = pulse_log.clamp(max=LOUDEST).exp()
        spectrum = tonal * torch.complex(gain * turn.cos(), gain * turn.sin())
        loud = noise_log.clamp(max=LOUDEST).exp()
        spectrum = spectrum + hiss * loud
        pieces = irfft(spectrum, self.size) * (window / _POWER)
        power = torch.view_as_real(tonal).square().sum(-1) * gain.square()
        power = power + loud.square() * (self.size * 3 / 8)  # squares of a Hann window add up to that
        return pieces.reshape(*pieces.shape[:2], OVERLAP, self.patch), power

    @torch.no_grad()
    def _noise_spectra(self, device: torch.device) -> Tensor:
        """Complex [NOISE_PATCHES, bins]: windows of an endless noise of power 1; a formula is no weight."""
        if device not in self._noise:
            seed = torch.zeros(1, dtype=torch.int64)
            wave = normal(seed, seed, NOISE_PATCHES * self.patch)[0]
            wave = torch.cat([wave, wave[: self.size - self.patch]])
            windows = wave.unfold(0, self.size, self.patch) * self.window.on(torch.device("cpu"))
            self._noise[device] = rfft(windows).to(device)
        return self._noise[device]
