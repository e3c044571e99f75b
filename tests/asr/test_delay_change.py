"""Another delay in mid-stream: at once, in a pause, or before anything was heard."""

from __future__ import annotations

import pytest
import torch
from laws.listening import (
    LEFT_PAD,
    adapter_vectors,
    batch,
    decoder_position,
    expected,
    golden,
    golden_vectors,
    listen,
    small,
    watch,
    waveform,
)

from rillvox import ConfigError
from rillvox.asr.events import DelayChanged
from rillvox.asr.lanes import PAUSE_TOKENS


def test_a_switch_at_once_gives_the_golden_logits() -> None:
    vectors = golden_vectors()
    samples = vectors["waveform"].numpy()
    room = batch(golden(), max_tokens=1)
    lane = room.open(480)
    # The larger delay makes the stream longer than the forced ids are.
    forced = vectors["d6.forced_ids"].tolist() + [32] * 40
    lane.next_token = lambda: forced[lane.position]  # type: ignore[method-assign]
    logits: list[torch.Tensor] = []
    choose = room.bank._choose
    room.bank._choose = lambda lanes, rows: logits.append(rows[0]) or choose(lanes, rows)  # type: ignore
    # Step 70 needs the audio up to its own end and 40 samples more.
    ready = (70 - LEFT_PAD) * 1280 + 40
    lane.push(samples[:ready])
    room.drain()
    assert lane.position == 70
    room.change_delay(lane, 2400, at="now")
    assert lane.poll()[-1] == DelayChanged(2400, (70 - LEFT_PAD - 30) * 0.08)
    lane.push(samples[ready:])
    lane.finish()
    room.drain()
    wanted = vectors["d6.forced_logits_switch_to_d30_at_pos70"]
    got = torch.stack(logits)[: len(wanted) - 31]
    assert (got - wanted[31:]).abs().max() < 1e-3
    plain = vectors["d6.forced_logits"]
    assert (got - plain[31:]).abs().max() > 0.1  # the test sees the switch


def test_a_change_before_any_audio_is_another_start() -> None:
    room = batch(small())
    lane = room.open(480)
    room.change_delay(lane, 80)
    assert lane.delay_ms == 80
    assert listen(lane, room, waveform(2.9), [1280]) == expected(2.9, 1, 4)


@pytest.mark.parametrize("new_ms", [480, 1200])
def test_in_a_pause_a_fresh_reading_takes_over(new_ms: int) -> None:
    """What is said after the pause is what a decoder says that begins there, prompt and all."""
    samples = waveform(12.0)
    room = batch(small())
    lane = room.open(960)
    steps: list[tuple[int, int]] = []
    lane.on_reading = lambda step, reading: steps.append((step, reading.token))
    starts: list[int] = []
    restart = lane.restart
    lane.restart = lambda start: starts.append(start) or restart(start)  # type: ignore[method-assign]
    for begin in range(0, len(samples), 1280):
        lane.push(samples[begin : begin + 1280])
        room.drain()
        if begin == 1280:
            room.change_delay(lane, new_ms)
    lane.finish()
    room.drain()
    (start,) = starts
    # Tokens alone would hardly show what an uncleared state does: the prompt is longer than the window.
    assert decoder_position(room, lane) == lane.position - start
    change = next(event for event in lane.poll() if isinstance(event, DelayChanged))
    delay, block = room.model.config.split_delay(new_ms)
    assert (change.delay_ms, lane.delay_tokens, block) == (new_ms, delay, 16)
    jumps = [i for i in range(1, len(steps)) if steps[i][0] != steps[i - 1][0] + 1]
    cut = jumps[0]
    old, new = steps[:cut], steps[cut:]
    # The old reading ends with a pause, and the new one answers for audio inside of that pause.
    assert [token for _, token in old[-PAUSE_TOKENS:]] == [32] * PAUSE_TOKENS
    assert new[0][0] == start + LEFT_PAD + delay
    first_heard = start + LEFT_PAD
    assert old[-1][0] + 1 - 9 - PAUSE_TOKENS <= first_heard < old[-1][0] + 1 - 9
    audio = adapter_vectors(small(), samples, delay, block)[:, start:]
    tokens = [1] + [32] * (LEFT_PAD + delay)
    with torch.no_grad():
        while len(tokens) <= audio.shape[1]:
            logits = small().model.decoder(
                audio[:, : len(tokens)], torch.tensor([tokens]), torch.tensor([delay])
            )
            tokens.append(int(logits[0, -1].argmax()))
    assert [token for _, token in new] == tokens[LEFT_PAD + 1 + delay :]


def test_a_smaller_block_takes_over_at_once_and_a_larger_one_at_its_own_grid() -> None:
    room = batch(small())
    lane = room.open(80)
    watch(lane)
    lane.push(waveform(0.21))
    room.drain()
    assert lane.ear.tokens == 34
    room.change_delay(lane, 480, at="now")
    assert lane.ear.ready(99) == (4, 0)
    lane.push(waveform(3.0))
    room.step()
    assert (lane.ear.block, lane.ear.tokens) == (4, 36)
    room.step()
    assert (lane.ear.block, lane.ear.tokens) == (16, 44)
    room.change_delay(lane, 80, at="now")
    room.drain()
    assert lane.ear.block == 4


@pytest.mark.parametrize(("delay_ms", "at"), [(500, "pause"), (480, "later"), (0, "now")])
def test_nonsense_is_refused(delay_ms: int, at: str) -> None:
    room = batch(small())
    lane = room.open(480)
    with pytest.raises(ConfigError):
        room.change_delay(lane, delay_ms, at)
    assert lane.delay_ms == 480


def test_after_the_end_nothing_changes() -> None:
    room = batch(small())
    lane = room.open(480)
    lane.push(waveform(0.5))
    lane.finish()
    room.change_delay(lane, 80)
    room.drain()
    assert lane.delay_ms == 480
    room.change_delay(lane, 80)
