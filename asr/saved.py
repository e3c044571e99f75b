"""A listening session as a file: saved, moved to another machine, and resumed bit for bit.

One safetensors file: what front end, encoder and decoder remember, the last adapter vectors, the samples that
wait; and, in its header, the state of the text side as JSON. It belongs to one model: the header holds a
fingerprint of the weights, and another model refuses it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from ..errors import CheckpointError, ConfigError, RillvoxError
from ..tekken import Tekken
from .batch import Batch
from .ears import Samples, mono
from .events import DelayChanged, Draft, Event, Final, Mark, Partial
from .lanes import Lane
from .model import RealtimeASR
from .search import WordSearch
from .transcript import Word


class _Handle(Protocol):
    def __enter__(self) -> _Handle: ...
    def __exit__(self, *error: object) -> None: ...
    def keys(self) -> list[str]: ...
    def metadata(self) -> dict[str, str] | None: ...
    def get_tensor(self, name: str) -> Tensor: ...


_KEY = "rillvox_session"
_VERSION = 2
_SAMPLED = 64  # values of each tensor that go into a fingerprint


def save_session(batch: Batch, lane: Lane, path: str | Path) -> None:
    """Write a running session; a reader never sees half a file.

    Raises:
        ConfigError: the session has ended, or is a fork.
        OSError: the file cannot be written.
    """
    if lane.done or lane.closed or lane.ear.slot >= batch.slots:
        raise ConfigError("only a running session can be saved; this one has ended or is a fork")
    ear = lane.ear
    tensors = {f"ear.{name}": tensor for name, tensor in batch.bank.ear_tensors(ear.slot).items()}
    lanes = {"lane": lane} if lane.draft is None else {"lane": lane, "draft": lane.draft}
    for role, reader in lanes.items():
        for name, tensor in batch.bank.lane_tensors(reader.slot).items():
            tensors[f"{role}.{name}"] = tensor
    tensors["ring"] = batch.ring[ear.slot].clone()
    for name, array in ear.arrays().items():
        tensors[name] = torch.as_tensor(array)
    events = lane.poll()
    lane.put_back(events)  # reading the queue emptied it
    document: dict[str, Any] = {
        "version": _VERSION,
        "model": fingerprint(batch.model, batch.tokenizer),
        "max_tokens": batch.max_tokens,
        "ring_tokens": batch.ring_tokens,
        "keep": lane.keep,
        "ear": ear.state(),
        "lanes": {role: reader.state() for role, reader in lanes.items()},
        "events": [_row(event) for event in events],
        "digest": _digest(tensors),
    }
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder to save the session in", str(path.parent))
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        held = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        save_file(held, draft, {_KEY: json.dumps(document)})
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


class SavedSession:
    """A saved session's file, read and checked as far as it goes without a model."""

    def __init__(self, path: str | Path) -> None:
        """Read the file.

        Raises:
            CheckpointError: it is missing, damaged, or something else.
        """
        self.path = Path(path)
        try:
            with cast("_Handle", safe_open(str(self.path), framework="pt")) as file:
                header = file.metadata() or {}
                if _KEY not in header:
                    raise CheckpointError(f"{self.path}: a safetensors file, but no saved session")
                self.tensors = {name: file.get_tensor(name) for name in list(file.keys())}
            self.document: dict[str, Any] = json.loads(header[_KEY])
            version = self.document["version"]
            self.max_tokens = int(self.document["max_tokens"])
            self.ring_tokens = int(self.document["ring_tokens"])
            self.has_draft = "draft" in self.document["lanes"]
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{self.path}: cannot be read: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{self.path}: the header is damaged: {error!r}") from error
        if version != _VERSION:
            raise CheckpointError(f"{self.path}: saved in version {version}, this is version {_VERSION}")
        if self.document.get("digest") != _digest(self.tensors):
            raise CheckpointError(f"{self.path}: damaged: its tensors are not those that were saved")

    def resume(self, batch: Batch) -> Lane:
        """Take a slot of a batch and go on there.

        Raises:
            CheckpointError: the batch has another model, other `max_tokens` or another ring, or the file is
                damaged.
            CapacityError: all slots are taken.
        """
        if self.document.get("model") != fingerprint(batch.model, batch.tokenizer):
            raise CheckpointError(f"{self.path}: was saved with another model; load that one to resume it")
        for name in ("max_tokens", "ring_tokens"):
            if getattr(self, name) != getattr(batch, name):
                raise CheckpointError(
                    f"{self.path}: was saved with {name} {getattr(self, name)}, "
                    f"this batch has {getattr(batch, name)}"
                )
        lane = batch.seat(1, 1 if self.has_draft else None, 1, keep=bool(self.document.get("keep")))
        try:
            self._fill(batch, lane)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RillvoxError) as error:
            batch.close(lane)
            raise CheckpointError(f"{self.path}: damaged: {error}") from error
        except BaseException:
            batch.close(lane)
            raise
        return lane

    def _fill(self, batch: Batch, lane: Lane) -> None:
        ear, states = lane.ear, self.document["lanes"]
        arrays = {name: cast("Samples", np.asarray(self.tensors[name])) for name in ear.arrays()}
        mono(arrays["waiting"])
        if arrays["levels"].shape != ear.arrays()["levels"].shape:
            raise ValueError("levels: of another length than the ring")
        ear.restore(self.document["ear"], arrays)
        batch.bank.restore_ear(ear.slot, self._part("ear"))
        ring = self.tensors["ring"]
        if ring.shape != batch.ring[ear.slot].shape:
            raise ValueError(f"ring: shape {list(ring.shape)}")
        batch.ring[ear.slot] = ring.to(batch.ring)
        readers = {"lane": lane} if lane.draft is None else {"lane": lane, "draft": lane.draft}
        for role, reader in readers.items():
            reader.restore(states[role])
            _check(reader, batch)
            batch.bank.restore_lane(reader.slot, self._part(role))
        lane.put_back(_event(row) for row in self.document["events"])

    def _part(self, role: str) -> dict[str, Tensor]:
        prefix = f"{role}."
        return {
            name.removeprefix(prefix): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(prefix)
        }


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Of names and bytes: a flipped bit in a state changes words, and no other check would see it."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.asarray(tensors[name].cpu().contiguous().reshape(-1).view(torch.uint8)).tobytes())
    return digest.hexdigest()


