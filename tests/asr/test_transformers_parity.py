"""Fresh random models of the `transformers` package: saved by it, read by us, the same numbers.

Geometry is random and has none of the released coincidences (feed-forward width = 4 x width,
one width for encoder heads and keys), which is where readers of one file only go wrong.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_listener import BOS, EOS, LEFT_PAD, PAD, byte_tokenizer, prompt
from torch import Tensor

from rillvox.asr.checkpoint import load_model, save_native
from rillvox.asr.model import RealtimeASR, delay_embedding

# The package warns about itself while it is imported.
pytestmark = [pytest.mark.client, pytest.mark.filterwarnings("ignore")]

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def transformers() -> Any:
    package = pytest.importorskip("transformers", reason="transformers is not installed")
    if not hasattr(package, "VoxtralRealtimeForConditionalGeneration"):
        pytest.skip(f"transformers {package.__version__} has no Voxtral Realtime")
    return package


def geometry(seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Encoder and decoder settings, drawn anew for each seed."""
    rng = random.Random(seed)
    heads, groups = rng.choice([1, 2, 3]), rng.choice([1, 2, 4])
    vocab = rng.randint(292, 400)

    def stack() -> dict[str, Any]:
        return {
            "intermediate_size": rng.randrange(30, 90, 2),
            "num_hidden_layers": rng.randint(1, 3),
            "head_dim": rng.choice([6, 8, 16]),
            "sliding_window": rng.randint(5, 25),
            "rms_norm_eps": rng.choice([1e-5, 1e-6, 1e-3]),
            "rope_parameters": {"rope_type": "default", "rope_theta": rng.choice([1e6, 1e4, 500.0])},
            "vocab_size": vocab,
        }

    encoder = {
        **stack(),
        "hidden_size": rng.randrange(20, 44, 2),
        "num_attention_heads": rng.randint(1, 4),
        "num_mel_bins": rng.choice([128, 80]),
    }
    decoder = {
        **stack(),
        "hidden_size": rng.randrange(20, 60, 2),
        "num_attention_heads": heads * groups,
        "num_key_value_heads": heads,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
    }
    return encoder, decoder


