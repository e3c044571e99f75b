"""Word times, confidence, other conditions, quiet streams and paired peers of an evaluation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from rillvox.asr.conditions import GAP_SECONDS, quiet_streams, under, with_times
from rillvox.asr.evaluate import evaluate, main_asr
from rillvox.asr.events import Event, Partial
from rillvox.asr.hearing import Hearing
from rillvox.asr.scoreboard import scoreboard
from rillvox.asr.timing import WordScores
from rillvox.asr.transcript import Transcript, Word
from rillvox.errors import ConfigError
from rillvox.training.manifests import Manifest

RATE = 16000


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Two clips of a second: a tone of 1 kHz with one of 6 kHz."""
    t = np.arange(RATE) / RATE
    both = 0.1 * np.sin(2 * np.pi * 1000 * t) + 0.1 * np.sin(2 * np.pi * 6000 * t)
    rows: list[dict[str, Any]] = []
    for id, text in (("a", "ONE TWO"), ("b", "three")):
        sf.write(tmp_path / f"{id}.wav", both.astype(np.float32), RATE, subtype="FLOAT")
        words = [[word, 0.2 + i, 0.5 + i] for i, word in enumerate(text.lower().split())]
        rows.append(
            {"id": id, "path": f"{id}.wav", "text": text, "speaker": id, "corpus": "c", "words": words}
        )
    path = tmp_path / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Manifest(path)


def hearing(*words: Word) -> Hearing:
    made = Hearing(2.0, text=" ".join(word.text for word in words))
    made.words = words
    return made


def test_start_errors_count_words_heard_right() -> None:
    scores = WordScores()
    heard = [Word("one", 0.25, 0.4, 0.9), Word("too", 0.9, 1.0, 0.3), Word("three", 1.9, 2.2, 0.8)]
    scores.add(hearing(*heard), "one two three", [(0.2, 0.4), (1.0, 1.1), (2.0, 2.2)])
    start = scores.report()["start"]
    assert start["words"] == 2
    assert start["median_ms"] == pytest.approx(75)
    assert start["bias_ms"] == pytest.approx(-25)
    assert WordScores().report() == {"start": None, "confidence": None}


def test_confidence_is_compared_with_truth_bin_by_bin() -> None:
    scores = WordScores()
    for index in range(10):
        # Nine of ten words said with 0.95 are right, none of those said with 0.25.
        said = "right" if index else "wrong"
        scores.add(hearing(Word(said, 0, 1, 0.95), Word("noise", 1, 2, 0.25)), "right")
    confidence = scores.report()["confidence"]
    assert confidence["words"] == 20
    low, high = confidence["bins"]
    assert (low["from"], low["words"], low["right"]) == (0.2, 10, 0)
    assert (high["from"], high["words"], high["right"]) == (0.9, 10, pytest.approx(0.9))
    assert confidence["error"] == pytest.approx(0.5 * 0.25 + 0.5 * 0.05)


def test_a_word_written_in_digits_counts_once() -> None:
    scores = WordScores()
    scores.add(hearing(Word("25", 0.5, 1.0, 0.6)), "twenty five", [(0.4, 0.7), (0.7, 1.0)])
    assert scores.confidences == [0.6]
    assert scores.starts == [pytest.approx(0.1)]


def test_a_telephone_has_no_treble(manifest: Manifest) -> None:
    narrow = under(manifest, "telephone")
    sound = narrow.load(narrow.clips[0]).samples
    spectrum = np.abs(np.fft.rfft(sound[2000:10000]))
    assert spectrum[500] > 100  # 1 kHz, at 2 Hz a bin
    assert spectrum[2000:].max() < 1
    assert under(manifest, "clean") is manifest
    with pytest.raises(ConfigError, match="condition must be one of clean, telephone, long, got 'loud'"):
        under(manifest, "loud")


