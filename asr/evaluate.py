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
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..errors import ConfigError, TextError
from ..training.manifests import Clip, Manifest, write_json
from ..training.noises import Noises
from ..training.normalize import normalize
from .conditions import CONDITIONS, ClipList, quiet_streams, under, with_times
from .delays import RATE
from .emission import word_times
from .hearing import FAILURES, Hearing, Listener, Samples, Slots, Voice, listen, listen_many
from .model import RealtimeASR
from .peers import Peer, installed_peers
from .phone_errors import phone_errors
from .scoreboard import scoreboard
from .scoring import Hear, Progress, behind, score_row, size_of

V = TypeVar("V", bound=Voice)
WARM_UP_SECONDS = 2.0


def evaluate(
    asr: Listener,
    manifest: ClipList,
    delays_ms: Sequence[int] = (480,),
    *,
    model: str = "",
    command: str = "",
    batch: Slots[V] | None = None,
    peers: Sequence[Peer] = (),
    network: RealtimeASR | None = None,
    conditions: Sequence[str] = ("clean",),
    quiet_minutes: float = 0.0,
    noises: Noises | None = None,
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
        peers: one row more for each, and how far the first row is from it, by a paired test.
        network: the model of `asr`, to score the phones that its encoder hears by itself, at the first delay.
        conditions: of `conditions.CONDITIONS`; every system hears the list under each.
        quiet_minutes: how long to listen to silence and to noise, at the first delay; 0 for not at all.
        noises: recorded ones for that; None: noise made here.
        progress: told after every clip.

    Returns:
        `header`, `list`, `rows`, `phones` and `quiet`, ready for JSON. Each row: `system`, `condition`,
        `delay_ms`, `corpora` (one for each and `all`: clips, minutes, speakers, `wer` and `cer` with rate,
        95 % interval and kinds of errors), `speakers` with the WER of each, `emission`, `times`, `revised`,
        `speed`, `slots`, and `clips` with the text and error rate of each. A peer's row has `behind`: for
        each corpus the 95 % interval of its WER less the first row's.

    Raises:
        TextError: a reference with nothing to compare in it, or a list without texts.
        RillvoxError: a delay the model does not know, or a clip that cannot be read.
    """
    rows: list[dict[str, Any]] = []
    with one_thread():
        header = _header(model, command)
        for condition in conditions:
            test = _Test(under(manifest, condition), condition, progress)
            if not rows:
                listen(asr, test.load(test.clips[0])[: int(WARM_UP_SECONDS * RATE)], delays_ms[0])
            first = len(rows)
            for delay_ms in delays_ms:
                slots = 1 if batch is None else batch.free
                hear = test.solo(asr, delay_ms) if batch is None else test.together(batch, delay_ms)
                rows.append(test.row(model or "model", hear) | {"delay_ms": delay_ms, "slots": slots})
            for peer in peers:
                row = test.row(peer.name, _peer(peer, test.load)) | {"delay_ms": None, "slots": 1}
                rows.append(row | {"emission": None, "times": None, "behind": behind(row, rows[first])})
        phones = None
        if network is not None:
            test = _Test(manifest, "clean", progress)
            phones = phone_errors(network, test.clips, test.references, test.load, delays_ms[0])
        quiet = _listen_to_quiet(asr, delays_ms[0], quiet_minutes, noises) if quiet_minutes > 0 else []
    clips = [clip for clip in manifest.clips if clip.text is not None]
    size = size_of(clips, [row_clip["seconds"] for row_clip in rows[0]["clips"]])
    unscored = len(manifest.clips) - len(clips)
    return {
        "header": header,
        "list": {"manifest": str(manifest.path), "unscored": unscored} | size,
        "rows": rows,
        "phones": phones,
        "quiet": quiet,
    }


class _Test:
    """One list under one condition, with its references."""

    def __init__(self, manifest: ClipList, condition: str, progress: Progress) -> None:
        self.manifest, self.condition, self.progress = manifest, condition, progress
        self.clips = [clip for clip in manifest.clips if clip.text is not None]
        if not self.clips:
            raise TextError(f"{manifest.path}: no clip has a text to compare with")
        self.references = [_reference(clip) for clip in self.clips]
        pairs = zip(self.clips, self.references, strict=True)
        self.times = [word_times(clip, reference) for clip, reference in pairs]

    def load(self, clip: Clip) -> Samples:
        return self.manifest.load(clip).resample(RATE).samples

    def solo(self, asr: Listener, delay_ms: int) -> Hear:
        return lambda chosen: (
            (index, listen(asr, self.load(clip), delay_ms)) for index, clip in enumerate(chosen)
        )

    def together(self, slots: Slots[V], delay_ms: int) -> Hear:
        return lambda chosen: listen_many(slots, map(self.load, chosen), delay_ms)

    def row(self, system: str, hear: Hear) -> dict[str, Any]:
        row = score_row(system, hear, self.clips, self.references, self.times, self.progress)
        return row | {"condition": self.condition}


def _listen_to_quiet(
    asr: Listener, delay_ms: int, minutes: float, noises: Noises | None
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, pieces in quiet_streams(minutes, noises):
        session = asr.stream(delay_ms=delay_ms)
        seconds = 0.0
        for piece in pieces:
            session.feed(piece)
            session.poll()
            seconds += len(piece) / RATE
        text = session.finish().text
        words = len(normalize(text).split())
        rows.append(
            {
                "stream": name,
                "minutes": seconds / 60,
                "words": words,
                "per_minute": words / (seconds / 60),
                "text": text[:300],
            }
        )
    return rows


def main_asr(
    manifest: str | Path,
    model: str = "asr-en",
    delay_ms: Sequence[int] = (480,),
    json_out: str | Path | None = None,
    show: bool = False,
    limit: int | None = None,
    slots: int = 1,
    conditions: Sequence[str] = ("clean",),
    quiet_minutes: float = 0.0,
    noise: str | Path | None = None,
    times: str | Path | None = None,
    peers: bool = True,
) -> dict[str, Any]:
    """The command: evaluate, print the table, write the report.

    Args:
        manifest: a `manifest.jsonl` or its folder.
        json_out: file for the whole report.
        show: print every reference and hypothesis.
        limit: score only so many clips, spread evenly over the list.
        slots: clips at once.
        conditions, quiet_minutes: see `evaluate`.
        noise: folder of noises with a manifest, of which the held-out part is used.
        times: file of word times, see `conditions.with_times`.
        peers: also run what peers are installed.
    """
    from .stream import ASR

    if slots < 1 or quiet_minutes < 0:
        raise ConfigError(
            f"slots must be at least 1 and quiet_minutes not below 0, got {slots} and {quiet_minutes}"
        )
    for condition in conditions:
        if condition not in CONDITIONS:
            raise ConfigError(f"condition must be one of {', '.join(CONDITIONS)}, got {condition!r}")
    asr = ASR.load(model)
    chosen = thinned(Manifest(manifest, rate=RATE), limit)
    if times is not None:
        chosen.clips = with_times(chosen.clips, times)
    report = evaluate(
        asr,
        chosen,
        delay_ms,
        model=model,
        command=shlex.join(["rillvox", *sys.argv[1:]]),
        batch=asr.batch(slots) if slots > 1 else None,
        peers=installed_peers() if peers else (),
        network=getattr(asr, "model", None),
        conditions=conditions,
        quiet_minutes=quiet_minutes,
        noises=None if noise is None else Noises(noise, held_out=True),
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
