"""A speaker as it is used: text in, audio and times of words out, whole or piece by piece."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise, zip_longest
from pathlib import Path

import numpy as np
import pytest
import torch
from small_speaker import made_voice, random_speaker, write_speaker

from rillvox.audio import Audio
from rillvox.codec.stream import DecodeStream
from rillvox.errors import AudioError, CheckpointError, ConfigError, TextError, VoiceError
from rillvox.kernels.state import flatten
from rillvox.tts import aligned_speaker, guards, word_feed
from rillvox.tts.aligned_speaking import TAIL, AlignedSpeaking
from rillvox.tts.config import SPECIAL
from rillvox.tts.flow import FlowHead
from rillvox.tts.speaker import TTS, Piece, Synthesis
from rillvox.tts.speaking import Manner
from rillvox.tts.voices import Voice

RATE = 24000
FRAME = 1920
TEXT = "Hello there, my friend. It cost $3.50!"


@pytest.fixture(scope="module")
def tts(tmp_path_factory: pytest.TempPathFactory) -> TTS:
    return TTS.load(write_speaker(tmp_path_factory.mktemp("speaker") / "small"))


@pytest.fixture(scope="module")
def voice(tts: TTS) -> Voice:
    return made_voice(tts)


@pytest.fixture(scope="module")
def spoken(tts: TTS, voice: Voice) -> Synthesis:
    return tts.synthesize(TEXT, voice, seed=4)


def joined(pieces: list[Piece]) -> np.ndarray:
    return np.concatenate([piece.samples for piece in pieces])


def test_what_is_streamed_is_what_is_synthesized(tts: TTS, voice: Voice, spoken: Synthesis) -> None:
    pieces = list(tts.stream(TEXT, voice, seed=4))
    assert np.array_equal(joined(pieces), spoken.audio.samples)
    assert [word for piece in pieces for word in piece.words] == spoken.words
    assert [piece.finish for piece in pieces if piece.finish] == ["stop", "stop"]
    assert all(len(piece.samples) <= FRAME for piece in pieces)
    assert spoken.finish_reason == "stop"
    assert spoken.seed == 4
    # The same again, and another with another seed.
    assert np.array_equal(tts.synthesize(TEXT, voice, seed=4).audio.samples, spoken.audio.samples)
    other = tts.synthesize(TEXT, voice, seed=5).audio.samples
    assert not np.array_equal(other[:FRAME], spoken.audio.samples[:FRAME])


def test_audio_is_within_bounds_and_begins_and_ends_at_nothing(spoken: Synthesis) -> None:
    x = spoken.audio.samples
    assert spoken.audio.rate == RATE
    assert x.dtype == np.float32
    assert len(x) % FRAME == 0
    assert np.isfinite(x).all()
    assert 1e-3 < np.abs(x).max() <= 0.98
    assert abs(x.mean(dtype=np.float64)) < 1e-3
    assert np.abs(x[[0, -1]]).max() < 1e-4
    assert np.abs(np.concatenate([x[:24], x[-24:]])).max() < 0.3 * np.abs(x).max()


@pytest.mark.parametrize(("gain", "offset"), [(200.0, 0.0), (1.0, 0.5)])
def test_a_loud_or_lopsided_codec_is_tamed(
    tts: TTS, voice: Voice, gain: float, offset: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("feed", "finish"):
        real = getattr(DecodeStream, name)

        def changed(*args: object, real: Callable[..., np.ndarray] = real) -> np.ndarray:
            return real(*args) * np.float32(gain) + np.float32(offset)

        monkeypatch.setattr(DecodeStream, name, changed)
    x = tts.synthesize("One.", voice).audio.samples
    if gain > 1:
        assert 0.9 < np.abs(x).max() <= 0.98
    else:
        # The current begins with a step; what is left of it after a quarter of a second is nothing.
        assert abs(x[RATE // 4 :].mean(dtype=np.float64)) < 1e-3
    assert np.abs(x[[0, -1]]).max() < 1e-4


def test_every_word_has_its_time(spoken: Synthesis) -> None:
    words = spoken.words
    assert [word.text for word in words] == ["Hello", "there", "my", "friend", "It", "cost", "$3.50"]
    assert [TEXT[slice(*word.source)] for word in words] == [word.text for word in words]
    for word in words:
        assert 0 <= word.start <= word.end <= spoken.audio.seconds, word
        assert round(word.start * RATE) % FRAME == 0
    for before, after in pairwise(words):
        assert before.end <= after.start + 1e-9
    assert sum(word.end - word.start for word in words) > 0.4 * spoken.audio.seconds


def test_a_word_is_told_as_soon_as_it_is_over(tts: TTS, voice: Voice) -> None:
    given = told = 0
    for piece in tts.stream("one two three four five six", voice):
        begun, given = given, given + len(piece.samples)
        for word in piece.words:
            assert begun - 2 * FRAME <= round(word.end * RATE) <= given
            told += not piece.finish
    assert told >= 4


def test_words_do_not_last_into_pauses(tts: TTS, voice: Voice, monkeypatch: pytest.MonkeyPatch) -> None:
    # A speaker that says a token in every second frame, a pause for long, and ends late.
    def moves(self: AlignedSpeaking, *_: torch.Tensor) -> None:
        began = (self.frame % 2 == 1) & (self.frame < 6) | (self.frame == 15) | (self.frame == 17)
        self.pointer = self.pointer + began
        self.age = torch.where(began, 0, self.age + 1)

    def late(self: FlowHead, hidden: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(hidden), self.semantic)
        logits[:, :SPECIAL] = float("-inf")
        return logits

    monkeypatch.setattr(AlignedSpeaking, "_move", moves)
    monkeypatch.setattr(FlowHead, "semantic_logits", late)
    found = tts.synthesize("Oh, I", voice, lexicon={"Oh": "/OW T/", "I": "/AY/"})
    # Tokens begin in frames 2, 4; the pause in 6, I in 16, the end in 18; then five more.
    assert [(word.text, round(word.start / 0.08), round(word.end / 0.08)) for word in found.words] == [
        ("Oh", 2, 6),
        ("I", 16, 18),
    ]
    assert round(found.audio.seconds / 0.08) == 18 + TAIL


def test_a_pause_is_that_much_silence(tts: TTS, voice: Voice) -> None:
    parts = {text: tts.synthesize(text, voice, seed=1) for text in ("Hello.", "Hello. [pause 0.5s] Friend.")}
    first, whole = (parts[text].audio.samples for text in parts)
    quiet = round(0.5 * RATE)
    assert np.array_equal(whole[: len(first)], first)
    assert not whole[len(first) : len(first) + quiet].any()
    assert np.abs(whole[len(first) + quiet :][FRAME : 3 * FRAME]).max() > 1e-4
    last = parts["Hello. [pause 0.5s] Friend."].words[-1]
    assert last.text == "Friend"
    assert last.start >= (len(first) + quiet) / RATE


@pytest.mark.parametrize("cut", [1, 3, 17])
def test_text_may_come_in_parts(tts: TTS, voice: Voice, spoken: Synthesis, cut: int) -> None:
    parts = [TEXT[at : at + cut] for at in range(0, len(TEXT), cut)]
    pieces = list(tts.stream(iter(parts), voice, seed=4))
    assert np.array_equal(joined(pieces), spoken.audio.samples)
    assert [word for piece in pieces for word in piece.words] == spoken.words


def test_a_sentence_is_spoken_before_the_next_one_is_there(tts: TTS, voice: Voice, spoken: Synthesis) -> None:
    asked: list[str] = []

    def writing() -> Iterator[str]:
        for part in ("Hello there, my friend. It", " cost $3.50!"):
            asked.append(part)
            yield part

    stream = tts.stream(writing(), voice, seed=4)
    first = next(stream)
    assert len(asked) == 1
    assert np.array_equal(first.samples, spoken.audio.samples[: len(first.samples)])
    assert np.array_equal(joined([first, *stream]), spoken.audio.samples)


def test_whoever_leaves_early_harms_nobody(tts: TTS, voice: Voice, spoken: Synthesis) -> None:
    for count in (1, 5):
        stream = tts.stream(TEXT, voice, seed=9)
        for _ in range(count):
            next(stream)
        stream.close()  # type: ignore[attr-defined]
    for piece in tts.stream("Another text. And more.", voice):
        assert len(piece.samples)
        break
    assert np.array_equal(tts.synthesize(TEXT, voice, seed=4).audio.samples, spoken.audio.samples)


def test_streams_side_by_side_share_nothing(tts: TTS, voice: Voice, spoken: Synthesis) -> None:
    text = "Good morning to everybody. Is it late?"
    other = tts.synthesize(text, voice, seed=8).audio.samples
    one: list[Piece] = []
    two: list[Piece] = []
    pairs = zip_longest(tts.stream(TEXT, voice, seed=4), tts.stream(text, voice, seed=8))
    for number, (mine, its) in enumerate(pairs):
        one += [mine] if mine else []
        two += [its] if its else []
        if number == 3:
            made_voice(tts, "bea")  # and a voice that is heard meanwhile
    assert np.array_equal(joined(one), spoken.audio.samples)
    assert np.array_equal(joined(two), other)
    assert [word for piece in one for word in piece.words] == spoken.words


def test_a_voice_is_read_where_it_was_not_yet(
    tts: TTS, voice: Voice, spoken: Synthesis, tmp_path: Path
) -> None:
    unheard = Voice(voice.name, voice.model, voice.codes, record=voice.record)
    unheard.save(tmp_path / "ana.safetensors")
    assert np.array_equal(
        tts.synthesize(TEXT, tmp_path / "ana.safetensors", seed=4).audio.samples, spoken.audio.samples
    )
    other = tts.remember(Voice("bea", tts.fingerprint, voice.codes.flip(0)))  # type: ignore[union-attr]
    assert not np.array_equal(tts.synthesize(TEXT, other, seed=4).audio.samples, spoken.audio.samples)


@pytest.mark.parametrize("text", ["", "  \n", "\U0001f600\U0001f680", "* * *", "[pause 0.5s]"])
def test_a_text_with_nothing_to_say_is_refused(tts: TTS, voice: Voice, text: str) -> None:
    with pytest.raises(TextError, match="nothing to say"):
        tts.synthesize(text, voice)
    with pytest.raises(TextError, match="nothing to say"):
        list(tts.stream(list(text), voice))


@pytest.mark.parametrize("name", ["nobody", "kathleen", "no/such.safetensors", Path("none.safetensors")])
def test_a_voice_that_is_nowhere_is_refused(tts: TTS, name: str | Path) -> None:
    with pytest.raises(VoiceError, match="no such voice"):
        tts.synthesize("Hello.", name)
    with pytest.raises(VoiceError, match="no voice"):
        tts.synthesize("Hello.", tts.folder / "params.json")


def test_voices_that_come_along_have_names(tts: TTS, voice: Voice) -> None:
    assert tts.voices == []
    (tts.folder / "voices").mkdir()
    try:
        replace(voice, state=None).save(tts.folder / "voices" / "zoe.safetensors")
        voice.save(tts.folder / "voices" / "ana.safetensors")
        assert tts.voices == ["ana", "zoe"]
        zoe = tts.voice("zoe")
        assert zoe.name == "ana"  # its own
        assert zoe.state is not None
        assert tts.voice("zoe") is zoe  # read once
        with pytest.raises(VoiceError, match="there are ana, zoe"):
            tts.voice("bob")
    finally:
        for path in (tts.folder / "voices").iterdir():
            path.unlink()
        (tts.folder / "voices").rmdir()


def test_manners_and_lexicons_are_heard(tts: TTS, voice: Voice, spoken: Synthesis) -> None:
    calm = tts.synthesize("Hello.", voice, manner=Manner(noise=0.0, seed=99))
    assert np.array_equal(
        calm.audio.samples, tts.synthesize("Hello.", voice, manner=Manner(noise=0.0)).audio.samples
    )
    assert not np.array_equal(calm.audio.samples[:FRAME], spoken.audio.samples[:FRAME])
    one = tts.synthesize("GIF", voice, lexicon={"GIF": "jif file"}).audio.samples
    assert np.array_equal(one, tts.synthesize("jif file", voice).audio.samples)
    # Phones, too.
    two = tts.synthesize("SQL", voice, lexicon={"SQL": "/JH IH F/"}).audio.samples
    assert np.array_equal(two, tts.synthesize("jif", voice, lexicon={"jif": "/JH IH1 F/"}).audio.samples)
    assert not np.array_equal(two, tts.synthesize("SQL", voice).audio.samples)


def test_what_never_ends_is_cut_off_and_told(tts: TTS, voice: Voice, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_speaker(tts.model.config)
    with torch.no_grad():
        model.text.advance.bias[0] = 1000
    slow = TTS(model, tts.codec, tts.folder)
    # Fewer frames than it takes until the pointer is pushed on.
    monkeypatch.setattr(aligned_speaker, "FRAMES_A_TOKEN", 1)
    monkeypatch.setattr(aligned_speaker, "FRAMES_EXTRA", 5)
    found = slow.synthesize("Oh.", made_voice(slow))
    assert found.finish_reason == "length"
    assert found.audio.seconds < 5


def test_a_sentence_that_loops_is_cut_off_and_the_next_one_spoken(
    tts: TTS, voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("LOOP_FRAMES", 6), ("LOOP_CODES", 1), ("LOOP_PERIOD", 1)):
        monkeypatch.setattr(guards, name, value)
    tick = AlignedSpeaking.tick
    sentences: list[int] = []

    def droning(self: AlignedSpeaking, active: torch.Tensor) -> torch.Tensor:
        sentences.extend([len(sentences)] if int(self.frame[0]) == 0 else [])
        codes = tick(self, active).clone()
        if sentences[-1] == 0:
            codes[:, 0] = 7
        return codes

    monkeypatch.setattr(AlignedSpeaking, "tick", droning)
    sentences.clear()
    found = tts.synthesize("No, no, no, no, no, no! Yes.", voice, seed=4)
    assert found.finish_reason == "length"  # a text like that may sound so, but not for ever
    sentences.clear()
    found = tts.synthesize("Hello there, my friend. Yes.", voice, seed=4)
    assert found.finish_reason == "loop"
    assert found.words[-1].text == "Yes"
    assert found.words[-1].start > 6 * FRAME / RATE


def test_silence_is_cut_off_and_a_pause_that_was_asked_for_is_not(
    tts: TTS, voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tts.synthesize("One. [pause 6s] Two.", voice).finish_reason == "stop"
    feed = DecodeStream.feed
    monkeypatch.setattr(DecodeStream, "feed", lambda *args: 0 * feed(*args))
    monkeypatch.setattr(guards, "SILENCE_SECONDS", 0.3)
    found = tts.synthesize("One two three four five.", voice)
    assert found.finish_reason == "silence"
    assert found.audio.seconds < 0.7


class Counted:
    """Counts the frames that are computed."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.frames = 0
        self.engines: list[AlignedSpeaking] = []
        tick = AlignedSpeaking.tick

        def counted(speaking: AlignedSpeaking, active: torch.Tensor) -> torch.Tensor:
            self.frames += 1
            self.engines.append(speaking)
            return tick(speaking, active)

        patch.setattr(AlignedSpeaking, "tick", counted)


