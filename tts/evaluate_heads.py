"""`rillvox eval heads`: a distilled flow head against its teacher, and against the teacher's single step.

All three say the same sentences in the same voices with the same seeds, so errors are compared in pairs. The
head must not be worse than its teacher, and a step of the teacher, which costs as little, must be: otherwise
nothing was gained by distilling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..training.manifests import Manifest
from ..training.score import DRAWS, SEED, Edits, paired_bootstrap, total
from .evaluate import Say, tell
from .evaluate_people import VOICES, people_of, sentences_of, text_of
from .evaluate_work import Open, Studio, Take, Workers
from .scoreboard import Said, head_of, points, row_of

HEAD, TEACHER, ONE_STEP = "distilled head", "teacher", "teacher, one step"
PAIRS = ((HEAD, TEACHER), (ONE_STEP, HEAD), (ONE_STEP, TEACHER))


def compare(
    open: Open,
    seen: Sequence[Manifest],
    *,
    sentences: int = 100,
    voices: int = VOICES,
    jobs: int = 1,
    cache: Path | None = None,
    say: Say = print,
) -> dict[str, Any]:
    """Let every head say every sentence, each sentence in one of the voices, in turn.

    Args:
        open: makes the studio, with speakers `HEAD`, `TEACHER` and `ONE_STEP`.
        seen, voices, jobs, cache: see `evaluate.evaluate`.

    Returns:
        `sentences`, `jobs`, `judges`, `people`, `same_backbone`, `steps` and `rows`; `differences`, each `of`
        one head `less` another: `phones`, every recogniser's words, and `similarity`, as [difference, low,
        high] of 95 %; and `passed`: whether the head is not worse than its teacher, and one step is worse.

    Raises:
        ConfigError: the teacher is distilled itself; too few people with enough recordings.
    """
    studio = open()
    check_heads(studio)
    similarity = studio.judges.similarity
    people = studio.people = [
        *people_of(seen, True, similarity, voices),
        *people_of([studio.held_out], False, similarity, voices),
    ]
    texts = [text_of(clip) for clip in sentences_of(studio.held_out, sentences)]
    said_by = list(zip(texts, cycle([person.name for person in people]), strict=False))
    rows: dict[str, list[Said]] = {}
    with Workers(studio, open, jobs, cache, say) as workers:
        for head in (HEAD, TEACHER, ONE_STEP):
            rows[head] = workers.listen(
                [Take(text, head, person, seed=seed) for seed, (text, person) in enumerate(said_by)]
            )
            say(f"{head}: {_plain(row_of(rows[head], rows[HEAD]))}")
    spoken = [voice for _, voice in said_by]
    found = [difference(rows, of, less, spoken) for of, less in PAIRS]
    fingerprints = {speaker.tts.fingerprint for speaker in studio.speakers.values()}
    return {
        "sentences": len(texts),
        "jobs": jobs,
        "judges": studio.judges.names,
        "people": [{"name": person.name, "seen": person.seen} for person in people],
        "same_backbone": len(fingerprints) == 1,
        "steps": {name: _steps(studio, name) for name in rows},
        "rows": {name: _plain(row_of(said, rows[TEACHER])) for name, said in rows.items()},
        "differences": found,
        "passed": {
            "head not worse than its teacher": found[0]["phones"][1] <= 0,
            "one step of the teacher clearly worse than the head": found[1]["phones"][1] > 0,
        },
    }


def check_heads(studio: Studio) -> None:
    """Refuse what can't be told apart.

    Raises:
        ConfigError: the teacher's head is a distilled one.
    """
    for name in (TEACHER, ONE_STEP):
        flow = studio.speakers[name].tts.model.flow
        if flow.euler and not flow.config.spans:
            raise ConfigError(
                f"{studio.speakers[name].tts.folder}: its head is not a distilled one; name its --teacher"
            )
        if flow.config.spans and not flow.euler:
            raise ConfigError(
                f"{studio.speakers[name].tts.folder}: its head is distilled; the teacher is what the stage "
                "before gave: `rillvox train tts export --head speak`"
            )


def difference(
    rows: Mapping[str, Sequence[Said]], of: str, less: str, voices: Sequence[str]
) -> dict[str, Any]:
    """One head's figures less another's; what is drawn are pairs, or the voices if there are many."""
    a, b = rows[of], rows[less]

    def rates(edits: Callable[[Said], Edits]) -> list[float]:
        left, right = [edits(said) for said in a], [edits(said) for said in b]
        interval = paired_bootstrap(left, right, voices)
        return _rounded(total(left).rate - total(right).rate, interval.low, interval.high)

    found: dict[str, Any] = {"of": of, "less": less, "phones": rates(lambda said: said.phones)}
    for name in a[0].words:
        found[f"words: {name}"] = rates(lambda said, name=name: said.words[name])
    pairs = zip(a, b, strict=True)
    likeness = np.array([(one.similarity or 0.0) - (other.similarity or 0.0) for one, other in pairs])
    found["similarity"] = mean_interval(likeness)
    return found


def mean_interval(values: NDArray[np.floating]) -> list[float]:
    """Mean of [n] and the 95 % interval of resampled means."""
    rng = np.random.default_rng(SEED)
    means = values[rng.integers(0, len(values), (DRAWS, len(values)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return _rounded(float(values.mean()), float(low), float(high))


def _rounded(*values: float) -> list[float]:
    return [round(value, 4) for value in values]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if not key.startswith("above_codec")}


def _steps(studio: Studio, name: str) -> int:
    speaker = studio.speakers[name]
    return speaker.tts.model.config.flow.steps if speaker.manner.steps is None else speaker.manner.steps


def table_of_heads(report: Mapping[str, Any], command: str) -> str:
    """The report as Markdown."""
    lines = head_of(report, command)
    if not report["same_backbone"]:
        lines.append("- the backbones differ: it is not the heads alone that are compared")
    rows: Mapping[str, Mapping[str, Any]] = report["rows"]
    for name, row in rows.items():
        about = ", ".join(
            f"{key} {value}" for key, value in row.items() if key not in ("phone_errors", "interval")
        )
        lines.append(
            f"- {name}, {report['steps'][name]} steps: phones wrong "
            f"{points(row['phone_errors'], *row['interval'])}; {about}"
        )
    differences: Sequence[Mapping[str, Any]] = report["differences"]
    keys = [key for key in differences[0] if key not in ("of", "less")]
    lines += ["", "| difference | " + " | ".join(keys) + " |", "| --- " * (len(keys) + 1) + "|"]
    for found in differences:
        cells = [_shown(key, found[key]) for key in keys]
        lines.append(f"| {found['of']}, less {found['less']} | " + " | ".join(cells) + " |")
    lines += ["", *(f"- {name}: {'yes' if well else 'no'}" for name, well in report["passed"].items())]
    return "\n".join(lines)


def _shown(key: str, found: Sequence[float]) -> str:
    if key == "similarity":
        return "{:+.3f} ({:+.3f} to {:+.3f})".format(*found)
    return "{:+.1f} % ({:+.1f} to {:+.1f})".format(*(100 * value for value in found))


def main_heads(
    open: Open,
    seen: Sequence[Path],
    *,
    command: str,
    json_out: Path | None,
    sentences: int,
    voices: int,
    jobs: int,
    cache: Path | None,
    say: Say,
) -> None:
    """Measure and print; see `compare`."""
    manifests = [Manifest(path) for path in seen]
    report = compare(open, manifests, sentences=sentences, voices=voices, jobs=jobs, cache=cache, say=say)
    tell(report, table_of_heads(report, command), command, json_out)
