"""Utterances spoken and judged, in one process or in several, each of them once.

What is found in an utterance hangs on its `Take` and on the models, never on the process or on what came
before it, so results are the same with any number of jobs, and may be kept in a folder: one file for each.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from multiprocessing.pool import Pool
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import torch

from ..codec.config import SAMPLE_RATE
from ..errors import ConfigError
from ..training.manifests import Manifest, write_json
from .evaluate_judges import Judges
from .evaluate_people import Person, Wave
from .peers import Speak
from .scoreboard import Said, said_of
from .speaker import TTS
from .speaking import Manner
from .timbre import SEARCH, PhoneListener
from .voices import Voice

LOST = 0.7  # of the phones wrong: the sentence has failed
EVERY = 50  # utterances between two lines of progress
RECORDING, CODEC = "recording", "recording through the codec"

What = Literal["listen", "ends"]


@dataclass(frozen=True)
class Take:
    """One utterance: who says which text how."""

    text: str
    speaker: str  # one of `Studio.speakers` or `Studio.peers`, RECORDING or CODEC
    person: str = ""  # whose cloned voice it is in, one of `Studio.people`
    voice: str = ""  # or a voice that comes along
    clip: str = ""  # of a recording
    seed: int = 0


@dataclass(frozen=True)
class Speaker:
    """A model and how it speaks; `identity` is of all files that decide on the sound."""

    tts: TTS
    manner: Manner
    identity: str


class Studio:
    """All that utterances need; every process has its own.

    Args:
        speakers: those of our own, by name.
        peers: other programs that speak, by name.
        coded: sends a recording through the codec that is called `codec`.
        listener: tunes the voices of people, see `TTS.clone`; None: they are not tuned.
    """

    def __init__(
        self,
        speakers: Mapping[str, Speaker],
        judges: Judges,
        held_out: Manifest,
        peers: Mapping[str, Speak],
        coded: Callable[[Wave], Wave],
        codec: str,
        listener: PhoneListener | None = None,
    ) -> None:
        self.listener = listener
        self.speakers, self.judges, self.held_out, self.peers = speakers, judges, held_out, peers
        self.coded, self.codec = coded, codec
        self.people: Sequence[Person] = ()
        self._voices: dict[tuple[str, str, str], Voice] = {}

    @cached_property
    def clips(self) -> dict[str, Any]:
        """Recordings by their ids."""
        return {clip.id: clip for clip in self.held_out.clips}

    def listen(self, take: Take) -> Said:
        """Speak a take, or play it, and judge it."""
        person = self._person(take)
        if take.speaker not in self.speakers:
            return self.judges.judge(take.text, self._other(take))
        wave, finish, first, pace, _ = self._spoken(take)
        said = self.judges.judge(take.text, wave, self.people, person, first=first, pace=pace, failed=False)
        return replace(said, failed=finish != "stop" or said.phones.rate >= LOST)

    def ends(self, take: Take) -> bool:
        """Whether it ends by itself, and words were said."""
        _, finish, _, _, spoken = self._spoken(take)
        return finish == "stop" and spoken > 0

    def key(self, what: What, take: Take) -> str:
        """Of all that decides on a result, as 40 hexadecimal digits."""
        digest = hashlib.sha256(repr((what, take.text)).encode())
        if take.speaker in self.speakers:
            speaker = self.speakers[take.speaker]
            person = self._person(take)
            digest.update(repr((speaker.identity, replace(speaker.manner, seed=take.seed))).encode())
            tuned = person and self.listener and speaker.tts.can_tune
            digest.update(repr(SEARCH).encode() if tuned else b"")
            digest.update(
                person.reference.samples.tobytes() if person else _voice_key(speaker.tts.voice(take.voice))
            )
        elif take.speaker in self.peers:
            digest.update(take.speaker.encode())
        else:
            digest.update(repr((take.speaker, self.codec)).encode())
            digest.update(self._recording(take).tobytes())
        if what == "listen":
            digest.update(self.judges.key(take.text, self.people, self._person(take)).encode())
        return digest.hexdigest()[:40]

    def _person(self, take: Take) -> Person | None:
        return next((person for person in self.people if person.name == take.person), None)

    def _recording(self, take: Take) -> Wave:
        return self.held_out.load(self.clips[take.clip]).resample(SAMPLE_RATE).samples

    def _other(self, take: Take) -> Wave:
        if take.speaker in self.peers:
            return self.peers[take.speaker](take.text)
        wave = self._recording(take)
        return self.coded(wave) if take.speaker == CODEC else wave

    def _spoken(self, take: Take) -> tuple[Wave, str, float, float, float]:
        """Samples, why it ended, seconds to the first of them and for each, and seconds of words."""
        speaker = self.speakers[take.speaker]
        voice = self._voice(take)
        begun = time.perf_counter()
        first = spoken = 0.0
        samples: list[Wave] = []
        finish = "stop"
        for piece in speaker.tts.stream(take.text, voice, seed=take.seed, manner=speaker.manner):
            if len(piece.samples):
                first = first or time.perf_counter() - begun
                samples.append(piece.samples)
            spoken += sum(word.end - word.start for word in piece.words)
            if piece.finish not in (None, "stop"):
                finish = piece.finish
        wave = np.concatenate(samples)
        pace = (time.perf_counter() - begun) / (len(wave) / SAMPLE_RATE)
        return wave, finish, first, pace, spoken

    def _voice(self, take: Take) -> Voice:
        place = take.speaker, take.person, take.voice
        if place not in self._voices:
            tts, person = self.speakers[take.speaker].tts, self._person(take)
            self._voices[place] = (
                tts.remember(tts.voice(take.voice))
                if person is None
                else tts.clone(
                    person.reference,
                    consent="evaluation",
                    name=person.name,
                    listener=self.listener if tts.can_tune else None,
                )
            )
        return self._voices[place]


def _voice_key(voice: Voice) -> bytes:
    tensors: dict[str, Any] = {field.name: getattr(voice, field.name) for field in fields(voice)}
    tensors |= voice.state or {}
    kept = [(name, tensors[name]) for name in sorted(tensors) if isinstance(tensors[name], torch.Tensor)]
    return b"".join(name.encode() + tensor.float().numpy().tobytes() for name, tensor in kept)


Open = Callable[[], Studio]  # what a new process begins with; it is sent there
Order = tuple[What, int, Take]


class Workers:
    """A studio's work, shared by processes, each result kept in a folder if one is named.

    Args:
        open: makes a studio like this one, in each process; its people are sent along.
        jobs: processes; 1 works in this one. Only then is the speed of speaking told: jobs share the cores.
        cache: folder of results; what lies there is not done again. It knows nothing of changes of the code.

    Raises:
        ConfigError: fewer than one job.
    """

    def __init__(
        self, studio: Studio, open: Open, jobs: int, cache: Path | None, say: Callable[[str], None]
    ) -> None:
        if jobs < 1:
            raise ConfigError(f"jobs must be at least 1, got {jobs}")
        self.studio, self.jobs, self.cache, self.say = studio, jobs, cache, say
        self._open = open
        self._pool: Pool | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.terminate()
            self._pool.join()
            self._pool = None

    def listen(self, takes: Sequence[Take]) -> list[Said]:
        """What is found in each."""
        found = [said_of(document) for document in self._all("listen", takes)]
        return found if self.jobs == 1 else [replace(said, first=None, pace=None) for said in found]

    def ends(self, takes: Sequence[Take]) -> list[bool]:
        """Whether each ends as it should."""
        return [bool(document) for document in self._all("ends", takes)]

    def _all(self, what: What, takes: Sequence[Take]) -> list[Any]:
        # Before any process begins: the phones of all texts are looked up, and written down, here alone.
        paths = [self._path(what, take) for take in takes]
        found: list[Any] = [_kept(path) for path in paths]
        left = [number for number, document in enumerate(found) if document is None]
        for done, (number, document) in enumerate(self._fresh(what, [(n, takes[n]) for n in left]), 1):
            found[number] = document
            path = paths[number]
            if path is not None:
                write_json(path, {"take": asdict(takes[number]), "found": document})
            if done % EVERY == 0:
                self.say(f"{done} of {len(left)} utterances")
        return found

    def _path(self, what: What, take: Take) -> Path | None:
        key = self.studio.key(what, take)
        return None if self.cache is None else self.cache / f"{key}.json"

    def _fresh(self, what: What, numbered: Sequence[tuple[int, Take]]) -> Iterator[tuple[int, Any]]:
        orders: list[Order] = [(what, number, take) for number, take in numbered]
        if self.jobs == 1 or not orders:
            return (_do(self.studio, order) for order in orders)
        pool = self._pool
        if pool is None:
            # Not forked: threads of the parent's libraries would be missing in the child.
            context = multiprocessing.get_context("spawn")
            pool = self._pool = context.Pool(self.jobs, _begin, (self._open, self.studio.people))
        return pool.imap_unordered(_do_there, orders)


def _kept(path: Path | None) -> Any:
    if path is None:
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))["found"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # whatever is wrong with the file, the utterance can be spoken again


def _do(studio: Studio, order: Order) -> tuple[int, Any]:
    what, number, take = order
    return number, studio.listen(take).as_json() if what == "listen" else studio.ends(take)


_there: list[Studio] = []  # of a process that was begun for it


def _begin(open: Open, people: Sequence[Person]) -> None:
    torch.set_num_threads(1)
    studio = open()
    studio.people = people
    _there[:] = [studio]


def _do_there(order: Order) -> tuple[int, Any]:
    return _do(_there[0], order)
