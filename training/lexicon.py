"""Words to phones: the 39 ARPAbet phones of English, as the program flite says them.

flite (CMU lexicon and letter-to-sound rules, a BSD-like licence) is run as a program, for many words a call:
each word is a sentence of its own, and the pauses between sentences tell the words apart. Where the number of
pauses does not fit, as with abbreviations that swallow their full stop, the batch is halved until it does.

Needed for alignments and for text-only training, never by a recogniser at work.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..errors import ConfigError, TextError
from .manifests import write_json

_NAMES = (
    "aa ae ah ao aw ay b ch d dh eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh t th uh uw v w y z zh"
)
PHONES = tuple(_NAMES.split())
PHONE_IDS = {phone: index for index, phone in enumerate(PHONES, 1)}  # 0 is the blank of CTC
FOLD = {"ax": "ah", "ix": "ih", "dx": "t", "axr": "er", "el": "l", "em": "m", "en": "n"}
# flite reads these two as it would name or stress them; running speech reduces them.
OVERRIDES: dict[str, tuple[str, ...]] = {"a": ("ah",), "the": ("dh", "ah")}

PAUSE = "pau"
WORDS_PER_CALL = 40
WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")
SECONDS_PER_CALL = 120.0  # it takes 0.1 s, but training may hold every core

Phones = tuple[str, ...]


class Lexicon:
    """A growing dictionary, kept in a JSON file if one is named.

    Args:
        cache: file to start from and to save new words to; written in one move, safe to share read-only.
        program: the flite to run.
        jobs: flite processes at a time.
        voice: the one that flite reads in; None: its default, to which the vowels of "cut" and "cot" are one
            phone. Each voice wants a cache of its own.

    Raises:
        ConfigError: the cache is not a lexicon.
    """

    def __init__(
        self,
        cache: Path | str | None = None,
        program: str = "flite",
        jobs: int = 1,
        voice: str | None = None,
    ) -> None:
        self.cache = None if cache is None else Path(cache)
        self.program = program
        self.jobs = jobs
        self.voice = voice
        self.entries: dict[str, Phones] = {} if self.cache is None else _read_cache(self.cache)

    def lookup(self, words: Iterable[str]) -> dict[str, Phones]:
        """Phones of each word; flite is asked only for words not seen before.

        Raises:
            TextError: a word is not lower-case English letters and apostrophes, or has no sound.
            ConfigError: flite is needed and not installed, or does not work.
        """
        wanted = list(dict.fromkeys(words))
        unknown = [word for word in wanted if word not in self.entries]
        if bad := [word for word in unknown if not WORD.fullmatch(word)]:
            raise TextError(f"cannot say {bad[0]!r}: normalise the text first (training.normalize)")
        fresh = [word for word in unknown if word not in OVERRIDES]
        batches = [fresh[at : at + WORDS_PER_CALL] for at in range(0, len(fresh), WORDS_PER_CALL)]
        if batches:
            program = self._found()
            with ThreadPoolExecutor(self.jobs) as pool:
                for said in pool.map(lambda batch: say(batch, program, self.voice), batches):
                    self.entries.update(said)
        self.entries.update({word: OVERRIDES[word] for word in unknown if word in OVERRIDES})
        if unknown and self.cache is not None:
            write_json(self.cache, self.entries)
        return {word: self.entries[word] for word in wanted}

    def ids(self, words: Sequence[str]) -> list[list[int]]:
        """Phone numbers (1..39) of each word of a text, in order."""
        entries = self.lookup(words)
        return [[PHONE_IDS[phone] for phone in entries[word]] for word in words]

    def _found(self) -> str:
        program = shutil.which(self.program)
        if program is None:
            raise ConfigError(
                f"the program {self.program} is not installed; get it from your system (apt install flite), "
                "or give a lexicon that already holds every word"
            )
        voices = [] if self.voice is None else _listed(program)
        if self.voice is not None and self.voice not in voices:
            # It would read in its default voice and not say so.
            raise ConfigError(f"{self.program} has no voice {self.voice}; it has: {' '.join(voices)}")
        return program


def say(words: Sequence[str], program: str, voice: str | None = None) -> dict[str, Phones]:
    """Phones of each word by as few runs of flite as it takes; see `Lexicon.lookup`."""
    spoken = _segments(_run(". ".join(words) + ("." if len(words) > 1 else ""), program, voice))
    if len(words) == 1:
        phones = tuple(phone for segment in spoken for phone in segment)
        if not phones:
            raise TextError(f"flite finds no sound in {words[0]!r}")
        return {words[0]: phones}
    if len(spoken) == len(words):
        return dict(zip(words, spoken, strict=True))
    half = len(words) // 2
    return say(words[:half], program, voice) | say(words[half:], program, voice)


def _segments(phones: Sequence[str]) -> list[Phones]:
    """The phones between pauses, folded to the 39."""
    segments: list[Phones] = []
    current: list[str] = []
    for phone in [*phones, PAUSE]:
        if phone != PAUSE:
            folded = FOLD.get(phone, phone)
            if folded not in PHONE_IDS:
                raise ConfigError(
                    f"flite said {phone!r}, which is not a phone of English; is its voice English?"
                )
            current.append(folded)
        elif current:
            segments.append(tuple(current))
            current = []
    return segments


def _listed(program: str) -> list[str]:
    """Voices that flite has."""
    return _output([program, "-lv"], "-lv").partition(":")[2].split()


def _run(text: str, program: str, voice: str | None) -> list[str]:
    asked = [] if voice is None else ["-voice", voice]
    return _output([program, "-ps", "-o", "none", "-t", text, *asked], text).split()


def _output(command: list[str], about: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS_PER_CALL)
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"{command[0]} failed on {about[:60]!r}: {error}") from error
    return done.stdout


def _read_cache(path: Path) -> dict[str, Phones]:
    if not path.exists():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        entries = {str(word): tuple(phones) for word, phones in document.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"{path} is not a lexicon: {error}") from error
    for word, phones in entries.items():
        if not phones or any(phone not in PHONE_IDS for phone in phones):
            raise ConfigError(
                f"{path}: {word}: {' '.join(map(str, phones))!r} are not phones; delete the file"
            )
    return entries
