"""`rillvox bench`: tables on stdout, progress on stderr."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ..audio import Samples, read_audio
from ..errors import ConfigError
from ..streaming.bench import LoadTest, Table, bench_gateway, bench_memory, bench_step

RATE = 16_000
MOST_CLIPS = 40  # of a manifest: ten minutes are as good as an hour
SAMPLES = Path(__file__).resolve().parent.parent / "samples" / "recordings"


def gateway(test: LoadTest, files: Sequence[Path], manifest: Path | None, output: Path | None) -> None:
    """Play recordings, or the first clips of a manifest, to a gateway."""
    show(bench_gateway(test, clips(files, manifest)), output)


def memory(model: str, slots: int, output: Path | None) -> None:
    """Bytes of a session."""
    show(bench_memory(model, slots), output)


def step(model: str, sessions: str, seconds: float, delay_ms: int, output: Path | None) -> None:
    """Time of a tick; `sessions` is a list such as "1,4,8"."""
    try:
        batches = [int(part) for part in sessions.split(",")]
    except ValueError:
        batches = []
    if not batches or min(batches) < 1:
        raise ConfigError(f"--sessions must be whole numbers such as 1,4,8, got {sessions!r}")
    show(bench_step(model, batches, seconds, delay_ms), output)


def clips(files: Sequence[Path], manifest: Path | None) -> list[Samples]:
    """Speech at 16 kHz: the files, the manifest's clips, or the recordings that come with the sources."""
    if manifest is not None:
        from ..training.manifests import Manifest

        chosen = Manifest(manifest, RATE)
        return [chosen.load(clip).samples for clip in chosen.clips[:MOST_CLIPS]]
    found = list(files) or sorted(SAMPLES.glob("*.flac"))
    return [read_audio(file, RATE).samples for file in found]


def show(table: Table, output: Path | None) -> None:
    """Print a table, and write it as JSON where that is asked for."""
    sys.stdout.write(table.markdown())
    if output is not None:
        output.write_text(table.to_json(), encoding="utf-8")
