"""Recordings to what a codec learns from: 24 kHz, one loudness, and the semantic codes of a teacher.

Another folder's codebook names new recordings as it named its own (`naming.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..audio import Audio
from ..errors import AudioError, ConfigError
from ..training.manifests import Manifest
from ..training.sounds import RATE, STEP, Sound, Sounds, as_pcm, levelled, write_sounds
from ..training.teacher import WhisperTeacher
from .naming import LONGEST, PER_FRAME, Naming, cluster


def prepare(
    manifests: Sequence[Path | str],
    out: Path,
    whisper: Path,
    *,
    codes: int = 512,
    dim: int = 256,
    codebook: Path | None = None,
    say: Callable[[str], None] = print,
) -> Sounds:
    """Write the folder and open it.

    Args:
        codebook: a folder whose codes these recordings are named by; None: a codebook of their own.

    Raises:
        ConfigError: no clips, or a folder without a codebook.
        CheckpointError: no teacher.
    """
    naming = None if codebook is None else Naming.load(codebook)
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
    about = f"{len(clips)} clips, {offset / RATE / 3600:.2f} hours"
    if naming is None:
        say(f"{about}; clustering the teacher's frames")
        # The codebook is made from what may be trained on.
        free = np.concatenate(
            [np.full(len(h), not c.corpus.endswith("_dev")) for c, h in zip(clips, heard, strict=True)]
        )
        naming, ids = cluster(heard, free, codes, dim, say)
    else:
        say(f"{about}; named by the codes of {codebook}")
        ids = naming.ids(heard)
    write_sounds(out, clips, np.concatenate(parts), ids, naming.tensors())
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