def test_long_form_is_all_clips_in_a_row_with_their_times(manifest: Manifest) -> None:
    row = under(manifest, "long")
    (clip,) = row.clips
    assert (clip.text, clip.corpus) == ("ONE TWO three", "long-form")
    later = 1 + GAP_SECONDS
    assert clip.extra["words"] == [
        ["one", 0.2, 0.5],
        ["two", 1.2, 1.5],
        ["three", pytest.approx(0.2 + later), pytest.approx(0.5 + later)],
    ]
    assert len(row.load(clip).samples) == round(2 * later * RATE)


def test_long_form_begins_anew_after_ten_minutes(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rillvox.asr.conditions.LONG_SECONDS", 1.0)
    assert [clip.text for clip in under(manifest, "long").clips] == ["ONE TWO", "three"]


def test_word_times_come_from_a_file(manifest: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    path.write_text(json.dumps({"a": [["one", 0.1, 0.2], ["two", 0.3, 0.4]]}))
    first, second = with_times(manifest.clips, path)
    assert first.extra["words"][1] == ["two", 0.3, 0.4]
    assert second.extra["words"] == manifest.clips[1].extra["words"]
    path.write_text("[]")
    with pytest.raises(ConfigError, match="expected an object of clip ids"):
        with_times(manifest.clips, path)
    with pytest.raises(ConfigError, match="no readable word times"):
        with_times(manifest.clips, tmp_path / "none.json")


def test_quiet_streams_are_silence_and_noise_of_many_levels() -> None:
    streams = {name: list(pieces) for name, pieces in quiet_streams(1.0, None)}
    assert set(streams) == {"silence", "noise"}
    assert sum(len(piece) for piece in streams["silence"]) == 60 * RATE
    assert not np.concatenate(streams["silence"]).any()
    levels = [20 * np.log10(piece.std()) for piece in streams["noise"]]
    assert min(levels) > -51
    assert max(levels) < -20
    assert max(levels) - min(levels) > 5


class Chatty:
    """Says "one" once a second, whatever it hears."""

    def stream(self, *, delay_ms: int) -> Chatty:
        made = Chatty()
        made.heard = 0
        return made

    heard = 0

    def feed(self, pcm: np.ndarray, /) -> None:
        self.heard += len(pcm)

    def poll(self) -> Sequence[Event]:
        return [Partial("")]

    def finish(self) -> Transcript:
        return Transcript(" ".join(["one"] * round(self.heard / RATE)))

    def cancel(self) -> None: ...


def test_words_invented_when_nobody_speaks_are_counted(manifest: Manifest) -> None:
    report = evaluate(Chatty(), manifest, quiet_minutes=0.5)
    assert [(row["stream"], row["per_minute"]) for row in report["quiet"]] == [("silence", 60), ("noise", 60)]
    assert "0.5 minutes of noise: 30 words, 60.00 a minute" in scoreboard(report)
    assert evaluate(Chatty(), manifest)["quiet"] == []


def test_every_condition_is_a_row_and_a_peer_is_paired_with_the_first(manifest: Manifest) -> None:
    class Perfect:
        name = "perfect peer"

        def transcribe(self, samples: np.ndarray, /) -> str:
            return ("one two " if len(samples) > RATE else "one two") + "three" * (len(samples) > RATE)

    rows = evaluate(Chatty(), manifest, conditions=("clean", "long"), peers=[Perfect()])["rows"]
    assert [(row["system"], row["condition"]) for row in rows] == [
        ("model", "clean"),
        ("perfect peer", "clean"),
        ("model", "long"),
        ("perfect peer", "long"),
    ]
    # "one" for "one two" and for "three": 2 of 3 words wrong. The peer: 0 and 2 of 3.
    clean = rows[1]["behind"]["all"]
    assert clean["difference"] == pytest.approx(0)
    assert clean["low"] < 0 < clean["high"]
    assert rows[3]["behind"]["long-form"]["difference"] == pytest.approx(-2 / 3)
    assert rows[0]["speakers"] == {"b": 1.0, "a": 0.5}


@pytest.mark.parametrize("wrong", [{"slots": 0}, {"quiet_minutes": -1.0}, {"conditions": ("loud",)}])
def test_settings_that_cannot_be_are_refused_before_a_model_is_loaded(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        main_asr("no list", "no model", **wrong)
