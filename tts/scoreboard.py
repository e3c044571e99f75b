"""Figures of a speaker's evaluation as rows of a table."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..training.score import Edits, bootstrap, paired_bootstrap, total


@dataclass(frozen=True)
class Said:
    """One sentence as somebody said it, and what was found in it."""

    phones: Edits
    words: dict[str, Edits]
    characters: dict[str, Edits]
    nearest: bool | None = None
    similarity: float | None = None
    failed: bool = False
    first: float | None = None  # seconds to the first audio
    pace: float | None = None  # seconds of computing for each of audio


def row_of(found: Sequence[Said], base: Sequence[Said]) -> dict[str, Any]:
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
    firsts = [said.first for said in found if said.first is not None]
    if firsts:
        row["first_audio_ms"] = round(1000 * float(np.median(firsts)), 1)
        row["rtf"] = round(float(np.median([said.pace or 0.0 for said in found])), 3)
        row["failures"] = sum(said.failed for said in found)
    return row


def table(report: Mapping[str, Any], command: str) -> str:
    """The report as Markdown."""
    rows: Mapping[str, Mapping[str, Any]] = report["rows"]
    keys = list(dict.fromkeys(key for row in rows.values() for key in row if "interval" not in key))
    lines = [
        f"### {command}",
        "",
        f"- machine: {platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"threads of the model: {torch.get_num_threads()}",
        f"- {report['sentences']} sentences; people: {', '.join(p['name'] for p in report['people'])}",
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


def _cell(key: str, row: Mapping[str, Any]) -> str:
    if key not in row:
        return ""
    value = row[key]
    if key == "phone_errors" or key == "above_codec":
        low, high = row["interval" if key == "phone_errors" else "above_codec_interval"]
        return f"{100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
    if key.startswith(("words", "characters")) or key == "nearest":
        return f"{100 * value:.1f} %"
    return str(value)
