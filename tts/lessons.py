"""Lessons in reading: sentences spoken by another program, as recordings to train a speaker on before people.

A folder as `rillvox train prepare` and `train sounds` take one: wav files and `manifest.jsonl`.
"""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from ..audio import Audio
from ..errors import ConfigError
from .peers import flite

WORDS = (4, 22)  # of a sentence, least and most
SECONDS = (1.5, 15.0)  # of its recording

Voiced = Callable[[str, str], Audio]


def write_lessons(
    text: Path,
    out: Path,
    voices: Sequence[str],
    hours: float,
    *,
    seed: int = 0,
    speak: Voiced = flite,
    say: Callable[[str], None] = print,
) -> int:
    """Speak sentences, drawn in an order that `seed` decides, in one voice after the other; their number.

    The list is written last: a folder without it is not whole, and is made anew.

    Args:
        text: a sentence a line, perhaps gzipped.
        speak: text in a voice.

    Raises:
        ConfigError: no sentences, no voices, or a program that isn't there or knows no such voice.
        AudioError: a recording can't be written.
    """
    if not voices:
        raise ConfigError("name a voice for the lessons")
    try:
        raw = text.read_bytes()
        lines = (gzip.decompress(raw) if text.suffix == ".gz" else raw).decode("utf-8").splitlines()
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise ConfigError(f"{text}: cannot be read ({error})") from error
    least, most = WORDS
    lines = sorted({line.strip() for line in lines if least <= len(line.split()) <= most})
    if not lines:
        raise ConfigError(f"{text}: has no lines of {least} to {most} words")
    random.Random(seed).shuffle(lines)
    out.mkdir(parents=True, exist_ok=True)
    rows: list[str] = []
    spoken = 0.0
    for number, line in enumerate(lines):
        voice = voices[number % len(voices)]
        audio = speak(line, voice)
        if not SECONDS[0] <= audio.seconds <= SECONDS[1]:
            continue
        name = f"{voice}-{number:06d}"
        audio.save(out / f"{name}.wav")
        rows.append(
            json.dumps(
                {
                    "id": name,
                    "path": f"{name}.wav",
                    "speaker": f"lesson-{voice}",
                    "text": line,
                    "seconds": round(audio.seconds, 3),
                    "sample_rate": audio.rate,
                    "corpus": "lessons",
                    "split": "train",
                }
            )
        )
        spoken += audio.seconds
        if len(rows) % 200 == 0:
            say(f"{len(rows)} sentences, {spoken / 3600:.2f} hours")
        if spoken >= hours * 3600:
            break
    if not rows:
        raise ConfigError(f"{text}: no sentence of it takes {SECONDS[0]:g} to {SECONDS[1]:g} s")
    draft = out / "manifest.tmp"
    draft.write_text("".join(row + "\n" for row in rows), "utf-8")
    draft.replace(out / "manifest.jsonl")
    say(f"{len(rows)} sentences, {spoken / 3600:.2f} hours")
    return len(rows)
