from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from rillvox.errors import ConfigError
from rillvox.kernels.position import (
    TAU,
    YarnScaling,
    alibi_slopes,
    phase,
    query_scale,
    rope_angles,
    rope_frequencies,
    rotate,
    sinusoids,
)

FAR = [0, 1, 16383, 131071, 2**24 + 1, 10**7 + 3, 2**40 + 5]


def exact_phase(position: int, frequency: float) -> float:
    """In rational numbers: no rounding before the end."""
    return float(Fraction(position) * Fraction(frequency) % Fraction(TAU))


def around(angle: Tensor, exact: Tensor) -> float:
    """Greatest distance of two angles on the circle."""
    return float((torch.remainder(angle.double() - exact + math.pi, TAU) - math.pi).abs().max())


def exact_phases(frequencies: Tensor) -> Tensor:
    rows = [[exact_phase(p, float(f)) for f in frequencies] for p in FAR]
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("theta", [1e4, 1e6])
def test_phases_are_exact_at_any_position(theta: float) -> None:
    frequencies = rope_frequencies(64, theta)
    assert around(phase(torch.tensor(FAR), frequencies), exact_phases(frequencies)) < 4e-7


def test_float32_positions_and_unsplit_float64_are_not_exact() -> None:
    frequencies = rope_frequencies(64, 1e6)
    positions, exact = torch.tensor(FAR), exact_phases(frequencies)
    single = positions.float().unsqueeze(-1) * frequencies.float()
    assert around(single, exact) > 0.1
    plain = torch.remainder(positions.double().unsqueeze(-1) * frequencies, TAU)
    assert around(plain, exact) > 1e-5


def test_rope_frequencies_fall_geometrically() -> None:
    frequencies = rope_frequencies(8, 1e4)
    assert torch.allclose(frequencies, torch.tensor([1.0, 0.1, 0.01, 0.001], dtype=torch.float64))


def test_yarn_ramps_between_pairs_20_and_37_of_ministral() -> None:
    """Head width 128, base 1e6, original length 16384: lower pairs untouched, higher ones 16 times slower."""
    plain, scaled = rope_frequencies(128, 1e6), rope_frequencies(128, 1e6, YarnScaling())
    ratio = plain / scaled
    assert torch.equal(ratio[:21], torch.ones(21, dtype=torch.float64))
    assert torch.allclose(ratio[37:], torch.full((27,), 16.0, dtype=torch.float64))
    assert bool((ratio[21:37] > 1).all())
    assert bool((ratio[21:37] < 16).all())
    # The ramp is linear in the frequencies' weight.
    weight = (1 - scaled / plain) / (1 - 1 / 16)
    assert torch.allclose(weight[20:38].diff(), torch.full((17,), 1 / 17, dtype=torch.float64))


def test_yarn_refuses_to_compress() -> None:
    with pytest.raises(ConfigError, match=r"rope_scaling\.factor"):
        YarnScaling(factor=0.5)


@pytest.mark.parametrize("layout", ["interleaved", "half"])
def test_rotation_is_a_complex_product(layout: str) -> None:
    x = torch.randn(2, 3, 4, 8)
    positions = torch.tensor([[0, 5, 9], [100, 101, 102]])
    frequencies = rope_frequencies(8, 1e4)
    got = rotate(x, *rope_angles(positions, frequencies), layout)
    pairs = x.unflatten(-1, (4, 2)) if layout == "interleaved" else x.unflatten(-1, (2, 4)).transpose(-1, -2)
    turn = torch.polar(
        torch.ones(2, 3, 1, 4, dtype=torch.float64), (positions[..., None] * frequencies)[:, :, None]
    )
    want = torch.view_as_real(torch.view_as_complex(pairs.double().contiguous()) * turn)
    want = want.flatten(-2) if layout == "interleaved" else want.transpose(-1, -2).flatten(-2)
    assert torch.allclose(got.double(), want, atol=1e-6)


def test_the_two_layouts_differ() -> None:
    x = torch.randn(1, 2, 1, 8)
    angles = rope_angles(torch.tensor([[3, 4]]), rope_frequencies(8, 1e4))
    assert (rotate(x, *angles, "half") - rotate(x, *angles, "interleaved")).abs().max() > 0.1


def test_query_scale_grows_by_steps() -> None:
    scale = query_scale(torch.tensor([0, 16383, 16384, 131071, 131072]), 0.1, 16384)
    assert scale[:2].tolist() == [1.0, 1.0]
    assert scale[2:].tolist() == pytest.approx([1.0693, 1.2079, 1.2197], abs=1e-4)


def test_alibi_slopes_begin_at_one() -> None:
    assert alibi_slopes(8).tolist() == [2.0**-h for h in range(8)]
    # Not a power of two: the series of 4, then every other element of the series of 8.
    assert alibi_slopes(6).tolist() == pytest.approx([1, 1 / 4, 1 / 16, 1 / 64, 1, 1 / 4])


def whisper_table(length: int, channels: int) -> Tensor:
    """openai/whisper's formula."""
    step = math.log(10000) / (channels // 2 - 1)
    scale = torch.exp(-step * torch.arange(channels // 2))
    time = torch.arange(length)[:, None] * scale[None]
    return torch.cat([time.sin(), time.cos()], dim=1)


def test_sinusoids_are_whispers_where_nothing_stands_still() -> None:
    assert torch.allclose(sinusoids(torch.arange(1500), 64, 1e9), whisper_table(1500, 64), atol=2e-4)


def test_waves_longer_than_the_longest_period_stand_still() -> None:
    table = sinusoids(torch.arange(3000), 64, 1500)
    moving = table[:, :32].abs().amax(0) > 0
    whole = whisper_table(3000, 64)
    periods = TAU * torch.exp(math.log(10000) / 31 * torch.arange(32))
    assert torch.equal(moving, periods <= 1500)
    assert torch.allclose(table[:, :32][:, moving], whole[:, :32][:, moving], atol=1e-3)
    assert bool((table[:, 32:][:, ~moving] == 1).all())
