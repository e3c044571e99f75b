"""`rillvox transcribe`: files in, text or captions out, long files in bounded memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from ..audio import open_audio
from ..errors import AudioError, ConfigError
from .loading import load_ready
from .outputs import check_output
from .progress import Progress

if TYPE_CHECKING:
    from ..asr.stream import ASR
    from ..asr.transcript import Transcript

SUFFIX = {"text": ".txt", "json": ".json", "srt": ".srt", "vtt": ".vtt"}


def transcribe(files: Sequence[str], model: str, delay_ms: int, form: str, output: Path | None) -> int:
    """Transcribe each file and write it; a file that cannot be read does not stop the others.

    Of a file that breaks off, what could be read is written; it counts as failed.

    Args:
        files: paths, or "-" for standard input.
        model: the name of a model that comes along, or the path of a model folder.
        delay_ms: how much audio after a word the model waits for.
        form: "text", "json", "srt" or "vtt".
        output: a file for one input, a folder for several; standard output if None.

    Returns:
        How many files failed; each was named on stderr.

    Raises:
        RillvoxError: nothing can be transcribed at all: no such model, or settings that do not fit together.
    """
    several = len(files) > 1
    if several and output is None and form in ("srt", "vtt"):
        raise ConfigError(
            f"captions of several files would run together: name a folder with --output for {form}"
        )
    if output is not None:
        for file in files:
            if file != "-" and output.exists() and Path(file).exists() and output.samefile(file):
                raise ConfigError(f"--output {output} is the recording itself; name another file")
        _check_output(output, several)
    if several and output is not None:
        _refuse_clashes(files)
    readable, failed = _readable(files)
    if not readable:
        return failed
    asr = load_ready(model, delay_ms)
    for file in readable:
        damage: list[AudioError] = []
        try:
            transcript = transcribe_file(asr, file, delay_ms, damage.append)
        except AudioError as error:
            damage.append(error)
        else:
            _write(file, transcript, form, output, several)
        for error in damage:
            print(f"rillvox: {error}", file=sys.stderr)
        failed += bool(damage)
    return failed


def transcribe_file(
    asr: ASR, file: str, delay_ms: int, on_damage: Callable[[AudioError], None] | None = None
) -> Transcript:
    """One file, block by block, with its progress on stderr.

    Raises:
        AudioError: the file cannot be read; see `ASR.transcribe`, also for `on_damage`.
    """
    source: str | BinaryIO = sys.stdin.buffer if file == "-" else file
    progress = Progress(file, sys.stderr)
    try:
        return asr.transcribe(source, delay_ms, on_progress=progress.at, on_damage=on_damage)
    finally:
        progress.done()


def _readable(files: Sequence[str]) -> tuple[list[str], int]:
    """The files that begin like recordings, and how many do not: told of before a model is loaded."""
    readable: list[str] = []
    for file in files:
        try:
            if file != "-" and not Path(file).is_fifo():  # what a pipe has given is gone
                blocks = open_audio(file, block_seconds=0.1)
                next(blocks, None)
                cast("Generator[object]", blocks).close()
        except AudioError as error:
            print(f"rillvox: {error}", file=sys.stderr)
        else:
            readable.append(file)
    return readable, len(files) - len(readable)


def _check_output(output: Path, several: bool) -> None:
    """Before the work: whether its result can be kept. Makes the folder for several files."""
    if several:
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ConfigError(f"--output {output} cannot be made a folder: {reason}") from error
    if not output.is_dir():
        check_output(output)


def _refuse_clashes(files: Sequence[str]) -> None:
    by_name: dict[str, str] = {}
    for file in files:
        other = by_name.setdefault(_stem(file), file)
        if other != file:
            raise ConfigError(f"{other} and {file} would be written to the same file; transcribe them apart")


def _stem(file: str) -> str:
    return "stdin" if file == "-" else Path(file).stem


def _write(file: str, transcript: Transcript, form: str, output: Path | None, several: bool) -> None:
    if output is not None:
        path = output / (_stem(file) + SUFFIX[form]) if several or output.is_dir() else output
        path.write_text(_rendered(transcript, form), encoding="utf-8")
    elif not several:
        sys.stdout.write(_rendered(transcript, form))
    elif form == "json":  # a line each, for whoever reads on
        print(json.dumps({"file": file, **transcript.to_dict()}, ensure_ascii=False))
    else:
        print(f"{file}: {transcript.text}")
    sys.stdout.flush()


def _rendered(transcript: Transcript, form: str) -> str:
    writers = {
        "text": transcript.to_text,
        "json": transcript.to_json,
        "srt": transcript.to_srt,
        "vtt": transcript.to_vtt,
    }
    return writers[form]()
