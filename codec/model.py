"""Voxtral Codec: causal encoder and decoder of convolutions and windowed attention, a quantiser between them.

Voxtral Codec (arXiv 2603.25551). Unusual:
- patches of raw samples are the tokens; attention uses ALiBi and sees `window` past positions and itself;
- norms inside the blocks have an epsilon of 0.01, q and k are normalised over all heads together;
- strided convolutions repeat their first input as the past and their last one to fill a ragged end; the two
  projections from and to patches mirror their first inputs instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.conv import CausalConv1d, CausalConvTranspose1d
from ..kernels.fused_stage import FusedStage
from ..kernels.pack import pack_weights
from ..kernels.state import StateTree, leaf, subtree
from ..kernels.transformer import Transformer
from .config import CodecConfig
from .quantizer import Quantizer
from .source import SourceFilter
from .spectrum import InverseSpectrum, LogSpectrum


class PatchInput(CausalConv1d):
    """Samples to positions: patches as channels, then a convolution that mirrors its past."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__(config.patch, config.dim, config.patch_kernel, bias=False, past_mode="reflect")


class PatchOutput(CausalConv1d):
    """Positions to samples: a convolution whose channels are the samples of a patch."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__(config.dim, config.patch, config.patch_kernel, bias=False, past_mode="reflect")


class Stages(nn.Module):
    """Convolutions [batch, channels, time] and transformers [batch, time, channels] in turn."""

    def __init__(self, blocks: Sequence[nn.Module], rates: Sequence[int]) -> None:
        """`rates`: positions in a frame at the input of each block."""
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.rates = tuple(rates)

    def initial_state(
        self, slots: int, max_frames: int, dtype: torch.dtype, device: torch.device | str
    ) -> StateTree:
        """Fresh slots for steps of at most `max_frames`."""
        state: StateTree = {}
        for index, (block, rate) in enumerate(zip(self.blocks, self.rates, strict=True)):
            if isinstance(block, Transformer | FusedStage):
                state[f"{index}"] = block.initial_state(
                    slots, max_chunk=rate * max_frames, dtype=dtype, device=device
                )
            elif isinstance(block, CausalConv1d | CausalConvTranspose1d):
                state[f"{index}"] = block.initial_state(slots, dtype=dtype, device=device)
        return state

    def forward(self, x: Tensor) -> Tensor:
        """[batch, time, channels] -> [batch, time', channels']."""
        for block in self.blocks:
            x = self.through(block, x)
        return x

    @staticmethod
    def through(block: nn.Module, x: Tensor) -> Tensor:
        """One of the blocks: [batch, time, channels] -> [batch, time', channels']."""
        # Contiguous: a linear layer on a transposed input takes a slower route.
        return block(x) if isinstance(block, Transformer) else _along(block(_along(x)))

    def step(self, x: Tensor, state: StateTree, active: Tensor) -> Tensor:
        """The next positions; a ragged last chunk is completed where a stride asks for it."""
        for index, block in enumerate(self.blocks):
            own = subtree(state, f"{index}")
            if isinstance(block, Transformer | FusedStage):
                x = block.step(x, own, active)
            elif isinstance(block, CausalConv1d | CausalConvTranspose1d):
                x = x.transpose(1, 2)
                if isinstance(block, CausalConv1d) and x.shape[-1] % block.stride:
                    x = F.pad(x, (0, -x.shape[-1] % block.stride), "replicate")
                x = _along(block.step(x, own, active))
        return x


def _along(x: Tensor) -> Tensor:
    """The other of the two orders, time and channels, in memory too."""
    return x.transpose(1, 2).contiguous()


class CodecEncoder(nn.Module):
    """Waveform [batch, samples] to latents [batch, frames, latent_dim]."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.input = LogSpectrum(config) if config.encoder_input == "logspec" else PatchInput(config)
        blocks: list[nn.Module] = []
        rates: list[int] = []
        stride = 1
        stages = zip(config.encoder_layers, config.encoder_kernels, config.encoder_strides, strict=True)
        for index, (layers, kernel, by) in enumerate(stages):
            blocks.append(Transformer(config.stage(layers, stride)))
            last = index == len(config.encoder_layers) - 1
            out = config.latent_dim if last else config.dim
            blocks.append(CausalConv1d(config.dim, out, kernel, by, bias=False, past_mode="replicate"))
            rates += [config.positions // stride] * 2
            stride *= by
        self.stages = Stages(blocks, rates)

    def initial_state(
        self,
        slots: int,
        *,
        max_frames: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> StateTree:
        """Fresh slots for steps of at most `max_frames` frames."""
        return {
            "input": self.input.initial_state(slots, dtype=dtype, device=device),
            "stages": self.stages.initial_state(slots, max_frames, dtype, device),
        }

    def forward(self, wave: Tensor) -> Tensor:
        """Any number of samples; the last frame may be a part of one.

        It is filled with zeros up to a patch, from there on every stride repeats its last position, as the
        reference does: a whole frame that ends in zeros gives other codes.
        """
        return self.stages(self.hear(wave))

    def hear(self, wave: Tensor) -> Tensor:
        """[batch, samples] -> [batch, patches, dim], what the stages are given."""
        return self.input(self._patches(wave)).transpose(1, 2)

    def step(self, wave: Tensor, state: StateTree, active: Tensor) -> Tensor:
        """[slots, n frames of samples] -> [slots, n, latent_dim]; see `finish` for the rest of a stream."""
        if wave.shape[-1] == 0 or wave.shape[-1] % self.config.frame:
            raise ValueError(f"a step takes a multiple of {self.config.frame} samples, got {wave.shape[-1]}")
        return self._step(self._patches(wave), state, active)

    def finish(self, wave: Tensor, state: StateTree, active: Tensor) -> Tensor:
        """[slots, less than a frame of samples] -> [slots, 1, latent_dim]; the streams end here."""
        if not 0 < wave.shape[-1] < self.config.frame:
            raise ValueError(f"the rest is 1 to {self.config.frame - 1} samples, got {wave.shape[-1]}")
        patches = self._patches(wave)
        count = patches.shape[-1]
        # What stands before the first patch mirrors those after it: a stream shorter than that sees zeros.
        longer = F.pad(patches, (0, max(0, self.config.patch_kernel - count)))
        return self._step(longer, state, active, count)

    def _step(self, patches: Tensor, state: StateTree, active: Tensor, count: int | None = None) -> Tensor:
        x = self.input.step(patches, subtree(state, "input"), active)[..., :count]
        return self.stages.step(x.transpose(1, 2), subtree(state, "stages"), active)

    def _patches(self, wave: Tensor) -> Tensor:
        """[batch, samples] -> [batch, patch, patches], the last one filled with zeros."""
        patch = self.config.patch
        wave = F.pad(wave, (0, -wave.shape[-1] % patch))
        return wave.reshape(wave.shape[0], -1, patch).transpose(1, 2)


class CodecDecoder(nn.Module):
    """Latents [batch, frames, latent_dim] to a waveform [batch, samples].

    With an overlapping head the waveform comes `output_delay` samples late. `forward` mends that; a stream
    drops as many of its first samples and asks `tail` for what is still due at its end.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        blocks: list[nn.Module] = []
        rates: list[int] = []
        stride = config.positions
        stages = zip(config.decoder_layers, config.decoder_kernels, config.decoder_strides, strict=True)
        for index, (layers, kernel, by) in enumerate(stages):
            if index == 0:
                blocks.append(
                    CausalConv1d(config.latent_dim, config.dim, kernel, bias=False, past_mode="replicate")
                )
            else:
                blocks.append(CausalConvTranspose1d(config.dim, config.dim, kernel, by, bias=False))
            rates.append(config.positions // stride)
            stride //= by
            blocks.append(Transformer(config.stage(layers, stride)))
            rates.append(config.positions // stride)
        self.stages = Stages(blocks, rates)
        heads = {"istft": InverseSpectrum, "source": SourceFilter, "patch": PatchOutput}
        self.output: InverseSpectrum | SourceFilter | PatchOutput = heads[config.head](config)

    def initial_state(
        self,
        slots: int,
        *,
        max_frames: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> StateTree:
        """Fresh slots for steps of at most `max_frames` frames."""
        return {
            "stages": self.stages.initial_state(slots, max_frames, dtype, device),
            "output": self.output.initial_state(slots, dtype=dtype, device=device),
        }

    def forward(self, latents: Tensor) -> Tensor:
        """[batch, frames, latent_dim] -> [batch, frames x 1920]."""
        return self.speak(latents)[0]

    def speak(
        self, latents: Tensor, begin: Tensor | None = None, hertz: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """The waveform, and what a head with a source says of itself.

        Args:
            begin: int64 [batch], where in its noise such a head begins with each; None: at the beginning.
            hertz: [batch, positions], what it takes for the pitch where that is not 0.

        Returns:
            [batch, samples], and logarithms of Hz [batch, positions] with the power to be expected [batch,
            positions, bins]; None of another head.
        """
        wave, said = self.late(latents, begin, hertz)
        delay = self.config.output_delay
        return wave[:, delay : delay + latents.shape[1] * self.config.frame], said

    def late(
        self, latents: Tensor, begin: Tensor | None = None, hertz: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """The same, as late as a stream gives it: `output_delay` samples more at the beginning."""
        x = self.stages(latents.to(self._dtype)).transpose(1, 2)
        said = None
        if isinstance(self.output, SourceFilter):
            patches, pitch, power = self.output.voice(x, latents, begin, hertz)
            said = pitch, power
        else:
            patches = self.output(x)
        return patches.transpose(1, 2).flatten(1), said

    def step(self, latents: Tensor, state: StateTree, active: Tensor) -> Tensor:
        """[slots, n, latent_dim] -> [slots, n frames of samples], `output_delay` samples late."""
        x = self.stages.step(latents.to(self._dtype), subtree(state, "stages"), active).transpose(1, 2)
        own = subtree(state, "output")
        if isinstance(self.output, SourceFilter):
            y = self.output.step(x, latents, own, active)
        else:
            y = self.output.step(x, own, active)
        return y.transpose(1, 2).flatten(1)

    @property
    def _dtype(self) -> torch.dtype:
        """Of the weights: what the stages compute in. The pitch is read from latents as they are."""
        first = self.stages.blocks[0]
        return first.get_parameter("weight").dtype

    def tail(self, state: StateTree) -> Tensor:
        """[slots, output_delay]: what a finished stream still owes."""
        own = subtree(state, "output")
        if isinstance(self.output, InverseSpectrum | SourceFilter):
            return self.output.tail(own)[:, : self.config.output_delay]
        past = leaf(own, "past")
        return past.new_zeros(past.shape[0], 0)


class CodecModel(nn.Module):
    """Encoder (where there is one), quantiser, decoder."""

    def __init__(self, config: CodecConfig, *, with_encoder: bool = True) -> None:
        super().__init__()
        self.config = config
        self.encoder = CodecEncoder(config) if with_encoder else None
        self.quantizer = Quantizer(config)
        self.decoder = CodecDecoder(config)

    def pack(self) -> None:
        """Turn into a model for a CPU, in place: it only streams afterwards, but faster.

        Weights are int8, what flows is float32. The codebook stays.
        """
        pack_weights(self)
        if isinstance(self.decoder.output, SourceFilter):
            self.decoder.output.pack()
