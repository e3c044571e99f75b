"""Prepared speech of a few made-up clips, and takes and pairs of a tiny speaker, alike every time."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from small_speaker import random_speaker, small, text_tokens, voice_codes
from tiny_codec import TINY

from rillvox.codec.config import CodecConfig
from rillvox.tts.aligned_speaking import AlignedSpeaking
from rillvox.tts.config import TTSConfig
from rillvox.tts.model import SpeakerModel
from rillvox.tts.pairs import Pair, Take, save_pair
from rillvox.tts.pairs_spoken import speak
from rillvox.tts.speaking import Manner
from rillvox.tts.speech import Spoken
from rillvox.tts.tokens import STOP

HELD_OUT = "human_dev"


def roomy(codec: CodecConfig = TINY) -> TTSConfig:
    """A tiny speaker that remembers a voice and a text."""
    return replace(small(codec), backbone=replace(small().backbone, window=512))


def write_toys(folder: Path, codec: CodecConfig = TINY) -> Path:
    """Twelve clips of two speakers and four held-out ones; the held-out's frames are all zeros."""
    rng = np.random.default_rng(1)
    clips: list[Spoken] = []
    codes: list[np.ndarray] = []
    first = 0
    for number in range(16):
        frames = int(rng.integers(20, 40))
        held_out = number >= 12
        own = rng.integers(1, 20, (frames, len(codec.alphabets))) * (not held_out)
        tokens = (*rng.integers(1, 40, 10).tolist(), STOP)
        starts = tuple(np.linspace(0, frames - 1, len(tokens)).round(3).tolist())
        corpus = HELD_OUT if held_out else "toys"
        speaker = f"s{number % 2}"
        clips.append(Spoken(f"c{number}", corpus, speaker, 24000, first, frames, tokens, starts))
        codes.append(own)
        first += frames
    folder.mkdir()
    every = np.concatenate(codes).astype(np.int16)
    np.save(folder / "codes.npy", every)
    np.save(folder / "teacher.npy", every[:, 0])
    (folder / "clips.jsonl").write_text("".join(json.dumps(asdict(clip)) + "\n" for clip in clips))
    return folder


def spoken(
    model: SpeakerModel, manners: list[Manner], tokens: list[int] | None = None, voice: int = 12
) -> list[Take]:
    """Takes of a text."""
    engine = AlignedSpeaking(model, len(manners), chunk=16)
    codes = voice_codes(model, voice).numpy().astype(np.int16)
    return speak(engine, codes, tokens or text_tokens(9), manners)


def some_pairs(model: SpeakerModel, count: int, voice: int = 12) -> list[Pair]:
    """Two takes each of so many texts; which of them is better is of no importance."""
    found: list[Pair] = []
    for number in range(count):
        tokens = text_tokens(6 + number % 3, number)
        manners = [Manner(seed=2 * number + k, temperature=0.8) for k in (0, 1)]
        codes = voice_codes(model, voice).numpy().astype(np.int16)
        found.append(Pair(codes, np.array(tokens, np.int16), *spoken(model, manners, tokens, voice)))
    return found


def write_pairs(folder: Path, count: int, config: TTSConfig | None = None) -> Path:
    """A folder of pairs."""
    folder.mkdir()
    for number, pair in enumerate(some_pairs(random_speaker(config or roomy()), count)):
        save_pair(folder / f"{number:06d}.npz", pair)
    return folder
