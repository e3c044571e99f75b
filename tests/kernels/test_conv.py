"""Causal convolutions against plain loops, whole and streamed."""

from __future__ import annotations

import pytest
import torch
from laws import assert_batch_law, assert_memory_law, assert_streaming_law
from torch import Tensor

from rillvox.kernels import conv
from rillvox.kernels.conv import CausalConv1d, CausalConvTranspose1d, PadMode, convolve, convolve_as_matrix
from rillvox.kernels.dispatch import references_only
from rillvox.kernels.state import leaf


def padded(x: list[list[float]], left: int, right: int, mode: PadMode) -> list[list[float]]:
    """Pad [channels][time] by the rule of the codec's reference: the same mode on both sides."""
    out: list[list[float]] = []
    for row in x:
        cut = 0
        if mode == "reflect":
            # A mirror needs more signal than pad: zeros are appended before and cut afterwards.
            while len(row) <= max(left, right):
                row = [*row, 0.0]
                cut += 1
            # The edge itself is not repeated: x6 .. x1 | x0 x1 ...
            before, after = row[1 : left + 1][::-1], row[-right - 1 : -1][::-1]
        elif mode == "replicate":
            before, after = [row[0]] * left, [row[-1]] * right
        else:
            before, after = [0.0] * left, [0.0] * right
        whole = [*before, *row, *after]
        out.append(whole[: len(whole) - cut])
    return out


