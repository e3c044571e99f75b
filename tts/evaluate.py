"""`rillvox eval tts`: sentences in voices of people, judged by phones, words and likeness, beside others.

Ten voices, half of them of people the model has learned from, half of strangers; each is cloned from one
recording and compared with others of the same person. Phones are judged by Whisper's frozen encoder with a
head of its own, words by whatever recognisers are given. Rates of real speech through the codec, of the same
sentences, stand beside: what a speaker adds is the difference.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..audio import Audio
from ..codec.config import SAMPLE_RATE
from ..errors import ConfigError
from ..training.manifests import Clip, Manifest, write_json
from ..training.normalize import normalize
from ..training.score import char_edits, edits, word_edits
from .hard_texts import HARD
from .peers import installed_speakers
from .reference import LONGEST, SHORTEST
from .scoreboard import Said, row_of, table
from .speaker import TTS, Synthesis
from .speaking import Manner
from .voices import Voice

VOICES = 5  # of each kind
ENOUGH = 4  # other recordings of a person, to compare with
LOST = 0.7  # of the phones wrong: the sentence has failed
ENDINGS = 300  # texts, the hard ones among them, that must end well
Wave = NDArray[np.float32]
Transcriber = Callable[[Wave], str]  # of 16 kHz mono
Say = Callable[[str], None]


@dataclass(frozen=True)
class Person:
    """Whose voice is cloned: a reference, and what else they said, as one embedding."""

    name: str
    seen: bool
    reference: Audio
    likeness: NDArray[np.float32]


class PhoneJudge(Protocol):
    """Hears phones."""

    def said(self, text: str, /) -> list[str]: ...
    def heard(self, wave: Wave, /) -> list[str]: ...


class Likeness(Protocol):
    """Tells voices apart."""

    def embed(self, wave: Wave, /) -> NDArray[np.float32]: ...


class Judges:
    """What listens to a sentence; `coded` sends a recording through the speaker's codec."""

    def __init__(
        self,
        phones: PhoneJudge,
        transcribers: Mapping[str, Transcriber],
        similarity: Likeness,
        coded: Callable[[Wave], Wave],
    ) -> None:
        self.phones, self.transcribers, self.similarity = phones, transcribers, similarity
        self.coded = coded

    def judge(
        self,
        text: str,
        wave: Wave,
        people: Sequence[Person] = (),
        person: Person | None = None,
        **more: Any,
    ) -> Said:
        """Of one sentence; `people` are those among whom its speaker is looked for."""
        wanted = self.phones.said(text)
        heard = edits(wanted, self.phones.heard(wave))
        plain, wide = normalize(text), Audio(wave, SAMPLE_RATE).resample(16000).samples
        said = {name: normalize(transcribe(wide)) for name, transcribe in self.transcribers.items()}
        nearest = likeness = None
        if person is not None:
            own = self.similarity.embed(wave)
            scores = [float(own @ other.likeness) for other in people]
            likeness = scores[people.index(person)]
            nearest = likeness == max(scores)
        return Said(
            heard,
            {name: word_edits(plain, hypothesis) for name, hypothesis in said.items()},
            {name: char_edits(plain, hypothesis) for name, hypothesis in said.items()},
            nearest,
            likeness,
            **more,
        )


