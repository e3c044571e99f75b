"""The head that filters a source: pulses at a pitch whose phase runs on, noise, and gains."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from codec_batches import tiny
from tiny_codec import frames_of_codes, made

from rillvox.codec.initial import ACOUSTIC, settle
from rillvox.codec.losses import power_distance
from rillvox.codec.model import CodecModel
from rillvox.codec.source import CONTEXT, NOISE_PATCHES, SourceFilter
from rillvox.codec.spectrum import rfft

ONE = torch.zeros(1, 1, dtype=torch.float64)


@pytest.fixture
def head() -> SourceFilter:
    torch.manual_seed(0)
    return SourceFilter(tiny())


def pulses(head: SourceFilter, hertz: list[float]) -> np.ndarray:
    wave, _ = head._pulses(torch.tensor([hertz], dtype=torch.float64), ONE, ONE)
    return wave.flatten().numpy()


def test_pulses_have_the_period_of_the_pitch_and_power_one(head: SourceFilter) -> None:
    wave = pulses(head, [200.0] * 100)
    assert np.square(wave).mean() == pytest.approx(1.0, rel=0.02)
    peaks = np.flatnonzero(wave > 0.7 * wave.max())
    assert np.diff(peaks).tolist() == [120] * (len(peaks) - 1)
    spectrum = np.abs(np.fft.rfft(wave))
    harmonics = spectrum[200::200][:59].copy()  # of 1 s: a bin is a hertz
    assert harmonics.min() > 0.99 * harmonics.max()
    spectrum[::200] = 0
    assert spectrum.max() < 1e-3 * harmonics.max()


def test_a_pitch_that_moves_has_no_jumps(head: SourceFilter) -> None:
    """The phase of a glide from 100 to 300 Hz in a second passes 200 periods."""
    hertz = np.linspace(100, 300, 101)[1:]
    wave = pulses(head, [100.0, *hertz.tolist()])[240:]
    found = np.flatnonzero((wave[1:-1] > wave[:-2]) & (wave[1:-1] >= wave[2:]) & (wave[1:-1] > 4)) + 1
    assert len(found) == pytest.approx(200, abs=1)
    gaps = np.diff(found)
    assert np.diff(gaps).max() <= 1
    assert np.diff(gaps).min() >= -5


def test_the_noise_has_power_one_and_comes_again(head: SourceFilter) -> None:
    spectra = head.noise_spectra(torch.device("cpu"))
    assert spectra.shape == (NOISE_PATCHES, head.bins)
    power = spectra.abs().square().mean().item() / (head.size * 3 / 8)
    assert power == pytest.approx(1.0, rel=0.02)
    again = SourceFilter(tiny()).noise_spectra(torch.device("cpu"))
    assert torch.equal(spectra, again)


def test_a_pitch_that_is_given_is_taken_where_it_is_known() -> None:
    codec = made("80 ms")
    head = codec.model.decoder.output
    assert isinstance(head, SourceFilter)
    latents = codec.model.quantizer.decode(frames_of_codes(codec, 5)[None])
    own, said = codec.model.decoder.speak(latents)
    assert said is not None
    pitch, power = said
    assert pitch.shape == (1, 40)
    assert power.shape == (1, 40, head.bins)
    assert bool((pitch > math.log(50)).all())
    assert bool((pitch < math.log(550)).all())
    nothing, _ = codec.model.decoder.speak(latents, hertz=torch.zeros(1, 40))
    assert torch.equal(own, nothing)
    higher, _ = codec.model.decoder.speak(latents, hertz=pitch.exp().float() * 1.5)
    assert not torch.allclose(own, higher, atol=1e-3)
    elsewhere, _ = codec.model.decoder.speak(latents, begin=torch.tensor([7]))
    assert not torch.allclose(own, elsewhere, atol=1e-4)


def test_the_power_to_be_expected_is_the_power_of_what_is_said(head: SourceFilter) -> None:
    torch.manual_seed(1)
    x = torch.randn(1, 32, 2000) * 0.3
    latents = torch.randn(1, 250, head.latent_dim)
    with torch.no_grad():
        patches, _, power = head.voice(x[..., :1].expand_as(x), latents[:, :1].expand_as(latents))
    wave = patches.transpose(1, 2).flatten(1)[0, 3 * head.patch :]
    windows = wave.unfold(0, head.size, head.patch) * head.window.on(x.device)
    found = rfft(windows).abs().square()[:1900].mean(0)
    wanted = power[0, 10:1900].mean(0)
    within = slice(20, head.bins - 20)
    # A window smears a gain over its neighbours: on the whole it is right.
    assert abs((found[within] / wanted[within]).log().mean().item()) < 0.05


def test_only_the_pitch_is_taught_by_the_pitch(head: SourceFilter) -> None:
    """No gradient of the sound runs through the phase, and the pitch's own reaches the latents."""
    latents = torch.randn(1, 4, head.latent_dim, requires_grad=True)
    x = torch.randn(1, 32, 32, requires_grad=True)
    patches, pitch, _ = head.voice(x, latents)
    patches.square().sum().backward(retain_graph=True)
    assert latents.grad is None
    assert x.grad is not None
    pitch.sum().backward()
    assert latents.grad is not None
    assert bool(latents.grad.abs().sum(-1).gt(0).all())


