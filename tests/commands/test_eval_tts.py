"""`rillvox eval tts` and `rillvox eval heads`, with judges of a few lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import stub_studio
from cli_runner import run
from small_speaker import made_voice, write_speaker
from stub_studio import write_people

from rillvox.commands.eval_tts import Model, Setting, identity_of
from rillvox.tts import evaluate
from rillvox.tts.speaker import TTS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_speaker(tmp_path_factory.mktemp("speaker") / "small")
    (folder / "voices").mkdir()
    made_voice(TTS.load(folder)).save(folder / "voices" / "kathleen.safetensors")
    return folder


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What both commands need."""
    monkeypatch.setattr(Setting, "judges", lambda self: stub_studio.judges())
    held_out = write_people(tmp_path / "held_out", {f"p{n}": 90.0 + 20 * n for n in range(5)}, clips=5)
    seen = write_people(tmp_path / "seen", {f"q{n}": 100.0 + 20 * n for n in range(5)}, clips=5)
    files = [tmp_path / name for name in ("whisper", "head", "lexicon")]
    for path in files:
        path.write_text("{}")
    whisper, head, lexicon = files
    judged = ["--whisper", whisper, "--phone-head", head, "--lexicon", lexicon]
    return [held_out, "--seen", seen, *judged, "--sentences", 1]


def test_a_report_is_printed_and_kept_and_goes_on(
    words: list[object], model: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(evaluate, "SPREAD_TEXTS", 1)
    more = ["--model", model, "--no-peers", "--no-hard", "--cache", tmp_path / "kept"]
    reports: list[dict[str, object]] = []
    for number in range(2):
        out = tmp_path / f"{number}.json"
        assert run("eval", "tts", *words, *more, "--json", out) == 0
        assert "| never-seen voices |" in capsys.readouterr().out
        reports.append(json.loads(out.read_text()))
        monkeypatch.setattr(TTS, "stream", lambda *_, **__: iter(()))  # nothing is spoken again
    assert "hard" not in reports[0]
    assert str(reports[0].pop("command")).startswith("rillvox eval tts ")
    reports[1].pop("command")
    assert reports[0] == reports[1]
    assert reports[0]["jobs"] == 1
    # Ten voices, the default one twice and more for the spread, two kinds of recordings.
    assert len(list((tmp_path / "kept").iterdir())) == 10 + 1 + 3 + 2


def test_heads_are_compared(
    words: list[object], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "heads.json"
    more = ["--model", model, "--voices", 1, "--steps", 3, "--teacher-steps", 5, "--json", out]
    assert run("eval", "heads", *words, *more, "--teacher", model) == 0
    assert "| distilled head, less teacher |" in capsys.readouterr().out
    assert list(json.loads(out.read_text())["steps"].values()) == [3, 5, 1]
    # A head that isn't distilled has no other way of going than its own.
    assert run("eval", "heads", *words, *more) == 2
    assert "its head is not a distilled one; name its --teacher" in capsys.readouterr().err
    distilled = write_speaker(tmp_path / "distilled", spans=True)
    assert run("eval", "heads", *words, *more, "--model", distilled) == 0
    assert list(json.loads(out.read_text())["steps"].values()) == [3, 5, 1]
    assert run("eval", "heads", *words, *more, "--teacher", model, "--jobs", 0) == 2
    assert "jobs must be at least 1" in capsys.readouterr().err


def test_a_setting_opens_what_it_names(words: list[object], model: Path, tmp_path: Path) -> None:
    held_out = words[0]
    assert isinstance(held_out, Path)
    setting = Setting(
        held_out, tmp_path / "w", tmp_path / "h", tmp_path / "l", peers=False,
        models=(("one", Model(str(model), None)), ("two", Model(str(model), 7))),
    )  # fmt: skip
    studio = setting()
    one, two = studio.speakers["one"], studio.speakers["two"]
    assert one.tts is two.tts
    assert one.manner == one.tts.manner
    assert two.manner.steps == 7
    assert one.identity == two.identity
    assert studio.peers == {}
    assert len(studio.coded(stub_studio.hum(100, 1))) == 24000


def test_an_identity_is_of_contents_and_names(tmp_path: Path) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    one.write_bytes(b"ab")
    two.write_bytes(b"c")
    found = identity_of([one, two], ["judge 1"])
    assert identity_of([one, two], ["judge 2"]) != found
    assert identity_of([two, one], ["judge 1"]) != found
    one.write_bytes(b"a")
    two.write_bytes(b"bc")
    assert identity_of([one, two], ["judge 1"]) != found
