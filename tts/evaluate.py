"""`rillvox eval tts`: sentences in voices of people, judged by phones, words and likeness, beside others.

Ten voices, half of them of people the model has learned from, half of strangers; each is cloned from one
recording and compared with others of the same person. Phones are judged by Whisper's frozen encoder with a
head of its own, words by whatever recognisers are given. Rates of real speech through the codec, of the same
sentences, stand beside: what a speaker adds is the difference.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..training.manifests import Manifest, write_json
from .evaluate_people import VOICES, people_of, sentences_of, text_of
from .evaluate_work import CODEC, RECORDING, Open, Take, Workers
from .hard_texts import HARD
from .scoreboard import Said, row_of, table

OURS = "speaker"  # the name of the studio's only one
BASE = "recordings through the codec"
ENDINGS = 300  # texts, the hard ones among them, that must end well
SPREAD_TEXTS, SPREAD_SEED = 10, 1000  # spoken anew with seeds from here on
SHOWN = 40  # characters of a text that did not end well

Say = Callable[[str], None]


def evaluate(
    open: Open,
    seen: Sequence[Manifest],
    *,
    sentences: int = 100,
    voices: int = VOICES,
    hard: bool = True,
    spread: int = 3,
    default: str = "kathleen",
    jobs: int = 1,
    cache: Path | None = None,
    say: Say = print,
) -> dict[str, Any]:
    """Speak, listen, compare; see the module's text.

    Args:
        open: makes the studio, whose one speaker is called `OURS`; its `held_out` gives the sentences.
        seen: recordings of people whom the model has learned from.
        voices: people of each kind.
        spread: seeds of what is spoken anew; 1: nothing is.
        default: the voice of the row that is compared with other programs.
        jobs, cache: see `Workers`.

    Returns:
        `sentences`, `jobs`, `judges`, `people`, `rows` (`scoreboard.row_of` of each), `seed_spread` and
        `hard`, ready for JSON.

    Raises:
        ConfigError: too few people with enough recordings; fewer than one job.
    """
    studio = open()
    held_out, similarity = studio.held_out, studio.judges.similarity
    people = studio.people = [
        *people_of(seen, True, similarity, voices),
        *people_of([held_out], False, similarity, voices),
    ]
    clips = sentences_of(held_out, sentences)
    texts = [text_of(clip) for clip in clips]
    numbered = list(enumerate(texts))
    say(f"{len(texts)} sentences, {', '.join(person.name for person in people)}")
    rows: dict[str, list[Said]] = {}
    with Workers(studio, open, jobs, cache, say) as workers:

        def row(name: str, takes: Sequence[Take]) -> None:
            rows[name] = workers.listen(takes)
            if BASE in rows:
                say(f"{name}: {row_of(rows[name], rows[BASE])}")

        for name, kind in (("recordings", RECORDING), (BASE, CODEC)):
            pairs = zip(clips, texts, strict=True)
            row(name, [Take(text, kind, clip=clip.id) for clip, text in pairs])
        row(
            f"default voice, {default}",
            [Take(text, OURS, voice=default, seed=seed) for seed, text in numbered],
        )
        for name, kind in (("seen voices", True), ("never-seen voices", False)):
            chosen = [person.name for person in people if person.seen == kind]
            row(name, [Take(text, OURS, who, seed=seed) for who in chosen for seed, text in numbered])
        for peer in studio.peers:
            row(peer, [Take(text, peer) for text in texts])
        report: dict[str, Any] = {
            "sentences": len(texts),
            "jobs": jobs,
            "judges": studio.judges.names,
            "people": [{"name": person.name, "seen": person.seen} for person in people],
            "rows": {name: row_of(found, rows[BASE]) for name, found in rows.items()},
        }
        if spread > 1:
            report["seed_spread"] = _spread(workers, texts[:SPREAD_TEXTS], default, spread)
        if hard:
            plain = [clip for manifest in (held_out, *seen) for clip in sentences_of(manifest, ENDINGS)]
            more = [text_of(clip) for clip in plain][: ENDINGS - len(HARD)]
            report["hard"] = hard_texts(workers, default, more)
            say(f"hard texts: {report['hard']}")
    return report


def _spread(workers: Workers, texts: Sequence[str], voice: str, seeds: int) -> dict[str, float]:
    """How much seeds differ: relative deviation of the lengths, and of the phone error rates, in points."""
    numbers = range(SPREAD_SEED, SPREAD_SEED + seeds)
    takes = [Take(text, OURS, voice=voice, seed=number) for text in texts for number in numbers]
    found = workers.listen(takes)
    groups = [found[at : at + seeds] for at in range(0, len(found), seeds)]
    long = [[said.seconds for said in group] for group in groups]
    rates = [float(np.std([said.phones.rate for said in group])) for group in groups]
    return {
        "length": round(float(np.mean([np.std(each) / np.mean(each) for each in long])), 4),
        "phone_errors": round(100 * float(np.mean(rates)), 2),
    }


def hard_texts(workers: Workers, voice: str, more: Sequence[str] = ()) -> dict[str, Any]:
    """How many of the hard texts, and of others, end by themselves with words said, and which don't."""
    texts = [*HARD, *more]
    ended = workers.ends([Take(text, OURS, voice=voice) for text in texts])
    odd = [text[:SHOWN] for text, well in zip(texts, ended, strict=True) if not well]
    return {"texts": len(texts), "ended": sum(ended), "not": odd}


def tell(report: Mapping[str, Any], shown: str, command: str, json_out: Path | None) -> None:
    """Print a report as it is shown to stdout, and keep the whole of it."""
    sys.stdout.write(shown.rstrip() + "\n")
    if json_out is not None:
        write_json(json_out, {"command": command, **report})


def main_tts(
    open: Open,
    seen: Sequence[Path],
    *,
    command: str,
    json_out: Path | None,
    sentences: int,
    hard: bool,
    jobs: int,
    cache: Path | None,
    say: Say,
) -> None:
    """Measure and print; see `evaluate`."""
    report = evaluate(
        open,
        [Manifest(path) for path in seen],
        sentences=sentences,
        hard=hard,
        jobs=jobs,
        cache=cache,
        say=say,
    )
    tell(report, table(report, command), command, json_out)
