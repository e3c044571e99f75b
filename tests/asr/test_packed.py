"""An int8 listener: near the float one, and its laws bit for bit."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from laws.listening import Tiny, batch, small, waveform

from rillvox import ConfigError
from rillvox.asr.batch import Batch
from rillvox.asr.checkpoint import save_native
from rillvox.asr.lanes import Lane
from rillvox.asr.reading import Reading
from rillvox.asr.stream import ASR, choose_weights
from rillvox.kernels.int8 import Int8Linear

Readings = list[tuple[int, Reading]]


@cache
def packed(fused: bool = True) -> Tiny:
    model = copy.deepcopy(small().model)
    model.pack()
    if not fused:
        model.text_decoder.fused = None
    return Tiny(model, small().tokenizer)


def watch(lane: Lane) -> Readings:
    """Every reading with its scores; two runs that agree on these agree on everything."""
    out: Readings = []
    lane.on_reading = lambda position, reading: out.append((position, reading))
    return out


def alone(tiny: Tiny, seed: int, delay_ms: int) -> Readings:
    """A live session in pieces of 80 ms."""
    room = batch(tiny, max_tokens=4)
    lane = room.open(delay_ms)
    out = watch(lane)
    for piece in waveform(2.9, seed).reshape(-1, 1280 // 4):
        lane.push(piece)
        room.step()
    lane.finish()
    room.drain()
    return out


def crowd(room: Batch, seeds: list[int], delays: list[int], rng: np.random.Generator) -> list[Readings]:
    """Sessions that come one after another, with random cuts and idle ticks."""
    outs: list[Readings] = []
    feeds: list[tuple[Lane, np.ndarray]] = []
    waiting = list(zip(seeds, delays, strict=True))
    while waiting or feeds:
        if waiting and rng.random() < 0.4:
            seed, delay_ms = waiting.pop(0)
            lane = room.open(delay_ms)
            outs.append(watch(lane))
            feeds.append((lane, waveform(2.9, seed)))
        for index, (lane, samples) in enumerate(feeds):
            count = int(rng.integers(1, 9000))
            lane.push(samples[:count])
            feeds[index] = lane, samples[count:]
            if not len(samples[count:]):
                lane.finish()
        feeds = [(lane, samples) for lane, samples in feeds if len(samples)]
        if rng.random() < 0.7:
            room.step()
    room.drain()
    return outs


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("max_tokens", [4, 16])
def test_company_cuts_and_chunks_change_no_bit(fused: bool, max_tokens: int) -> None:
    tiny = packed(fused)
    seeds, delays = [0, 1, 2, 3, 4], [480, 80, 480, 240, 960]
    room = batch(tiny, 6, max_tokens=max_tokens)
    outs = crowd(room, seeds, delays, np.random.default_rng(max_tokens))
    for seed, delay_ms, out in zip(seeds, delays, outs, strict=True):
        want = alone(tiny, seed, delay_ms)
        assert [reading.token for _, reading in out] == [reading.token for _, reading in want]
        # Scores come out of a float32 product with the vocabulary, whose last bit may differ.
        got, expected = (np.array([reading.log_probability for _, reading in run]) for run in (out, want))
        assert np.allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_recording_is_heard_as_live_whatever_the_threads(threads: int) -> None:
    tiny = packed()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        room = batch(tiny, max_tokens=64)
        lane = room.open(480)
        out = watch(lane)
        lane.push(waveform(2.9, 5))
        lane.finish()
        room.drain()
    finally:
        torch.set_num_threads(before)
    assert [r.token for _, r in out] == [r.token for _, r in alone(tiny, 5, 480)]


@torch.no_grad()
def test_the_encoder_is_the_same_bits_in_any_chunks_and_company() -> None:
    model = packed().model
    mel = torch.randn(2, 80, 8 * 40) * 0.4
    both = torch.tensor([True, True])

    def encode(rows: torch.Tensor, chunk: int, active: torch.Tensor) -> torch.Tensor:
        state = model.initial_encoder_state(len(rows), max_tokens=chunk)
        parts = [model.encode_step(part, state, active, block=8) for part in rows.split(8 * chunk, dim=-1)]
        return torch.cat(parts, dim=1)

    want = encode(mel, 2, both)
    assert torch.equal(encode(mel, 10, both), want)
    assert torch.equal(encode(mel[1:], 4, both[:1]), want[1:])


@torch.no_grad()
def test_it_is_near_the_float_listener() -> None:
    float_model, int8_model = small().model, packed().model
    mel = torch.randn(1, 80, 8 * 60) * 0.4
    want, got = (model.encode(mel, block=16) for model in (float_model, int8_model))
    assert float((got - want).norm() / want.norm()) < 0.1


def test_an_int8_model_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="load the model with weights='float32'"):
        save_native(packed().model, packed().tokenizer, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("asked", "wanted", "variable", "got"),
    [
        ("int8", None, None, "int8"),
        ("int8", None, "float32", "float32"),
        ("int8", "float32", "int8", "float32"),
        ("float32", None, None, "float32"),
        ("float32", None, "int8", "int8"),
        ("float32", "int8", None, "int8"),
    ],
)
def test_who_decides_about_the_weights(
    monkeypatch: pytest.MonkeyPatch, asked: Any, wanted: str | None, variable: str | None, got: str
) -> None:
    monkeypatch.delenv("RILLVOX_WEIGHTS", raising=False)
    if variable is not None:
        monkeypatch.setenv("RILLVOX_WEIGHTS", variable)
    monkeypatch.setattr("rillvox.asr.stream.has_fast_int8", lambda: True)
    model = copy.copy(small().model)
    object.__setattr__(model, "config", _asking(asked))
    assert choose_weights(model, wanted) == got


def _asking(kind: Any) -> Any:
    from dataclasses import replace

    return replace(small().model.config, cpu_weights=kind)


def test_weights_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rillvox.asr.stream.has_fast_int8", lambda: False)
    assert choose_weights(small().model, None) == "float32"
    with pytest.raises(ConfigError, match="must be float32 or int8, got 'int4'"):
        choose_weights(small().model, "int4")
    double = copy.deepcopy(small().model).to(torch.bfloat16)
    with pytest.raises(ConfigError, match="int8 weights need device='cpu'"):
        choose_weights(double, "int8")


def test_the_default_model_is_int8_and_can_be_had_in_float() -> None:
    plain = ASR.load(weights="float32").model
    assert not any(isinstance(module, Int8Linear) for module in plain.modules())
    assert plain.config.cpu_weights == "int8"
