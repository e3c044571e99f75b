"""`rillvox say`: text to a wav file, to standard output, or to the loudspeaker while it is spoken."""

from __future__ import annotations

import codecs
import io
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import soundfile as sf
import typer

from ..audio import WRITTEN, Audio
from ..codec.config import SAMPLE_RATE
from ..errors import ConfigError, TextError
from ..tts.speaker import TTS, Piece, Synthesis
from ..tts.speaking import Manner
from ..tts.spoken_lexicon import load_lexicon
from ..tts.voices import Voice
from .loudspeaker import open_loudspeaker
from .outputs import check_output

PART = 4096  # bytes of standard input, at most, that are read at once
RAN_AWAY: dict[str | None, str] = {
    "length": "it took longer than so much text can",
    "loop": "the same sounds came over and over",
    "silence": "nothing was to be heard",
}


def say(
    text: str,
    voice: str | Voice | None,
    output: str | None,
    model: str,
    seed: int,
    lexicon: Path | None,
    check: int = 0,
    speaker: TTS | None = None,
    *,
    pace: float = 1.0,
    steps: int | None = None,
    weights: str | None = None,
    device: str = "cpu",
) -> None:
    """Speak; `text` "-" reads standard input and speaks while it comes, `output` "-" writes a wav file to
    standard output.

    Raises:
        ConfigError: an output that can't be written, or no loudspeaker where no output is named; a pace,
            number of steps, weights or device that there are not.
        TextError: nothing to say.
        VoiceError: no such voice.
    """
    check_request(text, output)
    words = load_lexicon(lexicon) if lexicon else None
    asked = Manner(pace=pace, steps=steps)  # refused before anything is loaded
    tts = speaker or TTS.load(model, weights=weights, device=device)
    tts.manner = replace(tts.manner, pace=asked.pace, steps=asked.steps)
    chosen = tts.voice(voice)
    parts = _typed() if text == "-" else text
    if check:
        found = listened(tts, "".join(parts), chosen, seed, words, check)
        pieces = [Piece(found.audio.samples, found.words, found.finish_reason)]
    else:
        pieces = tts.stream(parts, chosen, seed=seed, lexicon=words)
    if output is None:
        _play(_told(pieces))
        return
    samples = np.concatenate([piece.samples for piece in _counted(_told(pieces))])
    if output == "-":
        # A pipe can't be rewound, and a wav file's length stands at its begin.
        whole_file = io.BytesIO()
        sf.write(whole_file, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")  # pyright: ignore
        sys.stdout.buffer.write(whole_file.getvalue())
        return
    Audio(samples, SAMPLE_RATE).save(output)
    _note(f"wrote {output}, {len(samples) / SAMPLE_RATE:.1f} s")


def _typed() -> Iterator[str]:
    """Standard input, as it comes.

    Raises:
        TextError: it is not UTF-8.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    source = cast(io.BufferedReader, sys.stdin.buffer)
    try:
        while part := source.read1(PART):
            yield decoder.decode(part)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise TextError(f"standard input is not UTF-8 ({error.reason}); convert it first") from error


def check_request(text: str, output: str | None) -> None:
    """Refuse what could not be said or written, before anything is loaded.

    Raises:
        ConfigError: an output that can't be written.
        TextError: no text.
    """
    if output not in (None, "-"):
        assert output is not None
        if Path(output).suffix.lower() not in WRITTEN:
            raise ConfigError(f"{output}: name a .wav, .flac or .ogg file, or -")
        check_output(Path(output))
    if not text.strip():
        raise TextError("there is no text to say")


def list_voices(model: str) -> None:
    """The voices that come along, a line each, with where they come from."""
    tts = TTS.load(model)
    for name in tts.voices:
        record = tts.voice(name).record
        typer.echo(f"{name}\t{record.get('consent', '')}")


def listened(
    tts: TTS, text: str, voice: Voice, seed: int, lexicon: dict[str, str] | None, tries: int
) -> Synthesis:
    """Speech that rillvox has listened to itself, spoken anew where words were missing; tells what it did."""
    from ..asr.stream import ASR
    from ..tts.checking import check

    asr = ASR.load()
    found = check(
        tts,
        text,
        voice,
        lambda speech: asr.transcribe(speech.audio).text,
        seed=seed,
        tries=tries,
        lexicon=lexicon,
    )
    for note in found.synthesis.notes:
        _note(note)
    return found.synthesis


def _counted(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The pieces, with a line on stderr of how much has been spoken."""
    begun, spoken, shown = time.monotonic(), 0.0, 0.0
    live = sys.stderr.isatty()
    for piece in pieces:
        spoken += len(piece.samples) / SAMPLE_RATE
        now = time.monotonic()
        if live and now - shown > 0.2:
            shown = now
            sys.stderr.write(f"\r{spoken:.1f} s spoken, {spoken / (now - begun):.1f}x real time\x1b[K")
            sys.stderr.flush()
        yield piece
    if live and shown:
        sys.stderr.write("\r\x1b[K")


def _told(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The pieces, with a line on stderr for each sentence that ran away."""
    for piece in pieces:
        yield piece
        if piece.finish in RAN_AWAY:
            _note(
                f"warning: a sentence was cut off, {RAN_AWAY[piece.finish]}; another --seed may say it well"
            )


def _play(pieces: Iterable[Piece]) -> None:
    with open_loudspeaker() as loudspeaker:
        for piece in pieces:
            loudspeaker.play(piece.samples)
        loudspeaker.drain()


def _note(text: str) -> None:
    typer.echo(text, err=True)
