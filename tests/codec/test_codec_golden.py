"""The whole codec against the reference's arrays, offline and streamed; and the mistakes that ports make."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_codec import GOLDEN, golden
from torch import Tensor

from rillvox.codec.checkpoint import fold, load_model
from rillvox.codec.model import CodecDecoder, CodecEncoder, CodecModel
from rillvox.kernels import transformer
from rillvox.kernels.conv import CausalConv1d, CausalConvTranspose1d
from rillvox.kernels.norm import RMSNorm

DECODE = load_file(GOLDEN / "codec_decode.safetensors")
ENCODE = load_file(GOLDEN / "codec_encode.safetensors")
WAVE = 5e-5
BLOCK = 1e-4


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def model() -> CodecModel:
    return load_model(GOLDEN)


def furthest(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return (found - expected).abs().max().item()


def after_blocks(model: CodecEncoder | CodecDecoder, run: Any) -> list[Tensor]:
    kept: list[Tensor] = []
    handles = [
        block.register_forward_hook(lambda *call: kept.append(call[2])) for block in model.stages.blocks
    ]
    run()
    for handle in handles:
        handle.remove()
    # Convolutions have channels first.
    return [
        x[0].T if isinstance(block, CausalConv1d | CausalConvTranspose1d) else x[0]
        for x, block in zip(kept, model.stages.blocks, strict=True)
    ]


def test_codes_become_latents(model: CodecModel) -> None:
    assert furthest(model.quantizer.semantic_codebook.entries(), DECODE["codebook"]) <= 1e-3
    assert furthest(model.quantizer.decode(DECODE["codes_no_offset"]), DECODE["latents"]) <= 1e-6


def test_every_block_of_the_decoder_and_the_waveform(model: CodecModel) -> None:
    waves: list[Tensor] = []
    blocks = after_blocks(model.decoder, lambda: waves.append(model.decoder(DECODE["latents"][None])[0]))
    for index, block in enumerate(blocks):
        assert furthest(block, DECODE[f"after_decoder_block_{index}"]) <= BLOCK, index
    assert furthest(waves[0], DECODE["waveform"]) <= WAVE
    first = model.decoder(DECODE["latents"][None, :1])[0]
    assert furthest(first, DECODE["waveform_first_frame_only"]) <= WAVE
    assert furthest(first, DECODE["waveform"][:192]) <= WAVE


def test_every_block_of_the_encoder_and_the_codes_of_an_odd_length(model: CodecModel) -> None:
    assert model.encoder is not None
    encoder = model.encoder
    found: list[Tensor] = []
    blocks = after_blocks(encoder, lambda: found.append(encoder(ENCODE["waveform"][None])[0]))
    for index, block in enumerate(blocks):
        assert furthest(block, ENCODE[f"after_encoder_block_{index}"]) <= BLOCK, index
    assert furthest(found[0], ENCODE["latents"]) <= BLOCK
    codes = model.quantizer.encode(found[0])
    assert torch.equal(codes, ENCODE["codes_no_offset"])
    again = model.decoder(model.quantizer.decode(codes)[None])[0]
    assert furthest(again, ENCODE["reconstruction"]) <= WAVE


def test_whole_frames_have_the_first_rows_of_the_latents(model: CodecModel) -> None:
    assert model.encoder is not None
    for frames in (1, 5, 12):
        found = model.encoder(ENCODE["waveform"][None, : 192 * frames])[0]
        assert furthest(found, ENCODE["latents"][:frames]) <= BLOCK


def test_one_frame_at_a_time_gives_the_same(model: CodecModel) -> None:
    codec = golden()
    mouth = codec.stream_decode()
    parts = [mouth.feed(DECODE["codes_no_offset"][i : i + 1].numpy()) for i in range(40)]
    assert furthest(torch.cat([*map(torch.from_numpy, parts)]), DECODE["waveform"]) <= WAVE
    ear = codec.stream_encode()
    frames = [ear.feed(ENCODE["waveform"][i : i + 100].numpy()) for i in range(0, 2404, 100)]
    frames.append(ear.finish())
    found = torch.cat([*map(torch.from_numpy, frames)]).long()
    assert torch.equal(found, ENCODE["codes_no_offset"])


# The mistakes of section 15 of the specification that a codec can make: each must be seen.


def wrong_by(model: CodecModel) -> float:
    got, want = model.decoder(DECODE["latents"][None])[0], DECODE["waveform"]
    return float((got - want).square().mean().sqrt() / want.square().mean().sqrt())


def test_slopes_that_start_at_one_half(model: CodecModel, monkeypatch: pytest.MonkeyPatch) -> None:
    right = transformer.alibi_slopes
    assert furthest(right(8), DECODE["alibi_slopes_8heads"]) == 0
    monkeypatch.setattr(transformer, "alibi_slopes", lambda heads: right(heads) / 2)
    assert wrong_by(model) == pytest.approx(0.61, abs=0.03)


def test_an_output_that_repeats_its_past(model: CodecModel) -> None:
    output = model.decoder.output
    assert isinstance(output, CausalConv1d)
    output.past_mode = "replicate"
    assert wrong_by(model) == pytest.approx(0.13, abs=0.01)


def test_the_usual_epsilon(model: CodecModel) -> None:
    for module in model.modules():
        if isinstance(module, RMSNorm) and module.eps == 1e-2:
            module.eps = 1e-5
    assert wrong_by(model) == pytest.approx(0.04, abs=0.01)


def test_a_window_that_counts_the_query_itself(model: CodecModel) -> None:
    from dataclasses import replace

    for module in model.modules():
        if isinstance(module, transformer.Transformer):
            module.config = replace(module.config, window_includes_self=True)
    assert wrong_by(model) > 1


def test_a_forgotten_layer_scale(model: CodecModel) -> None:
    for name, weight in model.decoder.named_parameters():
        if name.endswith("_scale"):
            weight.fill_(1)
    assert wrong_by(model) > 0.1


def test_normalised_heads(model: CodecModel) -> None:
    for module in model.modules():
        if isinstance(module, RMSNorm) and module.eps == 1e-6:
            norm = module

            def by_head(x: Tensor, norm: RMSNorm = norm) -> Tensor:
                y = x.unflatten(-1, (8, -1))
                y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-6)
                return y.flatten(-2) * norm.weight

            module.forward = by_head
    assert wrong_by(model) > 0.01


def test_weight_norm_over_the_other_axis(model: CodecModel) -> None:
    weights = load_file(GOLDEN / "consolidated.safetensors")
    name = "audio_tokenizer.decoder_blocks.2.conv.parametrizations.weight.original"
    length, direction = weights[f"{name}0"], weights[f"{name}1"]
    right = fold(length, direction)
    up = model.decoder.stages.blocks[2]
    assert isinstance(up, CausalConvTranspose1d)
    assert furthest(right, up.weight) == 0
    wrong = fold(length, direction.transpose(0, 1)).transpose(0, 1)
    up.weight.copy_(wrong)
    assert wrong_by(model) > 0.01


def test_levels_through_the_inverse_of_tanh(model: CodecModel) -> None:
    codes = DECODE["codes_no_offset"]
    latents = model.quantizer.decode(codes)
    latents[:, 16:] = torch.atanh(latents[:, 16:].clamp(-0.999, 0.999))
    got, want = model.decoder(latents[None])[0], DECODE["waveform"]
    assert float((got - want).square().mean().sqrt() / want.square().mean().sqrt()) > 0.1


def test_an_unused_entry_is_divided_by_the_smallest_count(model: CodecModel) -> None:
    book = model.quantizer.semantic_codebook
    assert float(book.cluster_usage[3]) == 0
    assert furthest(book.entries()[3], book.embedding_sum[3] / 1e-5) == 0


def test_zeros_behind_a_ragged_end_give_other_codes(model: CodecModel) -> None:
    assert model.encoder is not None
    padded = torch.nn.functional.pad(ENCODE["waveform"], (0, 192 * 13 - 2404))
    codes = model.quantizer.encode(model.encoder(padded[None])[0])
    assert not torch.equal(codes, ENCODE["codes_no_offset"])


def test_a_change_in_a_frame_reaches_21_frames_ahead_and_none_back(model: CodecModel) -> None:
    decoder = model.decoder.double()
    latents = DECODE["latents"][None].double().repeat(1, 2, 1)
    other = latents.clone()
    other[0, 10] += 1
    moved = (decoder(other) - decoder(latents))[0].abs().reshape(80, 192).amax(1) > 0
    assert not moved[:10].any()
    assert moved[10:32].all()
    assert not moved[32:].any()
