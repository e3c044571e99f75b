"""A cloned voice's sound is set right: its averages move towards the recording's, and the file keeps that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_speaker import voice_codes, write_speaker

from rillvox.errors import VoiceError
from rillvox.tts import timbre as module
from rillvox.tts.aligned_speaker import AlignedSpeaker
from rillvox.tts.speaker import TTS
from rillvox.tts.speaking import Manner
from rillvox.tts.timbre import MOST, timbre
from rillvox.tts.voices import Voice


@pytest.fixture(scope="module")
def tts(tmp_path_factory: pytest.TempPathFactory) -> TTS:
    return TTS.load(write_speaker(tmp_path_factory.mktemp("speaker")))


def speaker(tts: TTS) -> AlignedSpeaker:
    assert isinstance(tts.speaker, AlignedSpeaker)
    return tts.speaker


@pytest.fixture(scope="module")
def voice(tts: TTS) -> Voice:
    """Of a recording whose acoustic codes are all high."""
    codes = voice_codes(tts.model, 40)
    codes[:, 1:] = codes[:, 1:] // 3 + 13
    return Voice("high", tts.fingerprint, codes.to(torch.int16))


def averages(tts: TTS, voice: Voice) -> torch.Tensor:
    """Of each acoustic code of some speech in the voice, as levels."""
    own = speaker(tts)
    heard = own.remember(voice).state
    assert heard is not None
    engine = own.engine(2)
    for slot, text in enumerate(("All the way home.", "Nobody knew what the matter was.")):
        engine.open(slot, Manner(seed=9), heard, voice.shift)
        engine.say(slot, own._tokens(text), whole=False)
    frames = [engine.tick(torch.ones(2, dtype=torch.bool)) for _ in range(8)]
    return (torch.cat(frames)[:, 1:] - 2).float().mean(0)


def test_what_is_spoken_moves_towards_the_recording(tts: TTS, voice: Voice) -> None:
    wanted = voice.codes[:, 1:].float().mean(0)  # type: ignore[index]
    set_right = speaker(tts).cloned(voice)
    assert set_right.shift is not None
    assert float(set_right.shift.abs().max()) <= MOST
    before = (averages(tts, voice) - wanted).abs().mean()
    after = (averages(tts, set_right) - wanted).abs().mean()
    assert after < 0.8 * before


def test_a_short_recording_is_believed_less(tts: TTS, voice: Voice, monkeypatch: pytest.MonkeyPatch) -> None:
    own, codes = speaker(tts), voice.codes
    heard = own.remember(voice).state
    assert codes is not None
    assert heard is not None
    monkeypatch.setattr(module, "MOST", 10.0)

    def shift(frames: torch.Tensor) -> torch.Tensor:
        return timbre(frames, heard, own.engine, own._tokens, Manner())

    # The same averages of more frames.
    ratio = shift(codes) / shift(codes.repeat(10, 1))
    torch.testing.assert_close(ratio, torch.full_like(ratio, (40 / 65) / (400 / 425)))


def test_it_is_kept_with_the_voice_and_changes_the_audio(tts: TTS, voice: Voice, tmp_path: Path) -> None:
    cloned = speaker(tts).cloned(voice)
    cloned.save(tmp_path / "v.safetensors")
    loaded = Voice.load(tmp_path / "v.safetensors", tts.fingerprint)
    assert loaded.shift is not None
    assert torch.equal(loaded.shift, cloned.shift)  # type: ignore[arg-type]
    spoken = tts.synthesize("Kit.", loaded).audio.samples
    assert np.array_equal(spoken, tts.synthesize("Kit.", cloned).audio.samples)
    without = tts.synthesize("Kit.", replace(cloned, shift=None)).audio.samples
    assert not (len(without) == len(spoken) and np.array_equal(without, spoken))


def test_a_damaged_shift_is_refused(tts: TTS, voice: Voice) -> None:
    for shift in (torch.zeros(3), torch.full((36,), torch.nan), torch.zeros(36, dtype=torch.int64)):
        with pytest.raises(VoiceError, match="its shift is damaged; clone it again"):
            tts.synthesize("Kit.", replace(voice, shift=shift))


def test_every_phone_is_in_the_sentences(tts: TTS) -> None:
    said = {token for text in module.SENTENCES for token in speaker(tts)._tokens(text)}
    first, inner = 39, 0
    missing = [phone for phone in range(1, 40) if phone + first not in said and phone + inner not in said]
    assert missing == []
