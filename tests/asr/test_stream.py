"""Listening from Python: sessions, recordings, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from laws.listening import expected, golden, small, waveform

from rillvox import Audio, AudioError, CheckpointError, ConfigError
from rillvox.asr import checkpoint, stream
from rillvox.asr.events import Draft, Event, Final, Mark, Partial
from rillvox.asr.stream import ASR, Session, find_model


@pytest.fixture
def asr() -> ASR:
    return ASR(small().model, small().tokenizer)


def text_of(events: list[Event]) -> str:
    """All partial texts, joined."""
    return "".join(event.text for event in events if isinstance(event, Partial))


def text(seconds: float, seed: int = 0) -> str:
    """What the small listener writes at 480 ms, computed all at once."""
    return small().tokenizer.decode(expected(seconds, 3, 16, seed)).lstrip()


def test_the_deltas_are_the_text(asr: ASR) -> None:
    session = asr.stream(480)
    events: list[Event] = []
    for part in np.array_split(waveform(2.9), 23):
        session.feed(part)
        events += session.poll()
        assert text_of(events) == session.text
    transcript = session.finish()
    assert transcript.text == text(2.9)
    assert transcript.text.startswith(text_of(events))
    assert transcript.seconds == pytest.approx(2.9)


def test_after_the_end_poll_gives_the_rest_and_the_final(asr: ASR) -> None:
    session = asr.stream(480)
    session.feed(waveform(2.9))
    transcript = session.finish()
    events = session.poll()
    assert text_of(events) == transcript.text
    words = [word for event in events if isinstance(event, Partial) for word in event.words]
    assert words
    final = events[-1]
    assert isinstance(final, Final)
    assert final.transcript == transcript
    assert (final.prompt_tokens, final.completion_tokens) == (36, len(expected(2.9, 3, 16)))
    assert session.poll() == []


@pytest.mark.parametrize(
    "bad",
    [
        np.array([0.1, np.nan], np.float32),
        np.array([np.inf], np.float32),
        np.array([3e4], np.float32),
        np.zeros((2, 100), np.float32),
        np.zeros((100, 1), np.float32),
        np.zeros(100, np.int16),
        np.zeros(100, np.complex64),
    ],
)
def test_what_is_no_sound_is_refused_and_harms_nothing(asr: ASR, bad: np.ndarray) -> None:
    session = asr.stream(480)
    session.feed(waveform(2.9)[:20000])
    with pytest.raises(AudioError):
        session.feed(bad)
    session.feed(waveform(2.9)[20000:].astype(np.float64))
    assert session.finish().text == text(2.9)


def test_no_audio_is_no_text_and_no_work(asr: ASR, monkeypatch: pytest.MonkeyPatch) -> None:
    session = asr.stream(480, draft_ms=80)
    monkeypatch.setattr(type(session._batch.bank), "hear", None)
    monkeypatch.setattr(type(session._batch.bank), "read", None)
    session.feed(np.zeros(0, np.float32))
    transcript = session.finish()
    assert (transcript.text, transcript.words, transcript.seconds) == ("", (), 0.0)
    assert session.finish() is transcript


def test_the_end_is_the_end(asr: ASR) -> None:
    session = asr.stream(480)
    session.feed(waveform(0.5))
    first = session.finish()
    assert session.finish() is first
    with pytest.raises(AudioError, match="end of the session"):
        session.feed(waveform(0.1))
    for late in (np.zeros(0, np.float32), Audio(waveform(0.1), 8000)):
        with pytest.raises(AudioError, match="end of the session"):
            session.feed(late)
    assert session.flush() == first.text
    session.mark("late")
    assert session.poll()[-2:] == [Final(first, 36, len(expected(0.5, 3, 16))), Mark("late")]
    session.set_delay(80)
    assert session.poll() == []
    assert session.finish() is first
    session.cancel()
    session.cancel()
    with pytest.raises(ConfigError, match="ended"):
        session.save("nowhere")


def test_what_was_said_before_a_cancel_stays(asr: ASR) -> None:
    session = asr.stream(480)
    session.feed(waveform(2.9))
    session.poll()
    said = session.text
    session.cancel()
    assert said
    assert session.flush() == said
    assert session.finish().text == said


@pytest.mark.parametrize("delay", ["x", "480", 480.0, None, True, 0, 500, 4000, float("nan")])
def test_what_is_no_delay_is_refused_everywhere_in_the_same_words(asr: ASR, delay: int) -> None:
    allowed = "must be a multiple of 80 from 80 to 2400, got "
    session = asr.stream(480)
    session.feed(waveform(0.5))
    for at in ("pause", "now"):
        with pytest.raises(ConfigError, match=f"^delay_ms {allowed}"):
            session.set_delay(delay, at)
    with pytest.raises(ConfigError, match=f"^delay_ms {allowed}"):
        asr.stream(delay)
    with pytest.raises(ConfigError, match=f"^delay_ms {allowed}"):
        asr.transcribe(Audio(waveform(0.5), 16000), delay)
    if delay is not None:
        with pytest.raises(ConfigError, match=f"^draft_ms {allowed}"):
            asr.stream(480, draft_ms=delay)
    assert session.delay_ms == 480


def test_a_cancelled_session_says_nothing_more(asr: ASR) -> None:
    session = asr.stream(480)
    session.feed(waveform(2.9))
    session.cancel()
    assert session.poll() == []
    with pytest.raises(AudioError):
        session.feed(waveform(0.1))
    session.mark("late")
    session.set_delay(80)
    assert session.flush() == ""
    assert session.finish().text == ""
    assert session._batch.free == 1


def test_a_flush_tells_the_end_and_leaves_the_stream_alone(asr: ASR) -> None:
    session = asr.stream(480)
    session.feed(waveform(2.9)[:20000])
    plain = asr.stream(480)
    plain.feed(waveform(2.9)[:20000])
    ending = plain.finish().text
    assert session.flush() == ending
    assert session.flush() == ending
    assert ending.startswith(session.text)
    session.feed(waveform(2.9)[20000:])
    assert session.finish().text == text(2.9)


def test_a_mark_comes_after_the_text_of_the_audio_before_it(asr: ASR) -> None:
    session = asr.stream(480)
    session.mark("nothing")
    assert session.poll() == [Mark("nothing")]
    session.feed(waveform(2.9)[:16000])
    session.mark("second")
    assert not any(isinstance(event, Mark) for event in session.poll())
    at = None
    for begin in range(16000, 46400, 1280):
        session.feed(waveform(2.9)[begin : begin + 1280])
        if Mark("second") in session.poll():
            at = begin + 1280
            break
    # Due D steps behind its audio, and at most the buffer later.
    assert at is not None
    assert 16000 + 3 * 1280 <= at <= 16000 + (3 + 10 + 2 + 4) * 1280
    session.mark("end")
    session.finish()
    *events, final = session.poll()
    assert Mark("end") in events
    assert isinstance(final, Final)


def test_a_draft_runs_ahead_and_never_counts(asr: ASR) -> None:
    session = asr.stream(960, draft_ms=160)
    events: list[Event] = []
    for part in np.array_split(waveform(6.0), 40):
        session.feed(part)
        events += session.poll()
    drafts = [event.text for event in events if isinstance(event, Draft)]
    assert any(drafts)
    transcript = session.finish()
    events += session.poll()
    assert text_of(events) == transcript.text
    alone = small().tokenizer.decode(expected(6.0, 11, 8)).lstrip()
    assert transcript.text == alone


@pytest.mark.parametrize("rate", [8000, 24000, 44100, 48000])
def test_other_rates_are_resampled_as_one_stream(asr: ASR, rate: int) -> None:
    sound = Audio(waveform(1.5), 16000).resample(rate)
    whole = asr.stream(480)
    whole.feed(sound)
    cut = asr.stream(480)
    for part in np.array_split(sound.samples, 17):
        cut.feed(part, rate=rate)
    assert cut.finish() == whole.finish()
    assert cut.seconds == pytest.approx(1.5, abs=0.01)


def test_a_rate_may_change_in_mid_stream(asr: ASR) -> None:
    session = asr.stream(480)
    session.feed(np.zeros(24000, np.float32), rate=24000)
    session.feed(np.zeros(8000, np.float32), rate=8000)
    session.feed(np.zeros(16000, np.float32))
    assert session.seconds == pytest.approx(3.0, abs=0.001)


def test_recordings_give_what_a_session_gives(asr: ASR, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, waveform(2.9), 16000, subtype="FLOAT")
    seen: list[float] = []
    transcript = asr.transcribe(path, on_progress=seen.append)
    assert transcript.text == text(2.9)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(2.9)
    session = asr.stream(480)
    session.feed(waveform(2.9))
    words = session.finish().words
    assert [(word.text, word.start, word.end) for word in words] == [
        (word.text, word.start, word.end) for word in transcript.words
    ]
    with path.open("rb") as file:
        assert asr.transcribe(file).text == text(2.9)


def test_many_recordings_at_once_give_what_each_gives_alone(asr: ASR) -> None:
    recordings = [Audio(waveform(1.5 + 0.3 * seed, seed), 16000) for seed in range(5)]
    recordings.insert(2, Audio(np.zeros(0, np.float32), 16000))
    told: set[int] = set()
    transcripts = asr.transcribe_many(recordings, slots=2, on_progress=lambda index, _: told.add(index))
    texts = [transcript.text for transcript in transcripts]
    assert texts.pop(2) == ""
    assert texts == [text(1.5 + 0.3 * seed, seed) for seed in range(5)]
    assert told == set(range(6))


def test_a_recording_that_is_none_is_refused(asr: ASR, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF")
    with pytest.raises(AudioError):
        asr.transcribe(path)
    with pytest.raises(AudioError):
        asr.transcribe(tmp_path / "missing.wav")
    with pytest.raises(AudioError, match=r"got ndarray; wrap samples: Audio\(samples, rate\)"):
        asr.transcribe(waveform(1.0))  # pyright: ignore[reportArgumentType]


def test_one_recording_is_no_list_of_them(asr: ASR, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, waveform(0.5), 16000)
    with path.open("rb") as file:
        for one in (str(path), path, Audio(waveform(0.5), 16000), waveform(0.5), file, path.read_bytes()):
            kind = type(one).__name__
            with pytest.raises(ConfigError, match=f"a list of recordings, got one {kind}"):
                asr.transcribe_many(one)  # pyright: ignore[reportArgumentType]
    assert len(asr.transcribe_many([path])) == 1


def test_models_are_loaded_by_path_or_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "weights" / "tiny-en"
    checkpoint.save_native(small().model, small().tokenizer, folder)
    loaded = ASR.load(folder)
    assert loaded.name == "tiny-en"
    session = loaded.stream(480)
    session.feed(waveform(2.9))
    assert session.finish().text == text(2.9)
    monkeypatch.setattr(stream.resources, "files", lambda _: tmp_path)
    assert find_model("tiny-en") == folder
    with pytest.raises(CheckpointError, match="packaged: tiny-en"):
        find_model("no-such-model")
    with pytest.raises(CheckpointError):
        find_model("../weights/tiny-en")


def test_listening_sets_no_global_thread_counts(asr: ASR) -> None:
    threads = torch.get_num_threads(), torch.get_num_interop_threads(), torch.is_inference_mode_enabled()
    session = asr.stream(480)
    session.feed(waveform(0.5))
    session.finish()
    assert (
        torch.get_num_threads(),
        torch.get_num_interop_threads(),
        torch.is_inference_mode_enabled(),
    ) == threads


def test_a_released_geometry_has_no_blocks() -> None:
    asr = ASR(golden().model, golden().tokenizer)
    session = asr.stream(80)
    assert isinstance(session, Session)
    assert session.delay_ms == 80