def test_a_cancel_takes_at_most_a_frame(
    tts: TTS, voice: Voice, spoken: Synthesis, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = Counted(monkeypatch)
    cancel = threading.Event()
    pieces = []
    for piece in tts.stream(TEXT, voice, seed=4, cancel=cancel):
        pieces.append(piece)
        if len(pieces) == 5:
            setter = threading.Thread(target=cancel.set)
            setter.start()
            setter.join()
    assert count.frames <= 6
    assert [piece.finish for piece in pieces if piece.finish] == ["cancelled"]
    assert pieces[-1].finish == "cancelled"
    sound = joined(pieces)
    kept = 4 * FRAME
    assert np.array_equal(sound[:kept], spoken.audio.samples[:kept])
    assert np.abs(sound[-1]) < 1e-4  # faded out
    slot = count.engines[-1]
    assert all(not leaf.any() for _, leaf in flatten(slot.state))
    assert not slot.text[0].tokens
    assert np.array_equal(tts.synthesize(TEXT, voice, seed=4).audio.samples, spoken.audio.samples)


def test_what_is_cancelled_before_it_begins_is_nothing(
    tts: TTS, voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = Counted(monkeypatch)
    cancel = asyncio.Event()
    cancel.set()
    found = tts.synthesize(TEXT, voice, cancel=cancel)
    assert found.finish_reason == "cancelled"
    assert (len(found.audio.samples), count.frames) == (0, 0)
    assert [piece.finish for piece in tts.stream(list(TEXT), voice, cancel=cancel)] == ["cancelled"]
    assert count.frames == 0


def test_a_cancel_while_text_is_awaited_shows_with_the_next_part(
    tts: TTS, voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = Counted(monkeypatch)
    cancel = threading.Event()
    frames: list[int] = []

    def writing() -> Iterator[str]:
        yield "one two three four "
        cancel.set()
        frames.append(count.frames)
        yield "five six seven eight nine ten eleven twelve."

    pieces = list(tts.stream(writing(), voice, cancel=cancel))
    assert pieces[-1].finish == "cancelled"
    assert count.frames <= frames[0] + 1


def test_speaking_begins_with_the_words_and_waits_for_more(tts: TTS, voice: Voice) -> None:
    text = "One two three four five six seven eight nine ten"
    asked: list[str] = []

    def writing() -> Iterator[str]:
        for word in text.split(" "):
            asked.append(word)
            yield word + " "

    whole = tts.synthesize(text, voice, seed=4)
    pieces: list[Piece] = []
    begun: list[int] = []
    for piece in tts.stream(writing(), voice, seed=4):
        pieces.append(piece)
        begun.append(len(asked))
    assert begun[0] <= 5
    assert begun == sorted(begun)
    assert len(set(begun)) >= 4  # text and audio took turns
    assert [piece.finish for piece in pieces if piece.finish] == ["stop"]
    assert np.array_equal(joined(pieces), whole.audio.samples)
    assert [word for piece in pieces for word in piece.words] == whole.words
    # Control: without looking at what is certain it waits for all of it.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_feed, "certain", lambda rest, most: [])
        asked.clear()
        next(tts.stream(writing(), voice, seed=4))
        assert len(asked) == 10


def test_a_pace_is_heard_and_one_is_the_models_own(tts: TTS, voice: Voice, spoken: Synthesis) -> None:
    text = "One two three four five six seven eight."
    own = tts.synthesize(text, voice, manner=replace(tts.manner, pace=1.0)).audio
    assert np.array_equal(own.samples, tts.synthesize(text, voice).audio.samples)
    slow, fast = (
        tts.synthesize(text, voice, manner=Manner(temperature=0.3, noise=0.7, pace=pace)).audio.seconds
        for pace in (0.7, 1.4)
    )
    assert fast < own.seconds < slow


def test_a_part_that_is_no_text_is_told_and_not_the_end(tts: TTS, voice: Voice) -> None:
    for part in (None, 3):
        with pytest.raises(TextError, match=f"a part of the text is {type(part).__name__}"):
            list(tts.stream(["Hello ", part, "my dear world."], voice))  # type: ignore[list-item]


def test_a_seed_is_any_whole_number(tts: TTS, voice: Voice) -> None:
    text = "Hello. There."  # the second sentence's seed is beyond 64 bits until it is cut
    expected = tts.synthesize(text, voice, seed=3).audio.samples
    assert np.array_equal(tts.synthesize(text, voice, seed=np.int64(3)).audio.samples, expected)  # type: ignore[arg-type]
    for seed in (1.5, "1", None):
        with pytest.raises(ConfigError, match=r"manner\.seed must be a whole number"):
            tts.synthesize(text, voice, seed=seed)  # type: ignore[arg-type]


def hum(seconds: float) -> Audio:
    time = np.arange(round(seconds * RATE)) / RATE
    wave = 0.2 * np.sin(2 * np.pi * 150 * time) * (np.sin(2 * np.pi * 1.5 * time) > -0.5)
    noise = 1e-4 * np.random.default_rng(0).standard_normal(len(time))
    return Audio((wave + noise).astype(np.float32), RATE)


def test_a_voice_is_cloned_with_consent(tts: TTS, tmp_path: Path) -> None:
    import soundfile

    audio = hum(8.0)
    for consent in ("", "  "):
        with pytest.raises(VoiceError, match="consent is missing"):
            tts.clone(audio, consent=consent)
    voice = tts.clone(audio, consent=" Ana, and I allow it ", record={"made": "today"})
    assert voice.name == "voice"
    assert voice.model == tts.fingerprint
    record = voice.record
    assert record["consent"] == "Ana, and I allow it"
    assert record["made"] == "today"
    assert record["seconds"] == 8.0
    assert 3 < record["used_seconds"] <= 8
    assert record["warnings"] == []
    assert len(record["sha256"]) == 64
    assert voice.codes is not None
    assert len(voice.codes) == int(record["used_seconds"] * RATE) // FRAME
    assert tts.synthesize("Hello.", voice).finish_reason == "stop"
    soundfile.write(tmp_path / "bea.wav", audio.samples, RATE, subtype="FLOAT")
    again = tts.clone(tmp_path / "bea.wav", consent="Bea")
    assert again.name == "bea"
    assert again.record["source"] == "bea.wav"
    assert again.codes is not None
    assert torch.equal(again.codes, voice.codes)
    with pytest.raises(VoiceError, match="give 3 to 30 s"):
        tts.clone(hum(2.0), consent="Ana")
    with pytest.raises(AudioError):
        tts.clone(tmp_path / "none.wav", consent="Ana")


def test_models_that_are_nowhere_or_something_else_are_refused(tmp_path: Path) -> None:
    for name in ("no-such-speaker", "no/such", tmp_path / "none"):
        with pytest.raises(CheckpointError):
            TTS.load(name)
    for name in ("codec-24k", "asr-en"):
        with pytest.raises(CheckpointError, match="is no speaker"):
            TTS.load(name)


def test_weights_and_devices_that_there_are_not_are_refused(tts: TTS) -> None:
    with pytest.raises(ConfigError, match="may be int8 or float32"):
        TTS.load(tts.folder, weights="bfloat16")
    with pytest.raises(ConfigError, match="runs on a CPU"):
        TTS.load(tts.folder, device="cuda")
    with pytest.raises(VoiceError, match="no voice comes along"):
        tts.synthesize("Hello.")
