"""An evaluation's studio with a tiny speaker and judges of a few lines; it can be sent to other processes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import nan
from pathlib import Path

import numpy as np
import soundfile

from rillvox.training.manifests import Manifest
from rillvox.tts.evaluate import OURS
from rillvox.tts.evaluate_judges import Judges
from rillvox.tts.evaluate_work import Speaker, Studio
from rillvox.tts.speaker import TTS
from rillvox.tts.speaking import Manner

RATE = 24000
PHONES = "aeiou"


class Phones:
    """A phone for each vowel; heard are as many as there is sound, some of them other ones."""

    def said(self, text: str) -> list[str]:
        return [letter for letter in text.lower() if letter in "aeiou"]

    def heard(self, wave: np.ndarray) -> list[str]:
        return [PHONES[int(1000 * np.abs(part).mean()) % 5] for part in np.array_split(wave, 10)]


class Pitches:
    """Likeness of spectra: people of these tests hum at different pitches."""

    def embed(self, wave: np.ndarray) -> np.ndarray:
        bands = np.array_split(np.abs(np.fft.rfft(wave, 24000))[50:1000], 60)
        found = np.array([band.mean() for band in bands], np.float32)
        return found / np.linalg.norm(found)


def heard_words(wave: np.ndarray) -> str:
    return " ".join(["word"] * (len(wave) // 8000))


def loudness(wave: np.ndarray) -> float:
    return float(np.abs(wave).max()) if len(wave) > RATE // 2 else nan


def halved(wave: np.ndarray) -> np.ndarray:
    return wave * np.float32(0.5)


def beep(text: str) -> np.ndarray:
    return np.full(1000 * len(text), 0.1, np.float32)


def judges(identity: str = "stub") -> Judges:
    return Judges(identity, Phones(), {"counter": heard_words}, Pitches(), {"loudness": loudness})


@dataclass(frozen=True)
class Opening:
    """Opens a studio; `models`: name, folder and steps of each speaker."""

    held_out: Path
    models: tuple[tuple[str, Path, int | None], ...]
    identity: str = "stub"

    def __call__(self) -> Studio:
        speakers: dict[str, Speaker] = {}
        for name, folder, steps in self.models:
            tts = TTS.load(folder)
            speakers[name] = Speaker(tts, Manner(temperature=0.3, steps=steps), folder.name)
        return Studio(
            speakers, judges(self.identity), Manifest(self.held_out), {"beeper": beep}, halved, "halved"
        )


def opening(held_out: Path, model: Path, **more: str) -> Opening:
    """With one speaker."""
    return Opening(held_out, ((OURS, model, None),), **more)


def hum(pitch: float, seconds: float, seed: int = 0) -> np.ndarray:
    """Somebody's voice, more or less."""
    time = np.arange(round(seconds * RATE)) / RATE
    wave = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 6))
    wave = 0.1 * wave * (np.sin(2 * np.pi * 1.5 * time + seed) > -0.7)
    return (wave + 1e-4 * np.random.default_rng(seed).standard_normal(len(time))).astype(np.float32)


def write_people(folder: Path, pitches: dict[str, float], clips: int = 6) -> Path:
    """A manifest: everybody hums so many clips of 3.2 s and more, each with a text of its own."""
    folder.mkdir()
    rows: list[dict[str, object]] = []
    for name, pitch in pitches.items():
        for number in range(clips):
            seconds = 3.2 + 0.1 * number
            path = f"{name}{number}.wav"
            soundfile.write(folder / path, hum(pitch, seconds, number), RATE, subtype="FLOAT")
            text = f"I AM {name.upper()} {'ABCDEFGHIJ'[number]}"
            rows.append(
                {"id": f"{name}-{number}", "path": path, "speaker": name, "text": text, "seconds": seconds}
            )
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