def people_of(
    manifests: Sequence[Manifest], seen: bool, similarity: Likeness, count: int = VOICES
) -> list[Person]:
    """Those with most recordings.

    Raises:
        ConfigError: too few people with a reference of 3 to 30 s and others to compare with.
    """
    clips: dict[str, list[tuple[Manifest, Clip]]] = {}
    for manifest in manifests:
        for clip in manifest.clips:
            clips.setdefault(clip.speaker, []).append((manifest, clip))
    order = sorted(clips, key=lambda name: -len(clips[name]))
    found: list[Person] = []
    for name in order:
        if len(found) == count:
            break
        usable = [pair for pair in clips[name] if (pair[1].seconds or 0) >= SHORTEST]
        references = [pair for pair in usable if 5 <= (pair[1].seconds or 0) <= LONGEST] or usable
        others = [pair for pair in usable if pair != references[0]][:12] if references else []
        if len(others) < ENOUGH:
            continue
        embedded = [similarity.embed(m.load(c).resample(SAMPLE_RATE).samples) for m, c in others]
        mean = np.mean(embedded, 0)
        manifest, clip = references[0]
        found.append(
            Person(name, seen, manifest.load(clip), (mean / np.linalg.norm(mean)).astype(np.float32))
        )
    if len(found) < count:
        raise ConfigError(f"{len(found)} people have enough recordings, {count} are needed")
    return found


def sentences_of(manifest: Manifest, count: int) -> list[Clip]:
    """Recordings with a text of 4 to 30 words, no text twice, spread over the list."""
    found: dict[str, Clip] = {}
    for clip in manifest.clips:
        if clip.text and 4 <= len(clip.text.split()) <= 30:
            found.setdefault(normalize(clip.text), clip)
    clips = list(found.values())
    places = np.linspace(0, len(clips) - 1, min(count, len(clips))).round().astype(int)
    return [clips[place] for place in dict.fromkeys(places.tolist())]


def evaluate(
    tts: TTS,
    held_out: Manifest,
    seen: Sequence[Manifest],
    judges: Judges,
    *,
    sentences: int = 100,
    manner: Manner | None = None,
    peers: bool = True,
    hard: bool = True,
    spread: int = 3,
    default: str = "kathleen",
    say: Say = print,
) -> dict[str, Any]:
    """Speak, listen, compare; see the module's text. `spread`: seeds of what is spoken anew."""
    people = [
        *people_of(seen, True, judges.similarity),
        *people_of([held_out], False, judges.similarity),
    ]
    clips = sentences_of(held_out, sentences)
    texts = [_cased(clip.text or "") for clip in clips]
    say(f"{len(texts)} sentences, {', '.join(person.name for person in people)}")
    rows: dict[str, list[Said]] = {}
    rows["recordings"], rows["recordings through the codec"] = [], []
    for clip, text in zip(clips, texts, strict=True):
        wave = held_out.load(clip).resample(SAMPLE_RATE).samples
        rows["recordings"].append(judges.judge(text, wave))
        rows["recordings through the codec"].append(judges.judge(text, judges.coded(wave)))
    _tell(say, rows, "recordings through the codec")
    rows[f"default voice, {default}"] = [
        _one(tts, judges, text, default, seed, manner) for seed, text in enumerate(texts)
    ]
    _tell(say, rows, f"default voice, {default}")
    for kind in (True, False):
        name = "seen voices" if kind else "never-seen voices"
        rows[name] = []
        for person in (person for person in people if person.seen == kind):
            voice = tts.clone(person.reference, consent="evaluation", name=person.name)
            rows[name] += [
                _one(tts, judges, text, voice, seed, manner, people, person)
                for seed, text in enumerate(texts)
            ]
        _tell(say, rows, name)
    if peers:
        for name, speak in installed_speakers().items():
            rows[name] = [judges.judge(text, speak(text)) for text in texts]
            _tell(say, rows, name)
    report: dict[str, Any] = {
        "sentences": len(texts),
        "people": [{"name": person.name, "seen": person.seen} for person in people],
        "rows": {name: row_of(found, rows["recordings through the codec"]) for name, found in rows.items()},
    }
    if spread > 1:
        report["seed_spread"] = _spread(tts, judges, texts[:10], default, spread, manner)
    if hard:
        plain = [clip for manifest in (held_out, *seen) for clip in sentences_of(manifest, 10_000)]
        more = [_cased(clip.text or "") for clip in plain][: ENDINGS - len(HARD)]
        report["hard"] = hard_texts(tts, default, more, manner)
        say(f"hard texts: {report['hard']}")
    return report