def reference(transformers: Any, seed: int) -> Any:
    encoder, decoder = geometry(seed)
    config = transformers.VoxtralRealtimeConfig(
        audio_config={"model_type": "voxtral_realtime_encoder", **encoder},
        text_config={"model_type": "voxtral_realtime_text", **decoder},
        tie_word_embeddings=True,
    )
    config._attn_implementation = "eager"
    model = transformers.VoxtralRealtimeForConditionalGeneration(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if "norm" in name and weight.dim() == 1:
                weight.copy_(1 + 0.2 * noise)
            elif "embed_tokens" in name:
                # Rows of one length, or the longest wins every time; and no early stop.
                weight.copy_(torch.nn.functional.normalize(noise) * 0.4 * weight.shape[1] ** 0.5)
                weight[EOS] *= 0.02
            elif weight.dim() == 1:
                weight.copy_(0.2 * noise)
            else:
                # The audio has to dominate the sum, or greedy decoding repeats one token.
                gain = 12.0 if "multi_modal_projector.linear_2" in name else 1.3
                weight.copy_(gain * noise / weight[0].numel() ** 0.5)
    return model


def log_mel(bins: int, steps: int, seed: int) -> Tensor:
    """Noise in the range of log-mel frames, [1, bins, 8 steps], behind 32 tokens of silence."""
    generator = torch.Generator().manual_seed(seed)
    mel = 0.6 * torch.randn(1, bins, 8 * steps, generator=generator) + 0.2
    mel[..., : 8 * LEFT_PAD] = -0.625
    return mel.clamp(min=-0.625)


@pytest.fixture(scope="module", params=SEEDS)
def pair(
    request: pytest.FixtureRequest, transformers: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, RealtimeASR, Path]:
    """A model of the package, and ours from the folder that it saved."""
    theirs = reference(transformers, request.param)
    folder = tmp_path_factory.mktemp("saved")
    theirs.save_pretrained(folder)
    return theirs, load_model(folder), folder


@pytest.mark.parametrize("delay", [1, 6, 30])
def test_logits_agree(pair: tuple[Any, RealtimeASR, Path], delay: int) -> None:
    theirs, ours, _ = pair
    steps = LEFT_PAD + 1 + delay + 40
    mel = log_mel(ours.config.encoder.n_mels, steps, delay)
    ids = prompt(delay, steps)[None]
    with torch.no_grad():
        expected = theirs(input_ids=ids, input_features=mel, num_delay_tokens=delay, use_cache=False).logits
        found = ours(mel, ids, torch.tensor([delay]))
    assert expected.abs().max() > 1
    assert (found - expected).abs().max() <= 1e-3


@pytest.mark.parametrize("delay", [1, 6])
def test_greedy_text_agrees(pair: tuple[Any, RealtimeASR, Path], delay: int) -> None:
    theirs, ours, _ = pair
    steps = LEFT_PAD + 1 + delay + 40
    mel = log_mel(ours.config.encoder.n_mels, steps, delay)
    ids = [BOS] + [PAD] * (LEFT_PAD + delay)
    with torch.no_grad():
        expected = theirs.generate(
            input_ids=torch.tensor([ids]),
            input_features=mel,
            num_delay_tokens=delay,
            do_sample=False,
            pad_token_id=11,
        )[0].tolist()
        encoder, decoder = ours.initial_encoder_state(1, max_tokens=1), ours.initial_decoder_state(1)
        active = torch.ones(1, dtype=torch.bool)
        for p in range(steps):
            audio = ours.encode_step(mel[..., 8 * p : 8 * p + 8], encoder, active)
            token = torch.tensor([[ids[p]]])
            logits = ours.decode_step(audio, token, torch.tensor([delay]), decoder, active)[0, 0]
            if p >= LEFT_PAD + delay:
                ids.append(int(logits.argmax()))
    assert len(set(ids)) > 5
    assert EOS not in expected
    # The package never consumes the last audio step; we do.
    assert ids[:-1] == expected


def test_a_native_copy_is_the_same_model(pair: tuple[Any, RealtimeASR, Path], tmp_path: Path) -> None:
    _, ours, _ = pair
    save_native(ours, byte_tokenizer(ours.config.vocab_size), tmp_path / "native")
    copy = load_model(tmp_path / "native")
    assert copy.config == ours.config
    for (name, weight), other in zip(ours.named_parameters(), copy.parameters(), strict=True):
        assert torch.equal(weight, other), name


@pytest.mark.parametrize("delay", [1, 6, 30])
def test_bfloat16_delay_embeddings_agree_to_the_bit(pair: tuple[Any, RealtimeASR, Path], delay: int) -> None:
    theirs, ours, _ = pair
    for dtype in (torch.float32, torch.bfloat16):
        expected = theirs.model.time_embedding(torch.tensor([float(delay)], dtype=dtype))
        found = delay_embedding(torch.tensor(delay), ours.config.dim, dtype)
        assert torch.equal(found, expected.float())


def test_bfloat16_norms_agree_to_the_bit(pair: tuple[Any, RealtimeASR, Path]) -> None:
    theirs, ours, _ = pair
    x = torch.randn(7, ours.config.dim, generator=torch.Generator().manual_seed(0)).bfloat16()
    norm = theirs.model.language_model.norm
    with torch.no_grad():
        expected = type(norm)(ours.config.dim, norm.variance_epsilon).bfloat16()
        expected.weight.copy_(norm.weight)
        last = ours.text_decoder.transformer.norm
        assert last is not None
        found = type(last)(ours.config.dim, last.eps).bfloat16()
        found.weight.copy_(last.weight)
        assert torch.equal(found(x), expected(x))
