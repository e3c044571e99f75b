"""What was heard against what was said: one row of an evaluation's report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ..training.manifests import Clip
from ..training.normalize import normalize
from ..training.score import Edits, bootstrap, char_edits, paired_bootstrap, total, word_edits
from .emission import Emissions
from .hearing import Hearing
from .timing import WordScores

Progress = Callable[[str, int, int], None]  # system, clips done, clips in all
Hear = Callable[[Sequence[Clip]], Iterator[tuple[int, Hearing]]]

ALL = "all"


def score_row(
    system: str,
    hear: Hear,
    clips: Sequence[Clip],
    references: Sequence[str],
    times: Sequence[Sequence[tuple[float, float]] | None],
    progress: Progress,
) -> dict[str, Any]:
    heard: dict[int, Hearing] = {}
    wall, cpu = time.perf_counter(), time.process_time()
    for index, hearing in hear(clips):
        heard[index] = hearing
        progress(system, len(heard), len(clips))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    hearings = [heard[index] for index in range(len(clips))]
    told = [_hypothesis(hearing) for hearing in hearings]
    words = [word_edits(reference, text) for reference, text in zip(references, told, strict=True)]
    chars = [char_edits(reference, text) for reference, text in zip(references, told, strict=True)]
    emissions, scores = Emissions(), WordScores()
    for hearing, reference, known in zip(hearings, references, times, strict=True):
        if known is not None:
            emissions.add(hearing, reference, [end for _, end in known])
        if not hearing.failure:
            scores.add(hearing, reference, known)
    shown = sum(len(hearing.shown.split()) for hearing in hearings)
    return {
        "system": system,
        "corpora": _corpora(clips, [hearing.audio_seconds for hearing in hearings], words, chars),
        "speakers": _speakers(clips, words),
        "emission": emissions.report(),
        "times": scores.report(),
        "revised": sum(hearing.revised_words for hearing in hearings) / max(1, shown),
        "speed": _speed(hearings, wall, cpu),
        "clips": [
            {
                "id": clip.id,
                "corpus": clip.corpus,
                "speaker": clip.speaker,
                "seconds": hearing.audio_seconds,
                "reference": reference,
                "hypothesis": text,
                "text": hearing.text,
                "wer": edits.rate,
                "failure": hearing.failure,
            }
            for clip, hearing, reference, text, edits in zip(
                clips, hearings, references, told, words, strict=True
            )
        ],
    }


def behind(peer: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """How many more words a peer gets wrong: for each corpus the paired 95 % interval of the difference."""
    behind: dict[str, Any] = {}
    for name in ours["corpora"]:
        parts: list[list[Edits]] = [[], []]
        speakers: list[str] = []
        for theirs, own in zip(peer["clips"], ours["clips"], strict=True):
            if name in (ALL, own["corpus"]):
                for part, clip in zip(parts, (theirs, own), strict=True):
                    part.append(word_edits(clip["reference"], clip["hypothesis"]))
                speakers.append(own["speaker"])
        interval = paired_bootstrap(parts[0], parts[1], speakers)
        difference = total(parts[0]).rate - total(parts[1]).rate
        behind[name] = {"difference": difference, "low": interval.low, "high": interval.high}
    return behind


def _hypothesis(hearing: Hearing) -> str:
    return "" if hearing.failure else normalize(hearing.text)


def _corpora(
    clips: Sequence[Clip], seconds: Sequence[float], words: Sequence[Edits], chars: Sequence[Edits]
) -> dict[str, Any]:
    names = sorted({clip.corpus for clip in clips if clip.corpus})
    groups = {name: [i for i, clip in enumerate(clips) if clip.corpus == name] for name in names}
    groups[ALL] = list(range(len(clips)))
    return {
        name: size_of([clips[i] for i in rows], [seconds[i] for i in rows])
        | {
            "wer": _score([words[i] for i in rows], [clips[i].speaker for i in rows]),
            "cer": _score([chars[i] for i in rows], [clips[i].speaker for i in rows]),
        }
        for name, rows in groups.items()
    }


def _speakers(clips: Sequence[Clip], words: Sequence[Edits]) -> dict[str, float]:
    """WER of every speaker, the worst first."""
    names = {clip.speaker for clip in clips if clip.speaker}
    rates = {
        name: total(edits for clip, edits in zip(clips, words, strict=True) if clip.speaker == name).rate
        for name in names
    }
    return dict(sorted(rates.items(), key=lambda item: (-item[1], item[0])))


def size_of(clips: Sequence[Clip], seconds: Sequence[float]) -> dict[str, Any]:
    speakers = {clip.speaker for clip in clips if clip.speaker}
    return {"clips": len(clips), "minutes": sum(seconds) / 60, "speakers": len(speakers)}


def _score(parts: Sequence[Edits], speakers: Sequence[str]) -> dict[str, Any]:
    summed, interval = total(parts), bootstrap(parts, speakers)
    return asdict(summed) | {"rate": summed.rate, "low": interval.low, "high": interval.high}


def _speed(hearings: Sequence[Hearing], wall: float, cpu: float) -> dict[str, float | None]:
    """Seconds of work per second of audio; the reading of files counts only where clips ran together."""
    audio = sum(hearing.audio_seconds for hearing in hearings)
    own = sum(hearing.wall_seconds for hearing in hearings)
    finish = [1000 * hearing.finish_seconds for hearing in hearings if hearing.finish_seconds]
    # A block of several 80 ms steps is computed when its last one is there; the others cost next to nothing.
    chunks = [1000 * seconds for hearing in hearings for seconds in hearing.chunk_seconds if seconds > 1e-3]
    steps = np.percentile(chunks, [50, 95]).tolist() if chunks else [None, None]
    return {
        "step_median_ms": steps[0],
        "step_p95_ms": steps[1],
        "wall": (own or wall) / audio,
        "cpu": (sum(hearing.cpu_seconds for hearing in hearings) if own else cpu) / audio,
        "finish_median_ms": float(np.median(finish)) if finish else None,
    }
