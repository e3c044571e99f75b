"""`rillvox train pairs`: a speaker in training with the listeners that judge its takes."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import util
from pathlib import Path

import typer

from ..asr.stream import ASR
from ..audio import Audio
from ..codec.config import SAMPLE_RATE
from ..codec.evaluate import Phones
from ..codec.measures import Similarity
from ..codec.stream import Codec
from ..errors import ConfigError
from ..tts.pairs_spoken import Hearing, Settings, Wave, make_pairs
from ..tts.pairs_texts import Texts, phones_of, read_texts
from ..tts.pronounce import Pronouncer
from ..tts.script import Placed, script
from ..tts.speech import Speech
from ..tts.train import TTSRun, spoken_model


def pairs(
    speech: Sequence[Path],
    run: Path,
    out: Path,
    settings: Settings,
    texts: Path | None,
    codec: str,
    whisper: Path | None,
    phone_head: Path | None,
    lexicon: Path | None,
) -> None:
    """Make pairs with the stage `speak` of a run; without a judge of phones rillvox itself listens."""
    given = [whisper, phone_head, lexicon]
    if any(given) and not all(given):
        raise ConfigError("the judge of phones needs all of --whisper, --phone-head and --lexicon")
    placed = Pronouncer.load().placed
    if whisper and phone_head and lexicon:
        hear = Phones(whisper, phone_head, lexicon).heard
    else:
        hear = _words_heard(ASR.load(), placed)
    model = spoken_model(TTSRun(tuple(speech), run, codec=codec))
    found = make_pairs(
        model,
        Codec.load(codec, weights="float32"),
        Texts(
            [Speech(folder) for folder in speech], read_texts(texts, placed) if texts else None, settings.seed
        ),
        hear,
        Similarity() if util.find_spec("resemblyzer") else None,
        out,
        settings,
        typer.echo,
    )
    typer.echo(f"{found} pairs in {out}")


def _words_heard(asr: ASR, placed: Placed) -> Hearing:
    def hear(wave: Wave) -> list[str]:
        heard = asr.transcribe(Audio(wave, SAMPLE_RATE).resample(16000)).text
        return phones_of(script(heard, placed).tokens)

    return hear
