"""The evaluation, with listeners that recite: what is counted, when, and what failure costs."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
from tiny_listener import byte_tokenizer, random_listener, small_config

from rillvox.asr import evaluate as evaluation
from rillvox.asr.evaluate import evaluate, main_asr, thinned
from rillvox.asr.events import Event, Final, Partial
from rillvox.asr.hearing import Hearing, listen
from rillvox.asr.peers import PocketSphinx, installed_peers
from rillvox.asr.scoreboard import scoreboard
from rillvox.asr.stream import ASR
from rillvox.asr.transcript import Transcript
from rillvox.errors import AudioError, ConfigError, TextError
from rillvox.training.manifests import Manifest

RATE = 16000
WORD_SECONDS = 0.4
TEXTS = {
    "one": "THERE IS NO NEED",
    "two": "Well, it's ten o'clock.",
    "three": "the birch canoe",
    "four": "slid on the smooth planks",
}


class Reciter:
    """Knows each clip by the amplitude it is filled with, and says a word `delay_ms` after its end."""

    def __init__(self, texts: Sequence[str], spoil: Callable[[str], str] = lambda text: text) -> None:
        self.texts = texts
        self.spoil = spoil
        self.sessions: list[Recital] = []

    def stream(self, *, delay_ms: int) -> Recital:
        if delay_ms % 80:
            raise ConfigError(f"delay_ms must be a multiple of 80, got {delay_ms}")
        self.sessions.append(Recital(self, delay_ms))
        return self.sessions[-1]


class Recital:
    def __init__(self, reciter: Reciter, delay_ms: int) -> None:
        self.reciter, self.delay_ms = reciter, delay_ms
        self.heard, self.said, self.cancelled = 0, 0, False
        self.words: list[str] = []
        self.ended = False

    def feed(self, pcm: np.ndarray, /) -> None:
        assert len(pcm) <= 1280
        if self.heard == 0:
            text = self.reciter.spoil(self.reciter.texts[round(float(pcm[0]) * 1000) - 1])
            if text == "FAIL":
                raise AudioError("the microphone fell into the soup")
            self.words = text.split()
        self.heard += len(pcm)

    push = feed

    def _until(self, count: int) -> Partial:
        words = self.words[self.said : count]
        text = " ".join(words)
        piece = Partial((" " if self.said and text else "") + text)
        self.said = max(self.said, count)
        return piece

    def poll(self) -> Sequence[Event]:
        if self.ended:
            return [self._until(len(self.words)), Final(Transcript(" ".join(self.words)), 0, 0)]
        due = int((self.heard / RATE - self.delay_ms / 1000) / WORD_SECONDS + 1e-6)
        return [self._until(min(max(due, 0), len(self.words)))]

    def finish(self) -> Transcript:
        self.ended = True
        return Transcript(" ".join(self.words))

    def cancel(self) -> None:
        self.cancelled = True


class Stage:
    """Two slots for recitals that step together."""

    def __init__(self, reciter: Reciter, slots: int = 2) -> None:
        self.reciter, self.free = reciter, slots
        self.most = 0

    def open(self, delay_ms: int) -> Any:
        self.free -= 1
        return self.reciter.stream(delay_ms=delay_ms)

    def step(self) -> bool:
        return False

    def close(self, lane: Any, /) -> None:
        self.free += 1


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    entries: list[dict[str, Any]] = []
    for index, (name, text) in enumerate(TEXTS.items()):
        seconds = WORD_SECONDS * len(text.split())
        samples = np.full(int(seconds * RATE), (index + 1) / 1000, np.float32)
        sf.write(tmp_path / f"{name}.wav", samples, RATE, subtype="FLOAT")
        corpus = "first" if index < 2 else "second"
        entries.append(
            {"id": name, "path": f"{name}.wav", "text": text, "speaker": f"s{index % 2}", "corpus": corpus}
        )
    entries[2]["words"] = [
        [w, i * WORD_SECONDS, (i + 1) * WORD_SECONDS] for i, w in enumerate(TEXTS["three"].split())
    ]
    entries.append({"id": "mute", "path": "one.wav"})
    path = tmp_path / "manifest.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return Manifest(path)


def reciter(spoil: Callable[[str], str] = lambda text: text) -> Reciter:
    return Reciter(list(TEXTS.values()), spoil)


def test_a_perfect_listener_makes_no_errors(manifest: Manifest):
    report = evaluate(reciter(), manifest, (160, 480))
    assert [row["delay_ms"] for row in report["rows"]] == [160, 480]
    everything = report["rows"][0]["corpora"]["all"]
    assert everything["wer"]["rate"] == everything["cer"]["rate"] == 0
    assert everything["wer"]["length"] == 4 + 4 + 3 + 5
    assert everything["clips"] == 4
    assert everything["speakers"] == 2
    assert everything["minutes"] == pytest.approx(16 * WORD_SECONDS / 60, rel=1e-3)
    assert report["list"]["unscored"] == 1
    assert set(report["rows"][0]["corpora"]) == {"first", "second", "all"}
    json.dumps(report)


def test_errors_are_counted_by_corpus_and_kind(manifest: Manifest):
    report = evaluate(
        reciter(lambda text: text.replace("birch ", "").replace("smooth", "rough old")), manifest
    )
    cells = report["rows"][0]["corpora"]
    assert cells["first"]["wer"]["rate"] == 0
    second = cells["second"]["wer"]
    assert (second["substitutions"], second["deletions"], second["insertions"]) == (1, 1, 1)
    assert second["rate"] == pytest.approx(3 / 8)
    assert cells["all"]["wer"]["rate"] == pytest.approx(3 / 16)
    assert second["low"] <= second["rate"] <= second["high"]


def test_a_clip_that_fails_counts_as_all_deletions(manifest: Manifest):
    asr = reciter(lambda text: "FAIL" if "birch" in text else text)
    row = evaluate(asr, manifest)["rows"][0]
    assert row["corpora"]["second"]["wer"]["deletions"] == 3
    assert row["corpora"]["second"]["clips"] == 2
    (failed,) = [clip for clip in row["clips"] if clip["failure"]]
    assert failed["id"] == "three"
    assert failed["wer"] == 1.0
    assert "soup" in failed["failure"]


def test_a_failed_session_is_given_back():
    asr = reciter(lambda _: "FAIL")
    assert listen(asr, np.full(1280, 0.001, np.float32), 480).failure is not None
    assert [session.cancelled for session in asr.sessions] == [True]
    asr = reciter()
    listen(asr, np.full(1280, 0.001, np.float32), 480)
    assert [session.cancelled for session in asr.sessions] == [False]


def test_a_delay_that_the_model_does_not_know_is_no_error_of_a_clip(manifest: Manifest):
    with pytest.raises(ConfigError, match="multiple of 80"):
        evaluate(reciter(), manifest, (100,))


@pytest.mark.parametrize("delay_ms", [160, 480])
def test_the_delay_of_emission_is_that_of_the_model(manifest: Manifest, delay_ms: int):
    emission = evaluate(reciter(), manifest, (delay_ms,))["rows"][0]["emission"]
    assert emission["words"] == 3
    assert emission["never"] == 0
    # The flush at the end of the clip brings the last words out early, so only the first waits in full.
    assert 0 <= emission["algorithmic_median_ms"] <= delay_ms
    assert delay_ms - 160 <= emission["algorithmic_p90_ms"] <= delay_ms + 1
    assert emission["total_median_ms"] >= emission["algorithmic_median_ms"]


def test_words_that_are_wrong_have_no_delay(manifest: Manifest):
    emission = evaluate(reciter(lambda text: text.replace("birch", "beech")), manifest)["rows"][0]["emission"]
    assert emission["words"] == 2
    assert emission["never"] == pytest.approx(1 / 3)


def test_without_word_ends_no_delay_is_told(manifest: Manifest):
    others = manifest.where(lambda clip: clip.id != "three")
    assert evaluate(reciter(), others)["rows"][0]["emission"] is None


def test_word_ends_of_another_text_are_refused(manifest: Manifest):
    text = manifest.path.read_text().replace('["birch"', '["beech"')
    manifest.path.write_text(text)
    with pytest.raises(ConfigError, match="clip three: words: not the words of the text"):
        evaluate(reciter(), Manifest(manifest.path))
    manifest.path.write_text(text.replace('["the", 0.0, 0.4]', '"the"'))
    with pytest.raises(ConfigError, match="clip three: words: expected a list"):
        evaluate(reciter(), Manifest(manifest.path))


def test_clips_heard_together_score_as_clips_heard_alone(manifest: Manifest):
    spoil: Callable[[str], str] = lambda text: "FAIL" if "planks" in text else text.replace("no", "noo")  # noqa: E731
    alone = evaluate(reciter(spoil), manifest, (160,))["rows"][0]
    stage = Stage(reciter(spoil))
    together = evaluate(reciter(spoil), manifest, (160,), batch=stage)["rows"][0]
    assert together["slots"] == 2
    assert stage.free == 2
    for name in ("corpora", "clips", "revised"):
        assert together[name] == alone[name]
    assert together["emission"]["algorithmic_median_ms"] == alone["emission"]["algorithmic_median_ms"]


def test_a_real_listener_is_driven_alone_and_in_a_batch(manifest: Manifest):
    asr = ASR(random_listener(small_config()), byte_tokenizer(300))
    manifest = manifest.where(lambda clip: clip.id in ("one", "three"))
    alone, together = evaluate(asr, manifest), evaluate(asr, manifest, batch=asr.batch(2))
    for one, other in zip(alone["rows"], together["rows"], strict=True):
        assert [clip["text"] for clip in one["clips"]] == [clip["text"] for clip in other["clips"]]
        assert one["corpora"] == other["corpora"]
        assert not any(clip["failure"] for clip in one["clips"])
    with pytest.raises(ConfigError):
        evaluate(asr, manifest, (100,))


def test_text_that_was_shown_and_then_changed_is_told():
    hearing = Hearing(1.0)
    hearing.take([Partial("the birch")], 0.5, 0.01)
    hearing.take([Partial(" canoe"), Final(Transcript("the beech canoe"), 0, 0)], 0.9, 0.02)
    assert hearing.revised_words == 2
    assert hearing.shown_at(3) == (0.5, 0.01)
    assert hearing.shown_at(9) is None
    hearing.text = "the birch canoe"
    assert hearing.revised_words == 0
    assert hearing.shown_at(9) == (0.5, 0.01)
    assert hearing.shown_at(15) == (0.9, 0.02)
    assert hearing.shown_at(16) is None


def test_computation_runs_on_one_thread_and_the_setting_comes_back(manifest: Manifest):
    seen: list[int] = []

    def spoil(text: str) -> str:
        seen.append(torch.get_num_threads())
        return text

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        evaluate(reciter(spoil), manifest)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}


def test_the_first_clip_warms_up_and_is_not_counted_twice(manifest: Manifest):
    asr = reciter()
    report = evaluate(asr, manifest, (480,))
    assert len(asr.sessions) == 5
    assert len(report["rows"][0]["clips"]) == 4


def test_a_peer_is_a_row_of_its_own(manifest: Manifest):
    class Deaf:
        name = "deaf peer"

        def transcribe(self, samples: np.ndarray, /) -> str:
            if samples[0] > 0.0035:
                raise RuntimeError("no")
            return ""

    rows = evaluate(reciter(), manifest, (480,), peers=[Deaf()])["rows"]
    assert [row["system"] for row in rows] == ["model", "deaf peer"]
    assert rows[1]["corpora"]["all"]["wer"]["deletions"] == 16
    assert rows[1]["emission"] is None


def test_pocketsphinx_is_asked_for_whole_clips(monkeypatch: pytest.MonkeyPatch):
    calls: list[Any] = []

    class Decoder:
        def __init__(self, **settings: Any) -> None:
            calls.append(settings)

        def start_utt(self) -> None: ...
        def process_raw(self, raw: bytes, full_utt: bool) -> None:
            calls.append((len(raw), full_utt))

        def end_utt(self) -> None: ...
        def hyp(self) -> Any:
            return types.SimpleNamespace(hypstr="go forward")

    monkeypatch.setattr("rillvox.asr.peers.version", lambda _: "5.1.1")
    peer = PocketSphinx(types.SimpleNamespace(Decoder=Decoder))
    assert peer.transcribe(np.zeros(100, np.float32)) == "go forward"
    assert calls == [{"samprate": 16000, "loglevel": "FATAL"}, (200, True)]
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    assert installed_peers() == []


def test_the_scoreboard_tells_every_figure(manifest: Manifest):
    report = evaluate(reciter(lambda text: "FAIL" if "birch" in text else text), manifest, model="reciter")
    shown = scoreboard(report, show=True)
    assert "4 clips, 0.1 minutes, 2 speakers" in shown
    assert "1 clips without a text are left out" in shown
    assert "reciter, delay 480 ms" in shown
    assert "failed: three: AudioError" in shown
    assert "ref: well it's ten o'clock" in shown
    assert "18.8 (" in shown
    assert "ref:" not in scoreboard(report)
    assert "threads used: 1" in shown


def test_a_list_with_nothing_to_compare_is_refused(manifest: Manifest):
    with pytest.raises(TextError, match="no clip has a text"):
        evaluate(reciter(), manifest.where(lambda clip: clip.id == "mute"))
    manifest.path.write_text(manifest.path.read_text().replace("the birch canoe", "..."))
    with pytest.raises(TextError, match=r"clip three: '\.\.\.' leaves nothing"):
        evaluate(reciter(), Manifest(manifest.path))


def test_a_limited_list_keeps_all_parts(manifest: Manifest):
    assert [clip.id for clip in thinned(manifest, 2).clips] == ["one", "three"]
    assert thinned(manifest, None) is manifest
    with pytest.raises(TextError, match="at least 1"):
        thinned(manifest, 0)


def test_the_command_prints_the_table_and_writes_the_report(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    loaded: list[str] = []
    stream = types.ModuleType("rillvox.asr.stream")
    stream.ASR = types.SimpleNamespace(load=lambda name: loaded.append(name) or reciter())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rillvox.asr.stream", stream)
    monkeypatch.setattr(evaluation, "installed_peers", list)
    monkeypatch.setattr(sys, "argv", ["rillvox", "eval", "asr", "a list"])
    main_asr(manifest.path, "tiny", [480], tmp_path / "out" / "report.json", limit=3)
    assert loaded == ["tiny"]
    assert "rillvox eval asr 'a list'" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["rows"][0]["corpora"]["all"]["clips"] == 3