def by_loops(layer: CausalConv1d, x: Tensor) -> Tensor:
    """[channels, time] -> [out_channels, ceil(time / stride)] in float64."""
    kernel, stride = layer.kernel_size, layer.stride
    left, time = kernel - stride, x.shape[1]
    frames = -(-time // stride)
    right = (frames - 1) * stride + kernel - left - time
    rows = torch.tensor(padded(x.tolist(), left, right, layer.past_mode), dtype=torch.float64)
    weight = layer.weight.double()
    out = torch.zeros(layer.out_channels, frames, dtype=torch.float64)
    for t in range(frames):
        out[:, t] = (weight * rows[:, t * stride : t * stride + kernel]).sum((1, 2))
    return out if layer.bias is None else out + layer.bias.double()[:, None]


def layer(kernel: int, stride: int, mode: PadMode, bias: bool = True) -> CausalConv1d:
    torch.manual_seed(kernel * 10 + stride)
    return CausalConv1d(3, 5, kernel, stride, bias=bias, past_mode=mode).requires_grad_(False)


SHAPES = [(3, 1), (7, 1), (3, 2), (4, 2), (5, 3), (1, 1), (2, 2)]
MODES: list[PadMode] = ["zeros", "replicate", "reflect"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("kernel", "stride"), SHAPES)
@pytest.mark.parametrize("time", [1, 2, 3, 5, 6, 7, 20, 21, 22])
def test_the_whole_signal_equals_loops(kernel: int, stride: int, mode: PadMode, time: int) -> None:
    """Ragged ends and signals that are shorter than the pad included."""
    made = layer(kernel, stride, mode)
    x = torch.randn(2, 3, time)
    got = made(x)
    assert got.shape == (2, 5, -(-time // stride))
    for row in range(2):
        assert torch.allclose(got[row].double(), by_loops(made, x[row]), atol=1e-5)


def test_each_past_mode_shows_at_the_start() -> None:
    x = torch.randn(1, 3, 20)
    outputs = [layer(7, 1, mode)(x) for mode in MODES]
    for i, a in enumerate(outputs):
        for b in outputs[:i]:
            assert (a - b)[..., :6].abs().max() > 1e-2
            assert torch.allclose(a[..., 6:], b[..., 6:], atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("kernel", "stride"), SHAPES)
def test_streamed_equals_whole(kernel: int, stride: int, mode: PadMode) -> None:
    made = layer(kernel, stride, mode)
    # The first chunk must be long enough to mirror.
    grain = stride * (kernel // stride + 1) if mode == "reflect" else stride
    x = torch.randn(5, 3, 24 * grain)
    assert_streaming_law(made, x, time_axis=2, grain=grain, window=made.past)


@pytest.mark.parametrize("mode", MODES)
def test_a_session_is_alone(mode: PadMode) -> None:
    assert_batch_law(layer(4, 2, mode), torch.randn(6, 3, 60), time_axis=2, grain=4)


def test_the_reference_streams_too() -> None:
    with references_only():
        assert_streaming_law(layer(4, 2, "replicate"), torch.randn(5, 3, 40), time_axis=2, grain=2)


def test_the_law_catches_a_past_of_zeros_where_the_first_input_belongs() -> None:
    made = layer(4, 2, "replicate")
    made.past_mode = "zeros"
    broken_step = made.step
    made = layer(4, 2, "replicate")
    made.step = broken_step  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="streamed is not offline"):
        assert_streaming_law(made, torch.randn(5, 3, 40), time_axis=2, grain=2)


def test_a_session_costs_its_past() -> None:
    assert assert_memory_law(layer(7, 1, "zeros"), torch.randn(1, 3, 40), time_axis=2) == 3 * 6 * 4 + 1


@pytest.mark.parametrize("time", [0, 3])
def test_a_step_takes_whole_strides(time: int) -> None:
    made = layer(4, 2, "zeros")
    with pytest.raises(ValueError, match=f"a multiple of 2 inputs, got {time}"):
        made.step(torch.randn(1, 3, time), made.initial_state(1), torch.tensor([True]))


def test_a_first_chunk_that_is_too_short_to_mirror_is_refused_and_changes_nothing() -> None:
    made = layer(7, 1, "reflect")
    state = made.initial_state(1)
    with pytest.raises(ValueError, match="longer than 6 inputs, got 6"):
        made.step(torch.randn(1, 3, 6), state, torch.tensor([True]))
    assert not leaf(state, "heard").any()


def test_a_kernel_shorter_than_its_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="skips inputs"):
        CausalConv1d(1, 1, 2, 3)
    with pytest.raises(ValueError, match="leaves gaps"):
        CausalConvTranspose1d(1, 1, 2, 3)


@pytest.mark.parametrize(("kernel", "stride"), SHAPES)
@pytest.mark.parametrize("bias", [False, True])
def test_a_matrix_product_convolves(kernel: int, stride: int, bias: bool) -> None:
    made = layer(kernel, stride, "zeros", bias)
    x = torch.randn(2, 3, kernel + 4 * stride)
    a, b = (f(x, made.weight, made.bias, stride) for f in (convolve, convolve_as_matrix))
    assert torch.allclose(a, b, atol=1e-5)


def test_a_cpu_convolves_chunks_as_a_matrix_product() -> None:
    assert conv.CONVOLVE.on(torch.device("cpu")) is convolve_as_matrix
    assert conv.CONVOLVE.on(torch.device("meta")) is convolve


def upsampler(kernel: int, stride: int) -> CausalConvTranspose1d:
    torch.manual_seed(kernel)
    return CausalConvTranspose1d(3, 5, kernel, stride).requires_grad_(False)


UP_SHAPES = [(4, 2), (2, 2), (5, 2), (7, 3), (3, 1)]


@pytest.mark.parametrize(("kernel", "stride"), UP_SHAPES)
def test_upsampling_equals_loops(kernel: int, stride: int) -> None:
    """Every input adds its weights at stride * t; what lies past the end is dropped, nothing on the left."""
    made = upsampler(kernel, stride)
    x = torch.randn(3, 9)
    out = torch.zeros(5, 9 * stride + kernel, dtype=torch.float64)
    for t in range(9):
        for j in range(kernel):
            out[:, t * stride + j] += made.weight[:, :, j].double().T @ x[:, t].double()
    assert made.bias is not None
    want = out[:, : 9 * stride] + made.bias.double()[:, None]
    assert torch.allclose(made(x[None])[0].double(), want, atol=1e-5)


def test_upsampling_by_two_in_the_codecs_words() -> None:
    """y[2t] = W0 x[t] + W2 x[t-1], y[2t+1] = W1 x[t] + W3 x[t-1]."""
    made = CausalConvTranspose1d(3, 5, 4, 2, bias=False).requires_grad_(False)
    x = torch.randn(1, 3, 8)
    past = torch.cat([torch.zeros(1, 3, 1), x[..., :-1]], dim=-1)
    w = [made.weight[:, :, j].T for j in range(4)]
    even, odd = w[0] @ x + w[2] @ past, w[1] @ x + w[3] @ past
    assert torch.allclose(made(x), torch.stack([even, odd], dim=-1).flatten(-2), atol=1e-6)


@pytest.mark.parametrize(("kernel", "stride"), UP_SHAPES)
def test_upsampling_streams(kernel: int, stride: int) -> None:
    made = upsampler(kernel, stride)
    assert_streaming_law(made, torch.randn(5, 3, 30), time_axis=2, window=made.past)
    assert_batch_law(made, torch.randn(6, 3, 30), time_axis=2)
    assert assert_memory_law(made, torch.randn(1, 3, 30), time_axis=2) == 3 * made.past * 4


def test_the_law_catches_an_overlap_that_is_forgotten() -> None:
    made = upsampler(4, 2)
    made.step = lambda x, state, active: made(x)  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="chunks of one"):
        assert_streaming_law(made, torch.randn(5, 3, 30), time_axis=2)


def test_weights_have_pytorchs_names_and_shapes() -> None:
    shapes = {name: tuple(p.shape) for name, p in layer(4, 2, "zeros").named_parameters()}
    assert shapes == {"weight": (5, 3, 4), "bias": (5,)}
    shapes = {name: tuple(p.shape) for name, p in upsampler(4, 2).named_parameters()}
    assert shapes == {"weight": (3, 5, 4), "bias": (5,)}
    assert CausalConv1d(1, 1, 1, bias=False).bias is None
