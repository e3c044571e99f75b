"""The codec's layers against golden vectors of the reference, whole and streamed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from laws import assert_streaming_law
from safetensors.torch import load_file
from torch import Tensor, nn

from rillvox.kernels import transformer
from rillvox.kernels.conv import CausalConv1d, CausalConvTranspose1d
from rillvox.kernels.transformer import Transformer, TransformerConfig

STAGE = TransformerConfig(
    dim=64,
    n_layers=2,
    n_heads=8,
    head_dim=8,
    hidden_dim=128,
    window_includes_self=False,
    position="alibi",
    norm_eps=1e-2,
    qk_norm_eps=1e-6,
    layer_scale=0.01,
    final_norm=False,
)


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(Path(__file__).parents[1] / "golden" / "codec_stage" / "stages.safetensors")


def folded(golden: dict[str, Tensor], name: str) -> Tensor:
    """Weight norm over every axis but the first."""
    g, v = (golden[f"{name}.conv.parametrizations.weight.original{i}"] for i in (0, 1))
    return g * v / v.flatten(1).norm(dim=1)[:, None, None]


def with_weight(layer: nn.Module, weight: Tensor) -> nn.Module:
    layer.load_state_dict({"weight": weight})
    return layer.requires_grad_(False)


def stage(golden: dict[str, Tensor], name: str, config: TransformerConfig) -> Transformer:
    made = Transformer(config).eval().requires_grad_(False)
    own = [key for key in golden if key.startswith(f"{name}.layers.")]
    made.load_state_dict({key.removeprefix(f"{name}."): golden[key] for key in own})
    return made


def by_channel(x: Tensor) -> Tensor:
    """[time, channels] -> [1, channels, time]."""
    return x.T[None]


def rms(got: Tensor, want: Tensor) -> float:
    return float((got - want).square().mean().sqrt() / want.square().mean().sqrt())


def test_the_first_convolution_repeats_the_first_latent(golden: dict[str, Tensor]) -> None:
    conv = CausalConv1d(52, 64, 3, bias=False, past_mode="replicate")
    with_weight(conv, folded(golden, "decoder_blocks.0"))
    want = by_channel(golden["after_decoder_block_0"])
    assert torch.allclose(conv(by_channel(golden["latents"])), want, atol=1e-4)


def test_a_stage_equals_the_reference(golden: dict[str, Tensor]) -> None:
    made = stage(golden, "decoder_blocks.7", replace(STAGE, window=16))
    got = made(golden["after_decoder_block_6"][None])
    assert torch.allclose(got[0], golden["after_decoder_block_7"], atol=1e-4)


@pytest.mark.parametrize("change", [{"window_includes_self": True}, {"norm_eps": 1e-5}, {"position": "none"}])
def test_a_wrong_stage_fails(golden: dict[str, Tensor], change: dict[str, object]) -> None:
    made = stage(golden, "decoder_blocks.7", replace(STAGE, window=16, **change))
    assert rms(made(golden["after_decoder_block_6"][None])[0], golden["after_decoder_block_7"]) > 1e-3


def test_slopes_from_one_half_fail(golden: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    right = transformer.alibi_slopes
    monkeypatch.setattr(transformer, "alibi_slopes", lambda n_heads: right(n_heads) / 2)
    made = stage(golden, "decoder_blocks.7", replace(STAGE, window=16))
    assert rms(made(golden["after_decoder_block_6"][None])[0], golden["after_decoder_block_7"]) > 1e-2


def test_upsampling_equals_the_reference(golden: dict[str, Tensor]) -> None:
    up = with_weight(CausalConvTranspose1d(64, 64, 4, 2, bias=False), folded(golden, "decoder_blocks.2"))
    got = up(by_channel(golden["after_decoder_block_1"]))
    assert torch.allclose(got, by_channel(golden["after_decoder_block_2"]), atol=1e-4)


def test_the_output_mirrors_its_past(golden: dict[str, Tensor]) -> None:
    weight = folded(golden, "output_proj")
    x = by_channel(golden["after_decoder_block_7"])
    wave = golden["waveform"]
    mirrored = with_weight(CausalConv1d(64, 24, 7, bias=False, past_mode="reflect"), weight)
    assert torch.allclose(mirrored(x)[0].T.flatten(), wave, atol=5e-5)
    repeated = with_weight(CausalConv1d(64, 24, 7, bias=False, past_mode="replicate"), weight)
    assert rms(repeated(x)[0].T.flatten(), wave) > 0.05


def test_a_stage_streams(golden: dict[str, Tensor]) -> None:
    made = stage(golden, "decoder_blocks.7", replace(STAGE, window=16))
    x = golden["after_decoder_block_6"].view(5, 64, 64)
    assert_streaming_law(made, x, longest=16, window=17, state_options={"max_chunk": 16})
