"""`rillvox eval tts`: a speaker with the listeners that judge it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import typer

from ..asr.peers import installed_peers
from ..asr.stream import ASR
from ..audio import Audio
from ..codec.evaluate import Phones, streamed
from ..codec.measures import Similarity
from ..tts.evaluate import Judges, Transcriber, Wave, main_tts
from ..tts.speaker import TTS


def eval_tts(
    held_out: Path,
    seen: list[Path],
    model: str,
    whisper: Path,
    phone_head: Path,
    lexicon: Path,
    sentences: int,
    peers: bool,
    hard: bool,
    steps: int | None,
    json_out: Path | None,
    command: str,
) -> None:
    """Measure a speaker; words are heard by pocketsphinx, if it is installed, and by rillvox itself."""
    tts = TTS.load(model)
    asr = ASR.load()
    transcribers: dict[str, Transcriber] = {
        peer.name.split()[0]: _transcriber(peer.transcribe) for peer in installed_peers()
    }
    transcribers["rillvox"] = lambda wave: asr.transcribe(Audio(wave, 16000)).text
    coded = streamed(tts.codec)
    main_tts(
        held_out,
        seen,
        tts,
        Judges(Phones(whisper, phone_head, lexicon), transcribers, Similarity(), lambda wave: coded(wave)[0]),
        command=command,
        json_out=json_out,
        sentences=sentences,
        peers=peers,
        hard=hard,
        manner=None if steps is None else replace(tts.manner, steps=steps),
        say=lambda line: typer.echo(line, err=True),
    )


def _transcriber(transcribe: Callable[[Wave], str]) -> Transcriber:
    return transcribe
