"""`rillvox codec`: recordings to small files of codes and back, hours of them in bounded memory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import soundfile

from ..audio import open_audio
from ..codec.codes import CodesReader, CodesWriter
from ..codec.config import SAMPLE_RATE
from ..codec.stream import Codec
from ..errors import ConfigError
from .outputs import check_output
from .progress import Progress

FORMATS = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS")}


def encode(source: str, output: Path, model: str) -> None:
    """Write the codes of a recording; `source` "-" is standard input.

    Raises:
        RillvoxError: no such model, one that can't encode, or a recording that can't be read.
    """
    _check(source, output)
    codec = Codec.load(model)
    stream = codec.stream_encode()
    progress = Progress(source, sys.stderr)
    try:
        with CodesWriter(output, codec.layout) as writer:
            for block in open_audio(sys.stdin.buffer if source == "-" else source, SAMPLE_RATE):
                writer.add(stream.feed(block))
                progress.at(stream.samples / SAMPLE_RATE)
            writer.add(stream.finish())
            writer.finish(stream.samples)
    finally:
        progress.done()


def decode(source: Path, output: Path, model: str) -> None:
    """Write the recording that a file of codes stands for, 24 kHz mono; the name says the format.

    Raises:
        RillvoxError: no such model, codes of another one, or a file that is not whole.
    """
    form = FORMATS.get(output.suffix.lower())
    if form is None:
        raise ConfigError(f"{output}: name a file that ends in {', '.join(FORMATS)}")
    _check(str(source), output)
    draft = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    progress = Progress(str(source), sys.stderr)
    try:
        with CodesReader(source) as reader:
            codec = Codec.load(model)
            codec.check_layout(reader.layout)
            stream = codec.stream_decode()
            left = reader.samples
            with soundfile.SoundFile(draft, "w", SAMPLE_RATE, 1, form[1], format=form[0]) as file:
                for block in reader:
                    wave = stream.feed(block)[:left]
                    file.write(wave.clip(-1, 1))
                    left -= len(wave)
                    progress.at((reader.samples - left) / SAMPLE_RATE)
                file.write(stream.finish()[:left].clip(-1, 1))
        draft.replace(output)
    finally:
        progress.done()
        draft.unlink(missing_ok=True)


def _check(source: str, output: Path) -> None:
    check_output(output)
    if source != "-" and output.exists() and Path(source).exists() and output.samefile(source):
        raise ConfigError(f"{output} is the input itself; name another file")
