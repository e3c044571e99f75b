"""`rillvox eval asr`: word and character error rates of a recogniser on a list of recordings.

Every clip goes through the streaming interface in chunks of 80 ms, as a live user's would, at each delay
asked for. All systems hear the same clips and none is left out: a clip on which a system fails counts as all
deletions. The rules of comparison are those of `training.normalize` and `training.score`.
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from ..errors import TextError
from ..training.manifests import Clip, Manifest, write_json
from ..training.normalize import normalize
from ..training.score import Edits, bootstrap, char_edits, total, word_edits
from .delays import RATE
from .emission import Emissions, word_ends
from .hearing import FAILURES, Hearing, Listener, Samples, Slots, Voice, listen, listen_many
from .peers import Peer, installed_peers
from .scoreboard import scoreboard

V = TypeVar("V", bound=Voice)
Progress = Callable[[str, int, int], None]  # system, clips done, clips in all
Hear = Callable[[Sequence[Clip]], Iterator[tuple[int, Hearing]]]

ALL = "all"
WARM_UP_SECONDS = 2.0


def evaluate(
    asr: Listener,
    manifest: Manifest,
    delays_ms: Sequence[int] = (480,),
    *,
    model: str = "",
    command: str = "",
    batch: Slots[V] | None = None,
    peers: Sequence[Peer] = (),
    progress: Progress = lambda _system, _done, _total: None,
) -> dict[str, Any]:
    """Run a recogniser over a list and score it.

    Args:
        asr: what hears the clips, one session after the other.
        manifest: the list; its clips are brought to 16 kHz. Clips without a text are counted and left out.
        delays_ms: one row of the report for each.
        model: name for the report.
        command: what was typed, for the report.
        batch: slots to hear several clips at once, in place of `asr.stream`; quicker where there is a GPU.
        peers: one row more for each.
        progress: told after every clip.

    Returns:
        `header`, `list` and `rows`, ready for JSON. Each row: `system`, `delay_ms`, `corpora` (one for each
        and `all`: clips, minutes, speakers, `wer` and `cer` with rate, 95 % interval and kinds of
        errors), `emission`, `revised`, `speed`, `slots`, and `clips` with the text and error rate of each.

    Raises:
        TextError: a reference with nothing to compare in it, or a list without texts.
        RillvoxError: a delay the model does not know, or a clip that cannot be read.
    """
    clips = [clip for clip in manifest.clips if clip.text is not None]
    if not clips:
        raise TextError(f"{manifest.path}: no clip has a text to compare with")
    references = [_reference(clip) for clip in clips]
    ends = [word_ends(clip, reference) for clip, reference in zip(clips, references, strict=True)]

    def load(clip: Clip) -> Samples:
        return manifest.load(clip).resample(RATE).samples

    def solo(delay_ms: int) -> Hear:
        return lambda chosen: (
            (index, listen(asr, load(clip), delay_ms)) for index, clip in enumerate(chosen)
        )

    def together(slots: Slots[V], delay_ms: int) -> Hear:
        return lambda chosen: listen_many(slots, map(load, chosen), delay_ms)

    def row(system: str, hear: Hear) -> dict[str, Any]:
        return _row(system, hear, clips, references, ends, progress)

    rows: list[dict[str, Any]] = []
    with one_thread():
        header = _header(model, command)
        listen(asr, load(clips[0])[: int(WARM_UP_SECONDS * RATE)], delays_ms[0])
        for delay_ms in delays_ms:
            slots = 1 if batch is None else batch.free
            hear = solo(delay_ms) if batch is None else together(batch, delay_ms)
            rows.append(row(model or "model", hear) | {"delay_ms": delay_ms, "slots": slots})
        for peer in peers:
            rows.append(row(peer.name, _peer(peer, load)) | {"delay_ms": None, "slots": 1, "emission": None})
    size = _size(clips, [row_clip["seconds"] for row_clip in rows[0]["clips"]])
    unscored = len(manifest.clips) - len(clips)
    return {
        "header": header,
        "list": {"manifest": str(manifest.path), "unscored": unscored} | size,
        "rows": rows,
    }


def main_asr(
    manifest: str | Path,
    model: str = "asr-en",
    delay_ms: Sequence[int] = (480,),
    json_out: str | Path | None = None,
    show: bool = False,
    limit: int | None = None,
    slots: int = 1,
) -> dict[str, Any]:
    """The command: evaluate, print the table, write the report.

    Args:
        manifest: a `manifest.jsonl` or its folder.
        json_out: file for the whole report.
        show: print every reference and hypothesis.
        limit: score only so many clips, spread evenly over the list.
        slots: clips at once.
    """
    from .stream import ASR

    asr = ASR.load(model)
    chosen = thinned(Manifest(manifest, rate=RATE), limit)
    report = evaluate(
        asr,
        chosen,
        delay_ms,
        model=model,
        command=shlex.join(["rillvox", *sys.argv[1:]]),
        batch=asr.batch(slots) if slots > 1 else None,
        peers=installed_peers(),
        progress=_tell if sys.stderr.isatty() else lambda _system, _done, _total: None,
    )
    sys.stdout.write(scoreboard(report, show))
    if json_out is not None:
        write_json(Path(json_out), report)
    return report


def thinned(manifest: Manifest, limit: int | None) -> Manifest:
    """At most `limit` clips with a text, evenly spread over the list, so that each corpus keeps its share."""
    texts = [clip.id for clip in manifest.clips if clip.text is not None]
    if limit is None or limit >= len(texts):
        return manifest
    if limit < 1:
        raise TextError(f"limit must be at least 1, got {limit}")
    kept = {texts[index * len(texts) // limit] for index in range(limit)}
    return manifest.where(lambda clip: clip.id in kept)


@contextmanager
def one_thread() -> Generator[None]:
    """Compute on one core, as every figure of speed here is told."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _tell(system: str, done: int, clips: int) -> None:
    sys.stderr.write(f"\r{system}: {done} of {clips} clips" + ("\n" if done == clips else ""))
    sys.stderr.flush()


