"""Figures of a speaker's evaluation as rows of a table."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from ..training.score import Edits, bootstrap, paired_bootstrap, total

POINTS = ("phone_errors", "above_codec")  # columns with an interval


@dataclass(frozen=True)
class Said:
    """One sentence as somebody said it, and what was found in it."""

    phones: Edits
    words: dict[str, Edits]
    characters: dict[str, Edits]
    seconds: float
    nearest: bool | None = None  # whether of all people its speaker is the likest
    similarity: float | None = None
    quality: dict[str, float] = field(default_factory=dict[str, float])  # nothing of what is too short
    failed: bool | None = None  # None: not spoken by a speaker of ours
    first: float | None = None  # seconds to the first audio
    pace: float | None = None  # seconds of computing for each of audio

    def as_json(self) -> dict[str, Any]:
        """For a file; `said_of` reads it."""
        return asdict(self)


def said_of(document: Mapping[str, Any]) -> Said:
    """What `Said.as_json` has written."""
    read: dict[str, Any] = {**document, "phones": Edits(**document["phones"])}
    for name in ("words", "characters"):
        read[name] = {judge: Edits(**counts) for judge, counts in document[name].items()}
    return Said(**read)


def row_of(found: Sequence[Said], base: Sequence[Said]) -> dict[str, Any]:
    """Figures of what one speaker said; `base`: the same sentences by another, once or for each voice.

    Rates and similarities are shares. Intervals are of 95 %: by sentences, and for `above_codec`, the phone
    error rate less the base's, paired. `failures` and the times are of our own speakers alone.
    """
    phones = [said.phones for said in found]
    low_high = bootstrap(phones)
    row: dict[str, Any] = {
        "phone_errors": round(total(phones).rate, 4),
        "interval": [round(low_high.low, 4), round(low_high.high, 4)],
    }
    repeats = len(found) // len(base)
    if repeats * len(base) == len(found):
        versus = [said.phones for said in base] * repeats
        difference = paired_bootstrap(phones, versus)
        row["above_codec"] = round(total(phones).rate - total(versus).rate, 4)
        row["above_codec_interval"] = [round(difference.low, 4), round(difference.high, 4)]
    for name in found[0].words:
        row[f"words: {name}"] = round(total([said.words[name] for said in found]).rate, 4)
        row[f"characters: {name}"] = round(total([said.characters[name] for said in found]).rate, 4)
    near = [said.nearest for said in found if said.nearest is not None]
    if near:
        row["nearest"] = round(float(np.mean(near)), 4)
        row["similarity"] = round(float(np.mean([said.similarity or 0.0 for said in found])), 4)
    for name in dict.fromkeys(name for said in found for name in said.quality):
        scores = [said.quality[name] for said in found if name in said.quality]
        row[name] = round(float(np.mean(scores)), 3)
    row["phones_a_second"] = round(total(phones).length / sum(said.seconds for said in found), 2)
    ours = [said for said in found if said.failed is not None]
    if ours:
        row["failures"] = sum(bool(said.failed) for said in ours)
    timed = [said for said in ours if said.first is not None and said.pace is not None]
    if timed:
        row["first_audio_ms"] = round(1000 * float(np.median([said.first or 0.0 for said in timed])), 1)
        row["rtf"] = round(float(np.median([said.pace or 0.0 for said in timed])), 3)
    return row


def table(report: Mapping[str, Any], command: str) -> str:
    """The report as Markdown."""
    rows: Mapping[str, Mapping[str, Any]] = report["rows"]
    keys = list(dict.fromkeys(key for row in rows.values() for key in row if "interval" not in key))
    lines = [
        *head_of(report, command),
        "",
        "| speaker | " + " | ".join(keys) + " |",
        "| --- " * (len(keys) + 1) + "|",
    ]
    for name, row in rows.items():
        cells = [_cell(key, row) for key in keys]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for key in ("seed_spread", "hard"):
        if key in report:
            lines += ["", f"- {key.replace('_', ' ')}: {report[key]}"]
    return "\n".join(lines)


def head_of(report: Mapping[str, Any], command: str) -> list[str]:
    """What the figures were measured on."""
    jobs = report["jobs"]
    times = "times are measured" if jobs == 1 else "no times: jobs share the cores"
    return [
        f"### {command}",
        "",
        f"- machine: {platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"threads of the model: {torch.get_num_threads()}",
        f"- jobs: {jobs}; {times}",
        f"- {report['sentences']} sentences; people: {', '.join(p['name'] for p in report['people'])}",
        f"- judges: {', '.join(report['judges'])}",
    ]


def points(value: float, low: float, high: float) -> str:
    """A share, or a difference of shares, with its interval."""
    return f"{100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _cell(key: str, row: Mapping[str, Any]) -> str:
    if key not in row:
        return ""
    value = row[key]
    if key in POINTS:
        return points(value, *row["interval" if key == "phone_errors" else "above_codec_interval"])
    if key.startswith(("words", "characters")) or key == "nearest":
        return f"{100 * value:.1f} %"
    return str(value)
