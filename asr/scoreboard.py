"""The table of an evaluation, as text. All figures are those of the report; nothing is computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def scoreboard(report: Mapping[str, Any], show: bool = False) -> str:
    """The report of `evaluate` for people, with `show` every reference and hypothesis as well."""
    head, size = report["header"], report["list"]
    lines = [
        f"model     {head['model']}",
        f"command   {head['command']}",
        f"machine   {head['machine']}, {head['cores']} cores, load {head['load']:.1f}; "
        f"threads used: {head['threads']}",
        f"software  rillvox {head['rillvox']}, torch {head['torch']}, python {head['python']}",
        f"list      {size['manifest']}: {size['clips']} clips, {size['minutes']:.1f} minutes, "
        f"{size['speakers']} speakers",
    ]
    if size["unscored"]:
        lines.append(f"          {size['unscored']} clips without a text are left out")
    for row in report["rows"]:
        lines += ["", _title(row), *_table(row["corpora"])]
        lines += _speed(row)
        lines += _times(row.get("times"))
        lines += _behind(row.get("behind"))
        lines += [f"  failed: {clip['id']}: {clip['failure']}" for clip in row["clips"] if clip["failure"]]
        if show:
            lines += _hypotheses(row["clips"])
    lines += _phones(report.get("phones"))
    for quiet in report.get("quiet", ()):
        lines.append(
            f"\n{quiet['minutes']:.1f} minutes of {quiet['stream']}: {quiet['words']} words, "
            f"{quiet['per_minute']:.2f} a minute"
        )
    return "\n".join(lines) + "\n"


def _title(row: Mapping[str, Any]) -> str:
    delay = "" if row["delay_ms"] is None else f", delay {row['delay_ms']} ms"
    condition = row.get("condition", "clean")
    return f"{row['system']}{delay}" + ("" if condition == "clean" else f", {condition}")


def _table(corpora: Mapping[str, Mapping[str, Any]]) -> list[str]:
    width = max(len("corpus"), *map(len, corpora))
    lines = [
        f"  {'corpus':<{width}}  clips  minutes  speakers  words  WER % (95 %)         S/D/I          "
        "CER % (95 %)         S/D/I"
    ]
    for name, cell in corpora.items():
        lines.append(
            f"  {name:<{width}}  {cell['clips']:>5}  {cell['minutes']:>7.1f}  {cell['speakers']:>8}  "
            f"{cell['wer']['length']:>5}  {_rate(cell['wer']):<19}  {_kinds(cell['wer']):<13}  "
            f"{_rate(cell['cer']):<19}  {_kinds(cell['cer'])}"
        )
    return lines


def _rate(score: Mapping[str, float]) -> str:
    return f"{100 * score['rate']:.1f} ({100 * score['low']:.1f}-{100 * score['high']:.1f})"


def _kinds(score: Mapping[str, int]) -> str:
    return f"{score['substitutions']}/{score['deletions']}/{score['insertions']}"


def _speed(row: Mapping[str, Any]) -> list[str]:
    speed = row["speed"]
    lines = [f"  real-time factor {speed['wall']:.3f} (wall), {speed['cpu']:.3f} (processor)"]
    if row["slots"] > 1:
        lines[0] += f", {row['slots']} sessions at once"
    if speed["finish_median_ms"] is not None:
        lines[0] += f"; end of clip to final text {speed['finish_median_ms']:.0f} ms (median)"
    if speed.get("step_median_ms") is not None:
        lines.append(
            f"  work for a block of audio: median {speed['step_median_ms']:.0f} ms, "
            f"95 % within {speed['step_p95_ms']:.0f} ms"
        )
    if row["delay_ms"] is not None:
        lines.append(f"  words revised after having been shown: {100 * row['revised']:.1f} %")
    emission = row["emission"]
    if emission is None:
        return lines
    for name in ("algorithmic", "total"):
        if f"{name}_median_ms" in emission:
            lines.append(
                f"  emission delay, {name}: median {emission[f'{name}_median_ms']:.0f} ms, "
                f"90 % within {emission[f'{name}_p90_ms']:.0f} ms"
            )
    lines.append(f"  words not heard right, so without a delay: {100 * emission['never']:.1f} %")
    return lines


def _times(times: Mapping[str, Any] | None) -> list[str]:
    lines: list[str] = []
    start, confidence = (times or {}).get("start"), (times or {}).get("confidence")
    if start is not None:
        lines.append(
            f"  word starts: off by {start['median_ms']:.0f} ms (median), 90 % within "
            f"{start['p90_ms']:.0f} ms, on the whole {start['bias_ms']:+.0f} ms"
        )
    if confidence is not None:
        bins = ", ".join(f"{cell['confidence']:.2f}: {cell['right']:.2f}" for cell in confidence["bins"])
        lines.append(f"  confidence: calibration error {confidence['error']:.3f} (said: true; {bins})")
    return lines


def _behind(behind: Mapping[str, Any] | None) -> list[str]:
    return [
        f"  {name}: {100 * cell['difference']:+.1f} points of WER behind the first row "
        f"({100 * cell['low']:+.1f} to {100 * cell['high']:+.1f})"
        for name, cell in (behind or {}).items()
    ]


def _phones(phones: Mapping[str, Any] | None) -> list[str]:
    if phones is None or not phones["corpora"]:
        return []
    left_out = f"; {phones['left_out']} clips with words not in the dictionary are left out"
    lines = ["", f"the encoder's own phones, greedy, block {phones['block']}: PER % (95 %), S/D/I{left_out}"]
    for name, cell in phones["corpora"].items():
        lines.append(f"  {name}: {_rate(cell)}, {_kinds(cell)} of {cell['length']}")
    return lines


def _hypotheses(clips: Sequence[Mapping[str, Any]]) -> list[str]:
    lines: list[str] = []
    for clip in clips:
        lines += [f"  {clip['id']}  {100 * clip['wer']:.0f} %", f"    ref: {clip['reference']}"]
        lines.append(f"    hyp: {clip['hypothesis']}")
    return lines