def _reference(clip: Clip) -> str:
    reference = normalize(clip.text or "")
    if not reference:
        raise TextError(f"clip {clip.id}: {clip.text!r} leaves nothing to compare; take it off the list")
    return reference


def _peer(peer: Peer, load: Callable[[Clip], Samples]) -> Hear:
    def hear(clips: Sequence[Clip]) -> Iterator[tuple[int, Hearing]]:
        for index, clip in enumerate(clips):
            samples = load(clip)
            hearing = Hearing(len(samples) / RATE)
            wall, cpu = time.perf_counter(), time.process_time()
            try:
                hearing.text = peer.transcribe(samples)
            except FAILURES as error:
                hearing.failure = f"{type(error).__name__}: {error}"
            hearing.wall_seconds = time.perf_counter() - wall
            hearing.cpu_seconds = time.process_time() - cpu
            yield index, hearing

    return hear


def _row(
    system: str,
    hear: Hear,
    clips: Sequence[Clip],
    references: Sequence[str],
    ends: Sequence[Sequence[float] | None],
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
    emissions = Emissions()
    for hearing, reference, times in zip(hearings, references, ends, strict=True):
        if times is not None:
            emissions.add(hearing, reference, times)
    shown = sum(len(hearing.shown.split()) for hearing in hearings)
    return {
        "system": system,
        "corpora": _corpora(clips, [hearing.audio_seconds for hearing in hearings], words, chars),
        "emission": emissions.report(),
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


def _hypothesis(hearing: Hearing) -> str:
    return "" if hearing.failure else normalize(hearing.text)


def _corpora(
    clips: Sequence[Clip], seconds: Sequence[float], words: Sequence[Edits], chars: Sequence[Edits]
) -> dict[str, Any]:
    names = sorted({clip.corpus for clip in clips if clip.corpus})
    groups = {name: [i for i, clip in enumerate(clips) if clip.corpus == name] for name in names}
    groups[ALL] = list(range(len(clips)))
    return {
        name: _size([clips[i] for i in rows], [seconds[i] for i in rows])
        | {
            "wer": _score([words[i] for i in rows], [clips[i].speaker for i in rows]),
            "cer": _score([chars[i] for i in rows], [clips[i].speaker for i in rows]),
        }
        for name, rows in groups.items()
    }


def _size(clips: Sequence[Clip], seconds: Sequence[float]) -> dict[str, Any]:
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
    return {
        "wall": (own or wall) / audio,
        "cpu": (sum(hearing.cpu_seconds for hearing in hearings) if own else cpu) / audio,
        "finish_median_ms": float(np.median(finish)) if finish else None,
    }


def _header(model: str, command: str) -> dict[str, Any]:
    from .. import __version__

    return {
        "model": model,
        "command": command,
        "machine": f"{platform.machine()} {_processor()}".strip(),
        "cores": os.cpu_count() or 1,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "rillvox": __version__,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
