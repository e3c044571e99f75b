"""Recordings with texts to a pool that training reads: decoded, pronounced, aligned.

For every clip: 16 kHz samples, the words of its text, their phones by flite's lexicon, and the
20 ms frames in which each phone is said, found by forced alignment. Clips whose text can't be
aligned are kept without times, and not trained on.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import AudioError, ConfigError, TextError
from ..training.align import align
from ..training.lexicon import PHONE_IDS, Lexicon
from ..training.manifests import Clip, Manifest, write_json
from ..training.pool import Clip as PoolClip
from ..training.pool import Pool, write_pool
from .aligner import MAX_SECONDS, PhoneAligner

RATE = 16000
FRAME_SAMPLES = 320
FRAME_SECONDS = 0.02


def plain_words(text: str) -> list[str]:
    """Lower-case words of a-z and inner apostrophes: the default listener's alphabet."""
    text = unicodedata.normalize("NFKD", text.lower().replace("\u2019", "'"))
    text = re.sub(r"[-/\s\u2010-\u2015]+", " ", text)
    words = re.sub(r"[^a-z' ]", "", text).split()
    return [word for word in (part.strip("'") for part in words) if word]


def prepare(
    manifests: Sequence[Path | str],
    out: Path,
    encoder: Path,
    head: Path,
    say: Callable[[str], None] = print,
) -> Pool:
    """Write a pool of all clips of the given manifests (folders or files) into `out`.

    Args:
        encoder: Whisper base's encoder tensors, see `PhoneAligner`.
        head: the phone head's tensors.
    """
    opened = [Manifest(path, rate=RATE, index=out / "index") for path in manifests]
    words = {word for manifest in opened for clip in manifest.clips for word in plain_words(clip.text or "")}
    if not words:
        raise ConfigError("none of the manifests has a text: nothing to align")
    say(f"pronouncing {len(words)} words")
    phones = Lexicon(out / "lexicon.json", jobs=2).lookup(sorted(words))
    lexicon = {word: [PHONE_IDS[phone] for phone in said] for word, said in phones.items()}
    aligner = PhoneAligner(encoder, head)

    def clips() -> Iterator[tuple[PoolClip, NDArray[np.int16]]]:
        for manifest in opened:
            for number, clip in enumerate(manifest.clips):
                if number % 200 == 0:
                    say(f"{manifest.folder.name}: {number} of {len(manifest.clips)} clips")
                try:
                    samples = manifest.load(clip).samples
                except AudioError as error:
                    say(f"left out: {error}")
                    continue
                yield _pool_clip(clip, manifest.folder.name, samples, lexicon, aligner)

    return write_pool(out, clips())


def _pool_clip(
    clip: Clip,
    corpus: str,
    samples: NDArray[np.float32],
    lexicon: dict[str, list[int]],
    aligner: PhoneAligner,
) -> tuple[PoolClip, NDArray[np.int16]]:
    samples = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES]
    pcm = np.rint(np.clip(samples, -1, 1) * 32767).astype(np.int16)
    bare = PoolClip(clip.id, corpus, clip.speaker, 0, len(pcm))
    words = plain_words(clip.text or "")
    said = [lexicon.get(word, []) for word in words]
    if not words or not all(said) or len(samples) > (MAX_SECONDS - 0.5) * RATE:
        return bare, pcm
    frames = len(samples) // FRAME_SAMPLES
    try:
        found = align(aligner.log_probs(samples)[:frames], said)
    except TextError:
        return bare, pcm
    return (
        PoolClip(
            clip.id,
            corpus,
            clip.speaker,
            0,
            len(pcm),
            words=tuple(words),
            phones=tuple(phone for word in said for phone in word),
            phones_per_word=tuple(len(word) for word in said),
            spans=tuple(found.phones),
            score=found.score,
        ),
        pcm,
    )


def write_times(pool: Path, corpus: str, out: Path) -> int:
    """Write (word, start, end) in seconds of a corpus's aligned clips by id; gives the number of clips.

    Raises:
        ConfigError: the pool has no aligned clip of that corpus.
    """
    times: dict[str, list[list[str | float]]] = {}
    for clip in Pool.open(pool).clips:
        if clip.corpus != corpus or not clip.spans:
            continue
        ends = np.cumsum(clip.phones_per_word).tolist()
        begins = [0, *ends[:-1]]
        times[clip.id] = [
            [word, clip.spans[begin][0] * FRAME_SECONDS, clip.spans[end - 1][1] * FRAME_SECONDS]
            for word, begin, end in zip(clip.words, begins, ends, strict=True)
        ]
    if not times:
        raise ConfigError(f"{pool}: no aligned clip of {corpus!r} in it")
    write_json(out, times)
    return len(times)
