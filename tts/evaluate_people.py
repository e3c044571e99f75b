"""Whose voices are cloned in an evaluation, and which sentences they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..audio import Audio
from ..codec.config import SAMPLE_RATE
from ..errors import ConfigError
from ..training.manifests import Clip, Manifest
from ..training.normalize import normalize
from .reference import LONGEST, SHORTEST

VOICES = 5  # of each kind
ENOUGH = 4  # other recordings of a person, to compare with
MOST = 12  # of them that are listened to
PREFERRED = 5.0  # seconds of a reference, where there is one
WORDS = (4, 30)  # of a sentence

Wave = NDArray[np.float32]


@dataclass(frozen=True)
class Person:
    """Whose voice is cloned: a reference, and what else they said, as one embedding."""

    name: str
    seen: bool
    reference: Audio
    likeness: NDArray[np.float32]


class Likeness(Protocol):
    """Tells voices apart."""

    def embed(self, wave: Wave, /) -> NDArray[np.float32]: ...


def people_of(
    manifests: Sequence[Manifest], seen: bool, similarity: Likeness, count: int = VOICES
) -> list[Person]:
    """Those with most recordings.

    Raises:
        ConfigError: too few people with a reference of 3 to 30 s and others to compare with.
    """
    clips: dict[str, list[tuple[Manifest, Clip]]] = {}
    for manifest in manifests:
        for clip in manifest.clips:
            clips.setdefault(clip.speaker, []).append((manifest, clip))
    order = sorted(clips, key=lambda name: -len(clips[name]))
    found: list[Person] = []
    for name in order:
        if len(found) == count:
            break
        usable = [pair for pair in clips[name] if (pair[1].seconds or 0) >= SHORTEST]
        fitting = [pair for pair in usable if (pair[1].seconds or 0) <= LONGEST]
        references = [pair for pair in fitting if (pair[1].seconds or 0) >= PREFERRED] or fitting
        others = [pair for pair in usable if pair != references[0]][:MOST] if references else []
        if len(others) < ENOUGH:
            continue
        embedded = [similarity.embed(m.load(c).resample(SAMPLE_RATE).samples) for m, c in others]
        mean = np.mean(embedded, 0)
        manifest, clip = references[0]
        found.append(
            Person(name, seen, manifest.load(clip), (mean / np.linalg.norm(mean)).astype(np.float32))
        )
    if len(found) < count:
        raise ConfigError(f"{len(found)} people have enough recordings, {count} are needed")
    return found


def sentences_of(manifest: Manifest, count: int) -> list[Clip]:
    """Recordings with a text of 4 to 30 words, no text twice, spread over the list."""
    found: dict[str, Clip] = {}
    least, most = WORDS
    for clip in manifest.clips:
        if clip.text and least <= len(clip.text.split()) <= most:
            found.setdefault(normalize(clip.text), clip)
    clips = list(found.values())
    places = np.linspace(0, len(clips) - 1, min(count, len(clips))).round().astype(int)
    return [clips[place] for place in dict.fromkeys(places.tolist())]


def text_of(clip: Clip) -> str:
    """Lists write in capitals; a user does not, and capitals may be read as letters."""
    text = clip.text or ""
    return text.lower() if text.isupper() else text
