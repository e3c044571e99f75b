"""Log-mel frames against the reference's, against librosa's bank, and against themselves in pieces."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from laws import Subject, assert_batch_law, assert_memory_law, assert_streaming_law
from safetensors.torch import load_file
from torch import Tensor

from rillvox.asr.delays import MEL_LOOKAHEAD, DelayClock, step_samples
from rillvox.asr.frontend import LogMel, LogMelConfig, hann, mel_filters
from rillvox.errors import ConfigError
from rillvox.kernels.state import StateTree, leaf

GOLDEN = Path(__file__).parents[1] / "golden" / "asr_tiny" / "frontend_encoder.safetensors"
ALL = torch.ones(1, dtype=torch.bool)


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN)


@pytest.fixture(scope="module")
def mel() -> LogMel:
    return LogMel()


def padded(waveform: Tensor, delay: int = 30) -> Tensor:
    """The padded stream of a finished one, [1, samples]."""
    clock, n = DelayClock(delay), waveform.shape[-1]
    right = clock.padded_samples(n) - clock.left_pad_samples - n
    return F.pad(waveform.reshape(1, -1), (clock.left_pad_samples, right))


def signals(sessions: int, steps: int, seed: int = 0) -> Tensor:
    """Noise under syllables of 200 ms, [sessions, samples]; from silence to full scale."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(sessions, steps * 1280, generator=generator)
    level = torch.rand(sessions, steps * 1280 // 3200 + 1, generator=generator) ** 4
    return x * level.repeat_interleave(3200, dim=1)[:, : x.shape[1]]


def test_the_bank_is_the_references(golden: dict[str, Tensor]) -> None:
    assert (mel_filters(128) - golden["mel_filters"]).abs().max() <= 1e-7


@pytest.mark.slow  # importing librosa compiles for a while
@pytest.mark.parametrize("n_mels", [40, 80, 128])
def test_the_bank_is_librosas(n_mels: int) -> None:
    librosa: Any = pytest.importorskip("librosa", reason="librosa is the oracle of the mel bank")

    def oracle(**options: Any) -> Tensor:
        with warnings.catch_warnings():
            # At 128 bands some of the narrowest fall between two bins and are empty: so they are.
            warnings.filterwarnings("ignore", "Empty filters")
            return torch.from_numpy(librosa.filters.mel(sr=16_000, n_fft=400, n_mels=n_mels, **options)).T

    assert (mel_filters(n_mels) - oracle()).abs().max() <= 1e-7
    # Neighbouring recipes are told apart: the other scale, the other norm.
    assert (mel_filters(n_mels) - oracle(htk=True)).abs().max() > 1e-3
    assert (mel_filters(n_mels) - oracle(norm=None)).abs().max() > 1e-3


@pytest.mark.parametrize(("delay", "frames"), [(1, 784), (6, 824), (30, 1016)])
def test_frames_are_the_references(mel: LogMel, golden: dict[str, Tensor], delay: int, frames: int) -> None:
    y = mel(padded(golden["waveform"], delay))
    assert y.shape == (1, 128, frames)
    assert (y[0] - golden["log_mel_d30"][:, :frames]).abs().max() <= 2e-4


@pytest.mark.parametrize(
    "break_it",
    [
        pytest.param(lambda m: m.window.copy_(torch.hann_window(400, periodic=False)), id="symmetric window"),
        pytest.param(lambda m: m.bank.mul_(1.01), id="loud bank"),
        pytest.param(lambda m: setattr(m, "config", LogMelConfig(floor_max=1.4)), id="lower floor"),
    ],
)
def test_the_golden_frames_catch_a_wrong_recipe(
    golden: dict[str, Tensor], break_it: Callable[[LogMel], Any]
) -> None:
    broken = LogMel()
    break_it(broken)
    assert (broken(padded(golden["waveform"]))[0] - golden["log_mel_d30"]).abs().max() > 2e-4


@pytest.mark.parametrize("cut", [1280, 160, 12_800])
def test_streamed_frames_are_the_references(mel: LogMel, golden: dict[str, Tensor], cut: int) -> None:
    """The clock's whole path: left padding, audio, closing zeros, cut 40 samples late."""
    wave, clock = golden["waveform"], DelayClock(30)
    stream = F.pad(wave, (clock.left_pad_samples, clock.closing_zeros(len(wave))))
    state = mel.initial_state(1)
    chunks = stream[MEL_LOOKAHEAD:].reshape(1, -1).split(cut, dim=1)
    y = torch.cat([mel.step(chunk, state, ALL) for chunk in chunks], dim=-1)
    assert y.shape == (1, 128, 1016)
    assert (y[0] - golden["log_mel_d30"]).abs().max() <= 2e-4


def late(mel: LogMel) -> Subject:
    """The front end as the laws see it: `forward` gets what `step` gets, cut 40 samples late."""

    def forward(x: Tensor) -> Tensor:
        return mel(F.pad(x, (MEL_LOOKAHEAD, 0)))[..., : x.shape[-1] // 160]

    return Subject(mel.initial_state, forward, mel.step)


# In log-mel units: rounding of the power near the floor is amplified by the logarithm.
TOLERANCE = 1e-5


@pytest.mark.parametrize("seed", [0, 1])
def test_a_stream_in_pieces_is_the_whole_signal(mel: LogMel, seed: int) -> None:
    x = F.pad(signals(5, 40, seed), (0, -40))  # ends in mid-step, as streams do
    assert_streaming_law(
        late(mel), x, out_axis=2, grain=160, longest=3 * 1280, window=400, tolerance=TOLERANCE, seed=seed
    )


def test_a_session_does_not_feel_its_neighbours(mel: LogMel) -> None:
    assert_batch_law(late(mel), signals(6, 30), out_axis=2, grain=160, longest=3 * 1280, tolerance=TOLERANCE)


def test_a_session_costs_a_thousand_bytes(mel: LogMel) -> None:
    assert assert_memory_law(late(mel), signals(1, 10), grain=1280) == 240 * 4


class Broken(LogMel):
    """The front end with one mistake of streaming."""

    def __init__(self, mistake: str) -> None:
        super().__init__()
        self.mistake = mistake

    def step(self, x: Tensor, state: StateTree, active: Tensor) -> Tensor:
        past = leaf(state, "past")
        if self.mistake == "no past":
            past.masked_fill_(active[:, None], 0)
        if self.mistake == "touches idle slots":
            past.add_(0.0).mul_(1.5)
        y = super().step(x, state, active)
        if self.mistake == "late past":
            past.copy_(torch.where(active[:, None], past.roll(1, dims=1), past))
        if self.mistake == "mixes slots":
            y = y + y.nan_to_num(0.0).mean()
        return y


@pytest.mark.parametrize("mistake", ["no past", "touches idle slots", "late past"])
def test_the_streaming_law_catches(mistake: str) -> None:
    with pytest.raises(AssertionError):
        assert_streaming_law(
            late(Broken(mistake)), signals(5, 30), out_axis=2, grain=160, tolerance=TOLERANCE
        )


def test_the_batch_law_catches_mixed_slots() -> None:
    with pytest.raises(AssertionError):
        assert_batch_law(
            late(Broken("mixes slots")), signals(6, 30), out_axis=2, grain=160, tolerance=TOLERANCE
        )


@given(active=st.lists(st.booleans(), min_size=4, max_size=4), frames=st.integers(1, 9))
def test_slots_that_are_not_active_keep_their_state(mel: LogMel, active: list[bool], frames: int) -> None:
    state = mel.initial_state(4)
    leaf(state, "past").copy_(signals(4, 1)[:, :240])
    before = leaf(state, "past").clone()
    x = torch.full((4, 160 * frames), float("nan"))
    x[torch.tensor(active)] = 0.5
    y = mel.step(x, state, torch.tensor(active))
    assert y.shape == (4, 128, frames)
    for slot, moved in enumerate(active):
        same = torch.equal(leaf(state, "past")[slot].view(torch.int32), before[slot].view(torch.int32))
        assert same is not moved
    assert not y[torch.tensor(active)].isnan().any()


@pytest.mark.parametrize("n_mels", [80, 128])
def test_digital_silence_is_exactly_minus_five_eighths(n_mels: int) -> None:
    mel = LogMel(LogMelConfig(n_mels))
    assert bool((mel(torch.zeros(2, 4000)) == -0.625).all())
    assert bool((mel.step(torch.zeros(1, 1280), mel.initial_state(1), ALL) == -0.625).all())


def test_frames_depend_on_their_own_samples_alone(mel: LogMel) -> None:
    """The floor is no maximum of the clip: a shout at the end doesn't change the whisper before it."""
    x = signals(1, 20) * 0.003
    loud = x.clone()
    loud[:, -1280:] = 1.0
    assert torch.equal(mel(loud)[..., :150], mel(x)[..., :150])


def test_level_matters_and_the_floor_is_absolute(mel: LogMel) -> None:
    """12 dB less are 0.3 less on the normalised scale (1.2 in log10 power, over 4), until the floor."""
    x = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
    lower = mel(x) - mel(x * 10 ** (-12 / 20))
    assert (lower - 0.3).abs().max() < 1e-5
    assert bool((mel(x * 1e-6) == -0.625).all())


def sliced(mel: LogMel, x: Tensor, step: int, look_back: int) -> Tensor:
    """One step's frames the way a widely used server takes them: an own centred transform of every slice."""
    piece = x[:, 1280 * step - look_back : 1280 * step + 1320]
    return mel(piece)[..., -8:]


def test_the_grid_is_absolute_not_that_of_slices(mel: LogMel) -> None:
    """Slices that start 840 samples back, no multiple of 160, hear everything 40 samples early."""
    x = torch.randn(1, 20 * 1280, generator=torch.Generator().manual_seed(0))
    whole, delayed = mel(x), mel(F.pad(x, (MEL_LOOKAHEAD, -MEL_LOOKAHEAD)))
    for step in (5, 6, 11):
        ours = whole[..., 8 * step : 8 * step + 8]
        assert (sliced(mel, x, step, 840) - delayed[..., 8 * step : 8 * step + 8]).abs().max() < 1e-4
        assert (sliced(mel, x, step, 840) - ours).abs().max() > 0.05
        assert (sliced(mel, x, step, 800) - ours).abs().max() < 1e-4


def test_a_step_needs_the_forty_samples_after_it(mel: LogMel) -> None:
    """Cutting at the step's own end instead is the same shift: the law notices."""
    x = signals(1, 10)
    x[:, :MEL_LOOKAHEAD] = 0
    whole = mel(x)
    for advance, close in ((MEL_LOOKAHEAD, True), (0, False)):
        state = mel.initial_state(1)
        chunks = x[:, advance : advance + 9 * 1280].split(1280, dim=1)
        y = torch.cat([mel.step(chunk, state, ALL) for chunk in chunks], dim=-1)
        assert ((y - whole[..., :72]).abs().max() < 1e-4) == close


@pytest.mark.parametrize("step", [0, 1, 7])
def test_a_step_hears_exactly_the_samples_that_the_clock_says(mel: LogMel, step: int) -> None:
    x = signals(1, 10)
    covered = step_samples(step)
    frames = slice(8 * step, 8 * step + 8)
    for sample, heard in (
        (covered.start - 1, False),
        (covered.start + 2, True),
        (covered.stop - 2, True),
        (covered.stop, False),
    ):
        if sample >= 0:
            changed = x.clone()
            changed[0, sample] += 100.0
            assert torch.equal(mel(changed)[..., frames], mel(x)[..., frames]) is not heard


@pytest.mark.parametrize(
    ("n", "frames"), [(0, 0), (1, 0), (159, 0), (160, 1), (1280, 8), (1439, 8), (1440, 9)]
)
def test_a_signal_gives_a_frame_for_every_whole_hop(mel: LogMel, n: int, frames: int) -> None:
    assert mel(torch.zeros(3, n)).shape == (3, 128, frames)


def test_an_hour_is_transformed_in_pieces(mel: LogMel, monkeypatch: pytest.MonkeyPatch) -> None:
    x = signals(2, 12)
    whole = mel(x)
    seen: list[int] = []
    inner = mel._log_mel
    monkeypatch.setattr("rillvox.asr.frontend.FRAMES_AT_ONCE", 26)
    monkeypatch.setattr(mel, "_log_mel", lambda frames: seen.append(frames.shape[1]) or inner(frames))
    assert torch.allclose(mel(x), whole, atol=1e-6)
    assert seen == [13] * 7 + [5]


@pytest.mark.parametrize("samples", [0, 1, 159, 161, 1279])
def test_a_ragged_chunk_is_refused(mel: LogMel, samples: int) -> None:
    with pytest.raises(ValueError, match=f"multiple of 160 samples, got {samples}"):
        mel.step(torch.zeros(1, samples), mel.initial_state(1), ALL)


def test_the_front_end_stays_float32_in_a_half_precision_model() -> None:
    x = signals(1, 10)
    expected = LogMel()(x)
    model = torch.nn.Sequential(LogMel()).to(torch.bfloat16)
    assert torch.equal(model(x), expected)
    assert torch.equal(model.half()(x), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(LogMel()(x), expected)


def test_a_front_end_from_the_meta_device_has_its_constants() -> None:
    mel = LogMel().to("meta").to_empty(device="cpu")
    assert torch.equal(mel.bank, mel_filters(128))
    assert torch.equal(mel.window, hann(400))
    with torch.device("meta"):
        assert LogMel().bank.device.type == "cpu"
    assert mel.state_dict() == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_mels": 0}, "n_mels"),
        ({"floor_range": 0.0}, "floor_range"),
        ({"floor_range": float("nan")}, "floor_range"),
    ],
)
def test_a_config_names_the_field_it_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LogMelConfig(**options)


def test_a_rate_that_ends_below_the_bend_is_refused() -> None:
    with pytest.raises(ConfigError, match="2000 Hz"):
        mel_filters(80, rate=2000)


def test_a_step_of_eight_sessions_is_a_small_part_of_its_80_ms() -> None:
    """0.3 ms of one quiet core; the bound leaves room for a busy one, whose caches are cold."""
    mel, active = LogMel(LogMelConfig(80)), torch.ones(8, dtype=torch.bool)
    state, x = mel.initial_state(8), signals(8, 1)

    def cpu_seconds() -> float:
        begin = time.process_time()
        mel.step(x, state, active)
        return time.process_time() - begin

    with torch.inference_mode():
        assert min(cpu_seconds() for _ in range(20)) < 0.003
