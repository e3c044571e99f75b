"""Speech for a codec, carried to another machine: the recordings as they are, and what was made of them.

A prepared folder holds the samples of every hour as 170 MB. `pack` leaves them out; `unpack` reads them again
from the recordings, clip by clip as `rillvox train sounds` did, without a teacher.

    python -m rillvox.training.carry pack SOUNDS META
    python -m rillvox.training.carry unpack META SOUNDS DATA/kathleen DATA/librispeech ...

Clips whose recordings are not there are left out.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from os import cpu_count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import AudioError, ConfigError, RillvoxError
from .manifests import Clip, Manifest
from .sounds import PITCH_STEP, RATE, STEP, Sounds, as_pcm, levelled


def pack(sounds: Path, meta: Path) -> None:
    """Everything of a prepared folder but its samples."""
    whole = Sounds(sounds)
    meta.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(meta / "arrays.npz", ids=whole.ids, pitch=whole.pitch)
    for name in ("clips.jsonl", "codebook.safetensors"):
        shutil.copyfile(sounds / name, meta / name)


def unpack(meta: Path, out: Path, data: Sequence[Path], say: Callable[[str], None] = print) -> Sounds:
    """A prepared folder of those clips whose recordings are at hand.

    Raises:
        ConfigError: none of them is.
    """
    arrays = np.load(meta / "arrays.npz")
    wanted = [json.loads(line) for line in (meta / "clips.jsonl").read_text().splitlines()]
    jobs: dict[str, tuple[Manifest, Clip]] = {}
    for folder in data:
        manifest = Manifest(folder, index=out / "index")
        jobs |= {clip.id: (manifest, clip) for clip in manifest.clips}
    found = [clip for clip in wanted if clip["id"] in jobs]
    if not found:
        raise ConfigError(f"{meta}: none of its clips is in {', '.join(map(str, data))}")
    out.mkdir(parents=True, exist_ok=True)
    total = sum(clip["samples"] for clip in found)
    pcm = np.lib.format.open_memmap(out / "pcm.npy", "w+", np.int16, (total,))
    ids: list[NDArray[np.int16]] = []
    pitch: list[NDArray[np.float16]] = []
    lines: list[str] = []
    offset = lost = 0
    missing = len(wanted) - len(found)
    whole_ids, whole_pitch = arrays["ids"], arrays["pitch"]
    with ProcessPoolExecutor(cpu_count()) as workers:
        waves = workers.map(_read, [jobs[clip["id"]] for clip in found], chunksize=16)
        for clip, wave in zip(found, waves, strict=True):
            begin, count = clip["offset"], clip["samples"]
            if wave is None or len(wave) != count:
                lost += 1
                continue
            pcm[offset : offset + count] = wave
            ids.append(whole_ids[begin // STEP : (begin + count) // STEP])
            pitch.append(whole_pitch[begin // PITCH_STEP : (begin + count) // PITCH_STEP])
            lines.append(json.dumps({**clip, "offset": offset}) + "\n")
            offset += count
    if not lines:
        raise ConfigError(
            f"{meta}: all of its clips read otherwise than before; are these the same recordings?"
        )
    pcm.flush()
    np.save(out / "ids.npy", np.concatenate(ids))
    np.save(out / "pitch.npy", np.concatenate(pitch))
    (out / "clips.jsonl").write_text("".join(lines))
    shutil.copyfile(meta / "codebook.safetensors", out / "codebook.safetensors")
    say(f"{len(lines)} clips, {offset / RATE / 3600:.2f} hours; {missing} not there, {lost} not as before")
    return Sounds(out)


def _read(job: tuple[Manifest, Clip]) -> NDArray[np.int16] | None:
    manifest, clip = job
    try:
        return as_pcm(levelled(manifest.load(clip).resample(RATE).samples))
    except AudioError:
        return None


def _main(argv: Sequence[str]) -> None:
    if len(argv) == 3 and argv[0] == "pack":
        pack(Path(argv[1]), Path(argv[2]))
    elif len(argv) > 3 and argv[0] == "unpack":
        try:
            unpack(Path(argv[1]), Path(argv[2]), [Path(name) for name in argv[3:]])
        except RillvoxError as error:
            raise SystemExit(str(error)) from error
    else:
        raise SystemExit("usage: pack SOUNDS META | unpack META SOUNDS DATA...")


if __name__ == "__main__":
    _main(sys.argv[1:])
