"""`rillvox say`: to a file, to a pipe, to a loudspeaker; and what is refused."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import miniaudio
import numpy as np
import pytest
import soundfile
from cli_runner import run
from small_speaker import made_voice, write_speaker

from rillvox.commands import loudspeaker as loudspeaker_module
from rillvox.commands import say as say_module
from rillvox.commands.loudspeaker import AHEAD, Loudspeaker
from rillvox.errors import AudioError
from rillvox.tts.speaker import TTS

RATE = 24000
RUN = "import sys; from rillvox.cli import main; sys.argv = ['rillvox', *sys.argv[1:]]; main()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_speaker(tmp_path_factory.mktemp("speaker") / "small")
    (folder / "voices").mkdir()
    made_voice(TTS.load(folder)).save(folder / "voices" / "ana.safetensors")
    return folder


@pytest.fixture(scope="module")
def expected(folder: Path) -> np.ndarray:
    return TTS.load(folder).synthesize("Hello.", "ana", seed=3).audio.samples


def say(folder: Path, *args: object) -> int:
    return run("say", *args, "--model", folder, "--voice", "ana", "--seed", 3)


def refused(capsys: pytest.CaptureFixture[str], told: str) -> None:
    err = capsys.readouterr().err
    assert err.startswith("rillvox: ")
    assert err.count("\n") == 1
    assert told in err


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_a_text_becomes_a_file(folder: Path, expected: np.ndarray, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"hello.{ending}"
    path.write_bytes(b"old")
    assert say(folder, "Hello.", "-o", path) == 0
    found, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE
    assert len(found) == len(expected)
    assert np.abs(found - expected).max() < 1e-4
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_standard_input_to_standard_output_through_pipes(folder: Path, expected: np.ndarray) -> None:
    command = [sys.executable, "-c", RUN, "say", "-", "-o", "-", "--model", str(folder)]
    command += ["--voice", "ana", "--seed", "3"]
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    done = subprocess.run(command, input=b"Hello.\n", capture_output=True, check=False, env=environment)
    assert done.returncode == 0
    assert done.stderr == b""
    found, rate = soundfile.read(io.BytesIO(done.stdout), dtype="float32")
    assert rate == RATE
    assert np.abs(found - expected).max() < 1e-4
    assert len(done.stdout) == 44 + 2 * len(expected)


def test_standard_input_is_read_as_it_comes() -> None:
    from rillvox.commands import say as saying

    read, write = os.pipe()
    with os.fdopen(read) as stdin, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", stdin)
        os.write(write, "\ufeffHello. Sm\u00f6rg".encode()[:-3])  # cut in mid-letter
        parts = saying._typed()  # pyright: ignore[reportPrivateUsage]
        assert next(parts) == "Hello. Sm"
        os.write(write, b"\xb6rg")
        assert next(parts) == "\u00f6rg"
        os.close(write)
        assert "".join(parts) == ""


def test_standard_input_of_another_encoding_is_told(folder: Path) -> None:
    command = [sys.executable, "-c", RUN, "say", "-", "-o", "-", "--model", str(folder), "--voice", "ana"]
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    done = subprocess.run(
        command, input=b"caf\xe9 au lait", capture_output=True, check=False, env=environment
    )
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr.startswith(b"rillvox: standard input is not UTF-8")
    assert done.stderr.count(b"\n") == 1


def test_a_lexicon_is_read(folder: Path, expected: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "words.tsv").write_text("GIF\thello\n")
    assert say(folder, "GIF.", "-o", tmp_path / "a.wav", "--lexicon", tmp_path / "words.tsv") == 0
    found, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    assert np.abs(found - expected).max() < 1e-4


def test_voices_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("say", "anything", "--voices", "--model", folder) == 0
    assert capsys.readouterr().out == "ana\tAna allows it\n"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["Hello.", "-o", "x.mp3"], "x.mp3: name a .wav, .flac or .ogg file, or -"),
        (["Hello.", "-o", "none/x.wav"], "there is no folder none"),
        (["  ", "-o", "x.wav"], "there is no text to say"),
        (["\U0001f600", "-o", "x.wav"], "nothing to say"),
        (["Hello.", "-o", "x.wav", "--voice", "bob"], "bob: no such voice; there are ana"),
        (["Hello.", "-o", "x.wav", "--lexicon", "none.tsv"], "none.tsv: cannot be read"),
        (["Hello.", "-o", "x.wav", "--model", "no-such-speaker"], "no such speaker comes along"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    folder: Path, args: list[str], told: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    given = ["--model", folder] if "--model" not in args else []
    given += ["--voice", "ana"] if "--voice" not in args else []
    assert run("say", *args, *given) == 2
    refused(capsys, told)
    assert not list(tmp_path.iterdir())


def test_no_loudspeaker_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Devices:
        backend = "Null"

        def get_playbacks(self) -> list[dict[str, str]]:
            return [{"name": "NULL Playback Device"}]

    monkeypatch.setattr(miniaudio, "Devices", Devices)
    assert say(folder, "Hello.") == 2
    refused(capsys, "no loudspeaker here, only a null device; write a file: say -o, clone --wav")


def test_it_is_played_while_it_is_spoken(
    folder: Path, expected: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    played: list[np.ndarray] = []

    class Heard(Loudspeaker):
        def __init__(self) -> None:
            super().__init__(backends=[miniaudio.Backend.NULL])

        def play(self, samples: np.ndarray) -> None:
            played.append(samples)
            super().play(samples)

    monkeypatch.setattr(say_module, "open_loudspeaker", Heard)
    assert say(folder, "Hello.") == 0
    assert len(played) > 3
    assert np.array_equal(np.concatenate(played), expected)


def test_a_loudspeaker_waits_for_a_start_and_plays_in_order() -> None:
    speaker = Loudspeaker(backends=[miniaudio.Backend.NULL])
    blocks = speaker._blocks()
    next(blocks)

    def heard(count: int) -> list[float]:
        return np.frombuffer(blocks.send(count), np.float32).tolist()

    speaker.play(np.ones(10, np.float32))
    assert heard(4) == [0.0] * 4
    speaker.play(np.full(round(AHEAD * RATE), 2.0, np.float32))
    assert heard(12) == [1.0] * 10 + [2.0] * 2
    heard(round(AHEAD * RATE) - 4)
    assert heard(4) == [2.0, 2.0, 0.0, 0.0]  # silence where nothing has come
    speaker.play(np.full(2, 3.0, np.float32))
    assert heard(3) == [3.0, 3.0, 0.0]


def test_what_is_short_is_played_too() -> None:
    with Loudspeaker(backends=[miniaudio.Backend.NULL]) as speaker:
        speaker.play(np.ones(100, np.float32))
        drained = threading.Thread(target=speaker.drain)
        begun = time.monotonic()
        drained.start()
        drained.join(5)
        assert not drained.is_alive()
        assert time.monotonic() - begun >= 0.2


def test_a_device_that_does_not_open_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise miniaudio.MiniaudioError("failed to init device")

    monkeypatch.setattr(loudspeaker_module.miniaudio, "PlaybackDevice", fail)
    with pytest.raises(AudioError, match="write a file with -o"):
        Loudspeaker(backends=[miniaudio.Backend.NULL])
