"""`rillvox clone`: the codes of a voice, and a record of where they come from and who allowed it."""

from __future__ import annotations

import hashlib
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from .. import __version__
from ..audio import read_audio
from ..codec.codes import Codes
from ..codec.config import SAMPLE_RATE
from ..codec.enrol import LONGEST, enrol
from ..codec.stream import Codec
from ..errors import AudioError, ConfigError
from ..training.manifests import write_json
from .outputs import check_output

WAYS = ("encode", "optimise")
SHORTEST = 3.0  # seconds that a voice needs


def clone(source: Path, output: Path, model: str, consent: str, way: str, steps: int, seed: int) -> None:
    """Write the codes of a recording of a voice, and beside them `OUTPUT.json`, which says whose they are.

    Raises:
        ConfigError: no consent, or a way that is none.
        AudioError: less than 3 s or more than 30 s of sound.
        CheckpointError: no such model, or one without an encoder where it has to encode.
    """
    if not consent.strip():
        raise ConfigError(
            "--consent is missing: say who speaks in the recording and that they allow their voice to be "
            "cloned; it is kept beside the voice"
        )
    if way not in WAYS:
        raise ConfigError(f"--enrol must be {' or '.join(WAYS)}, got {way}")
    check_output(output)
    record = output.with_name(f"{output.name}.json")
    check_output(record)
    if output.exists() and source.exists() and output.samefile(source):
        raise ConfigError(f"{output} is the recording itself; name another file")
    wave = read_audio(source, rate=SAMPLE_RATE).samples
    if not SHORTEST <= len(wave) / SAMPLE_RATE <= LONGEST:
        raise AudioError(
            f"{source}: {len(wave) / SAMPLE_RATE:.1f} s; a voice is cloned from {SHORTEST:g} to {LONGEST:g} s"
        )
    # Descent needs the decoder as it is written; int8 has no gradient.
    codec = Codec.load(model, weights="float32" if way == "optimise" else None)
    story: dict[str, Any] = {"way": way}
    if way == "encode":
        codes = codec.encode(wave)
    else:
        codes, story = _optimise(codec, wave, steps, seed)
    # The record first: rather a record without a voice than a voice that nobody answers for.
    write_json(
        record,
        {
            "consent": consent.strip(),
            "recording": {
                "name": source.name,
                "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
                "seconds": round(len(wave) / SAMPLE_RATE, 2),
            },
            "made": {
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "program": f"rillvox {__version__}",
                "model": model,
                "codec": codec.fingerprint,
                **story,
            },
        },
    )
    codes.save(output)
    typer.echo(f"wrote {output} ({len(codes)} frames) and {record}")


def _optimise(codec: Codec, wave: Any, steps: int, seed: int) -> tuple[Codes, dict[str, Any]]:
    begun = time.monotonic()

    def progress(step: int, _distance: float) -> None:
        if step == 1:
            cost = _minutes((time.monotonic() - begun) * steps)
            sys.stderr.write(f"{steps} passes through the decoder and back, about {cost} on this machine\n")
        bar.update(1)

    with typer.progressbar(length=steps, label="seeking", file=sys.stderr) as bar:
        found = enrol(codec, wave, steps=steps, seed=seed, progress=progress)
    took = time.monotonic() - begun
    sys.stderr.write(f"mel distance {found.distance:.3f} after {steps} steps, {_minutes(took)}\n")
    return found.codes, {
        "way": "optimise",
        "steps": steps,
        "seed": seed,
        "mel_distance": round(found.distance, 4),
        "seconds": round(took, 1),
    }


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
