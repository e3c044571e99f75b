"""Mistakes of other implementations of this model, each with the test that keeps it out of ours.

On the side of the model and of its files; the clock, the front end, the tokenizer and the sessions have
theirs beside their own tests. Where a mistake can be built in a few lines, it is, and has to be seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_listener import (
    BOS,
    EOS,
    FORMATS,
    GOLDEN,
    LEFT_PAD,
    PAD,
    WORD,
    byte_tokenizer,
    golden_config,
    golden_folder,
    prompt,
    random_listener,
)
from torch import Tensor

from rillvox.asr.checkpoint import load_model
from rillvox.asr.config import FRAMES_PER_TOKEN
from rillvox.asr.delays import FRAME_SAMPLES, MEL_LOOKAHEAD, DelayClock
from rillvox.asr.frontend import LogMel
from rillvox.asr.model import Adapter, RealtimeASR
from rillvox.errors import CheckpointError
from rillvox.kernels import transformer
from rillvox.kernels.state import StateTree, leaf, subtree

FRONT = load_file(GOLDEN / "frontend_encoder.safetensors")
DECODER = load_file(GOLDEN / "decoder.safetensors")
MEL = FRONT["log_mel_d30"][None]


@pytest.fixture(scope="module")
def model() -> RealtimeASR:
    return load_model(GOLDEN)


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.no_grad():
        yield


def furthest(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return (found - expected).abs().max().item()


# A streaming loop that asks for 1680 samples where 1520 will do is 10 ms late at every step.


def test_a_step_needs_1320_samples_past_its_start_and_not_one_less() -> None:
    clock, front = DelayClock(6), LogMel()
    x = 0.1 * torch.randn(1, 12 * FRAME_SAMPLES, generator=torch.Generator().manual_seed(0))
    x[:, :FRAME_SAMPLES] = 0
    offline = front(x)
    for p in range(10):
        needed = p * FRAME_SAMPLES + FRAME_SAMPLES + MEL_LOOKAHEAD
        assert needed == p * FRAME_SAMPLES + 1320 == clock.samples_needed(p)
        assert clock.steps_ready(needed) == p + 1
        assert clock.steps_ready(needed - 1) == p
        # What has not arrived does not count, and what has arrived does, to the last sample.
        heard = x.clone()
        heard[:, needed:] = 7.0
        assert torch.equal(front(heard)[..., : 8 * p + 8], offline[..., : 8 * p + 8])
        heard[:, needed - 40 :] = 7.0
        assert not torch.equal(front(heard)[..., : 8 * p + 8], offline[..., : 8 * p + 8])


# A loop that streams the unpadded signal loses the text of the last D tokens.


@pytest.mark.parametrize("delay", [1, 6, 30])
def test_the_tail_is_written_after_the_audio_has_ended(delay: int) -> None:
    clock, n = DelayClock(delay), len(FRONT["waveform"])
    spoken = LEFT_PAD + -(-n // FRAME_SAMPLES)
    greedy = DECODER[f"d{delay}.greedy_ids"]
    assert clock.total_tokens(n) == spoken + delay + 1 + 10 == len(greedy) - 1


# A delay that reaches the norms but not the prompt, or is one for the whole batch.


def test_the_delay_of_a_row_is_its_own(model: RealtimeASR) -> None:
    delays = torch.tensor([1, 6, 30, 6])
    steps = 80
    ids = torch.stack([prompt(int(delay), steps) for delay in delays])
    mel = MEL[..., : 8 * steps]
    together = model(mel.expand(4, -1, -1), ids, delays)
    for row in range(4):
        alone = model(mel, ids[row : row + 1], delays[row : row + 1])
        assert furthest(together[row], alone[0]) <= 1e-4
    assert furthest(together[0], together[2]) > 1


def test_the_encoder_never_sees_the_delay(model: RealtimeASR) -> None:
    # One pass of the encoder serves two lanes only because this holds.
    heard: list[Tensor] = []
    handle = model.adapter.register_forward_hook(lambda *call: heard.append(call[2]))
    for delay in (1, 30):
        model(MEL[..., :512], prompt(delay, 64)[None], torch.tensor([delay]))
    handle.remove()
    assert torch.equal(heard[0], heard[1])


# Four frames make a group; a reader that cuts by the feed-forward width is right by luck, 5120 = 4 x 1280.


def test_the_adapter_groups_by_the_width_of_the_encoder() -> None:
    config = golden_config()
    stack = replace(config.encoder.stack, hidden_dim=72)  # 4 x 32 is 128
    odd = random_listener(replace(config, encoder=replace(config.encoder, stack=stack)))
    adapter = odd.adapter
    assert isinstance(adapter, Adapter)
    assert adapter[0].in_features == FRAMES_PER_TOKEN * 32
    frames = odd.encoder(MEL[..., :80])
    row = torch.cat([frames[0, i] for i in range(4, 8)])
    expected = adapter[2](torch.nn.functional.gelu(adapter[0](row)))
    assert furthest(odd.adapter(frames)[0, 1], expected) <= 1e-5


# The audio vector of position p belongs to position p; one port feeds the one before.


def test_an_audio_vector_one_step_late_is_seen(model: RealtimeASR) -> None:
    ids = DECODER["d6.forced_ids"].long()[None]
    audio = model.encode(MEL[..., : 8 * ids.shape[1]])
    late = torch.cat([torch.zeros_like(audio[:, :1]), audio[:, :-1]], dim=1)
    expected = DECODER["d6.forced_logits"]
    assert furthest(model.decoder(audio, ids, torch.tensor([6]))[0], expected) <= 1e-3
    assert furthest(model.decoder(late, ids, torch.tensor([6]))[0], expected) > 1


# Restarts after 64 symbols without text, 2000 positions, or EOS lose what was heard before.


def test_neither_silence_nor_length_nor_the_end_symbol_restarts_anything(model: RealtimeASR) -> None:
    steps, chunk = 2176, 64
    generator = torch.Generator().manual_seed(3)
    mel = torch.full((1, 128, 8 * steps), -0.625)
    mel[..., -8 * 40 :] = torch.randn(1, 128, 8 * 40, generator=generator) * 0.3
    ids = torch.full((1, steps), PAD)
    ids[0, 0], ids[0, 500], ids[0, 1500] = BOS, EOS, EOS
    encoder = model.initial_encoder_state(1, max_tokens=chunk)
    decoder = model.initial_decoder_state(1, max_tokens=chunk)
    active, found = torch.ones(1, dtype=torch.bool), torch.empty(1, 0, model.config.vocab_size)
    for p in range(0, steps, chunk):
        audio = model.encode_step(mel[..., 8 * p : 8 * (p + chunk)], encoder, active)
        logits = model.decode_step(audio, ids[:, p : p + chunk], torch.tensor([6]), decoder, active)
        found = torch.cat([found, logits], dim=1)
    assert furthest(found, model(mel, ids, torch.tensor([6]))) <= 2e-4


# The receptive field of a stack is all of its windows together: encoding overlapping chunks with one
# window of context is not what the model computes.


def test_a_stack_reaches_further_back_than_one_window(model: RealtimeASR) -> None:
    layers, window = 3, 20
    end = 320  # in the middle of sound: in silence every context is alike
    stem = model.encoder.stem(MEL)[:, :end]
    offline = model.encoder.transformer(stem)

    def restarted(context: int) -> float:
        begin = end - 20 - context
        part = model.encoder.transformer(stem[:, begin:], start=begin)
        return furthest(part[:, -20:], offline[:, -20:])

    assert restarted(layers * window) <= 1e-4
    assert restarted(window) > 0.01


# Ids below the first piece are no text: subtracting first turns symbols into bytes.


def test_control_symbols_are_no_bytes() -> None:
    tokenizer = byte_tokenizer(300)
    first = tokenizer.n_special
    ids = [BOS, PAD, WORD, first + ord("o"), PAD, WORD, first + ord("k"), EOS]
    assert tokenizer.decode(ids) == "ok"
    assert all(tokenizer.token_bytes(token) == b"" for token in range(first))


# Keys have no bias, in any layer of either stack; a loader must not make one up.


def test_keys_have_no_bias_and_none_is_accepted(tmp_path: Path) -> None:
    model = load_model(GOLDEN)
    biases = {name for name, _ in model.named_parameters() if name.endswith(".bias")}
    assert not [name for name in biases if "decoder" in name or ".wk." in name]
    assert {name.split(".")[-2] for name in biases} == {"conv1", "conv2", "wq", "wv", "wo", "w2"}
    for form, name in (
        (
            "native",
            "mm_streams_embeddings.embedding_module.whisper_encoder.transformer.layers.1.attention.wk.bias",
        ),
        ("hugging_face", "audio_tower.layers.1.self_attn.k_proj.bias"),
    ):
        folder = golden_folder(form, tmp_path)
        path = folder / FORMATS[form][1]
        save_file({**load_file(path), name: torch.zeros(64)}, path)
        with pytest.raises(CheckpointError, match=rf"{name} \[64\] is surplus"):
            load_model(folder)


def test_a_made_up_key_bias_is_seen() -> None:
    # Without rotation it would cancel in the softmax; with it, it does not.
    altered = load_model(GOLDEN)
    key = altered.get_submodule("encoder.transformer.layers.1.attention.wk")
    key.bias = torch.nn.Parameter(torch.full((64,), 0.3))
    assert furthest(altered.encoder(MEL)[0], FRONT["encoder_out_d30"]) > 1e-3


# A ring as large as the window, written four frames at a time, loses keys that are still needed.


def test_a_ring_has_room_for_the_window_and_the_chunk(model: RealtimeASR) -> None:
    state = model.initial_encoder_state(1, max_tokens=1)
    assert ring(state).shape[2] == 20 + 4 - 1
    assert ring(model.initial_decoder_state(1)).shape[2] == 12
    released = model.encoder.transformer.initial_state(1, max_chunk=4)
    assert leaf(subtree(released, "layers_0"), "k").shape[2] - 20 + 750 == 753


def test_a_chunk_that_the_ring_has_no_room_for_is_refused(model: RealtimeASR) -> None:
    state, active = model.initial_encoder_state(1, max_tokens=1), torch.ones(1, dtype=torch.bool)
    with pytest.raises(ValueError, match="at most 4, got 8"):
        model.encode_step(MEL[..., :16], state, active)


def test_keys_that_are_evicted_too_early_are_seen(
    model: RealtimeASR, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline = model.encode(MEL)
    assert furthest(stream(model), offline) <= 1e-4

    def evicted(query: Tensor, key: Tensor, span: int, block: int) -> Tensor:
        # What is left in a ring of `span` entries once the whole chunk is written.
        kept = key.unsqueeze(-2) > query[:, -1:].unsqueeze(-1) - span
        return transformer_visible(query, key, span, block) & kept

    transformer_visible = transformer.visible
    monkeypatch.setattr(transformer, "visible", evicted)
    assert furthest(stream(model), offline) > 0.01


def ring(state: StateTree) -> Tensor:
    stack = subtree(state, "transformer") if "transformer" in state else state
    return leaf(subtree(stack, "layers_0"), "k")


def stream(model: RealtimeASR) -> Tensor:
    """Adapter vectors of the golden signal, one step at a time."""
    state, active = model.initial_encoder_state(1, max_tokens=1), torch.ones(1, dtype=torch.bool)
    steps = [model.encode_step(MEL[..., p : p + 8], state, active) for p in range(0, MEL.shape[-1], 8)]
    return torch.cat(steps, dim=1)
