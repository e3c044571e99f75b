"""The same recordings as they might come otherwise, and streams in which nobody speaks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from ..audio import Audio, Samples
from ..errors import ConfigError
from ..training.augment import telephone
from ..training.manifests import Clip
from ..training.noises import Noises, coloured
from .delays import RATE

CONDITIONS = ("clean", "telephone", "long")
LONG_SECONDS = 600.0
GAP_SECONDS = 0.6


class ClipList(Protocol):
    """What is needed of a manifest."""

    path: Path
    clips: list[Clip]

    def load(self, clip: Clip) -> Audio: ...


def under(clips: ClipList, condition: str) -> ClipList:
    """The list under a condition.

    clean: as it is. telephone: through a line of 8000 samples a second. long: one after another with pauses,
    in recordings of about ten minutes.

    Raises:
        ConfigError: an unknown condition.
    """
    match condition:
        case "clean":
            return clips
        case "telephone":
            return Telephone(clips)
        case "long":
            return LongForm(clips)
        case _:
            raise ConfigError(f"condition must be one of {', '.join(CONDITIONS)}, got {condition!r}")


class Telephone:
    """Every clip without anything above 4 kHz."""

    def __init__(self, clips: ClipList) -> None:
        self.path, self.clips, self._inner = clips.path, clips.clips, clips

    def load(self, clip: Clip) -> Audio:
        """The narrow sound of a clip, 16 kHz."""
        return Audio(telephone(self._inner.load(clip).resample(RATE).samples), RATE)


class LongForm:
    """Clips in a row with pauses, a recording for about ten minutes of them; corpus `long-form`."""

    def __init__(self, clips: ClipList) -> None:
        self.path, self._inner = clips.path, clips
        self._parts: dict[str, list[Clip]] = {}
        self.clips: list[Clip] = []
        rows, length = list[tuple[Clip, float]](), 0.0
        chosen = [clip for clip in clips.clips if clip.text is not None]
        for index, clip in enumerate(chosen):
            rows.append((clip, length))
            length += self._seconds(clip) + GAP_SECONDS
            if length >= LONG_SECONDS or index == len(chosen) - 1:
                self._add(rows)
                rows, length = [], 0.0

    def load(self, clip: Clip) -> Audio:
        """A whole row, 16 kHz."""
        gap = np.zeros(round(GAP_SECONDS * RATE), np.float32)
        parts: list[Samples] = []
        for part in self._parts[clip.id]:
            parts += [self._inner.load(part).resample(RATE).samples, gap]
        return Audio(np.concatenate(parts), RATE)

    def _seconds(self, clip: Clip) -> float:
        samples = self._inner.load(clip).resample(RATE).samples
        return len(samples) / RATE

    def _add(self, rows: Sequence[tuple[Clip, float]]) -> None:
        id = f"long-{len(self.clips) + 1}"
        words: list[Any] | None = []
        for clip, begin in rows:
            known = clip.extra.get("words")
            if known is None or words is None:
                words = None
            else:
                words += [[text, start + begin, end + begin] for text, start, end in known]
        self._parts[id] = [clip for clip, _ in rows]
        extra: dict[str, Any] = {} if words is None else {"words": words}
        text = " ".join(clip.text or "" for clip, _ in rows)
        self.clips.append(Clip(id, "", text, corpus="long-form", extra=extra))


def with_times(clips: list[Clip], path: Path | str) -> list[Clip]:
    """The clips with the word times of a file, `{id: [[word, start, end], ...]}`; other ids are left out.

    Raises:
        ConfigError: no such file, or not of this form.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: no readable word times ({error})") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected an object of clip ids")
    times = cast("dict[str, Any]", document)
    return [
        replace(clip, extra={**clip.extra, "words": times[clip.id]}) if clip.id in times else clip
        for clip in clips
    ]


def quiet_streams(
    minutes: float, noises: Noises | None, seed: int = 0
) -> Iterator[tuple[str, Iterator[Samples]]]:
    """Streams without a word, in pieces of ten seconds: digital silence, and noise.

    Args:
        minutes: length of each.
        noises: recordings to draw from; None: white, pink and humming noise made here.
    """
    pieces = max(1, round(minutes * 6))
    yield "silence", (np.zeros(10 * RATE, np.float32) for _ in range(pieces))
    rng = np.random.default_rng(seed)
    yield "noise", (_noise(noises, rng) for _ in range(pieces))


def _noise(noises: Noises | None, rng: np.random.Generator) -> Samples:
    length = 10 * RATE
    drawn = None if noises is None else noises.draw_noise(length, rng)
    if drawn is None:
        drawn = coloured(length, rng)
    level = 10 ** (float(rng.uniform(-50, -22)) / 20)
    return np.clip(drawn * (level / max(1e-6, float(drawn.std()))), -1, 1).astype(np.float32)