def test_the_pitch_is_read_from_the_last_frames_only(head: SourceFilter) -> None:
    latents = torch.randn(1, 12, head.latent_dim)
    other = latents.clone()
    other[:, 4] += 1
    with torch.no_grad():
        apart = (head.pitch(latents) - head.pitch(other)).abs().reshape(12, 8).amax(1)
    assert apart[:4].max().item() == 0
    assert apart[4 : 4 + CONTEXT].min().item() > 0
    assert apart[4 + CONTEXT :].max().item() == 0


def test_settled_weights_keep_the_spread_of_a_signal() -> None:
    torch.manual_seed(0)
    config = replace(tiny(), encoder_layers=(1,) * 4, decoder_layers=(1,) * 4)
    model = CodecModel(config)
    book = model.quantizer.semantic_codebook
    book.embedding_sum.copy_(torch.randn(8, 256) * 3)
    heard = torch.randn(6, 12 * 1920) * torch.rand(6, 1) * 0.3
    ids = torch.randint(-1, 8, (6, 12))
    encoder = model.encoder
    assert encoder is not None

    def spreads() -> list[float]:
        with torch.no_grad():
            z = encoder(heard)
            given = torch.cat([book.entries()[ids.clamp(min=0)], torch.tanh(z[..., 256:])], -1)
            x = model.decoder.stages(given)
        parts = (z[..., :256], z[..., 256:], x)
        return [float((part - part.mean((0, 1))).square().mean().sqrt()) for part in parts]

    assert spreads()[1] < 0.1
    settle(model, heard, ids)
    semantic, acoustic, last = spreads()
    assert semantic == pytest.approx(float(book.entries().std(0).square().mean().sqrt()), rel=0.05)
    assert acoustic == pytest.approx(ACOUSTIC, rel=0.05)
    assert last == pytest.approx(1.0, rel=0.2)


def test_expected_power_is_compared_where_the_recording_is_known() -> None:
    torch.manual_seed(0)
    wave = torch.randn(2, 9600) * 0.1
    windows = torch.nn.functional.pad(wave, (720, 0)).unfold(-1, 960, 240) * torch.hann_window(960)
    power = rfft(windows).abs().square()
    known = torch.tensor([24000.0, 24000.0])
    assert power_distance(power, wave, known).item() == pytest.approx(0.0, abs=1e-5)
    assert power_distance(power * 100, wave, known).item() == pytest.approx(1.0, rel=0.01)
    above = power.clone()
    above[..., 300:] *= 100  # beyond 7.5 kHz
    assert power_distance(above, wave, known).item() > 0.05
    assert power_distance(above, wave, torch.tensor([7000.0, 7000.0])).item() == pytest.approx(0.0, abs=1e-5)


def test_a_codebook_that_is_still_to_be_learned_is_taken_from_the_latents() -> None:
    torch.manual_seed(0)
    model = CodecModel(tiny())
    model.quantizer.semantic_codebook.embedding_sum.zero_()
    heard = torch.randn(6, 12 * 1920) * torch.rand(6, 1) * 0.3
    settle(model, heard, torch.full((6, 12), -1))
    encoder = model.encoder
    assert encoder is not None
    with torch.no_grad():
        z = encoder(heard)
        x = model.decoder.stages(torch.cat([z[..., :256], torch.tanh(z[..., 256:])], -1))
    for part in (z[..., :256], x):
        assert float((part - part.mean((0, 1))).square().mean().sqrt()) == pytest.approx(1.0, rel=0.2)


def test_a_recording_does_not_fade_at_its_end() -> None:
    """The last position stands for what would follow: a hum that goes on is as loud in its last patches."""
    codec = made("80 ms")
    latents = codec.model.quantizer.decode(frames_of_codes(codec, 1)[None]).expand(-1, 30, -1)
    with torch.no_grad():
        wave = codec.model.decoder(latents)[0]
    assert len(wave) == 30 * 1920
    power = wave.reshape(-1, 240).square().mean(1)
    assert float(power[-3:].mean() / power[80:-3].mean()) == pytest.approx(1.0, abs=0.35)
    assert float(power[-1]) > 0.4 * float(power[80:-3].mean())
