"""Tiny listeners, and what they write when everything is computed at once.

`offline` shares no code with the streaming path but the model's `forward`: it is the other side of every
streamed-equals-offline test.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from rillvox.asr.batch import Batch
from rillvox.asr.checkpoint import load_model
from rillvox.asr.config import ASRConfig, small_decoder, small_english, with_window
from rillvox.asr.frontend import LogMel, LogMelConfig
from rillvox.asr.lanes import Lane
from rillvox.asr.model import RealtimeASR
from rillvox.tekken import Tekken

GOLDEN = Path(__file__).parents[1] / "golden" / "asr_tiny"
LEFT_PAD = 32


@dataclass(frozen=True)
class Tiny:
    """A model with random weights and a vocabulary of single bytes."""

    model: RealtimeASR
    tokenizer: Tekken


def tekken(n_special: int, pieces: tuple[bytes, ...] = ()) -> Tekken:
    """Single bytes and `pieces` behind `n_special` symbols; streaming symbols at the released ids."""
    return Tekken.build(
        [bytes([i]) for i in range(256)] + list(pieces),
        r"[^\s]+|\s+",
        {"<s>": 1, "</s>": 2, "[STREAMING_PAD]": 32, "[STREAMING_WORD]": 33},
        {"streaming_n_left_pad_tokens": LEFT_PAD, "transcription_delay_ms": 480},
        n_special,
    )


@cache
def golden() -> Tiny:
    """The tiny listener of the golden vectors: 128 mels, windows of 20 and 12."""
    return Tiny(load_model(GOLDEN), tekken(36))


@cache
def small() -> Tiny:
    """The default listener's habits (blocks 4, 8, 16; 80 mels) at a toy's size, with short windows."""
    config = with_window(small_english(300, small_decoder()), encoder=40, decoder=24)
    stack = replace(config.encoder.stack, dim=48, n_layers=3, n_heads=3, head_dim=16, hidden_dim=96)
    decoder = replace(
        config.text_decoder, dim=32, n_layers=2, n_heads=2, head_dim=16, hidden_dim=64, ada_dim=8
    )
    encoder = replace(config.encoder, stack=stack, blocks=(4, 8, 16))
    config = replace(config, encoder=encoder, decoder=decoder, adapter_dim=40, block_delays_ms=(0, 160, 320))
    config = replace(config, most_delay_tokens=30)
    pieces = (b" a", b" the", b" of", b"lo", b"ing", b" \xe2\x82", b" I", b" we", b" so", b"er")
    # In float: int8 has laws of its own (tests/asr/test_packed.py), and turns near-ties of random weights.
    config = replace(config, cpu_weights="float32")
    return Tiny(_random(config), tekken(34, pieces))


def _random(config: ASRConfig) -> RealtimeASR:
    """Weights under which tokens follow the audio, near-ties are rare, and [P] and [W] are common."""
    torch.manual_seed(1)
    model = RealtimeASR(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 2.0 * parameter[0].numel() ** -0.5)
        embeddings = model.text_decoder.tok_embeddings.weight
        embeddings.normal_(0, 0.3)
        embeddings[32] *= 6.0
        embeddings[33] *= 1.9
    return model


def waveform(seconds: float, seed: int = 0) -> np.ndarray:
    """Chirping bursts with pauses: float32 [n]."""
    rng = np.random.default_rng(seed)
    n = round(seconds * 16000)
    t = np.arange(n) / 16000
    pitch = 120 + 80 * np.sin(2 * np.pi * 0.7 * t + seed)
    tone = sum(np.sin(2 * np.pi * k * np.cumsum(pitch) / 16000 + k) / k for k in range(1, 12))
    syllables = np.clip(np.sin(2 * np.pi * (2.3 + 0.1 * seed) * t), 0, 1) * (
        np.sin(2 * np.pi * 0.31 * t) > -0.6
    )
    return (0.1 * tone * syllables + 0.003 * rng.standard_normal(n)).astype(np.float32)


def golden_vectors() -> dict[str, torch.Tensor]:
    """All golden arrays."""
    return {**load_file(GOLDEN / "frontend_encoder.safetensors"), **load_file(GOLDEN / "decoder.safetensors")}


@torch.no_grad()
def offline(tiny: Tiny, samples: np.ndarray, delay: int, block: int) -> list[int]:
    """Greedy output tokens y[L-1 .. N-1] of a whole recording, from `forward` alone."""
    model, tokenizer = tiny.model, tiny.tokenizer
    audio = adapter_vectors(tiny, samples, delay, block)
    length = LEFT_PAD + 1 + delay
    tokens = [tokenizer.bos] + [tokenizer.pad] * (length - 1)
    steps = audio.shape[1]
    delays = torch.tensor([delay])
    while len(tokens) <= steps:
        logits = model.text_decoder(audio[:, : len(tokens)], torch.tensor([tokens]), delays)
        tokens.append(int(logits[0, -1].argmax()))
    return tokens[length:]


@torch.no_grad()
def adapter_vectors(tiny: Tiny, samples: np.ndarray, delay: int, block: int) -> torch.Tensor:
    """Adapter vectors [1, N, dim] of a padded recording; N in whole blocks."""
    unit = max(block // 4, 1)
    steps = LEFT_PAD - (-len(samples) // 1280) + delay + 11
    steps = -(-steps // unit) * unit
    padded = np.zeros(steps * 1280, np.float32)
    padded[LEFT_PAD * 1280 : LEFT_PAD * 1280 + len(samples)] = samples
    config = tiny.model.config.encoder
    mel = LogMel(LogMelConfig(n_mels=config.n_mels, floor_max=config.global_log_mel_max))
    return tiny.model.encode(mel(torch.from_numpy(padded)[None]), block=block)


def watch(lane: Lane) -> list[int]:
    """The list to which the lane's free tokens are added from now on."""
    out: list[int] = []
    lane.on_reading = lambda _, reading: out.append(reading.token)
    return out


def batch(tiny: Tiny, slots: int = 1, **settings: object) -> Batch:
    """A batch of a tiny listener."""
    return Batch(tiny.model, tiny.tokenizer, slots, **settings)  # type: ignore[arg-type]


def listen(lane: Lane, batch: Batch, samples: np.ndarray, cuts: list[int]) -> list[int]:
    """Feed a lane in pieces of the given lengths (the last repeats), finish it, return its tokens."""
    out = watch(lane)
    begin, turn = 0, 0
    while begin < len(samples):
        step = cuts[min(turn, len(cuts) - 1)]
        lane.push(samples[begin : begin + step])
        batch.step()
        begin, turn = begin + step, turn + 1
    lane.finish()
    batch.drain()
    return out


@cache
def expected(seconds: float, delay: int, block: int, seed: int = 0) -> list[int]:
    """`offline` tokens of the small listener for `waveform(seconds, seed)`."""
    return offline(small(), waveform(seconds, seed), delay, block)


def tensors(room: Batch, lane: Lane) -> dict[str, torch.Tensor]:
    """Copies of everything that the model remembers of a session."""
    bank = room.bank
    return {**bank.ear_tensors(lane.ear.slot), **bank.lane_tensors(lane.slot)}


def decoder_position(room: Batch, lane: Lane) -> int:
    """How many steps a lane's decoder state has seen."""
    return int(room.bank.lane_tensors(lane.slot)["position"])
