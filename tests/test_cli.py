"""The command line: cheap help, errors in one line, transcripts and captions in every form."""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
from tiny_listener import byte_tokenizer, random_listener, small_config

from rillvox import ASR, AudioError
from rillvox.cli import main
from rillvox.commands.listen import paced

HEAVY = {"torch", "numpy", "fastapi", "soundfile", "websockets", "pydantic"}
RUN = "import sys; from rillvox.cli import main; sys.argv = ['rillvox', *sys.argv[1:]]; main()"
SPEECH = str(Path(__file__).parents[1] / "samples" / "recordings" / "printing.flac")


def run_apart(*words: str, code: str = RUN) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)


@pytest.fixture
def asr(monkeypatch: pytest.MonkeyPatch) -> ASR:
    """A toy listener that talks much, in place of whatever model is asked for."""
    torch.set_num_threads(1)
    listener = ASR(random_listener(small_config()), byte_tokenizer(300), "toy")
    monkeypatch.setattr(ASR, "load", classmethod(lambda cls, name: listener))
    return listener


Cli = Callable[..., int]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs the command line in this process and gives its exit status."""

    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["rillvox", *words])
        with pytest.raises(SystemExit) as left:
            main()
        return int(left.value.code or 0)

    return run


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return recording(tmp_path / "talk.wav")


def recording(path: Path, seconds: float = 2.0, seed: int = 0) -> Path:
    x = np.random.default_rng(seed).normal(0, 0.1, int(seconds * 16000))
    sf.write(path, x, 16000)
    return path


def test_help_loads_nothing_heavy_and_is_quick() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = RUN.replace(
        "main()",
        f"""
try:
    main()
except SystemExit:
    print("LOADED", sorted({HEAVY!r} & set(sys.modules)))
