"""The clock against the tables of the model's specification, and against frames counted one by one."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rillvox.asr import delays
from rillvox.asr.config import ASRConfig, small_decoder, small_english, voxtral_realtime_4b
from rillvox.asr.delays import (
    DelayClock,
    align,
    audio_tokens,
    block_extra_ms,
    check_delay,
    delay_tokens,
    encoder_frames,
    mel_frames,
    mel_samples,
    step_samples,
)
from rillvox.errors import ConfigError

# Milliseconds, D, prompt length L, right padding R.
TABLE = [
    (80, 1, 34, 12),
    (160, 2, 35, 13),
    (240, 3, 36, 14),
    (320, 4, 37, 15),
    (400, 5, 38, 16),
    (480, 6, 39, 17),
    (560, 7, 40, 18),
    (640, 8, 41, 19),
    (720, 9, 42, 20),
    (800, 10, 43, 21),
    (880, 11, 44, 22),
    (960, 12, 45, 23),
    (1040, 13, 46, 24),
    (1120, 14, 47, 25),
    (1200, 15, 48, 26),
    (2400, 30, 63, 41),
]
CLOCKS = st.builds(
    DelayClock,
    delay_tokens=st.integers(1, 30),
    left_pad_tokens=st.integers(1, 64),
    buffer_tokens=st.integers(0, 20),
    block=st.sampled_from([1, 4, 8, 16, 32]),
)
# From nothing to ten thousand years of samples: far past what a float or an int64 of samples can count.
COUNTS = st.integers(0, 5000) | st.integers(0, 10**16)


@pytest.mark.parametrize(("ms", "tokens", "prompt", "flush"), TABLE)
def test_the_delay_table_holds(ms: int, tokens: int, prompt: int, flush: int) -> None:
    clock = DelayClock(delay_tokens(ms))
    assert (clock.delay_tokens, clock.prompt_length, clock.flush_tokens) == (tokens, prompt, flush)
    assert clock.delay_ms == ms
    assert audio_tokens(ms * 16) == tokens


@pytest.mark.parametrize(("n", "tokens"), [(0, 49), (1, 50), (1280, 50), (1281, 51), (57_280, 94)])
def test_padded_lengths_are_those_of_the_reference(n: int, tokens: int) -> None:
    clock = DelayClock(6)
    assert clock.total_tokens(n) == tokens
    assert clock.padded_samples(n) == 40_960 + n + align(n) + 17 * 1280 == tokens * 1280


@pytest.mark.parametrize(("delay", "tokens"), [(1, 98), (6, 103), (30, 127)])
def test_the_golden_streams_have_the_golden_lengths(delay: int, tokens: int) -> None:
    assert DelayClock(delay).total_tokens(68_357) == tokens


@pytest.mark.parametrize(
    ("ms", "tokens"), [(79, 1), (89, 1), (90, 2), (100, 2), (200, 3), (500, 7), (0, 0), (1, 0)]
)
def test_odd_delays_round_as_the_reference_rounds(ms: int, tokens: int) -> None:
    assert audio_tokens(ms * 16) == tokens


@pytest.mark.parametrize("ms", [0, -80, 79, 81, 90, 500, 2480, 480.0, True, None, "480", float("nan")])
def test_a_delay_that_is_no_whole_step_is_refused_not_rounded(ms: int) -> None:
    with pytest.raises(ConfigError, match=r"^delay_ms must be a multiple of 80 from 80 to 2400, got "):
        delay_tokens(ms)
    with pytest.raises(ConfigError, match=r"^draft_ms must be a multiple of 80 from 80 to 2400, got "):
        check_delay(ms, "draft_ms")


@pytest.mark.parametrize(
    "config",
    [small_english(300), small_english(300, small_decoder()), voxtral_realtime_4b()],
    ids=["small", "writer", "4b"],
)
def test_the_range_that_is_named_is_what_the_model_can_do(config: ASRConfig) -> None:
    for ms in range(80, 2401, 80):
        tokens, block = config.split_delay(ms)
        # All of it is used, but what is more than the decoder's longest delay.
        used = tokens * 80 + block_extra_ms(block)
        assert used == ms if tokens < config.most_delay_tokens else used <= ms
    for ms in (0, 40, 2480, 4000, 500):
        with pytest.raises(ConfigError, match=f"from 80 to 2400, got {ms}$"):
            config.split_delay(ms)


@pytest.mark.parametrize(
    ("ms", "block", "tokens"),
    [
        (480, 1, 6),
        (480, 4, 6),
        (480, 8, 5),
        (480, 16, 3),
        (320, 16, 1),
        (160, 8, 1),
        (80, 4, 1),
        (2400, 16, 27),
    ],
)
def test_a_block_takes_its_share_of_the_delay(ms: int, block: int, tokens: int) -> None:
    assert delay_tokens(ms, block) == tokens
    assert DelayClock(tokens, block=block).delay_ms == ms


def test_blocks_cost_what_their_first_step_waits() -> None:
    assert [block_extra_ms(block) for block in (1, 4, 8, 16)] == [0, 0, 80, 240]
    for block in (1, 4, 8, 16):
        clock = DelayClock(1, block=block)
        waits = [clock.samples_needed(p) - DelayClock(1).samples_needed(p) for p in range(32, 48)]
        assert max(waits) == block_extra_ms(block) * 16
        assert min(waits) == 0


@pytest.mark.parametrize(
    ("ms", "block", "message"),
    [
        (240, 16, "at least 320 with an encoder block of 16 frames, got 240"),
        (80, 8, "at least 160 with an encoder block of 8 frames, got 80"),
        (4000, 16, "from 80 to 2400, got 4000"),
        (500, 16, "from 80 to 2400, got 500"),
        (480, 6, "1 or a multiple of 4 encoder frames, got 6"),
        (480, 2, "got 2"),
        (480, 0, "got 0"),
        (480, -4, "got -4"),
    ],
)
def test_a_share_that_cannot_be_had_is_refused(ms: int, block: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        delay_tokens(ms, block)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"delay_tokens": 0}, "delay_tokens must be from 1 to 30, got 0"),
        ({"delay_tokens": 31}, "got 31"),
        ({"delay_tokens": 6, "left_pad_tokens": 0}, "left_pad_tokens must be at least 1"),
        ({"delay_tokens": 6, "buffer_tokens": -1}, "buffer_tokens"),
        ({"delay_tokens": 6, "block": 5}, "block"),
    ],
)
def test_a_clock_names_the_field_it_refuses(fields: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DelayClock(**fields)


def test_a_step_waits_two_and_a_half_milliseconds_past_its_end() -> None:
    clock = DelayClock(6)
    assert [clock.samples_needed(p) for p in range(3)] == [1320, 2600, 3880]
    assert (clock.samples_needed(5) - 6 * 1280) / 16 == 2.5
    assert [clock.steps_ready(n) for n in (0, 39, 40, 1319, 1320, 2599, 2600)] == [0, 0, 0, 0, 1, 1, 2]
    assert len(step_samples(7)) == 1520
    assert step_samples(7) == range(1280 * 7 - 200, 1280 * 7 + 1320)


@given(step=COUNTS)
def test_a_steps_samples_are_those_of_its_mel_frames(step: int) -> None:
    covered = step_samples(step)
    frames = [mel_samples(m) for m in mel_frames(step)]
    assert (covered.start, covered.stop) == (min(f.start for f in frames), max(f.stop for f in frames))
    assert DelayClock(1).samples_needed(step) == covered.stop
    assert all(m // 8 == step for m in mel_frames(step))
    assert [j // 4 for j in encoder_frames(step)] == [step] * 4


@given(clock=CLOCKS, n=COUNTS)
def test_ready_and_needed_are_two_sides_of_one_rule(clock: DelayClock, n: int) -> None:
    ready = clock.steps_ready(n)
    assert ready % clock.block_tokens == 0
    assert ready == 0 or clock.samples_needed(ready - 1) <= n
    assert clock.samples_needed(ready) > n


@given(clock=CLOCKS, n=COUNTS)
def test_the_closing_zeros_let_the_last_step_run_and_no_more(clock: DelayClock, n: int) -> None:
    heard = clock.left_pad_samples + n + clock.closing_zeros(n)
    assert clock.steps_ready(heard) == clock.total_tokens(n)
    assert clock.steps_ready(heard - 1) < clock.total_tokens(n)
    # Every step of real audio, then the delay, the first free token and the buffer: never fewer.
    steps_after_audio = clock.total_tokens(n) - clock.left_pad_tokens - -(-n // 1280)
    assert clock.flush_tokens <= steps_after_audio < clock.flush_tokens + clock.block_tokens


@pytest.mark.parametrize("delay", [1, 6, 30])
def test_without_the_right_padding_the_last_word_would_be_cut(delay: int) -> None:
    """A word that ends with the audio is due inside the stream, buffer and all; D steps less lose it."""
    clock, n = DelayClock(delay), 57_000
    due = clock.due_step(-(-n // 16))
    assert due + clock.buffer_tokens < clock.total_tokens(n)
    unpadded = clock.left_pad_tokens + -(-n // 1280)
    assert due >= unpadded


def test_right_padding_counts_the_audio_not_a_stream_of_length_zero() -> None:
    clock = DelayClock(6)
    for n in (1, 639, 1279, 1280, 1281):
        naive = (clock.left_pad_samples + n + 17 * 1280 - 40) // 1280
        assert clock.total_tokens(n) - naive in (1, 2)  # what dropping the last partial step would lose


def test_padding_only_steps_are_known_before_the_audio() -> None:
    assert DelayClock(6).silent_steps == 31
    assert step_samples(30).stop <= DelayClock(6).left_pad_samples < step_samples(31).stop
    assert DelayClock(6, block=16).silent_steps == 28


def test_the_prompt_is_forced_and_its_last_step_speaks() -> None:
    clock = DelayClock(6)
    assert clock.prompt(1, 32) == [1] + [32] * 38
    assert [clock.is_forced(p) for p in (0, 37, 38, 39)] == [True, True, True, False]
    assert [clock.is_heard(p) for p in (0, 37, 38, 39)] == [False, False, True, True]


@given(delay=st.integers(1, 30), k=COUNTS)
def test_the_kth_token_ends_a_word_k_plus_one_steps_into_the_audio(delay: int, k: int) -> None:
    clock = DelayClock(delay)
    assert clock.group_end_ms(clock.prompt_length - 1 + k) == (k + 1) * 80


@given(clock=CLOCKS, ms=COUNTS)
def test_a_word_is_due_once_its_end_was_heard_and_the_delay_is_over(clock: DelayClock, ms: int) -> None:
    step = clock.due_step(ms)
    assert clock.group_end_ms(step) >= ms > clock.group_end_ms(step - 1)
    assert clock.step_end_ms(step) - clock.group_end_ms(step) == clock.delay_tokens * 80


@given(clock=CLOCKS, sample=COUNTS)
def test_samples_steps_and_times_agree(clock: DelayClock, sample: int) -> None:
    step = clock.step_at_real_sample(sample)
    assert clock.step_start_ms(step) * 16 <= sample < clock.step_end_ms(step) * 16
    assert clock.step_at_ms(sample // 16) == step
    assert step * 1280 <= clock.left_pad_samples + sample < (step + 1) * 1280


def test_the_left_padding_lies_before_time_zero() -> None:
    clock = DelayClock(6)
    assert [clock.step_start_ms(p) for p in (0, 31, 32, 33)] == [-2560, -80, 0, 80]
    assert clock.step_at_ms(-1) == 31


def test_a_year_of_audio_is_counted_exactly() -> None:
    year = 365 * 24 * 3600 * 16_000
    clock = DelayClock(6)
    assert clock.total_tokens(year * 10**6 + 1) == year * 10**6 // 1280 + 32 + 1 + 17
    step = clock.step_at_real_sample(year * 10**6)
    assert clock.step_start_ms(step) == 365 * 24 * 3600 * 1000 * 10**6
    # Single precision, as positions are often kept, cannot tell neighbours apart from here on: 15 days.
    late = np.float32(2**24)
    assert late + 1 == late


def test_the_clock_needs_no_tensors() -> None:
    tree = ast.parse(Path(delays.__file__).read_text("utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert modules == {"__future__", "dataclasses", "errors"}
