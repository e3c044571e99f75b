"""A session in a file: it goes on bit for bit, and only with its own model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from laws.listening import Tiny, batch, expected, golden, small, tensors, watch, waveform
from safetensors.torch import load_file, save_file

from rillvox import CapacityError, CheckpointError, ConfigError
from rillvox.asr import saved as saving
from rillvox.asr.events import Mark, Partial
from rillvox.asr.model import RealtimeASR
from rillvox.asr.saved import SavedSession, fingerprint, save_session
from rillvox.asr.stream import ASR

CUT = 21_777  # inside of a step


def saved(path: Path, **settings: int) -> list[int]:
    """Save a session in the middle of `waveform(2.9)`; returns its tokens so far."""
    room = batch(small(), **settings)
    lane = room.open(480)
    tokens = watch(lane)
    lane.push(waveform(2.9)[:CUT])
    lane.mark("half")
    room.drain()
    save_session(room, lane, path)
    return tokens


def test_a_resumed_session_goes_on_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "session.safetensors"
    room = batch(small())
    lane = room.open(480)
    tokens = watch(lane)
    lane.push(waveform(2.9)[:CUT])
    lane.mark("half")
    room.drain()
    save_session(room, lane, path)
    other_room = batch(small())
    other = SavedSession(path).resume(other_room)
    assert other.state() == lane.state()
    assert other.ear.state() == lane.ear.state()
    for name, array in lane.ear.arrays().items():
        assert np.array_equal(array, other.ear.arrays()[name]), name
    assert torch.equal(room.ring[lane.ear.slot], other_room.ring[other.ear.slot])
    more = watch(other)
    seen = len(tokens)
    for reader, place in ((lane, room), (other, other_room)):
        reader.push(waveform(2.9)[CUT:])
        reader.finish()
        place.drain()
    assert more == tokens[seen:]
    assert tokens == expected(2.9, 3, 16)
    one, two = tensors(room, lane), tensors(other_room, other)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert other.poll() == lane.poll()
    assert other.transcript() == lane.transcript()


def test_saving_leaves_the_stream_and_its_events_as_they_were(tmp_path: Path) -> None:
    room = batch(small())
    lane = room.open(480)
    lane.mark("start")
    lane.push(waveform(2.9))
    room.drain()
    before = tensors(room, lane)
    save_session(room, lane, tmp_path / "a")
    after = tensors(room, lane)
    assert all(torch.equal(before[name], after[name]) for name in before)
    events = lane.poll()
    assert events[0] == Mark("start")
    assert "".join(event.text for event in events if isinstance(event, Partial)) == lane.text
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_a_session_with_a_draft_is_resumed_with_it(tmp_path: Path) -> None:
    room = batch(small(), drafts=1)
    lane = room.open(960, draft_ms=160)
    lane.push(waveform(2.9)[:CUT])
    room.drain()
    save_session(room, lane, tmp_path / "a")
    other_room = batch(small(), drafts=1)
    other = SavedSession(tmp_path / "a").resume(other_room)
    assert lane.draft is not None
    assert other.draft is not None
    assert other.draft.state() == lane.draft.state()
    one, two = watch(lane.draft), watch(other.draft)
    for reader, place in ((lane, room), (other, other_room)):
        reader.push(waveform(2.9)[CUT:])
        reader.finish()
        place.drain()
    assert one == two
    assert other.text == lane.text


def test_another_model_refuses(tmp_path: Path) -> None:
    saved(tmp_path / "a")
    with pytest.raises(CheckpointError, match="another model"):
        SavedSession(tmp_path / "a").resume(batch(golden()))
    twin = RealtimeASR(small().model.config).eval()
    twin.load_state_dict(small().model.state_dict())
    assert fingerprint(twin, small().tokenizer) == fingerprint(small().model, small().tokenizer)
    with torch.no_grad():
        next(twin.adapter.parameters())[0, 0] += 1
    with pytest.raises(CheckpointError, match="another model"):
        SavedSession(tmp_path / "a").resume(batch(Tiny(twin, small().tokenizer)))
    SavedSession(tmp_path / "a").resume(batch(small()))


def test_a_session_moves_into_a_busy_batch(tmp_path: Path) -> None:
    tokens = saved(tmp_path / "a")
    room = batch(small(), slots=3)
    room.open(80).push(waveform(1.0))
    lane = SavedSession(tmp_path / "a").resume(room)
    more = watch(lane)
    lane.push(waveform(2.9)[CUT:])
    lane.finish()
    room.drain()
    assert tokens + more == expected(2.9, 3, 16)


def test_another_batch_shape_refuses_and_a_full_one_too(tmp_path: Path) -> None:
    saved(tmp_path / "a")
    with pytest.raises(CheckpointError, match="max_tokens 8, this batch has 16"):
        SavedSession(tmp_path / "a").resume(batch(small(), max_tokens=16))
    room = batch(small())
    room.open(480)
    with pytest.raises(CapacityError):
        SavedSession(tmp_path / "a").resume(room)


def test_what_has_ended_cannot_be_saved(tmp_path: Path) -> None:
    room = batch(small())
    lane = room.open(480)
    with pytest.raises(ConfigError, match="fork"):
        save_session(room, room.fork(lane), tmp_path / "a")
    room.close(lane)
    with pytest.raises(ConfigError, match="ended"):
        save_session(room, lane, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["missing", "cut", "text", "foreign", "version"])
def test_files_that_are_no_session_are_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a"
    if damage == "cut":
        saved(path)
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "text":
        path.write_text("hello")
    elif damage == "foreign":
        save_file({"x": torch.zeros(1)}, path)
    elif damage == "version":
        saved(path)
        change(path, {"version": 99})
    with pytest.raises(CheckpointError, match=str(path)):
        SavedSession(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"ear.tokens": -4},
        {"lanes.lane.token": 10**6},
        {"lanes.lane.position": 10**9},
        {"lanes.lane.delay_tokens": 31},
        {"lanes.lane.block": 12},
        {"lanes.lane.words": None},
        {"lanes": {}},
        {"events": [["song"]]},
        {"ear.received": "many"},
    ],
)
def test_damaged_numbers_never_reach_the_model(tmp_path: Path, changes: dict) -> None:
    path = tmp_path / "a"
    saved(path)
    change(path, changes)
    room = batch(small())
    with pytest.raises(CheckpointError, match="damaged"):
        SavedSession(path).resume(room)
    assert room.free == 1


@pytest.mark.parametrize("place", [0.3, 0.5, 0.99])
def test_a_single_flipped_bit_is_seen(tmp_path: Path, place: float) -> None:
    path = tmp_path / "a"
    saved(path)
    raw = bytearray(path.read_bytes())
    raw[int(place * len(raw))] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match="damaged: its tensors are not those that were saved"):
        SavedSession(path)


def test_damaged_tensors_never_reach_the_model(tmp_path: Path) -> None:
    path = tmp_path / "a"
    saved(path)
    document = SavedSession(path).document
    held = load_file(path)
    for name, tensor in (("waiting", torch.full((5,), torch.nan)), ("ring", torch.zeros(3, 3))):
        wrong = {**held, name: tensor}
        document["digest"] = saving._digest(wrong)  # a file made wrong, not one that fell ill
        save_file(wrong, path, {"rillvox_session": json.dumps(document)})
        with pytest.raises(CheckpointError, match="damaged"):
            SavedSession(path).resume(batch(small()))
    name = next(name for name in held if name.startswith("lane."))
    save_file(
        {key: held[key] for key in held if key != name}, path, {"rillvox_session": json.dumps(document)}
    )
    with pytest.raises(CheckpointError, match="damaged"):
        SavedSession(path).resume(batch(small()))


def test_sessions_are_saved_and_resumed_from_python(tmp_path: Path) -> None:
    asr = ASR(small().model, small().tokenizer)
    samples = waveform(2.9)
    whole = asr.stream(480)
    whole.feed(samples)
    first = asr.stream(480)
    first.feed(samples[:CUT])
    deltas = [event.text for event in first.poll() if isinstance(event, Partial)]
    first.save(tmp_path / "a")
    first.cancel()
    second = asr.resume(tmp_path / "a")
    second.feed(samples[CUT:])
    deltas += [event.text for event in second.poll() if isinstance(event, Partial)]
    assert second.finish() == whole.finish()
    assert second.text.startswith("".join(deltas))
    other = asr.stream(480)
    other.feed(np.zeros(441, np.float32), rate=44_100)
    with pytest.raises(ConfigError, match="44100"):
        other.save(tmp_path / "b")


def change(path: Path, changes: dict) -> None:
    """Overwrite dotted entries of a saved session's header."""
    document = SavedSession(path).document
    for dotted, value in changes.items():
        *parents, name = dotted.split(".")
        node = document
        for parent in parents:
            node = node[parent]
        node[name] = value
    save_file(load_file(path), path, {"rillvox_session": json.dumps(document)})
