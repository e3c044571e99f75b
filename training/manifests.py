"""Recordings with their texts: `manifest.jsonl` beside a tar of clips, or beside plain files.

One JSON object a line: `id` and `path` must be there; `text`, `speaker`, `corpus`, `seconds`, `sample_rate`
and `split` are read where known, and everything else is kept in `Clip.extra`. A path `clips.tar/a.ogg` means
the member `a.ogg` of the plain tar `clips.tar`; any other path is a file. Both are relative to the manifest's
folder.

A tar is read by offset, never unpacked. Finding the offsets means reading every header once, so an index can
be kept beside a run (`index=`): it is written in one move and made anew when the tar has changed.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..audio import Audio, read_audio
from ..errors import AudioError, ConfigError

KNOWN = ("id", "path", "text", "speaker", "corpus", "seconds", "sample_rate", "split")


@dataclass(frozen=True)
class Clip:
    """One line of a manifest. `text` is None where nobody has written down what is said."""

    id: str
    path: str
    text: str | None = None
    speaker: str = ""
    corpus: str = ""
    seconds: float | None = None
    sample_rate: int | None = None
    split: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Manifest:
    """A list of clips whose audio is read when asked for.

    Iterating gives `(Clip, Audio)` in the order of the lines; `load(clip)` reads one. No file stays open, so
    a manifest can be sent to another process.

    Args:
        path: the `.jsonl` file, or a folder that holds `manifest.jsonl`.
        rate: resample every clip to this rate in Hz; None keeps each clip's own.
        index: folder for the offsets of the tars; None finds them anew in every process.

    Raises:
        ConfigError: a line that is not a clip, an id seen twice, a tar or a file that is missing.
    """

    def __init__(self, path: Path | str, rate: int | None = None, index: Path | str | None = None) -> None:
        path = Path(path)
        self.path = path / "manifest.jsonl" if path.is_dir() else path
        self.rate = rate
        self.folder = self.path.parent
        self.clips = _read_clips(self.path)
        self._members: dict[str, dict[str, tuple[int, int]]] = {}
        for clip in self.clips:
            self._check(clip, Path(index) if index is not None else None)

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[tuple[Clip, Audio]]:
        return ((clip, self.load(clip)) for clip in self.clips)

    def load(self, clip: Clip) -> Audio:
        """The sound of `clip`.

        Raises:
            AudioError: the clip cannot be read; the message names it.
        """
        archive, member = _split_path(clip.path)
        source = self.folder / clip.path if archive is None else io.BytesIO(self._bytes(archive, member))
        try:
            return read_audio(source, rate=self.rate)
        except AudioError as error:
            raise AudioError(f"clip {clip.id} of {self.path}: {error}") from error

    def where(self, keep: Callable[[Clip], bool]) -> Manifest:
        """The clips for which `keep` is true, in a manifest of their own."""
        chosen = object.__new__(Manifest)
        chosen.__dict__.update(self.__dict__)
        chosen.clips = [clip for clip in self.clips if keep(clip)]
        return chosen

    def _check(self, clip: Clip, index: Path | None) -> None:
        archive, member = _split_path(clip.path)
        if archive is None:
            if not (self.folder / clip.path).is_file():
                raise ConfigError(f"{self.path}: clip {clip.id}: no file {clip.path}")
            return
        if archive not in self._members:
            self._members[archive] = read_index(self.folder / archive, index)
        if member not in self._members[archive]:
            raise ConfigError(f"{self.path}: clip {clip.id}: {archive} has no member {member}")

    def _bytes(self, archive: str, member: str) -> bytes:
        offset, size = self._members[archive][member]
        with (self.folder / archive).open("rb") as file:
            file.seek(offset)
            data = file.read(size)
        if len(data) != size:
            raise AudioError(f"{self.folder / archive}: {member} is cut short; copy the archive again")
        return data


def read_index(archive: Path, folder: Path | None = None) -> dict[str, tuple[int, int]]:
    """Offset and size in bytes of every file in a plain tar.

    Args:
        folder: where an index from an earlier call may lie, and where this one is left.

    Raises:
        ConfigError: no such file, or a tar that is compressed or damaged.
    """
    if not archive.is_file():
        raise ConfigError(f"no archive {archive}")
    stat = archive.stat()
    stamp = [str(archive.resolve()), stat.st_size, stat.st_mtime_ns]
    kept = None if folder is None else folder / f"{archive.parent.name}-{archive.name}.index.json"
    if kept is not None and (members := _kept_index(kept, stamp)) is not None:
        return members
    try:
        with tarfile.open(archive, "r:") as tar:
            members = {entry.name: (entry.offset_data, entry.size) for entry in tar if entry.isfile()}
    except (tarfile.TarError, EOFError) as error:
        raise ConfigError(f"{archive} is not a plain tar: {error}") from error
    if kept is not None:
        write_json(kept, {"archive": stamp, "members": members})
    return members


def write_json(path: Path, document: Any) -> None:
    """Write JSON so that a reader finds the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(prefix=path.name, suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(document, file, ensure_ascii=False)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def _kept_index(path: Path, stamp: list[Any]) -> dict[str, tuple[int, int]] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["archive"] != stamp:
            return None
        return {name: (int(offset), int(size)) for name, (offset, size) in document["members"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # an index is a convenience: whatever is wrong with it, the tar says the same


def _split_path(path: str) -> tuple[str | None, str]:
    """`("clips.tar", "a.ogg")` for a member, `(None, path)` for a file."""
    head, mark, member = path.partition(".tar/")
    return (head + ".tar", member) if mark else (None, path)


def _read_clips(path: Path) -> list[Clip]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"cannot read the manifest {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the manifest {path} is not UTF-8 text: {error.reason}") from error
    clips: list[Clip] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        clip = _clip(line, f"{path}, line {number}")
        if clip.id in seen:
            raise ConfigError(f"{path}, line {number}: id {clip.id} is that of line {seen[clip.id]}")
        seen[clip.id] = number
        clips.append(clip)
    if not clips:
        raise ConfigError(f"the manifest {path} has no clips")
    return clips


def _clip(line: str, where: str) -> Clip:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{where}: not JSON: {error}") from error
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: expected an object, found {type(entry).__name__}")

    def read(name: str, kinds: tuple[type, ...], default: Any) -> Any:
        value = entry.get(name)
        if value is None and default is not ...:
            return default
        if not isinstance(value, kinds) or isinstance(value, bool):
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise ConfigError(f"{where}: {name}: expected {expected}, found {value!r}")
        return value

    return Clip(
        id=read("id", (str,), ...),
        path=read("path", (str,), ...),
        text=read("text", (str,), None),
        speaker=read("speaker", (str,), ""),
        corpus=read("corpus", (str,), ""),
        seconds=read("seconds", (int, float), None),
        sample_rate=read("sample_rate", (int,), None),
        split=read("split", (str,), ""),
        extra={name: value for name, value in entry.items() if name not in KNOWN},
    )
