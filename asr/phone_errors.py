"""What a searching listener's encoder hears by itself: phones, without dictionary and language.

The likeliest phone of every frame, repeats and silence left out, against the pronunciations of the words that
were said: how much of an error is the ear's, and how much the search's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from ..training.manifests import Clip
from ..training.score import bootstrap, edits, total
from .heard_phones import phone_scores
from .hearing import Samples
from .model import RealtimeASR
from .scoring import ALL
from .search import WordSearch


def phones_heard(model: RealtimeASR, samples: Samples, block: int) -> list[str]:
    """Phones ("1" to "39") of a clip, 16 kHz mono, by the encoder and its head alone."""
    likeliest = phone_scores(model, samples, block).argmax(-1)
    return runs(int(phone) for phone in likeliest)


def runs(classes: Iterable[int]) -> list[str]:
    """Phones of a sequence of classes, one a frame: repeats and silence (0) left out."""
    return [str(phone) for phone, _ in groupby(classes) if phone]


def phone_errors(
    model: RealtimeASR,
    clips: Sequence[Clip],
    references: Sequence[str],
    load: Callable[[Clip], Samples],
    delay_ms: int,
) -> dict[str, Any] | None:
    """Phone error rate of each corpus and of all, with intervals; None for a listener without phones.

    A clip with a word that is not in the dictionary is left out; how many are is told as `left_out`.
    """
    if not isinstance(model.decoder, WordSearch):
        return None
    sounds = model.decoder.vocabulary.sounds()
    _, block = model.config.split_delay(delay_ms)
    known = [
        (clip, [str(phone) for word in reference.split() for phone in sounds[word]])
        for clip, reference in zip(clips, references, strict=True)
        if all(word in sounds for word in reference.split())
    ]
    scored = [(clip, edits(said, phones_heard(model, load(clip), block))) for clip, said in known]
    corpora: dict[str, Any] = {}
    for name in [*sorted({clip.corpus for clip, _ in scored if clip.corpus}), ALL]:
        chosen = [(clip, found) for clip, found in scored if name in (ALL, clip.corpus)]
        if not chosen:
            continue
        parts = [found for _, found in chosen]
        interval = bootstrap(parts, [clip.speaker for clip, _ in chosen])
        corpora[name] = asdict(total(parts)) | {
            "rate": total(parts).rate,
            "low": interval.low,
            "high": interval.high,
        }
    return {"corpora": corpora, "left_out": len(clips) - len(known), "block": block}
