"""The whole model against an independent implementation's arrays, offline and streamed.

Tolerances are those of tests/golden/asr_tiny/README.md, which says where the arrays come from; what
float32 gives is a factor 10 below them. Controls at the end show that each would see a likely mistake.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_listener import BOS, FORMATS, GOLDEN, LEFT_PAD, PAD, golden_folder
from torch import Tensor

from rillvox.asr.checkpoint import load_model
from rillvox.asr.delays import FRAME_SAMPLES, MEL_LOOKAHEAD, DelayClock
from rillvox.asr.frontend import LogMel
from rillvox.asr.model import RealtimeASR, delay_embedding
from rillvox.kernels import transformer
from rillvox.kernels.attention import Attention
from rillvox.kernels.state import StateTree, copy_into, flatten, leaf, select

FRONT = load_file(GOLDEN / "frontend_encoder.safetensors")
DECODER = load_file(GOLDEN / "decoder.safetensors")
DELAYS = (1, 6, 30)
WAVEFORM = FRONT["waveform"]
MEL = FRONT["log_mel_d30"][None]
LOGITS = 1e-3  # on logits of magnitude 11


@pytest.fixture(scope="module", params=list(FORMATS))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RealtimeASR:
    return load_model(golden_folder(request.param, tmp_path_factory.mktemp("golden")))


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> RealtimeASR:
    return load_model(golden_folder("native", tmp_path_factory.mktemp("golden")))


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.no_grad():
        yield


def steps(delay: int) -> int:
    return DelayClock(delay).total_tokens(len(WAVEFORM))


def mel_of(delay: int) -> Tensor:
    return MEL[..., : 8 * steps(delay)]


def prompt(delay: int) -> list[int]:
    return [BOS] + [PAD] * (LEFT_PAD + delay)


def forced(delay: int) -> Tensor:
    return DECODER[f"d{delay}.forced_ids"].long()


def furthest(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return (found - expected).abs().max().item()


# Offline.


def test_the_stages_of_the_encoder(model: RealtimeASR) -> None:
    stem = model.encoder.stem(MEL)
    assert furthest(stem[0], FRONT["conv_out_d30"]) <= 1e-5
    hidden: list[Tensor] = []
    handle = model.encoder.transformer.layers[0].register_forward_hook(lambda *call: hidden.append(call[2]))
    frames = model.encoder(MEL)
    handle.remove()
    assert furthest(hidden[0][0], FRONT["enc_layer0_out_d30"]) <= 5e-5
    assert furthest(frames[0], FRONT["encoder_out_d30"]) <= 1e-4
    assert furthest(model.adapter(frames)[0], FRONT["adapter_out_d30"]) <= 1e-4


def test_the_waveform_gives_the_golden_mel_and_vectors(model: RealtimeASR) -> None:
    clock = DelayClock(30)
    padded = torch.zeros(1, clock.total_tokens(len(WAVEFORM)) * FRAME_SAMPLES)
    begin = LEFT_PAD * FRAME_SAMPLES
    padded[0, begin : begin + len(WAVEFORM)] = WAVEFORM
    mel = LogMel()(padded)
    assert furthest(mel, MEL) <= 2e-4
    assert furthest(model.encode(mel)[0], FRONT["adapter_out_d30"]) <= 1e-3


@pytest.mark.parametrize("delay", DELAYS)
def test_the_delay_embedding_and_its_scales(model: RealtimeASR, delay: int) -> None:
    condition = delay_embedding(torch.tensor(delay), model.config.dim)
    assert furthest(condition, DECODER[f"d{delay}.t_cond"]) <= 1e-6
    scales = torch.stack(model.text_decoder.transformer.ada_scales(condition))
    assert furthest(scales, DECODER[f"d{delay}.ada_scale"]) <= 1e-5


@pytest.mark.parametrize("delay", DELAYS)
def test_logits_for_given_tokens(model: RealtimeASR, delay: int) -> None:
    logits = model(mel_of(delay), forced(delay)[None], torch.tensor([delay]))
    assert furthest(logits[0], DECODER[f"d{delay}.forced_logits"]) <= LOGITS


def test_rows_of_one_batch_have_delays_of_their_own(model: RealtimeASR) -> None:
    n = steps(1)
    ids = torch.stack([forced(delay)[:n] for delay in DELAYS])
    logits = model(mel_of(1).expand(3, -1, -1), ids, torch.tensor(DELAYS))
    for row, delay in zip(logits, DELAYS, strict=True):
        assert furthest(row, DECODER[f"d{delay}.forced_logits"][:n]) <= LOGITS


# Streamed.


@dataclass
class Stream:
    """One session in one slot of three, stepped by hand; the other slots are never active."""

    model: RealtimeASR
    delay: int
    slot: int = 1

    def __post_init__(self) -> None:
        self.encoder = self.model.initial_encoder_state(3, max_tokens=1)
        self.decoder = self.model.initial_decoder_state(3)
        self.active = torch.arange(3) == self.slot

    def hear(self, mel: Tensor) -> Tensor:
        """[n_mels, 8] -> adapter vector [1, dim]."""
        x = torch.full((3, *mel.shape), torch.nan)
        x[self.slot] = mel
        return self.model.encode_step(x, self.encoder, self.active)[self.slot]

    def write(self, audio: Tensor, token: int) -> Tensor:
        """Logits [vocab_size] after `token` at the next position."""
        x = torch.zeros(3, *audio.shape)
        x[self.slot] = audio
        ids = torch.full((3, 1), token)
        delays = torch.full((3,), self.delay)
        return self.model.decode_step(x, ids, delays, self.decoder, self.active)[self.slot, 0]

    def step(self, mel: Tensor, token: int) -> Tensor:
        return self.write(self.hear(mel), token)


def frames(p: int) -> Tensor:
    return MEL[0, :, 8 * p : 8 * p + 8]


def test_logits_step_by_step(model: RealtimeASR) -> None:
    stream = Stream(model, 6)
    logits = torch.stack([stream.step(frames(p), int(token)) for p, token in enumerate(forced(6))])
    assert furthest(logits, DECODER["d6.forced_logits"]) <= LOGITS
    # The streamed reference begins at the last position of its prompt.
    reference = DECODER["d6.forced_logits_streamed"]
    assert furthest(logits[-len(reference) :], reference) <= LOGITS


@pytest.mark.parametrize("delay", DELAYS)
def test_greedy_text_is_the_reference_to_the_token(model: RealtimeASR, delay: int) -> None:
    stream, ids = Stream(model, delay), prompt(delay)
    logits = torch.empty(0)
    for p in range(steps(delay)):
        logits = stream.step(frames(p), ids[p])
        if p >= len(prompt(delay)) - 1:
            ids.append(int(logits.argmax()))
    assert ids == DECODER[f"d{delay}.greedy_ids"].tolist()
    assert furthest(logits, DECODER[f"d{delay}.greedy_last_logits"]) <= LOGITS


def test_a_delay_that_changes_in_mid_stream(model: RealtimeASR) -> None:
    expected = DECODER["d6.forced_logits_switch_to_d30_at_pos70"]
    stream = Stream(model, 6)
    found: list[Tensor] = []
    for p, token in enumerate(forced(6)):
        stream.delay = 6 if p < 70 else 30
        found.append(stream.step(frames(p), int(token)))
    assert furthest(torch.stack(found)[-len(expected) :], expected) <= LOGITS
    # The same offline, with a delay for each position.
    delays = torch.where(torch.arange(steps(6)) < 70, 6, 30)
    logits = model.decoder(model.encode(mel_of(6)), forced(6)[None], delays[None])
    assert furthest(logits[0, -len(expected) :], expected) <= LOGITS


@pytest.mark.parametrize("chunk", [1, 37, 160, 1280, 4000, None])
def test_chunks_of_any_size_give_the_offline_logits(native: RealtimeASR, chunk: int | None) -> None:
    logits = torch.stack(list(listen(native, 6, chunk or len(WAVEFORM))))
    assert furthest(logits, DECODER["d6.forced_logits"]) <= LOGITS


def listen(model: RealtimeASR, delay: int, chunk: int) -> Iterator[Tensor]:
    """Feed the waveform in chunks; whenever the clock says that a step can run, run it."""
    clock, stream, front = DelayClock(delay), Stream(model, delay), LogMel()
    total = clock.total_tokens(len(WAVEFORM))
    state = front.initial_state(1)
    padded = torch.zeros(1, total * FRAME_SAMPLES + MEL_LOOKAHEAD)
    received, p = LEFT_PAD * FRAME_SAMPLES, 0
    for piece in (*WAVEFORM.split(chunk), padded[0, received + len(WAVEFORM) :]):
        padded[0, received : received + len(piece)] = piece
        received += len(piece)
        while p < min(clock.steps_ready(received), total):
            begin = p * FRAME_SAMPLES + MEL_LOOKAHEAD
            mel = front.step(padded[:, begin : begin + FRAME_SAMPLES], state, torch.ones(1, dtype=torch.bool))
            yield stream.step(mel[0], int(forced(delay)[p]))
            p += 1
    assert p == total


def test_ten_million_positions_later_the_logits_are_the_same(native: RealtimeASR) -> None:
    far = 10_000_000
    mel = mel_of(6)
    audio = native.encode(mel, start=4 * far)
    logits = native.decoder(audio, forced(6)[None], torch.tensor([6]), start=far)
    assert furthest(logits[0], DECODER["d6.forced_logits"]) <= LOGITS


def test_a_stream_that_is_ten_million_steps_old_goes_on_the_same(native: RealtimeASR) -> None:
    far = 10_000_000
    stream = Stream(native, 6)
    leaf(stream.decoder, "position")[:] = far
    position(stream.encoder)[:] = 4 * far
    # To a stream of that age its empty rings are full, of zeros: they have to leave the windows first.
    offline = Stream(native, 6)
    for p in range(steps(6)):
        token = int(forced(6)[p])
        found, expected = stream.step(frames(p), token), offline.step(frames(p), token)
        if p >= 60:
            # Three encoder layers of 20 frames reach back 15 steps, three decoder layers of 12 another 33.
            assert furthest(found, expected) <= LOGITS, p


def position(encoder: StateTree) -> Tensor:
    stack = encoder["transformer"]
    assert not isinstance(stack, Tensor)
    return leaf(stack, "position")


def test_a_flush_on_a_fork_leaves_the_stream_untouched(native: RealtimeASR) -> None:
    stream, alone = Stream(native, 6), Stream(native, 6)
    for p in range(60):
        stream.step(frames(p), int(forced(6)[p]))
        alone.step(frames(p), int(forced(6)[p]))
    fork = Stream(native, 6, slot=0)
    copy_into(fork.encoder, [0], select(stream.encoder, [1]), [0])
    copy_into(fork.decoder, [0], select(stream.decoder, [1]), [0])
    before = [tensor.clone() for _, tensor in flatten(stream.encoder)]
    silence = torch.full((128, 8), -0.625)
    flushed = [fork.step(silence, 35) for _ in range(6 + 11)]
    assert all(torch.equal(kept, now) for kept, (_, now) in zip(before, flatten(stream.encoder), strict=True))
    for p in range(60, steps(6)):
        token = int(forced(6)[p])
        assert torch.equal(stream.step(frames(p), token), alone.step(frames(p), token))
    # The fork heard what a stream hears that ends there.
    ending = torch.cat([MEL[..., : 8 * 60], torch.full((1, 128, 8 * 17), -0.625)], dim=-1)
    ids = torch.cat([forced(6)[:60], torch.full((17,), 35)])
    expected = native(ending, ids[None], torch.tensor([6]))[0, 60:]
    assert furthest(torch.stack(flushed), expected) <= 1e-4


def test_two_lanes_on_one_encoder_are_two_sessions(native: RealtimeASR) -> None:
    ears = Stream(native, 6)
    lanes = {delay: Stream(native, delay) for delay in (1, 30)}
    written: dict[int, list[int]] = {delay: prompt(delay) for delay in lanes}
    for p in range(steps(1)):
        audio = ears.hear(frames(p))
        for delay, lane in lanes.items():
            logits = lane.write(audio, written[delay][p])
            if p >= LEFT_PAD + delay:
                written[delay].append(int(logits.argmax()))
    for delay, ids in written.items():
        assert ids == DECODER[f"d{delay}.greedy_ids"].tolist()[: len(ids)]


# The delay embedding in the dtype of the reference packages.


@pytest.mark.parametrize(("delay", "error"), [(1, 0.003), (6, 0.024), (12, 0.048), (30, 0.111)])
def test_a_bfloat16_delay_embedding_is_off_as_published(delay: int, error: float) -> None:
    exact = delay_embedding(torch.tensor(delay), 3072)
    rounded = delay_embedding(torch.tensor(delay), 3072, torch.bfloat16)
    assert rounded.dtype == torch.float32
    assert furthest(rounded, exact) == pytest.approx(error, abs=1.5e-3)


def test_the_dtype_of_the_delay_embedding_is_a_switch(tmp_path: Path) -> None:
    folder = golden_folder("native", tmp_path)
    switched = load_model(folder, time_embedding_dtype="bfloat16")
    params = json.loads((folder / "params.json").read_text())
    (folder / "params.json").write_text(json.dumps({**params, "time_embedding_dtype": "bfloat16"}))
    written = load_model(folder)
    usual = load_model(folder, time_embedding_dtype="float32")
    found = [m(mel_of(30), forced(30)[None], torch.tensor([30])) for m in (switched, written, usual)]
    assert torch.equal(found[0], found[1])
    assert furthest(found[2][0], DECODER["d30.forced_logits"]) <= LOGITS
    assert furthest(found[0][0], DECODER["d30.forced_logits"]) > 10 * LOGITS


# Controls: each of these mistakes has been made by some implementation, and none passes.


def test_silence_as_history_of_the_convolutions_is_seen(native: RealtimeASR) -> None:
    # -0.625 is silence; the released weights expect 0 there.
    silent = torch.cat([torch.full((1, 128, 8), -0.625), MEL], dim=-1)
    assert furthest(native.encoder.stem(silent)[0, 4:], FRONT["conv_out_d30"]) > 1e-2


@pytest.mark.parametrize("form", list(FORMATS))
def test_the_other_layout_of_rope_rows_is_seen(form: str, tmp_path: Path) -> None:
    model = load_model(golden_folder(form, tmp_path))
    for module in model.modules():
        if isinstance(module, Attention):
            module.rope_layout = "half"
    assert furthest(model.encoder(MEL)[0], FRONT["encoder_out_d30"]) > 0.1


def test_a_delay_that_reaches_no_norm_is_seen(native: RealtimeASR, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native.decoder, "_ada", lambda delay: [torch.zeros(1, 1, 48)] * 3)
    logits = native(mel_of(6), forced(6)[None], torch.tensor([6]))
    assert furthest(logits[0], DECODER["d6.forced_logits"]) > 0.1


def test_a_delay_that_is_one_off_is_seen(native: RealtimeASR) -> None:
    logits = native(mel_of(6), forced(6)[None], torch.tensor([5]))
    assert furthest(logits[0], DECODER["d6.forced_logits"]) > 0.1


def test_a_window_that_is_one_off_is_seen(native: RealtimeASR) -> None:
    with_window(native, 21, 12)
    assert furthest(native.encoder(MEL)[0], FRONT["encoder_out_d30"]) > 0.01
    with_window(native, 20, 11)
    logits = native(mel_of(6), forced(6)[None], torch.tensor([6]))
    assert furthest(logits[0], DECODER["d6.forced_logits"]) > 0.1
    with_window(native, 20, 12)


def with_window(model: RealtimeASR, encoder: int, decoder: int) -> None:
    for stack, window in ((model.encoder.transformer, encoder), (model.text_decoder.transformer, decoder)):
        stack.config = replace(stack.config, window=window)


def test_float32_angles_would_not_reach_ten_million(
    native: RealtimeASR, monkeypatch: pytest.MonkeyPatch
) -> None:
    def coarse(positions: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
        angle = positions.float().unsqueeze(-1) * frequencies.float()
        return angle.cos(), angle.sin()

    monkeypatch.setattr(transformer, "rope_angles", coarse)
    far = 10_000_000
    audio = native.encode(mel_of(6), start=4 * far)
    logits = native.decoder(audio, forced(6)[None], torch.tensor([6]), start=far)
    assert furthest(logits[0], DECODER["d6.forced_logits"]) > 10 * LOGITS


def test_one_mel_frame_too_late_is_seen(native: RealtimeASR) -> None:
    late = torch.cat([torch.full((1, 128, 1), -0.625), MEL], dim=-1)[..., : 8 * steps(6)]
    logits = native(late, forced(6)[None], torch.tensor([6]))
    assert furthest(logits[0], DECODER["d6.forced_logits"]) > 0.1
