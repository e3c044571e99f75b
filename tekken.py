"""Token ids to text and back: a reader and writer of `tekken.json`, and a decoder for streams.

The layout is Mistral's Tekken: ids below `n_special` are control symbols that carry no text, id
`n_special + rank` is the byte string of that rank, and encoding is byte-level BPE by rank behind a splitting
regular expression. Unusual:
- control symbols are found by name, since other files put other symbols at the same id;
- `[STREAMING_PAD]` is what the model writes when it has nothing to say, `[STREAMING_WORD]` opens a group of
  words; neither stands for a space, spaces come from the pieces themselves;
- a piece may be half a character, so a stream needs `IncrementalDecoder`.

Nothing here touches the network: tiktoken is given the ranks.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from .errors import CheckpointError, TextError

if TYPE_CHECKING:
    import tiktoken

BOS = "<s>"
EOS = "</s>"
STREAMING_PAD = "[STREAMING_PAD]"
STREAMING_WORD = "[STREAMING_WORD]"
STREAMING_SPECIALS = (BOS, EOS, STREAMING_PAD, STREAMING_WORD)

RELEASED_N_SPECIAL = 1000  # what files mean that do not say; the default models reserve fewer


@dataclass(frozen=True)
class Tekken:
    """A vocabulary of byte strings behind `n_special` control symbols.

    Raises:
        CheckpointError: the first rule that the parts break, by its name in the file.
    """

    pieces: tuple[bytes, ...] = field(repr=False)  # text id = n_special + index
    pattern: str = field(repr=False)  # splits text before BPE; a regular expression with \p{..} classes
    specials: Mapping[str, int]  # name -> id; ids without a name are `<SPECIAL_i>`
    audio: Mapping[str, object]  # delay, left padding and rates, as the file has them
    n_special: int = RELEASED_N_SPECIAL
    version: str = "v11"

    def __post_init__(self) -> None:
        if self.n_special < 1:
            raise CheckpointError(
                f"config.default_num_special_tokens: must be at least 1, got {self.n_special}"
            )
        if len(self.pieces) < 256:
            raise CheckpointError(
                f"vocab: {len(self.pieces)} pieces are used, but the first 256 must be the single bytes; "
                "is default_vocab_size too small or the file cut short?"
            )
        for rank in range(256):
            if self.pieces[rank] != bytes([rank]):
                raise CheckpointError(
                    f"vocab[{rank}].token_bytes: the first 256 pieces are the single bytes in order, "
                    f"found {self.pieces[rank]!r}"
                )
        self._refuse_twins()
        names: dict[int, str] = {}
        for name, token in self.specials.items():
            if not 0 <= token < self.n_special:
                raise CheckpointError(
                    f"special_tokens: {name} has rank {token}, outside 0..{self.n_special - 1}"
                )
            if token in names:
                raise CheckpointError(f"special_tokens: rank {token} is both {names[token]} and {name}")
            names[token] = name

    def _refuse_twins(self) -> None:
        if all(self.pieces) and len(set(self.pieces)) == len(self.pieces):
            return
        seen: dict[bytes, int] = {}
        for rank, piece in enumerate(self.pieces):
            if not piece:
                raise CheckpointError(f"vocab[{rank}].token_bytes: is empty")
            if piece in seen:
                raise CheckpointError(f"vocab[{rank}].token_bytes: {piece!r} has rank {seen[piece]} already")
            seen[piece] = rank

    @classmethod
    def build(
        cls,
        vocab_bytes: Sequence[bytes],
        pattern: str,
        specials: Mapping[str, int] | Sequence[str] = STREAMING_SPECIALS,
        audio: Mapping[str, object] | None = None,
        n_special: int = RELEASED_N_SPECIAL,
    ) -> Tekken:
        """A new vocabulary: the 256 single bytes, then merged pieces in the order they were learned.

        `specials` is a name -> id table, or names that take the ids 0, 1, 2, ...
        """
        if not isinstance(specials, Mapping):
            specials = {name: i for i, name in enumerate(specials)}
        return cls(tuple(vocab_bytes), pattern, dict(specials), dict(audio or {}), n_special)

    @classmethod
    def load(cls, path: str | Path, *, require: Sequence[str] = STREAMING_SPECIALS) -> Tekken:
        """Read a tekken.json.

        Entries past `default_vocab_size - default_num_special_tokens` are cut, as the released models do.

        Raises:
            CheckpointError: the file and the first thing in it that is missing or wrong; also when a special
                symbol named in `require` is absent.
        """
        path = Path(path)
        try:
            tekken = _parse(_read_json(path))
            for name in require:
                tekken.special(name)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error
        return tekken

    def save(self, path: str | Path) -> None:
        """Write a tekken.json that `load` reads back equal; a reader never sees half a file."""
        path = Path(path)
        text = json.dumps(_document(self), ensure_ascii=False, indent=1)
        draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with draft.open("w", encoding="utf-8") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    @property
    def vocab_size(self) -> int:
        """Control symbols and text pieces together: the width of the logits."""
        return self.n_special + len(self.pieces)

    def special(self, name: str) -> int:
        """Id of a control symbol.

        Raises:
            CheckpointError: this vocabulary has no such symbol.
        """
        if name not in self.specials:
            known = ", ".join(sorted(self.specials, key=self.specials.__getitem__)[:12])
            raise CheckpointError(f"special_tokens: {name} is missing (found: {known or 'none'})")
        return self.specials[name]

    @cached_property
    def bos(self) -> int:
        """Start of stream, position 0 only."""
        return self.special(BOS)

    @cached_property
    def eos(self) -> int:
        """End of stream; live streams treat it as one more symbol without text."""
        return self.special(EOS)

    @cached_property
    def pad(self) -> int:
        """[STREAMING_PAD]: nothing to say at this frame. Not `<pad>`, which only fills batches."""
        return self.special(STREAMING_PAD)

    @cached_property
    def word(self) -> int:
        """[STREAMING_WORD]: a group of words starts with the next token."""
        return self.special(STREAMING_WORD)

    @property
    def left_pad_tokens(self) -> int:
        """Silent tokens in front of every stream."""
        return self._audio_int("streaming_n_left_pad_tokens")

    @property
    def delay_ms(self) -> int:
        """The delay that the model is meant to run at when nobody asks for another."""
        return self._audio_int("transcription_delay_ms")

    def _audio_int(self, key: str) -> int:
        value = self.audio.get(key)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or value != int(value) or value < 0:
            found = "is missing" if value is None else f"must be a whole number, got {value!r}"
            raise CheckpointError(f"audio.{key}: {found}")
        return int(value)

    def token_bytes(self, token: int) -> bytes:
        """The bytes a token adds to the text; none for control symbols.

        Raises:
            TextError: the id is outside the vocabulary.
        """
        if not 0 <= token < self.vocab_size:
            raise TextError(f"token id {token} is outside the vocabulary of {self.vocab_size}")
        # The bound comes first: pieces[token - n_special] with a control id would index from the end.
        return b"" if token < self.n_special else self.pieces[token - self.n_special]

    def name(self, token: int) -> str:
        """A token as one would print it: a control symbol's name, or the piece's text."""
        if 0 <= token < self.n_special:
            return self._names.get(token, f"<SPECIAL_{token}>")
        return self.token_bytes(token).decode("utf-8", "replace")

    @cached_property
    def _names(self) -> dict[int, str]:
        return {token: name for name, token in self.specials.items()}

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of a whole sequence; control symbols add nothing, not even a boundary."""
        return b"".join(map(self.token_bytes, tokens)).decode("utf-8", "replace")

    def encode(self, text: str) -> list[int]:
        """Ids of plain text. Names of control symbols in the text are text, never control symbols.

        Raises:
            TextError: the text holds half a surrogate pair, which has no bytes.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TextError(f"character {error.start} of the text is half a surrogate pair") from error
        return self._encoding.encode_ordinary(text)

    @cached_property
    def _encoding(self) -> tiktoken.Encoding:
        # Built on first use: a listening session only decodes, and 130 k ranks take 0.4 s.
        import tiktoken

        ranks = {piece: self.n_special + rank for rank, piece in enumerate(self.pieces)}
        try:
            return tiktoken.Encoding("tekken", pat_str=self.pattern, mergeable_ranks=ranks, special_tokens={})
        except ValueError as error:
            raise CheckpointError(f"config.pattern: not a regular expression: {error}") from error


class IncrementalDecoder:
    """Text of a token stream, a step at a time: the pieces of `push` and `finish` join to `Tekken.decode`.

    A character whose bytes are spread over tokens is held back until it is whole, also when
    control symbols stand between them. `pending` is all the state there is: hand it to a new decoder to
    fork or resume a stream.
    """

    def __init__(self, tekken: Tekken, pending: bytes = b"") -> None:
        self._tekken = tekken
        self.pending = pending  # the first bytes of an unfinished character, at most 3

    def push(self, tokens: Iterable[int]) -> str:
        """Text that has become certain with these tokens; bytes that are no UTF-8 become U+FFFD."""
        return self._decode(b"".join(map(self._tekken.token_bytes, tokens)), final=False)

    def finish(self) -> str:
        """What is left at the end: U+FFFD for a character that never became whole, or nothing."""
        return self._decode(b"", final=True)

    def _decode(self, data: bytes, final: bool) -> str:
        data = self.pending + data
        text, used = codecs.utf_8_decode(data, "replace", final)
        self.pending = data[used:]
        return text


def _read_json(path: Path) -> dict[str, object]:
    try:
        document: object = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"byte {error.start} is not UTF-8; is this a tekken.json?") from error
    except json.JSONDecodeError as error:
        raise CheckpointError(
            f"line {error.lineno}, column {error.colno}: {error.msg}; was the file cut short?"
        ) from error
    except RecursionError as error:
        raise CheckpointError("nested too deeply; is this a tekken.json?") from error
    if not isinstance(document, dict):
        raise CheckpointError("the file holds no JSON object")
    return cast("dict[str, object]", document)


def _parse(document: dict[str, object]) -> Tekken:
    config = _object(document, "config")
    vocab = _array(document, "vocab")
    n_special = _integer(config, "config.", "default_num_special_tokens", RELEASED_N_SPECIAL)
    vocab_size = _integer(config, "config.", "default_vocab_size", n_special + len(vocab))
    n_pieces = vocab_size - n_special
    if not 0 <= n_pieces <= len(vocab):
        raise CheckpointError(
            f"vocab: {len(vocab)} entries, but default_vocab_size {vocab_size} less "
            f"default_num_special_tokens {n_special} asks for {n_pieces}"
        )
    specials: dict[str, int] = {}
    for i, entry in enumerate(_array(document, "special_tokens")):
        where = f"special_tokens[{i}]"
        name = _string(_entry(entry, where), f"{where}.", "token_str")
        if name in specials:
            raise CheckpointError(f"{where}.token_str: {name} is listed twice")
        specials[name] = _integer(_entry(entry, where), f"{where}.", "rank")
    return Tekken(
        pieces=tuple(_piece(entry, rank) for rank, entry in enumerate(vocab[:n_pieces])),
        pattern=_string(config, "config.", "pattern"),
        specials=specials,
        audio=_object(document, "audio") if "audio" in document else {},
        n_special=n_special,
        version=_string(config, "config.", "version") if "version" in config else "v11",
    )


def _piece(entry: object, rank: int) -> bytes:
    where = f"vocab[{rank}]"
    fields = _entry(entry, where)
    found = _integer(fields, f"{where}.", "rank")
    if found != rank:
        raise CheckpointError(f"{where}.rank: ranks must count up from 0, found {found}")
    encoded = _string(fields, f"{where}.", "token_bytes")
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise CheckpointError(f"{where}.token_bytes: {encoded!r} is not base64 ({error})") from error


def _document(tekken: Tekken) -> dict[str, object]:
    return {
        "config": {
            "pattern": tekken.pattern,
            "num_vocab_tokens": len(tekken.pieces),
            "default_vocab_size": tekken.vocab_size,
            "default_num_special_tokens": tekken.n_special,
            "version": tekken.version,
        },
        "vocab": [
            {"rank": rank, "token_bytes": base64.b64encode(piece).decode("ascii"), "token_str": _text(piece)}
            for rank, piece in enumerate(tekken.pieces)
        ],
        "special_tokens": [
            {"rank": token, "token_str": name, "is_control": True}
            for name, token in sorted(tekken.specials.items(), key=lambda item: item[1])
        ],
        "audio": dict(tekken.audio),
    }


def _text(piece: bytes) -> str | None:
    """For people who open the file; null for pieces that are no text of their own."""
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _entry(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: must be an object")
    return cast("dict[str, object]", value)


def _object(parent: dict[str, object], key: str) -> dict[str, object]:
    if key not in parent:
        raise CheckpointError(f"{key}: is missing; is this a tekken.json?")
    return _entry(parent[key], key)


def _array(parent: dict[str, object], key: str) -> list[object]:
    value = parent.get(key)
    if not isinstance(value, list):
        raise CheckpointError(f"{key}: {'is missing' if value is None else 'must be a list'}")
    return cast("list[object]", value)


def _string(parent: dict[str, object], prefix: str, key: str) -> str:
    value = parent.get(key)
    if not isinstance(value, str):
        raise CheckpointError(f"{prefix}{key}: {'is missing' if value is None else 'must be a string'}")
    return value


def _integer(parent: dict[str, object], prefix: str, key: str, default: int | None = None) -> int:
    value = parent.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise CheckpointError(f"{prefix}{key}: {'is missing' if value is None else 'must be a whole number'}")
    return value
