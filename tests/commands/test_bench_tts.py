"""`rillvox bench tts`: its table, and that the parts of a frame are those parts."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from cli_runner import run
from small_speaker import made_voice, write_speaker

from rillvox.codec.stream import DecodeStream
from rillvox.commands import bench_tts
from rillvox.commands.bench_tts import BACKBONE, CODEC, HEAD, REST, WHOLE, Clock, measure
from rillvox.tts.flow import FlowHead
from rillvox.tts.speaker import TTS

PARTS = (BACKBONE, HEAD, CODEC, REST)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_speaker(tmp_path_factory.mktemp("speaker") / "small")
    (folder / "voices").mkdir()
    made_voice(TTS.load(folder)).save(folder / "voices" / "ana.safetensors")
    return folder


def test_the_table(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_tts, "SENTENCES", ("Good.", "It is. Go."))
    out = tmp_path / "b.json"
    assert run("bench", "tts", "--model", folder, "--repeats", 2, "--json", out) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("### bench tts")
    assert "- threads of the model: 1" in shown
    assert "2 sentences, 2 times each, voice ana, 4 steps of the flow head" in shown
    rows = json.loads(out.read_text())["rows"]
    assert [row["what"] for row in rows[:3]] == [
        "a voice read, once, ms",
        "first audio, ms",
        "work for a second of speech, ms",
    ]
    assert [row["what"] for row in rows[3:]] == [f"a frame of 80 ms: {p}, ms" for p in (*PARTS, WHOLE)]
    assert [row["n"] for row in rows[:3]] == [2, 4, 4]
    assert [row for row in rows if not 0 < row["p50"] <= row["p95"]] == []


def test_parts_make_the_whole_and_are_where_the_time_goes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tts = TTS.load(folder)
    real, solve, late = DecodeStream.feed, FlowHead.solve, 0.02

    def slow(self: DecodeStream, frames: np.ndarray) -> np.ndarray:
        time.sleep(late)
        return real(self, frames)

    monkeypatch.setattr(DecodeStream, "feed", slow)
    times = measure(tts, tts.remember(tts.voice("ana")), ["Good day."], 1)
    assert len(times.first) == len(times.pace) == 1
    assert len(times.frames) > 5
    for frame in times.frames:
        assert sum(frame[part] for part in PARTS) == pytest.approx(frame[WHOLE])
        assert frame[CODEC] >= late
        assert all(value > 0 for value in frame.values())
    assert times.first[0] > late
    # Nothing is left of the watching.
    assert DecodeStream.feed is slow
    assert FlowHead.solve is solve


def test_a_clock_counts_what_it_watches_and_lets_go() -> None:
    class Sleeper:
        def sleep(self, seconds: float) -> float:
            time.sleep(seconds)
            return seconds

    clock, sleeper = Clock(), Sleeper()
    with clock.watch("nap", sleeper, "sleep"):
        assert sleeper.sleep(0.01) == 0.01
        sleeper.sleep(0.02)
        assert clock.take()["nap"] >= 0.03
        assert clock.take() == {}
        with pytest.raises(ValueError, match="negative"):
            sleeper.sleep(-1.0)
    assert vars(sleeper) == {}


@pytest.mark.parametrize(
    ("args", "told"), [(["--repeats", 0], "--repeats must be"), (["--voice", "bob"], "there are ana")]
)
def test_what_cannot_be_measured_is_refused(
    folder: Path, args: list[object], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("bench", "tts", "--model", folder, *args) == 2
    assert told in capsys.readouterr().err