def _one(
    tts: TTS,
    judges: Judges,
    text: str,
    voice: Voice | str,
    seed: int,
    manner: Manner | None,
    people: Sequence[Person] = (),
    person: Person | None = None,
) -> Said:
    found, first, pace = _spoken(tts, text, voice, seed, manner)
    said = judges.judge(
        text,
        found.audio.samples,
        people,
        person,
        first=first,
        pace=pace,
        failed=found.finish_reason != "stop",
    )
    return said if said.phones.rate < LOST else replace(said, failed=True)


def _spoken(
    tts: TTS, text: str, voice: Voice | str, seed: int, manner: Manner | None
) -> tuple[Synthesis, float, float]:
    begun = time.perf_counter()
    first = 0.0
    samples: list[Wave] = []
    finish: Any = "stop"
    for piece in tts.stream(text, voice, seed=seed, manner=manner):
        if not samples and len(piece.samples):
            first = time.perf_counter() - begun
        if len(piece.samples):
            samples.append(piece.samples)
        if piece.finish == "length":
            finish = "length"
    wave = np.concatenate(samples)
    pace = (time.perf_counter() - begun) / (len(wave) / SAMPLE_RATE)
    return Synthesis(Audio(wave, SAMPLE_RATE), [], finish, seed), first, pace


def _cased(text: str) -> str:
    """Lists write in capitals; a user does not, and capitals may be read as letters."""
    return text.lower() if text.isupper() else text


def _spread(
    tts: TTS, judges: Judges, texts: Sequence[str], voice: str, seeds: int, manner: Manner | None
) -> dict[str, float]:
    """How much seeds differ: relative deviation of the lengths, and of the phone error rates, in points."""
    lengths: list[float] = []
    rates: list[float] = []
    for text in texts:
        found = [_spoken(tts, text, voice, 1000 + seed, manner)[0].audio.samples for seed in range(seeds)]
        long = [float(len(wave)) for wave in found]
        lengths.append(float(np.std(long) / np.mean(long)))
        rates.append(float(np.std([judges.judge(text, wave).phones.rate for wave in found])))
    return {
        "length": round(float(np.mean(lengths)), 4),
        "phone_errors": round(100 * float(np.mean(rates)), 2),
    }


def hard_texts(
    tts: TTS, voice: str, more: Sequence[str] = (), manner: Manner | None = None
) -> dict[str, Any]:
    """How many of the hard texts, and of others, end as they should; seconds for each phone tell loops."""
    ended = 0
    odd: list[str] = []
    for text in [*HARD, *more]:
        found = tts.synthesize(text, voice, manner=manner)
        spoken = sum(word.end - word.start for word in found.words)
        complete = bool(found.words) and spoken > 0
        if found.finish_reason == "stop" and complete:
            ended += 1
        else:
            odd.append(text[:40])
    return {"texts": len(HARD) + len(more), "ended": ended, "not": odd}


def _tell(say: Say, rows: Mapping[str, Sequence[Said]], name: str) -> None:
    row = row_of(rows[name], rows["recordings through the codec"])
    say(f"{name}: {row}")


def main_tts(
    held_out: Path,
    seen: Sequence[Path],
    tts: TTS,
    judges: Judges,
    *,
    command: str,
    json_out: Path | None = None,
    sentences: int = 100,
    peers: bool = True,
    hard: bool = True,
    manner: Manner | None = None,
    say: Say = print,
) -> None:
    """Measure and print; see `evaluate`."""
    report = evaluate(
        tts,
        Manifest(held_out),
        [Manifest(path) for path in seen],
        judges,
        sentences=sentences,
        manner=manner,
        peers=peers,
        hard=hard,
        say=say,
    )
    say(table(report, command))
    if json_out is not None:
        write_json(json_out, {"command": command, **report})
