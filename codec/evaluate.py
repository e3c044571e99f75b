"""`rillvox eval codec`: what coding does to recordings, beside the recordings themselves and Opus.

All systems get the same clips at 24 kHz; ours one frame at a time, as a live user's would be. Bits are all
bits of the packed codes. A clip on which a system fails counts with the worst value of each measure. Phones
are judged by Whisper's frozen encoder with a head of its own (`training/teacher.py`); figures are comparable
between systems, on the same clips.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ConfigError
from ..training.align import BLANK_PENALTY
from ..training.lexicon import PHONE_IDS, Lexicon
from ..training.manifests import Clip, Manifest, write_json
from ..training.normalize import normalize
from ..training.score import Edits, bootstrap, edits, paired_bootstrap, total
from ..training.teacher import PhoneAligner
from .config import SAMPLE_RATE
from .measures import Wave, aligned, at_16k, installed_measures
from .peers import has_opus, opus
from .probes import leaks
from .stream import Codec

OPUS_RATES = (6000, 8000)
WORST = {
    "pesq_wb": 1.0,
    "stoi": 0.0,
    "estoi": 0.0,
    "similarity": 0.0,
    "mel_db": 60.0,
    "stft": 2.0,
    "dnsmos_ovrl": 1.0,
    "dnsmos_p808": 1.0,
}
DRAWS, SEED = 2000, 12345
FRAME = 1920  # samples in four frames of the judge of phones
LONGEST = 28.0  # seconds that the judge of phones hears

Coder = Callable[[Wave], tuple[Wave, int]]


@dataclass(frozen=True)
class System:
    """A row of the table. `coder` gives the sound and the bits that it took; None: the recording itself."""

    name: str
    coder: Coder | None


class Phones:
    """The judge of phones, with the phones that the texts ask for."""

    def __init__(self, whisper: Path, head: Path, lexicon: Path) -> None:
        self.judge = PhoneAligner(whisper, head)
        self.lexicon = Lexicon(lexicon, jobs=2)

    def said(self, text: str) -> list[str]:
        """Phones of a text."""
        words = [word.replace("'", "") or word for word in normalize(text).split()]
        found = self.lexicon.lookup(sorted(set(words)))
        return [str(PHONE_IDS[phone]) for word in words for phone in found[word]]

    def heard(self, wave: Wave) -> list[str]:
        """Phones of a recording."""
        classes: list[int] = [int(k) for k in self._scores(wave).argmax(-1)]
        return [str(phone) for phone, _ in groupby(classes) if phone]

    def frames(self, wave: Wave, frames: int) -> NDArray[np.int64]:
        """The likeliest phone of every 80 ms [frames], 0 where there is none."""
        scores = self._scores(wave)
        scores[:, 0] -= BLANK_PENALTY
        scores = np.pad(scores, ((0, max(0, 4 * frames - len(scores))), (0, 0)))[: 4 * frames]
        return scores.reshape(frames, 4, -1).sum(1).argmax(-1).astype(np.int64)

    def _scores(self, wave: Wave) -> NDArray[np.float32]:
        return self.judge.log_probs(at_16k(wave)[: round(LONGEST * 16000)])


def streamed(codec: Codec) -> Coder:
    """Our codec, a frame of 80 ms at a time both ways."""

    def code(wave: Wave) -> tuple[Wave, int]:
        ear, mouth = codec.stream_encode(), codec.stream_decode()
        frame = codec.config.frame
        parts: list[Wave] = []
        frames = 0
        for begin in range(0, len(wave), frame):
            codes = ear.feed(wave[begin : begin + frame])
            frames += len(codes)
            parts.append(mouth.feed(codes))
        last = ear.finish()
        frames += len(last)
        parts += [mouth.feed(last), mouth.finish()]
        return np.concatenate(parts)[: len(wave)], 8 * codec.layout.block_bytes(1) * frames

    return code


def evaluate(
    codec: Codec,
    manifests: Sequence[Manifest],
    *,
    model: str = "",
    command: str = "",
    phones: Phones | None = None,
    limit: int | None = None,
    min_rate: int = 0,
    peers: bool = True,
    others: Sequence[System] = (),
    progress: Callable[[str, int, int], None] = lambda _system, _done, _total: None,
) -> dict[str, Any]:
    """Code lists of recordings with every system and measure them.

    Args:
        min_rate: leave out recordings of a lower rate in Hz.
        others: more rows, such as the identity, which must come out as the recording does.

    Returns:
        `header`, `rows` (system, bit rate, each measure with mean and 95 % interval by clips, speed, and
        `phone_errors` with the excess over the recording by a paired test), `codes` and `leaks`, ready for
        JSON.

    Raises:
        ConfigError: an empty list, or a clip that is in two of them.
        CheckpointError: the codec has no encoder.
    """
    waves: dict[str, Wave] = {}
    clips: list[Clip] = []
    for manifest in manifests:
        for clip in manifest.clips:
            audio = manifest.load(clip)
            if audio.rate < min_rate:
                continue
            if clip.id in waves:
                raise ConfigError(f"{manifest.path}: clip {clip.id} is in another list too")
            waves[clip.id] = audio.resample(SAMPLE_RATE).samples
            clips.append(clip)
    if limit is not None:
        clips = clips[:: max(1, len(clips) // limit)][:limit]
    if not clips:
        raise ConfigError("no clips to code" + (f" of {min_rate} Hz or more" if min_rate else ""))
    systems = [System("recording", None), System(model or codec.config.name, streamed(codec))]
    if peers and has_opus():
        systems += [System(f"opus {rate / 1000:g} kbit/s", _opus(rate)) for rate in OPUS_RATES]
    systems += others
    measures = installed_measures()
    rows: list[dict[str, Any]] = []
    spoken: dict[str, list[str]] = {}
    if phones is not None:
        short = [c for c in clips if c.text and len(waves[c.id]) < LONGEST * SAMPLE_RATE]
        spoken = {clip.id: phones.said(clip.text or "") for clip in short}
    recording: list[Edits] = []
    for system in systems:
        row, found = _row(system, clips, waves, measures, phones, spoken, progress)
        if spoken:
            if system.coder is None:
                recording = found
            speakers = [clip.speaker for clip in clips if clip.id in spoken]
            interval = bootstrap(found, speakers)
            excess = paired_bootstrap(found, recording, speakers)
            row["phone_errors"] = asdict(total(found)) | {
                "rate": total(found).rate,
                "low": interval.low,
                "high": interval.high,
                "excess": total(found).rate - total(recording).rate,
                "excess_low": excess.low,
                "excess_high": excess.high,
            }
        rows.append(row)
    header = {
        "model": model,
        "command": command,
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "clips": len(clips),
        "minutes": sum(len(waves[clip.id]) for clip in clips) / SAMPLE_RATE / 60,
        "manifest": ", ".join(str(manifest.path) for manifest in manifests),
    }
    values = [codec.encode(waves[clip.id]).values for clip in clips]
    return {
        "header": header,
        "rows": rows,
        "codes": code_statistics(codec, values),
        "leaks": leaks_of(codec, clips, values, waves, phones),
    }


def leaks_of(
    codec: Codec,
    clips: Sequence[Clip],
    values: Sequence[NDArray[np.integer]],
    waves: Mapping[str, Wave],
    phones: Phones | None,
) -> dict[str, dict[str, float]]:
    """What the codes give away, see `probes.leaks`."""
    dim = codec.config.semantic_dim
    given = [codec.model.quantizer.decode(torch.as_tensor(each).long()).numpy() for each in values]
    said = None
    if phones is not None and codec.config.frame == FRAME:
        most = int(LONGEST * SAMPLE_RATE / FRAME)  # that the judge has heard
        said = [phones.frames(waves[clip.id], len(each)) for clip, each in zip(clips, values, strict=True)]
        given, said = [each[:most] for each in given], [each[:most] for each in said]
    return leaks(
        [each[:, :dim] for each in given],
        [each[:, dim:] for each in given],
        [clip.speaker for clip in clips],
        said,
    )


def _row(
    system: System,
    clips: Sequence[Clip],
    waves: Mapping[str, Wave],
    measures: Mapping[str, Callable[[Wave, Wave], float]],
    phones: Phones | None,
    spoken: Mapping[str, list[str]],
    progress: Callable[[str, int, int], None],
) -> tuple[dict[str, Any], list[Edits]]:
    values: dict[str, list[float]] = {name: [] for name in measures}
    errors: list[Edits] = []
    bits, took = 0, 0.0
    failed: list[str] = []
    for number, clip in enumerate(clips):
        wave = waves[clip.id]
        coded: Wave = wave
        begun = time.perf_counter()
        fails = False
        try:
            if system.coder is not None:
                coded, used = system.coder(wave)
                bits += used
        except (ValueError, RuntimeError) as error:
            failed.append(f"{clip.id}: {error}")
            coded, fails = np.zeros_like(wave), True
        took += time.perf_counter() - begun
        a, b = aligned(wave, coded)
        for name, measure in measures.items():
            values[name].append(WORST[name] if fails else measure(a, b))
        if phones is not None and clip.id in spoken:
            errors.append(edits(spoken[clip.id], phones.heard(coded)))
        progress(system.name, number + 1, len(clips))
    seconds = sum(len(waves[clip.id]) for clip in clips) / SAMPLE_RATE
    row: dict[str, Any] = {
        "system": system.name,
        "bits_per_second": None if system.coder is None else bits / seconds,
        "times_real_time": None if system.coder is None else seconds / took,
        "measures": {name: _mean(each) for name, each in values.items() if not np.isnan(each).all()},
        "failed": failed,
    }
    return row, errors


def _mean(values: Sequence[float]) -> dict[str, float]:
    """Mean and its 95 % interval over resampled clips."""
    each = np.asarray(values)
    rng = np.random.default_rng(SEED)
    each = each[~np.isnan(each)]  # what a measure has nothing to say of, such as a short clip
    means = each[rng.integers(0, len(each), (DRAWS, len(each)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {"mean": float(each.mean()), "low": float(low), "high": float(high)}


def _opus(rate: int) -> Coder:
    return lambda wave: opus(wave, rate)


def code_statistics(codec: Codec, each: Sequence[NDArray[np.integer]]) -> dict[str, float]:
    """How the codes are used: perplexity and share of the codebook, entropies, share of the end levels."""
    values = np.concatenate(each)
    size, levels = codec.config.semantic_codes, codec.config.acoustic_levels
    semantic = np.bincount(values[:, 0], minlength=size)
    acoustic = [np.bincount(values[:, k], minlength=levels) for k in range(1, values.shape[1])]
    ends = (values[:, 1:] == 0) | (values[:, 1:] == levels - 1)
    return {
        "frames": len(values),
        "semantic_codes": size,
        "semantic_perplexity": 2 ** _entropy(semantic),
        "semantic_unused": int((semantic == 0).sum()),
        "semantic_bits": _entropy(semantic),
        "acoustic_bits": float(np.mean([_entropy(counts) for counts in acoustic])),
        "end_levels": float(ends.mean()),
    }


def _entropy(counts: NDArray[np.int64]) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())


def table(report: Mapping[str, Any]) -> str:
    """The report for people."""
    head = report["header"]
    lines = [
        f"model    {head['model']}",
        f"command  {head['command']}",
        f"machine  {head['machine']}, {head['cores']} cores; threads used: {head['threads']}",
        f"list     {head['manifest']}: {head['clips']} clips, {head['minutes']:.1f} minutes",
        "",
    ]
    for row in report["rows"]:
        rate = "" if row["bits_per_second"] is None else f", {row['bits_per_second'] / 1000:.2f} kbit/s"
        speed = "" if row["times_real_time"] is None else f", {row['times_real_time']:.1f} x real time"
        lines.append(f"{row['system']}{rate}{speed}")
        for name, cell in row["measures"].items():
            lines.append(f"  {name:<11} {cell['mean']:.3f} ({cell['low']:.3f}-{cell['high']:.3f})")
        if "phone_errors" in row:
            p = {name: 100 * value for name, value in row["phone_errors"].items()}
            lines.append(
                f"  phones      {p['rate']:.1f} % wrong ({p['low']:.1f}-{p['high']:.1f}), "
                f"{p['excess']:+.1f} over the recording ({p['excess_low']:+.1f} to {p['excess_high']:+.1f})"
            )
        lines += [f"  failed: {each}" for each in row["failed"]]
        lines.append("")
    codes = report["codes"]
    lines.append(
        f"semantic codes: perplexity {codes['semantic_perplexity']:.0f} of {codes['semantic_codes']} in "
        f"{codes['frames']} frames, {codes['semantic_unused']} unused; acoustic codes: "
        f"{codes['acoustic_bits']:.2f} bits each, {100 * codes['end_levels']:.1f} % at the ends"
    )
    for name, leak in report["leaks"].items():
        lines.append(
            f"{name}: {100 * leak['accuracy']:.1f} % right, chance {100 * leak['chance']:.1f}, "
            f"leak {leak['leak']:.2f}"
        )
    return "\n".join(lines) + "\n"


def main_codec(
    manifests: Sequence[str],
    model: str,
    json_out: Path | None,
    limit: int | None,
    whisper: Path | None,
    phone_head: Path | None,
    lexicon: Path | None,
    peers: bool,
    min_rate: int,
    command: str,
) -> None:
    """The command."""
    phones = None
    given = [whisper, phone_head, lexicon]
    if any(given) and not all(given):
        raise ConfigError("phones need all of --whisper, --phone-head and --lexicon")
    if whisper and phone_head and lexicon:
        phones = Phones(whisper, phone_head, lexicon)
    codec = Codec.load(model)
    report = evaluate(
        codec,
        [Manifest(each) for each in manifests],
        model=model,
        command=command,
        phones=phones,
        limit=limit,
        peers=peers,
        min_rate=min_rate,
    )
    if json_out is not None:
        write_json(json_out, report)
    sys.stdout.write(table(report))
