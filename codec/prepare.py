"""Recordings to what a codec learns from: 24 kHz, one loudness, and the semantic codes of a teacher.

The codebook is the teacher's: Whisper's frames, four to a frame of the codec, without the mean of their
place, reduced to `dim` components by their principal axes, each divided by the root of its deviation, and
clustered. A learned codebook collapses on little speech; of this one nearly all entries are in use.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..audio import Audio
from ..errors import AudioError, ConfigError
from ..training.manifests import Manifest
from ..training.sounds import RATE, STEP, Sound, Sounds, as_pcm, levelled, write_sounds
from ..training.teacher import WhisperTeacher

_eigh = cast(
    "Callable[[Tensor], tuple[Tensor, Tensor]]",
    torch.linalg.eigh,  # pyright: ignore[reportUnknownMemberType]
)

LONGEST = 28 * 16000  # samples that the teacher hears at once
PLACES = LONGEST // 320  # of the teacher's frames in a piece
PER_FRAME = 4  # frames of the teacher in one of the codec
# Frames of the teacher before the codec's own begins: the encoder, which hears nothing of what follows, names
# what it has heard the end of. At 40 ms it names a third more of them right than at none, at 80 ms no more.
LEAD = 2
ROUNDS = 12


def prepare(
    manifests: Sequence[Path | str],
    out: Path,
    whisper: Path,
    *,
    codes: int = 512,
    dim: int = 256,
    say: Callable[[str], None] = print,
) -> Sounds:
    """Write the folder and open it.

    Raises:
        ConfigError: no clips.
        CheckpointError: no teacher.
    """
    teacher = WhisperTeacher(whisper)
    (out / "heard").mkdir(parents=True, exist_ok=True)
    clips: list[Sound] = []
    parts: list[NDArray[np.int16]] = []
    heard: list[NDArray[np.float16]] = []
    offset = 0
    for path in manifests:
        manifest = Manifest(path, index=out / "index")
        waves: list[NDArray[np.float32]] = []
        for clip in manifest.clips:
            try:
                audio = manifest.load(clip)
            except AudioError as error:
                say(f"left out: {error}")
                continue
            wave = levelled(audio.resample(RATE).samples)
            if len(wave) < PER_FRAME * STEP:
                continue
            waves.append(wave)
            parts.append(as_pcm(wave))
            name = clip.corpus or manifest.folder.name
            if manifest.folder.name.endswith("_dev"):
                name = manifest.folder.name  # development sets are known by their folder
            clips.append(Sound(clip.id, name, clip.speaker, audio.rate, offset, len(wave)))
            offset += len(wave)
        # By what was heard and who heard it: frames of other recordings or another teacher are not these.
        kept = out / "heard" / f"{manifest.folder.name}-{_digest(whisper, waves)}.npy"
        heard += hear_all(teacher, waves, kept, say)
    if not clips:
        raise ConfigError("no clips: nothing to prepare")
    say(f"{len(clips)} clips, {offset / RATE / 3600:.2f} hours; clustering the teacher's frames")
    # The codebook is made from what may be trained on.
    free = np.concatenate(
        [np.full(len(h), not c.corpus.endswith("_dev")) for c, h in zip(clips, heard, strict=True)]
    )
    entries, ids = cluster(heard, free, codes, dim, say)
    write_sounds(out, clips, np.concatenate(parts), ids, entries)
    return Sounds(out)


def _digest(whisper: Path, waves: Sequence[NDArray[np.float32]]) -> str:
    digest = hashlib.blake2b(whisper.read_bytes(), digest_size=8)
    for wave in waves:
        digest.update(wave.tobytes())
    return digest.hexdigest()


def hear_all(
    teacher: WhisperTeacher, waves: Sequence[NDArray[np.float32]], kept: Path, say: Callable[[str], None]
) -> list[NDArray[np.float16]]:
    """The teacher's frames of every wave, from the file `kept` where an earlier run left them."""
    ends = np.cumsum([len(wave) // STEP for wave in waves], dtype=np.int64)
    if kept.exists() and waves:
        return np.split(np.load(kept), ends[:-1])
    heard: list[NDArray[np.float16]] = []
    for number, wave in enumerate(waves):
        if number % 200 == 0:
            say(f"{kept.stem}: {number} of {len(waves)} clips")
        heard.append(hear(teacher, Audio(wave, RATE)))
    if heard:
        with kept.with_suffix(".tmp").open("wb") as file:
            np.save(file, np.concatenate(heard))
        kept.with_suffix(".tmp").replace(kept)
    return heard


def hear(teacher: WhisperTeacher, audio: Audio) -> NDArray[np.float16]:
    """The teacher's frames of a clip, one for every 20 ms."""
    wave = audio.resample(16000).samples
    count = len(audio.samples) // STEP
    wave = np.pad(wave, (0, max(0, count * 320 - len(wave))))[: count * 320]
    pieces = [wave[begin : begin + LONGEST] for begin in range(0, len(wave), LONGEST)]
    # Half a second of silence behind a piece: the teacher was never cut off in mid-word.
    found = [teacher.frames(torch.as_tensor(np.pad(p, (0, 8000)))[None])[0, : len(p) // 320] for p in pieces]
    return torch.cat(found).half().numpy()


def cluster(
    heard: Sequence[NDArray[np.float16]],
    free: NDArray[np.bool_],
    codes: int,
    dim: int,
    say: Callable[[str], None] = print,
) -> tuple[Tensor, NDArray[np.int16]]:
    """Entries [codes, dim], and for each frame the code of the four from `LEAD` before it; -1 at the end."""
    longest = min(PLACES, max(map(len, heard)))
    total, count = np.zeros((longest, heard[0].shape[1])), np.zeros(longest)
    for frames in heard:
        for begin in range(0, len(frames), PLACES):
            piece = frames[begin : begin + PLACES]
            total[: len(piece)] += piece
            count[: len(piece)] += 1
    mean = torch.as_tensor(total / count[:, None]).float()
    # Few clips are long: places with few frames take the mean of all that are as late.
    late = int(np.argmax(count < 200)) if (count < 200).any() else longest
    late = max(1, late)
    mean[late:] = mean[max(0, late - 50) : late].mean(0)
    means: list[Tensor] = []
    for frames in heard:
        x = torch.as_tensor(frames).float() - mean[torch.arange(len(frames)) % PLACES]
        running = torch.cat([x.new_zeros(1, x.shape[1]), x.cumsum(0)])
        at = torch.arange(len(x)) - LEAD
        first, last = at.clamp(min=0), (at + PER_FRAME).clamp(max=len(x))
        means.append((running[last] - running[first]) / (last - first)[:, None])
    pooled = torch.cat(means)
    known = torch.ones(len(pooled), dtype=torch.bool)
    ends = np.cumsum([len(frames) for frames in heard])
    for back in range(1, PER_FRAME - LEAD):
        known[torch.as_tensor(ends - back)] = False
    generator = torch.Generator().manual_seed(0)
    usable = (known & torch.as_tensor(free)).nonzero().squeeze(1)
    sample = pooled[usable[torch.randperm(len(usable), generator=generator)[:400_000]]]
    centre, spread = sample.mean(0), sample.std(0).clamp(min=1e-3)
    scaled = (sample - centre) / spread
    values, axes = _eigh(scaled.T @ scaled / len(scaled))
    axes, values = axes[:, -dim:].flip(1), values[-dim:].flip(0).clamp(min=1e-6)
    project = axes / values**0.25  # divided by the root of the deviation, which is the root of the variance
    points = scaled @ project
    entries = kmeans(points, codes, generator, say)
    ids = torch.full((len(pooled),), -1, dtype=torch.int16)
    for begin in range(0, len(pooled), 50_000):
        part = (pooled[begin : begin + 50_000] - centre) / spread @ project
        ids[begin : begin + 50_000] = nearest(part, entries).to(torch.int16)
    ids[~known] = -1
    share = torch.bincount(ids[usable].long(), minlength=codes) / len(usable)
    perplexity = float(torch.exp(-(share * (share + 1e-12).log()).sum()))
    say(f"{codes} codes, perplexity {perplexity:.0f}, {int((share == 0).sum())} unused")
    return entries, ids.numpy()


def nearest(points: Tensor, entries: Tensor) -> Tensor:
    """Index of the nearest entry of every point."""
    return (entries.square().sum(1) - 2 * points @ entries.T).argmin(1)


def kmeans(points: Tensor, codes: int, generator: torch.Generator, say: Callable[[str], None]) -> Tensor:
    """Lloyd's algorithm from random points; an entry that nobody wants moves to a random point."""
    if len(points) < codes:
        raise ConfigError(f"{len(points)} frames of speech are too few for {codes} codes")
    entries = points[torch.randperm(len(points), generator=generator)[:codes]].clone()
    for round_ in range(ROUNDS):
        ids = torch.cat([nearest(part, entries) for part in torch.split(points, 50_000)])
        total = torch.zeros_like(entries).index_add_(0, ids, points)
        count = torch.bincount(ids, minlength=codes)
        entries = total / count.clamp(min=1)[:, None]
        empty = (count == 0).nonzero().squeeze(1)
        entries[empty] = points[torch.randint(len(points), (len(empty),), generator=generator)]
        if round_ in (0, ROUNDS - 1):
            missed = (points - entries[ids]).square().mean() / points.var(0).mean()
            say(f"round {round_ + 1}: relative error {float(missed):.3f}")
    return entries
