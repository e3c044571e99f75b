"""The words that a searching listener knows: how they sound, and how likely they follow each other.

One file beside the weights, `words.safetensors`: the tables of `kernels.search_tables`, packed. Words and
pronunciations come from a dictionary, the language from counted text (`training/ngrams.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from ..errors import CheckpointError, ConfigError
from ..kernels.search_tables import Floats, Language, Tree

WORDS = "words.safetensors"
MOST_WORDS = 65535
_VERSION = "1"


class _Handle(Protocol):
    def __enter__(self) -> _Handle: ...
    def __exit__(self, *error: object) -> None: ...
    def keys(self) -> list[str]: ...
    def metadata(self) -> dict[str, str] | None: ...
    def get_tensor(self, name: str) -> NDArray[Any]: ...


class Vocabulary:
    """Words, the tree of their pronunciations, and the language."""

    def __init__(self, words: Sequence[str], tree: Tree, language: Language) -> None:
        self.words = list(words)
        self.tree, self.language = tree, language

    @classmethod
    def build(cls, sounds: Mapping[str, Sequence[Sequence[int]]], language: Language) -> Vocabulary:
        """From the pronunciations of each word, in the order of the language's numbers.

        Raises:
            ConfigError: no word, too many, or one without a sound.
        """
        words = list(sounds)
        if not 0 < len(words) <= MOST_WORDS:
            raise ConfigError(f"a vocabulary has 1 to {MOST_WORDS} words, got {len(words)}")
        if len(language.single) != len(words):
            raise ConfigError(f"{len(words)} words, but a language of {len(language.single)}")
        for word, said in sounds.items():
            if not said or not all(said):
                raise ConfigError(f"the word {word!r} has no pronunciation")
        return cls(words, plant(list(sounds.values()), language.single), language)

    def sounds(self) -> dict[str, list[int]]:
        """The first pronunciation of every word, as phones."""
        tree = self.tree
        said: list[list[int]] = [[]]
        for node in range(len(tree.phone)):
            for child in range(tree.first[node], tree.first[node] + tree.children[node]):
                said.append([*said[node], int(tree.phone[child])])
        found: dict[str, list[int]] = {}
        for node, phones in enumerate(said):
            for word in tree.ends[tree.first_end[node] : tree.first_end[node + 1]]:
                found.setdefault(self.words[int(word)], phones)
        return found

    def digest(self) -> str:
        """Tells vocabularies apart."""
        digest = hashlib.sha256("\n".join(self.words).encode())
        for table in (*self.tree, *self.language):
            digest.update(np.ascontiguousarray(table).tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write the file."""
        tables: dict[str, NDArray[Any]] = {}
        for name, table in {**self.tree._asdict(), **self.language._asdict()}.items():
            tables[name] = _packed(name, cast("NDArray[Any]", table))
        tables["words"] = np.frombuffer("\n".join(self.words).encode(), np.uint8)
        save_file(tables, path, {"rillvox_words": _VERSION})

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read a file.

        Raises:
            CheckpointError: it is missing, damaged, or something else.
        """
        try:
            with cast("_Handle", safe_open(str(path), framework="numpy")) as file:
                header = file.metadata() or {}
                if header.get("rillvox_words") != _VERSION:
                    raise CheckpointError(f"{path}: holds no words that this version can read")
                tables = {name: file.get_tensor(name) for name in list(file.keys())}
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: cannot be read: {error}") from error
        try:
            words = bytes(tables.pop("words")).decode().split("\n")
            plain = {name: _unpacked(name, table) for name, table in tables.items()}
            tree = Tree(**{name: plain[name] for name in Tree._fields})
            language = Language(**{name: plain[name] for name in Language._fields})
            _check(words, tree, language)
        except (KeyError, ValueError, IndexError) as error:
            raise CheckpointError(f"{path}: damaged: {error}") from error
        return cls(words, tree, language)


def plant(sounds: Sequence[Sequence[Sequence[int]]], single: Floats) -> Tree:
    """The tree of all pronunciations, level by level, so that the children of a node are neighbours."""
    branches: list[dict[int, int]] = [{}]
    phones, ending = [0], [list[int]()]
    for word, said in enumerate(sounds):
        for pronunciation in said:
            here = 0
            for phone in pronunciation:
                there = branches[here].get(phone)
                if there is None:
                    there = branches[here][phone] = len(branches)
                    branches.append({})
                    phones.append(phone)
                    ending.append([])
                here = there
            if word not in ending[here]:
                ending[here].append(word)
    order, first = [0], list[int]()
    for node in order:
        first.append(len(order))
        order += [branches[node][phone] for phone in sorted(branches[node])]
    children = [len(branches[node]) for node in order]
    ahead = np.full(len(order), -1e9, np.float32)
    for place in range(len(order) - 1, -1, -1):
        below = ahead[first[place] : first[place] + children[place]]
        own = [single[word] for word in ending[order[place]]]
        ahead[place] = max([*own, *below.tolist()], default=-1e9)
    ahead[0] = 0
    ends = [ending[node] for node in order]
    return Tree(
        np.asarray([phones[node] for node in order], np.uint8),
        np.asarray(first, np.int32),
        np.asarray(children, np.uint8),
        ahead,
        np.cumsum([0, *map(len, ends)]).astype(np.int32),
        np.asarray([word for some in ends for word in some], np.int32),
    )


# Numbers of words fit 16 bits, and a log-probability is known to two digits at most.
_SHORT = ("pair_word", "ends")
_HALF = ("single", "pair", "pair_back", "ahead")


def _packed(name: str, table: NDArray[Any]) -> NDArray[Any]:
    if name in _SHORT:
        return table.astype(np.uint16)
    return table.astype(np.float16) if name in _HALF else np.ascontiguousarray(table)


def _unpacked(name: str, table: NDArray[Any]) -> NDArray[Any]:
    if name in _SHORT:
        return table.astype(np.int32)
    return table.astype(np.float32) if name in _HALF else table


def _check(words: Sequence[str], tree: Tree, language: Language) -> None:
    """Refuse tables that would send the search out of their bounds."""
    nodes, size, pairs = len(tree.phone), len(words), len(language.pair_word)
    offsets = (
        (tree.first_end, nodes + 1, len(tree.ends)),
        (language.first_pair, size + 2, pairs),
    )
    for table, length, last in offsets:
        if len(table) != length or table[0] != 0 or table[-1] != last or (np.diff(table) < 0).any():
            raise ValueError("offsets that don't fit their table")
    for table in (tree.ends, language.pair_word):
        if len(table) and not 0 <= int(table.min()) <= int(table.max()) < size:
            raise ValueError("a word out of range")
    same = (len(tree.first), len(tree.children), len(tree.ahead))
    if set(same) != {nodes} or int((tree.first + tree.children).max()) > nodes or int(tree.first.min()) < 1:
        raise ValueError("a tree that leads nowhere")
    lengths = (len(language.single) == size, len(language.pair) == pairs)
    if not all(lengths) or len(language.pair_back) != size + 1:
        raise ValueError("a language of another size")
