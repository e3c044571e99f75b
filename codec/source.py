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
from .fused_source import FusedSource
from .spectrum import OVERLAP, Hann, irfft, overlap_add, rfft

LOWEST, HIGHEST = 50.0, 550.0  # Hz of the pitch
LOUDEST = 3.0  # of log-gains
CONTEXT, PITCH_WIDTH = 4, 160  # frames, and numbers, from which the pitch is read
NOISE_PATCHES = 256  # after so many the noise comes again
_POWER = 1.5  # squares of Hann windows a quarter apart add up to it


class PitchReader(nn.Module):
    """Latents [batch, frames, latent_dim] to logarithms of Hz at the end of every position.

    In float64, from what the codes say exactly: the phase is a sum over the whole stream, and what is off by
    the rounding of float32 in every position would be heard as another sound after a minute.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        wide = CONTEXT * config.latent_dim
        self.first = nn.Parameter(torch.randn(PITCH_WIDTH, wide) / wide**0.5)
        self.first_bias = nn.Parameter(torch.zeros(PITCH_WIDTH))
        self.second = nn.Parameter(torch.randn(PITCH_WIDTH, PITCH_WIDTH) / PITCH_WIDTH**0.5)
        self.second_bias = nn.Parameter(torch.zeros(PITCH_WIDTH))
        self.last = nn.Parameter(torch.randn(config.positions, PITCH_WIDTH) / PITCH_WIDTH**0.5)
        self.last_bias = nn.Parameter(torch.zeros(config.positions))

    def forward(self, latents: Tensor) -> Tensor:
        """A whole signal: float64 [batch, frames x positions]; float32 while it learns."""
        kind = torch.float32 if torch.is_grad_enabled() and self.first.requires_grad else torch.float64
        return self._read(F.pad(latents.to(kind), (0, 0, CONTEXT - 1, 0)))

    def step(self, latents: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """The next frames behind those of `past` [slots, CONTEXT - 1, latent_dim], and their past."""
        heard = torch.cat([past, latents.to(past.dtype)], 1)
        return self._read(heard.double()), heard[:, 1 - CONTEXT :]

    def _read(self, heard: Tensor) -> Tensor:
        x = heard.unfold(1, CONTEXT, 1).transpose(2, 3).flatten(2)
        with torch.autocast(heard.device.type, enabled=False):
            for weight, bias in ((self.first, self.first_bias), (self.second, self.second_bias)):
                x = F.silu(F.linear(x, weight.to(x.dtype), bias.to(x.dtype)))
            x = F.linear(x, self.last.to(x.dtype), self.last_bias.to(x.dtype))
        return math.log(LOWEST) + torch.sigmoid(x).flatten(1) * math.log(HIGHEST / LOWEST)


class SourceFilter(nn.Module):
    """Latents and positions [batch, dim, time] to patches [batch, patch, time], `output_delay` samples late.

    The window of a position ends with the position's own patch, so the pitch never looks ahead; it is
    complete three patches later.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.patch, self.size = config.patch, OVERLAP * config.patch
        self.latent_dim = config.latent_dim
        self.more = -(-config.output_delay // config.patch)  # patches still due when a stream ends
        self.bins = self.size // 2 + 1
        self.projection = nn.Linear(config.dim, 3 * self.bins)
        self.pitch = PitchReader(config)
        with torch.no_grad():
            self.projection.weight[2 * self.bins :] *= 0.1
            self.projection.bias[: 2 * self.bins] -= 4.0
        self.window = Hann(self.size)
        self._noise: dict[torch.device, Tensor] = {}
        self.fused: FusedSource | None = None  # once packed

    def pack(self) -> None:
        """Let steps on a CPU be compiled ones, with the packed weights that the projection has by now."""
        self.fused = FusedSource(self, (LOWEST, HIGHEST, LOUDEST), _POWER)

    def initial_state(
        self, slots: int, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> StateTree:
        """Nothing begun; a pitch of 0 is none yet. Spectra, and so pulses, are float32 at least."""
        shape, kind = (slots, self.patch, OVERLAP - 1), torch.promote_types(dtype, torch.float32)
        return {
            "begun": torch.zeros(shape, dtype=kind, device=device),
            "pulses": torch.zeros(shape, dtype=kind, device=device),
            "last": torch.zeros((slots, self.projection.in_features), dtype=kind, device=device),
            "latents": torch.zeros((slots, CONTEXT - 1, self.latent_dim), dtype=kind, device=device),
            "pitch": torch.zeros((slots, 1), dtype=torch.float64, device=device),
            "phase": torch.zeros((slots, 1), dtype=torch.float64, device=device),
            "position": torch.zeros(slots, dtype=torch.int64, device=device),
        }

    @property
    def dtype(self) -> torch.dtype:
        """What the projection computes in."""
        weight = getattr(self.projection, "weight", None)
        return weight.dtype if isinstance(weight, Tensor) else torch.float32

    def voice(
        self, x: Tensor, latents: Tensor, begin: Tensor | None = None, hertz: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A whole signal, and behind it the patches of which `output_delay` samples are still due.

        Args:
            x: [batch, dim, time].
            latents: [batch, frames, latent_dim].
            begin: int64 [batch], where in the noise each begins; None: at its beginning.
            hertz: the pitch to take where it is not 0, [batch, time]; None: as the latents say.

        Returns:
            Patches; logarithms of Hz [batch, time]; and the power to be expected at every frequency of every
            window [batch, time, bins]. What is expected has no noise in it, so it teaches gains with fewer
            examples than the sound does.
        """
        x = x.transpose(1, 2)
        pitch = self.pitch(latents)
        # The pitch is taught by itself: sound does not teach it.
        said = pitch.detach().exp().double()
        if hertz is not None:
            said = torch.where(hertz > 0, hertz, said)
        time, zeros = x.shape[1], said.new_zeros((len(x), 1))
        # The last patches need windows that end behind the signal: the last position stands for them, too.
        x = torch.cat([x, x[:, -1:].expand(-1, self.more, -1)], 1)
        said = torch.cat([said, said[:, -1:].expand(-1, self.more)], 1)
        pulses, _ = self._pulses(said, zeros, zeros)
        position = begin if begin is not None else zeros[:, 0].long()
        parts, power = self._speak(x, F.pad(pulses, (0, 0, OVERLAP - 1, 0)), position)
        return overlap_add(parts, time + self.more), pitch, power[:, :time]

    def step(self, x: Tensor, latents: Tensor, state: StateTree, active: Tensor) -> Tensor:
        """The next positions of every active slot, and the latents that they were made of."""
        if self.fused is not None:
            return self.fused.step(x, latents, state, active)
        rows = active_rows(active)
        x = take(x, rows).transpose(1, 2)
        begun, before, heard, pitch, phase, position = (
            take(leaf(state, name), rows)
            for name in ("begun", "pulses", "latents", "pitch", "phase", "position")
        )
        time = x.shape[1]
        read, heard = self.pitch.step(take(latents, rows), heard)
        hertz = read.exp()
        pulses, after = self._pulses(hertz, pitch, phase)
        pulses = torch.cat([before.transpose(1, 2), pulses], 1)
        total = overlap_add(self._speak(x, pulses, position)[0], time + OVERLAP - 1)
        total = torch.cat([total[..., : OVERLAP - 1] + begun, total[..., OVERLAP - 1 :]], -1)
        put(leaf(state, "begun"), rows, total[..., time:])
        put(leaf(state, "pulses"), rows, pulses[:, time:].transpose(1, 2))
        put(leaf(state, "latents"), rows, heard)
        put(leaf(state, "last"), rows, x[:, -1])
        put(leaf(state, "pitch"), rows, hertz[:, -1:])
        put(leaf(state, "phase"), rows, after)
        put(leaf(state, "position"), rows, position + time)
        return spread(total[..., :time].to(x.dtype), rows, len(active))

    def tail(self, state: StateTree) -> Tensor:
        """[slots, at least `output_delay` samples]: what has begun, ended by the last position."""
        x = leaf(state, "last")[:, None].expand(-1, self.more, -1)
        pitch = leaf(state, "pitch").clamp(min=LOWEST)
        pulses, _ = self._pulses(pitch.expand(-1, self.more), pitch, leaf(state, "phase"))
        pulses = torch.cat([leaf(state, "pulses").transpose(1, 2), pulses], 1)
        parts, _ = self._speak(x, pulses, leaf(state, "position"))
        total = overlap_add(parts, self.more) + leaf(state, "begun")[..., : self.more]
        return total.transpose(1, 2).flatten(1)

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
        # From where the phase stood: the same to within 1e-12 whatever the cuts.
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
        pulse_log, noise_log, turn = self.projection(x.to(self.dtype)).float().chunk(3, -1)
        window = self.window.on(x.device)
        tonal = rfft(pulses.flatten(1).unfold(-1, self.size, self.patch) * window)
        at = position[:, None] + torch.arange(x.shape[1], device=x.device)
        hiss = self.noise_spectra(x.device)[at.remainder(NOISE_PATCHES)]
        gain = pulse_log.clamp(max=LOUDEST).exp()
        spectrum = tonal * torch.complex(gain * turn.cos(), gain * turn.sin())
        loud = noise_log.clamp(max=LOUDEST).exp()
        spectrum = spectrum + hiss * loud
        pieces = irfft(spectrum, self.size) * (window / _POWER)
        power = torch.view_as_real(tonal).square().sum(-1) * gain.square()
        power = power + loud.square() * (self.size * 3 / 8)  # squares of a Hann window add up to that
        return pieces.reshape(*pieces.shape[:2], OVERLAP, self.patch), power

    @torch.no_grad()
    def noise_spectra(self, device: torch.device) -> Tensor:
        """Complex [NOISE_PATCHES, bins]: windows of an endless noise of power 1; a formula is no weight."""
        if device not in self._noise:
            seed = torch.zeros(1, dtype=torch.int64)
            wave = normal(seed, seed, NOISE_PATCHES * self.patch)[0]
            wave = torch.cat([wave, wave[: self.size - self.patch]])
            windows = wave.unfold(0, self.size, self.patch) * self.window.on(torch.device("cpu"))
            self._noise[device] = rfft(windows).to(device)
        return self._noise[device]
