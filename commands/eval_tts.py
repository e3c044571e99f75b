"""`rillvox eval tts` and `rillvox eval heads`: a speaker with the listeners that judge it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import resources, util
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch
import typer

from ..asr.peers import installed_peers
from ..asr.stream import ASR
from ..audio import Audio
from ..codec.checkpoint import PARAMS, WEIGHTS
from ..codec.evaluate import Phones, streamed
from ..codec.measures import NoReference, Similarity
from ..training.manifests import Manifest
from ..tts.evaluate import OURS, main_tts
from ..tts.evaluate_heads import HEAD, ONE_STEP, TEACHER, main_heads
from ..tts.evaluate_judges import Judges, Quality, Transcriber
from ..tts.evaluate_people import Wave
from ..tts.evaluate_work import Speaker, Studio
from ..tts.flow import MANY_STEPS
from ..tts.peers import installed_speakers
from ..tts.speaker import TTS
from ..tts.timbre import TIMBRES

LISTENER = "asr-en"
WORDS = "words.safetensors"


class Model(NamedTuple):
    """A speaker to load."""

    name: str  # that comes along, or a folder
    steps: int | None  # of the flow head; None: its own
    euler: bool = False  # of a distilled head: by Euler's method, along the velocity it has learned


@dataclass(frozen=True)
class Setting:
    """What a studio is made of, as it is sent to other processes: names and paths alone."""

    held_out: Path
    whisper: Path
    phone_head: Path
    lexicon: Path
    peers: bool
    models: tuple[tuple[str, Model], ...] = ()
    tune: bool = True

    def __call__(self) -> Studio:
        """Load everything.

        Raises:
            CheckpointError: weights that are missing or damaged.
            ConfigError: so is the list of recordings, or the lexicon.
        """
        torch.set_num_threads(1)  # so that sums, and what is kept of them, are the same everywhere
        kinds = dict.fromkeys((model.name, model.euler) for _, model in self.models)
        loaded = {kind: TTS.load(kind[0]) for kind in kinds}
        for (_, euler), tts in loaded.items():
            tts.model.flow.euler = euler
        speakers = {name: _speaker(loaded[model.name, model.euler], model) for name, model in self.models}
        codec = next(iter(loaded.values())).codec
        coded = streamed(codec)
        return Studio(
            speakers,
            self.judges(),
            Manifest(self.held_out),
            installed_speakers() if self.peers else {},
            lambda wave: coded(wave)[0],
            codec.fingerprint,
            _listener() if self.tune else None,
        )

    def judges(self) -> Judges:
        """Phones, words by rillvox and others, likeness, quality: whatever is installed."""
        asr = _listener()
        peers = installed_peers()
        transcribers: dict[str, Transcriber] = {peer.name.split()[0]: peer.transcribe for peer in peers}
        transcribers["rillvox"] = lambda wave: asr.transcribe(Audio(wave, 16000)).text
        quality: dict[str, Quality] = {}
        named = [*(peer.name for peer in peers), f"resemblyzer {version('resemblyzer')}"]
        if util.find_spec("speechmos") and util.find_spec("onnxruntime"):
            mos = NoReference()
            quality = {"dnsmos_ovrl": partial(_part, mos, 0), "dnsmos_p808": partial(_part, mos, 1)}
            named.append(f"speechmos {version('speechmos')}")
        listener = Path(str(resources.files("rillvox") / "weights" / LISTENER))
        files = [self.whisper, self.phone_head, *sorted(listener.glob("*.safetensors"))]
        return Judges(
            identity_of(files, named),
            Phones(self.whisper, self.phone_head, self.lexicon),
            transcribers,
            Similarity(),
            quality,
        )


def teacher_of(model: str, teacher: str | None, steps: int | None) -> Model:
    """What a distilled head is compared with: the model before it, or its own velocity in small steps."""
    if teacher is not None:
        return Model(teacher, steps)
    return Model(model, MANY_STEPS if steps is None else steps, euler=True)


@cache
def _listener() -> ASR:
    """Once in a process, and nothing that is sent to others."""
    return ASR.load(LISTENER)


def _part(mos: NoReference, number: int, wave: Wave) -> float:
    return mos(wave)[number]


def _speaker(tts: TTS, model: Model) -> Speaker:
    manner = tts.manner if model.steps is None else replace(tts.manner, steps=model.steps)
    files = [path for name in (PARAMS, WEIGHTS, WORDS, TIMBRES) if (path := tts.folder / name).exists()]
    return Speaker(tts, manner, identity_of(files, [tts.codec.fingerprint, *["euler"] * model.euler]))


def identity_of(files: Iterable[Path], names: Iterable[str]) -> str:
    """Hexadecimal digits of what is in files, and of names."""
    digest = hashlib.sha256(repr(list(names)).encode())
    for path in files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def eval_tts(
    setting: Setting,
    seen: list[Path],
    model: Model,
    sentences: int,
    hard: bool,
    jobs: int,
    cache: Path | None,
    json_out: Path | None,
    command: str,
) -> None:
    """Measure a speaker."""
    main_tts(
        replace(setting, models=((OURS, model),)),
        seen,
        command=command,
        json_out=json_out,
        sentences=sentences,
        hard=hard,
        jobs=jobs,
        cache=cache,
        say=_say,
    )


def eval_heads(
    setting: Setting,
    seen: list[Path],
    model: Model,
    teacher: Model,
    sentences: int,
    voices: int,
    jobs: int,
    cache: Path | None,
    json_out: Path | None,
    command: str,
) -> None:
    """Compare a distilled head with its teacher."""
    models = ((HEAD, model), (TEACHER, teacher), (ONE_STEP, teacher._replace(steps=1)))
    main_heads(
        replace(setting, models=models, peers=False),
        seen,
        command=command,
        json_out=json_out,
        sentences=sentences,
        voices=voices,
        jobs=jobs,
        cache=cache,
        say=_say,
    )


def _say(line: str) -> None:
    typer.echo(line, err=True)
