"""English words to the phones that a speaker reads, in any spelling.

    >>> pronouncer = Pronouncer.load()
    >>> pronouncer.phones("hello") == phones("hh ah l ow")
    True

In this order: the user's lexicon; the dictionary; what is said letter by letter; stems that are known, with
their endings; a small network. The dictionary says words as the program flite does, for so the recordings
were aligned that a speaker learned from: `the` and `a` are reduced, and of the readings of `read` or `live`
there is one. Whoever wants another one gives a lexicon (`spoken_lexicon.py`).
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from ..errors import CheckpointError
from .pronounce_letters import (
    NAMES,
    VOWELS,
    beginning,
    folded,
    inflected,
    phones,
    shortened,
    with_tail,
    without_tails,
    without_vowels,
)
from .pronounce_net import LettersToPhones, unpacked
from .spoken_lexicon import said_in
from .tokens import PHONES

SHIPPED = Path(__file__).resolve().parent.parent / "weights" / "tts-en" / "words.safetensors"
REMEMBERED = 4096  # words that are not in the dictionary

_VERSION = "1"
_KEY = "rillvox_pronunciations"
_NETWORK = "network."
_SCHWA = phones("ah")  # for letters of other scripts
_TOKEN = re.compile(r"[^\W\d_](?:[^\W\d_]|['\u2019\u0300-\u036f])*")
_SENTENCE_ENDS = re.compile(r"[.!?:;]")


class _Handle(Protocol):
    def __enter__(self) -> _Handle: ...
    def __exit__(self, *error: object) -> None: ...
    def keys(self) -> list[str]: ...
    def metadata(self) -> dict[str, str] | None: ...
    def get_tensor(self, name: str) -> Tensor: ...


class Pronouncer:
    """Words to phones 1..39 (`tokens.PHONES`).

    Args:
        entries: words in small letters a to z and apostrophes, and their phones.
        net: for all other words.
        lexicon: written to spoken forms; those between slashes, `/HH AH L OW/`, are taken, in any case.

    Raises:
        TextError: a form of the lexicon is between slashes and not made of phones, or not for one word.
    """

    def __init__(
        self, entries: Mapping[str, bytes], net: LettersToPhones, lexicon: Mapping[str, str] | None = None
    ) -> None:
        self.entries, self.net = entries, net
        self._own: dict[str, bytes] = {}
        for written, spoken in (lexicon or {}).items():
            if (said := said_in(written, spoken)) is not None:
                self._own[folded(written)] = bytes(said)
        self._worked_out: dict[str, list[int]] = {}

    @classmethod
    def load(cls, path: str | Path = SHIPPED, lexicon: Mapping[str, str] | None = None) -> Pronouncer:
        """Read a file that `rillvox train pronounce` wrote.

        Raises:
            CheckpointError: it is missing, damaged, or something else.
            TextError: see the class.
        """
        try:
            with cast("_Handle", safe_open(str(path), framework="pt")) as file:
                if (file.metadata() or {}).get(_KEY) != _VERSION:
                    raise CheckpointError(f"{path}: holds no pronunciations that this version can read")
                kept = {name: file.get_tensor(name) for name in list(file.keys())}
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: cannot be read: {error}") from error
        try:
            words = _unsqueezed(kept.pop("words")).decode("ascii").split("\n")
            said = _unsqueezed(kept.pop("phones")).split(b"\0")
        except (KeyError, ValueError, zlib.error) as error:
            raise CheckpointError(f"{path}: damaged: {error}") from error
        entries = dict(zip(words, said, strict=False))
        if not len(entries) == len(words) == len(said) or not all(said):
            raise CheckpointError(f"{path}: damaged: {len(words)} words, but {len(said)} pronunciations")
        if max(b"".join(said)) > len(PHONES):
            raise CheckpointError(f"{path}: damaged: a phone above {len(PHONES)}")
        net = unpacked({name.removeprefix(_NETWORK): tensor for name, tensor in kept.items()})
        return cls(entries, net, lexicon)

    def using(self, lexicon: Mapping[str, str] | None) -> Pronouncer:
        """The same with another lexicon; dictionary and network are shared.

        Raises:
            TextError: see the class.
        """
        return Pronouncer(self.entries, self.net, lexicon)

    def words(self, text: str) -> list[list[int]]:
        """Phones of each word of a text as `spoken.speakable` gives it.

        Words are what spaces, marks and hyphens part. A capital A is the letter where it stands with other
        single letters or, inside a sentence, before a small letter or a mark (`plan A failed`).
        """
        return [said for _, said in self.placed(text)]

    def placed(self, text: str) -> list[tuple[int, list[int]]]:
        """The same, each with where in the text its word begins."""
        found = list(_TOKEN.finditer(text))
        said: list[tuple[int, list[int]]] = []
        for number, token in enumerate(found):
            is_letter = token[0] == "A" and _stands_alone(text, found, number)
            word = NAMES["a"] if is_letter else self.phones(token[0])
            if word:
                said.append((token.start(), list(word)))
        return said

    def phones(self, word: str) -> list[int]:
        """Phones of one word in any spelling; at least one if there is a letter in it, else none.

        Letters of other scripts are left out; a word of nothing else is a single vowel.
        """
        word = unicodedata.normalize("NFC", word)
        parts = folded(word).split("-")
        said = [phone for part in parts if part for phone in self._say(part)]
        return said or (list(_SCHWA) if any(map(str.isalpha, word)) else [])

    def _say(self, word: str) -> list[int]:
        known = self._known(word)
        if known is None and (known := self._worked_out.get(word)) is None:
            known = self._work_out(word)
            if len(self._worked_out) >= REMEMBERED:
                self._worked_out.clear()
            self._worked_out[word] = known
        return known

    def _known(self, word: str) -> list[int] | None:
        said = self._own.get(word) or self.entries.get(word)
        return None if said is None else list(said)

    def _work_out(self, word: str) -> list[int]:
        if len(word) == 1:
            return NAMES[word]
        if "'" in word:
            return self._around_apostrophe(word)
        if not VOWELS & set(word):
            return without_vowels(word)
        for shorter in shortened(word):
            if (said := self._known(shorter)) is not None:
                return said
        for stem, ending in inflected(word):
            if (said := self._known(stem)) is not None:
                return ending(said)
        # Two known words in one are left to it too: of 1081 it never saw, it had 775 right, their parts 510.
        return self.net.say(word)

    def _around_apostrophe(self, word: str) -> list[int]:
        stem, tails = without_tails(word)
        said = self._known(stem)
        if said is None:
            first, *rest = stem.split("'")
            said = (beginning(first) if rest else None) or self._say(first)
            said = said + [phone for part in rest for phone in self._say(part)]
        for tail in tails:
            said = with_tail(said, tail)
        return said


def save(path: Path, entries: Mapping[str, bytes], network: Mapping[str, Tensor]) -> None:
    """Write a file for `Pronouncer.load`.

    Words are kept in order and phones beside them, both packed by zlib: neighbours share their beginnings.
    """
    words = sorted(entries)
    tensors = {f"{_NETWORK}{name}": tensor.contiguous() for name, tensor in network.items()}
    tensors["words"] = _squeezed("\n".join(words).encode("ascii"))
    tensors["phones"] = _squeezed(b"\0".join(entries[word] for word in words))
    save_file(tensors, path, {_KEY: _VERSION})


def _squeezed(data: bytes) -> Tensor:
    return torch.tensor(np.frombuffer(zlib.compress(data, 9), np.uint8))


def _unsqueezed(tensor: Tensor) -> bytes:
    return zlib.decompress(tensor.numpy().tobytes())


def _stands_alone(text: str, found: list[re.Match[str]], number: int) -> bool:
    """Whether a capital A is the letter and not the article."""
    here = found[number]
    before = text[found[number - 1].end() if number else 0 : here.start()]
    after = text[here.end() : found[number + 1].start() if number + 1 < len(found) else len(text)]
    begins = not number or _SENTENCE_ENDS.search(before) is not None
    last = found[number - 1][0] if not begins else ""
    follower = found[number + 1][0] if number + 1 < len(found) and not after.strip() else ""
    if _single(last) or _single(follower):
        return True
    return not begins and (not follower or follower[0].islower())


def _single(word: str) -> bool:
    return len(word.split("'")[0]) == 1 and word[0].isupper()