def fingerprint(model: RealtimeASR, tokenizer: Tekken) -> str:
    """A digest of shapes, settings, vocabulary size and some values of every tensor.

    Enough to tell models apart; a single changed weight may go unseen, reading 9 GB would take seconds.
    """
    digest = hashlib.sha256(repr(model.config).encode())
    digest.update(repr((tokenizer.vocab_size, sorted(tokenizer.specials.items()))).encode())
    if isinstance(model.decoder, WordSearch):
        digest.update(model.decoder.vocabulary.digest().encode())
    for name, parameter in sorted(model.named_parameters()):
        values = parameter.detach().reshape(-1)
        values = values[:: max(len(values) // _SAMPLED, 1)].float().cpu()
        digest.update(f"{name} {list(parameter.shape)} {parameter.dtype}".encode())
        digest.update(np.asarray(values).tobytes())
    return digest.hexdigest()


def _check(lane: Lane, batch: Batch) -> None:
    """Refuse numbers that could not have been saved; a damaged file must not reach the model."""
    ear, config = lane.ear, batch.model.config
    allowed = (
        not lane.done
        and lane.block in config.encoder.blocks
        and ear.block in config.encoder.blocks
        and 0 <= lane.start <= lane.position <= ear.tokens
        and ear.tokens - lane.position <= batch.ring_tokens
        and 0 <= lane.next_token() < config.vocab_size
        and lane.clock.prompt_length > 0
    )
    if not allowed:
        raise ValueError("the clock or the token of a lane is out of range")


def _row(event: Event) -> list[Any]:
    if isinstance(event, Partial):
        words = [[w.text, w.start, w.end, w.confidence, w.approximate] for w in event.words]
        return ["partial", event.text, words, event.stable_until]
    if isinstance(event, Mark):
        return ["mark", event.id]
    if isinstance(event, DelayChanged):
        return ["delay", event.delay_ms, event.at]
    if isinstance(event, Draft):
        return ["draft", event.text]
    assert not isinstance(event, Final)  # a session that has ended is not saved
    raise TypeError(f"an event of type {type(event).__name__}")


def _event(row: list[Any]) -> Event:
    kind, rest = row[0], cast("Mapping[int, Any]", dict(enumerate(row[1:])))
    if kind == "partial":
        return Partial(str(rest[0]), tuple(Word(*word) for word in rest[1]), float(rest[2]))
    if kind == "mark":
        return Mark(str(rest[0]))
    if kind == "delay":
        return DelayChanged(int(rest[0]), float(rest[1]))
    if kind == "draft":
        return Draft(str(rest[0]))
    raise ValueError(f"an unknown event {kind!r}")
