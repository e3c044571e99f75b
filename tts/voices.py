"""Voices: a reference recording as codes, with a record of where it comes from and who allowed it.

A voice file is one safetensors: `codes` (int16 [frames, codes], from 0) or, for voices that came with a
model, `rows` ([frames, dim], embedded frames); with codes, perhaps what the model remembers of them, so that
they need not be read again; `timbre` ([dim]), if the voice was tuned (`timbre.py`); as metadata the model it
belongs to, its name, the record. The codes of `rillvox clone -o NAME.rvc`, with the record beside them, are a
voice as well (`of_codes`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from ..codec.codes import Codes
from ..errors import RillvoxError, VoiceError
from .config import END, SPECIAL, TTSConfig
from .model import SpeakerModel

FORMAT = "rillvox-voice"
VERSION = "1"
STATE = "state."  # before the names of what the model remembers


@dataclass(frozen=True)
class Voice:
    """What a model needs to speak as somebody.

    Exactly one of `codes` and `rows` is there. `model` is the fingerprint of the model that it belongs to;
    `record` says whose voice it is, who allowed it, and what it was made of.

    Raises:
        VoiceError: neither or both.
    """

    name: str
    model: str
    codes: Tensor | None = None
    rows: Tensor | None = None
    record: Mapping[str, Any] = field(default_factory=dict[str, Any])
    state: Mapping[str, Tensor] | None = None  # what the model knows once it has heard the codes
    timbre: Tensor | None = None  # [dim], how its own it is; see `timbre.py`

    def __post_init__(self) -> None:
        if (self.codes is None) == (self.rows is None):
            raise VoiceError(f"{self.name}: a voice is either codes or rows")

    def __len__(self) -> int:
        """Rows that it takes in a prompt."""
        if self.rows is not None:
            return len(self.rows)
        assert self.codes is not None
        return len(self.codes) + 1

    def embed(self, model: SpeakerModel) -> Tensor:
        """Rows of the prompt [len(self), dim].

        A reference made of codes ends with the frame that ends audio in prompts: its acoustic codes are 0,
        other than in the frame that a model ends its own audio with.
        """
        if self.rows is not None:
            return self.rows.to(model.kind)
        assert self.codes is not None
        codes = self.codes.long() + SPECIAL
        last = torch.zeros_like(codes[:1])
        last[0, 0] = END
        device = model.kind.device
        with torch.no_grad():
            return model.frame_embedding(torch.cat([codes, last]).to(device))

    def check(self, config: TTSConfig) -> None:
        """Refuse what no voice of such a model can be.

        Raises:
            VoiceError: codes or rows of another shape or type, none at all, or values that there are not.
        """
        rows, codes = self.rows, self.codes
        if rows is not None:
            wanted = f"numbers [rows, {config.backbone.dim}]"
            fits = rows.dim() == 2 and rows.shape[1] == config.backbone.dim and rows.is_floating_point()
            fits = fits and len(rows) > 0 and bool(torch.isfinite(rows).all())
        else:
            assert codes is not None
            sizes = torch.tensor(config.codec.alphabets)
            wanted = f"whole numbers [frames, {len(sizes)}] within their alphabets"
            fits = codes.dim() == 2 and codes.shape[1] == len(sizes) and len(codes) > 0
            fits = fits and codes.dtype in (torch.int16, torch.int32, torch.int64)
            fits = fits and bool(((codes >= 0) & (codes < sizes.to(codes.device))).all())
        if not fits:
            found = codes if rows is None else rows
            assert found is not None
            raise VoiceError(
                f"{self.name}: expected {wanted}, found {found.dtype} {list(found.shape)}; clone it again "
                "with this model"
            )
        timbre = self.timbre
        if timbre is not None and not (
            timbre.shape == (config.backbone.dim,) and bool(torch.isfinite(timbre).all())
        ):
            raise VoiceError(f"{self.name}: its timbre is not {config.backbone.dim} numbers; clone it again")

    def save(self, path: str | Path) -> None:
        """Write the file, for its owner alone to read; what was there is replaced when the new file is whole.

        Raises:
            VoiceError: there is no such folder, or it can't be written to.
        """
        path = Path(path)
        if not path.parent.is_dir():
            raise VoiceError(f"{path} cannot be written: there is no folder {path.parent}")
        tensors = {"codes": self.codes.to(torch.int16)} if self.codes is not None else {"rows": self.rows}
        if self.timbre is not None:
            tensors["timbre"] = self.timbre
        tensors |= {STATE + name: value for name, value in (self.state or {}).items()}
        about = {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "model": self.model,
            "record": json.dumps(dict(self.record), ensure_ascii=False),
        }
        draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            save_file({k: v.contiguous() for k, v in tensors.items() if v is not None}, draft, metadata=about)
            draft.replace(path)
        except (OSError, SafetensorError) as error:
            # safetensors has an error of its own for a full disk.
            reason = ((error.strerror if isinstance(error, OSError) else "") or str(error)).lower()
            raise VoiceError(f"{path} cannot be written: {reason}") from error
        finally:
            draft.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path, model: str | None = None) -> Voice:
        """Read a voice.

        Args:
            model: the fingerprint of the model that is to speak with it.

        Raises:
            VoiceError: no voice, damaged, or of another model.
        """
        try:
            with safe_open(str(path), "pt") as file:  # pyright: ignore[reportUnknownVariableType]
                about: dict[str, str] = dict(file.metadata() or {})  # pyright: ignore
                tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # pyright: ignore # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise VoiceError(f"{path}: is no voice, or damaged ({error})") from error
        if about.get("format") != FORMAT:
            raise VoiceError(f"{path}: is no voice; make one with `rillvox clone`")
        if about.get("version") != VERSION:
            raise VoiceError(f"{path}: has version {about.get('version')}; this program reads {VERSION}")
        if model is not None and about.get("model") != model:
            raise VoiceError(
                f"{path}: is a voice of another model ({about.get('model', '')[:8]}, this is {model[:8]}); "
                "clone it again with this one"
            )
        try:
            record: dict[str, Any] = json.loads(about.get("record", "{}"))
        except ValueError as error:
            raise VoiceError(f"{path}: is damaged; its record is no JSON") from error
        if not isinstance(record, dict):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise VoiceError(f"{path}: is damaged; its record is no object")
        for name, value in tensors.items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise VoiceError(f"{path}: is damaged; {name} is not finite")
        return cls(
            about.get("name", Path(path).stem),
            about.get("model", ""),
            tensors.get("codes"),
            tensors.get("rows"),
            record,
            {name.removeprefix(STATE): value for name, value in tensors.items() if name.startswith(STATE)}
            or None,
            tensors.get("timbre"),
        )

    @classmethod
    def of_codes(cls, path: str | Path, model: str, codec: str) -> Voice:
        """A voice of a `.rvc` file and the record `NAME.rvc.json` beside it.

        Args:
            model: the fingerprint of the model that is to speak with it.
            codec: that of its codec.

        Raises:
            VoiceError: a file is missing or damaged, the codes are of another codec, or nobody allowed it.
        """
        path = Path(path)
        beside = path.with_name(f"{path.name}.json")
        try:
            codes = Codes.load(path)
            record = json.loads(beside.read_text("utf-8"))
        except (OSError, ValueError, RillvoxError) as error:
            raise VoiceError(
                f"{path}: is no voice; it takes codes and the record {beside.name} ({error})"
            ) from error
        if not isinstance(record, dict) or not record.get("consent"):  # pyright: ignore[reportUnknownMemberType]
            raise VoiceError(
                f"{beside}: names no consent; make both files with `rillvox clone -o {path.name}`"
            )
        if codes.layout.fingerprint != codec:
            raise VoiceError(
                f"{path}: has codes of another codec; make them with `rillvox clone -o {path.name} "
                "--model FOLDER`"
            )
        return cls(path.stem, model, torch.as_tensor(codes.values.copy()), record=record)  # pyright: ignore


def is_voice(path: str | Path) -> bool:
    """Whether a safetensors file was written by `Voice.save`."""
    try:
        with safe_open(str(path), "pt") as file:  # pyright: ignore[reportUnknownVariableType]
            return (file.metadata() or {}).get("format") == FORMAT  # pyright: ignore
    except (OSError, SafetensorError):
        return False