""",
    )
    done = run_apart("--help", code=code)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "LOADED []" in done.stdout, done
    assert "transcribe" in done.stdout
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert cpu < 0.5  # wall time would depend on who else runs


@pytest.mark.parametrize("command", ["transcribe", "listen", "serve"])
def test_every_command_has_help(command: str, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(command, "--help") == 0
    assert "Usage" in capsys.readouterr().out


def test_files_that_are_no_recordings_are_refused_before_a_model_is_loaded() -> None:
    done = run_apart("transcribe", "nothing.wav", __file__, "--model", "no-such-model")
    assert done.returncode == 2
    assert [line.split(":")[1].strip() for line in done.stderr.splitlines()] == ["nothing.wav", __file__]


def test_what_is_refused_is_one_line_and_exit_2() -> None:
    done = run_apart("transcribe", SPEECH, "--model", "no-such-model")
    assert done.returncode == 2
    assert done.stderr.startswith("rillvox: no-such-model: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_debug_shows_the_traceback() -> None:
    done = run_apart("transcribe", SPEECH, "--model", "no-such-model", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "CheckpointError" in done.stderr


def test_a_mistake_of_ours_is_one_line_too(
    cli: Cli, clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(cls: type[ASR], name: str) -> ASR:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(ASR, "load", classmethod(broken))
    assert cli("transcribe", str(clip)) == 1
    assert (
        capsys.readouterr().err == "rillvox: internal error: ZeroDivisionError: oops; --debug shows where\n"
    )


def test_the_text_of_a_file(cli: Cli, asr: ASR, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = asr.transcribe(clip, 480).to_text()
    assert len(expected) > 5
    assert cli("transcribe", str(clip)) == 0
    assert capsys.readouterr() == (expected, "")


@pytest.mark.parametrize("form", ["text", "json", "srt", "vtt"])
def test_every_format_can_be_written_to_a_file(form: str, cli: Cli, asr: ASR, clip: Path) -> None:
    target = clip.with_name("out")
    assert cli("transcribe", str(clip), "--format", form, "--output", str(target)) == 0
    expected = getattr(asr.transcribe(clip, 480), f"to_{form}")()
    assert target.read_text(encoding="utf-8") == expected


def test_the_delay_is_passed_on(cli: Cli, asr: ASR, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("transcribe", str(clip), "--delay-ms", "960") == 0
    assert capsys.readouterr().out == asr.transcribe(clip, 960).to_text()
    assert cli("transcribe", str(clip), "--delay-ms", "100") == 2
    assert "80" in capsys.readouterr().err


def test_several_files_go_to_a_folder(cli: Cli, asr: ASR, tmp_path: Path) -> None:
    files = [str(recording(tmp_path / f"{name}.wav", seed=seed)) for seed, name in enumerate("ab")]
    assert cli("transcribe", *files, "--format", "vtt", "--output", str(tmp_path / "out")) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.vtt", "b.vtt"]
    assert (tmp_path / "out" / "b.vtt").read_text() == asr.transcribe(files[1]).to_vtt()


def test_several_files_on_standard_output_are_named(
    cli: Cli, asr: ASR, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(recording(tmp_path / f"{name}.wav", seed=seed)) for seed, name in enumerate("ab")]
    assert cli("transcribe", *files, "--format", "json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["file"] for line in lines] == files
    assert [line["text"] for line in lines] == [asr.transcribe(file).text for file in files]
    assert cli("transcribe", *files, "--format", "srt") == 2
    assert "--output" in capsys.readouterr().err


def test_files_that_would_overwrite_each_other_are_refused(
    cli: Cli, asr: ASR, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").mkdir()
    files = [str(recording(tmp_path / "a.wav")), str(recording(tmp_path / "x" / "a.wav"))]
    assert cli("transcribe", *files, "--output", str(tmp_path / "out")) == 2
    assert "same file" in capsys.readouterr().err


def test_a_bad_file_does_not_stop_the_others(
    cli: Cli, asr: ASR, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = clip.with_name("bad.wav")
    bad.write_text("no sound at all")
    assert cli("transcribe", str(bad), str(clip)) == 2
    out, err = capsys.readouterr()
    assert out == f"{clip}: {asr.transcribe(clip).text}\n"
    assert err.startswith(f"rillvox: {bad}: not an audio file")
    assert err.count("\n") == 1


@pytest.mark.parametrize("form", ["FLAC", "MP3"])
def test_what_can_be_read_of_a_file_cut_short_is_written(
    form: str, cli: Cli, asr: ASR, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.random.default_rng(3).normal(0, 0.1, 5 * 16000)
    whole, cut = tmp_path / f"whole.{form.lower()}", tmp_path / f"cut.{form.lower()}"
    sf.write(whole, x, 16000, format=form)
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) * 7 // 10])
    heard: list[float] = []
    told: list[AudioError] = []
    text = asr.transcribe(cut, on_progress=heard.append, on_damage=told.append).text
    assert 3.0 < heard[-1] < 3.6
    assert asr.transcribe(whole).text.startswith(text[:-20])
    assert len(text) > 20
    for output in (None, tmp_path / "out.txt"):
        words = [str(cut)] if output is None else [str(cut), "--output", str(output)]
        assert cli("transcribe", *words) == 2
        out, err = capsys.readouterr()
        assert (out if output is None else output.read_text()) == text + "\n"
        assert err == f"rillvox: {told[0]}\n"
        assert err.startswith(f"rillvox: {cut}: only {heard[-1]:.2f} of 5.")
        assert err.endswith("s could be read; the file seems cut short\n")
    with pytest.raises(AudioError, match="seems cut short"):
        asr.transcribe(cut)


def test_listening_to_a_file_cut_short_shows_its_words_and_fails(
    cli: Cli, asr: ASR, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = io.BytesIO()
    sf.write(file, np.random.default_rng(3).normal(0, 0.1, 16000), 16000, format="FLAC")
    cut = tmp_path / "cut.flac"
    cut.write_bytes(file.getvalue()[: len(file.getvalue()) * 7 // 10])
    assert cli("listen", str(cut)) == 2
    out, err = capsys.readouterr()
    assert out.split() == asr.transcribe(cut, on_damage=lambda _: None).text.split()
    assert "seems cut short" in err


def test_a_file_of_which_nothing_can_be_read_gives_no_text(
    cli: Cli, asr: ASR, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut.flac"
    sf.write(cut, np.zeros(16000), 16000)
    cut.write_bytes(cut.read_bytes()[:60])
    assert cli("transcribe", str(cut)) == 2
    assert capsys.readouterr() == (
        "",
        f"rillvox: {cut}: nothing of it can be read; the file seems damaged or cut short\n",
    )


def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    cli: Cli, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(ASR, "load", load)
    missing = tmp_path / "no" / "folder" / "out.txt"
    no_folder = f"{missing} cannot be written: there is no folder {missing.parent}"
    (tmp_path / "taken").write_text("")
    (tmp_path / "manifest.jsonl").write_text("")
    refusals = {
        ("transcribe", str(clip), "--output", str(missing)): no_folder,
        ("transcribe", str(clip), str(clip), "--output", str(tmp_path / "taken")): "cannot be made a folder",
        ("transcribe", str(clip), "--output", str(clip)): "is the recording itself; name another file",
        ("eval", "asr", str(tmp_path), "--json", str(missing)): no_folder,
        ("eval", "asr", str(tmp_path), "--json", str(tmp_path)): "is a folder; name a file",
        ("bench", "memory", "--json", str(missing)): no_folder,
        ("bench", "step", "--json", str(missing)): no_folder,
    }
    for words, told in refusals.items():
        assert cli(*words) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert told in err
        assert err.count("\n") == 1
    assert not missing.parent.exists()


def test_standard_input_is_a_file(
    cli: Cli, asr: ASR, clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(clip.read_bytes())))
    assert cli("transcribe", "-") == 0
    assert capsys.readouterr().out == asr.transcribe(clip).to_text()


def test_listening_to_a_file_prints_the_words_of_its_transcript(
    cli: Cli, asr: ASR, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording(clip, seconds=0.7)
    assert cli("listen", str(clip)) == 0
    assert capsys.readouterr().out.split() == asr.transcribe(clip).text.split()


def test_listening_needs_one_source(cli: Cli, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("listen", str(clip), "--mic") == 2
    assert "not both" in capsys.readouterr().err


class Wait(threading.Event):
    """Sleeps by moving a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        self.now += timeout or 0.0
        return self.is_set()


def test_a_file_comes_at_the_pace_of_speech_and_catches_up_when_late() -> None:
    event = Wait()
    blocks = iter([np.zeros(1600, np.float32)] * 10)
    times = []
    for number, _ in enumerate(paced(blocks, event, lambda: event.now)):
        times.append(round(event.now, 3))
        if number == 3:
            event.now += 0.25  # a slow step
    assert times == [0.1, 0.2, 0.3, 0.4, 0.65, 0.65, 0.7, 0.8, 0.9, 1.0]


def test_a_paced_file_stops_when_told() -> None:
    event = Wait()
    blocks: list[Any] = [np.zeros(1600, np.float32)] * 10
    taken = 0
    for _ in paced(iter(blocks), event, lambda: event.now):
        taken += 1
        if taken == 3:
            event.set()
    assert taken == 3
