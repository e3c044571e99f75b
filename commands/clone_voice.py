"""`rillvox clone`: a voice of a recording as one file, and what it says at once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import typer

from .. import __version__
from ..asr.stream import ASR
from ..audio import read_audio
from ..errors import ConfigError, VoiceError
from ..tts.reference import LONGEST, prepare_reference
from ..tts.speaker import TTS
from .outputs import check_output
from .say import check_request, say


def clone_voice(
    recording: Path,
    output: Path | None,
    consent: str,
    text: str | None,
    wav: str | None,
    model: str,
    seed: int,
    tune: bool,
) -> None:
    """Write the voice, or only speak with it; see `TTS.clone`. `tune`: as far as the model can be tuned.

    Raises:
        ConfigError: nothing to do with the voice, or a file that can't be written.
        VoiceError: no consent, or a recording that makes no voice.
    """
    if output is None and text is None:
        raise ConfigError(
            "name a file for the voice with -o NAME.safetensors, or say something with --say TEXT"
        )
    for written in (output, None if wav in (None, "-") else Path(wav)):
        if written is not None and written.exists() and recording.exists() and written.samefile(recording):
            raise ConfigError(f"{written} is the recording itself; name another file")
    if output is not None:
        if output.suffix != ".safetensors":
            raise ConfigError(f"{output}: a voice is a .safetensors file, or codes alone an .rvc file")
        check_output(output)
    if not consent.strip():
        raise VoiceError(
            "--consent is missing: say who speaks in the recording and that they allow their voice to be "
            "cloned; it is kept with the voice"
        )
    if wav is not None and text is None:
        raise ConfigError("--wav is for what --say says")
    if text is not None:
        check_request(text, wav)
    tts = TTS.load(model)
    record = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "program": f"rillvox {__version__}",
        "model": model,
    }
    listener = None
    if tune:
        prepare_reference(read_audio(recording), LONGEST)  # what makes no voice is refused before the wait
    if tune and tts.can_tune:
        typer.echo("tuning the voice to the recording, 10 to 30 s; --no-tune leaves it out", err=True)
        listener = ASR.load()
    elif tune:
        typer.echo(f"{model} has no timbres: the voice is not tuned", err=True)
    name = output.stem if output else None
    voice = tts.clone(recording, consent=consent, name=name, record=record, listener=listener)
    for warning in voice.record["warnings"]:
        typer.echo(f"warning: {warning}", err=True)
    if output is not None:
        instead = ", in place of what was there" if output.exists() else ""
        voice.save(output)
        used = voice.record["used_seconds"]
        typer.echo(f"wrote {output}: {used:.1f} s of {voice.record['source']}{instead}", err=True)
    if text is not None:
        say(text, voice, wav, model, seed, None, speaker=tts)
