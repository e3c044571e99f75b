"""Speech for a speaker's training: clips as codes, with the tokens that they say and when each begins.

A folder: `codes.npy` (int16 [frames of all clips, 37], semantic first, as the codec's encoder gives them),
`teacher.npy` (int16 [frames], the teacher's semantic code, -1 where there is none) and `clips.jsonl`.
A folder holds all clips at one speed and one place of the first frame; folders of other speeds, played
faster or slower, sound like other people.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..audio import Audio
from ..codec.model import CodecModel
from ..codec.stream import Codec
from ..errors import ConfigError
from ..training.lexicon import PHONE_IDS, Lexicon
from ..training.pool import HELD_OUT, Pool
from ..training.pool import Clip as Aligned
from ..training.sounds import RATE, STEP, Sounds
from .tokens import tokens_said

AT_ONCE = 60.0  # seconds of speech in a batch of the encoder
MIN_SCORE = -3.0  # of an alignment that is believed


@dataclass(frozen=True)
class Spoken:
    """A clip: where its frames are, and its tokens with their beginnings in frames of 80 ms, not whole."""

    id: str
    corpus: str
    speaker: str
    native: int
    first: int
    frames: int
    tokens: tuple[int, ...]
    starts: tuple[float, ...]


class Speech:
    """A prepared folder.

    Raises:
        ConfigError: the folder holds none.
    """

    def __init__(self, folder: Path | str) -> None:
        folder = Path(folder)
        try:
            self.codes: NDArray[np.int16] = np.load(folder / "codes.npy", mmap_mode="r")
            self.teacher: NDArray[np.int16] = np.load(folder / "teacher.npy", mmap_mode="r")
            rows: list[dict[str, Any]] = [
                json.loads(line) for line in (folder / "clips.jsonl").read_text().splitlines()
            ]
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{folder}: no speech as codes here; make it with `rillvox train speech`"
            ) from error
        self.clips = [
            Spoken(**{**row, "tokens": tuple(row["tokens"]), "starts": tuple(row["starts"])})  # pyright: ignore[reportArgumentType]
            for row in rows
        ]

    def training(self) -> list[Spoken]:
        """Clips that may be trained on."""
        return [clip for clip in self.clips if clip.corpus not in HELD_OUT]


def prepare(
    sounds: Sounds,
    pool: Pool,
    codec: CodecModel,
    out: Path,
    *,
    speed: float = 1.0,
    shift: int = 0,
    lexicon: Lexicon | None = None,
    say: Callable[[str], None] = print,
) -> Speech:
    """Write a folder and open it.

    Args:
        speed: how much faster than recorded the clips are played.
        shift: samples after the clip's begin at which the first frame begins.
        lexicon: what to call the phones; None: as the aligner did. See `renamed`.

    Raises:
        ConfigError: no clip has an alignment, or the codec has no encoder.
    """
    if codec.encoder is None:
        raise ConfigError("this codec has no encoder; speech cannot be prepared with it")
    aligned = {(clip.corpus, clip.id): clip for clip in pool.clips if clip.spans and clip.score >= MIN_SCORE}
    # The sounds name the sources of the mixed corpus, the pool the corpus.
    mixed = {clip.id: clip for clip in aligned.values() if clip.corpus == "wideband"}
    chosen = [(clip, aligned.get((clip.corpus, clip.id)) or mixed.get(clip.id)) for clip in sounds.clips]
    pairs = [(clip, said) for clip, said in chosen if said is not None]
    if not pairs:
        raise ConfigError("no clip of the sounds has an alignment in the pool")
    pairs.sort(key=lambda pair: pair[0].samples)
    names = {} if lexicon is None else lexicon.lookup({word for _, said in pairs for word in said.words})
    frame = codec.config.frame
    clips: list[Spoken] = []
    codes: list[NDArray[np.int16]] = []
    teacher: list[NDArray[np.int16]] = []
    first = done = 0
    while done < len(pairs):
        count = max(1, int(AT_ONCE / pairs[done][0].seconds))
        part = pairs[done : done + count]
        waves = [_played(sounds.samples(clip), speed)[shift:] for clip, _ in part]
        found = _encode(codec, waves)
        for (clip, said), wave, own in zip(part, waves, found, strict=True):
            frames = len(wave) // frame
            if not frames:
                continue
            tokens, starts = tokens_said(renamed(said, names))
            at = (np.arange(frames) * frame + shift) * speed
            ids = _teacher(sounds, clip.offset, clip.samples, at)
            times = (np.asarray(starts) * STEP / speed - shift) / frame
            clips.append(
                Spoken(
                    clip.id, clip.corpus, clip.speaker, clip.native, first, frames,
                    tuple(tokens), tuple(round(float(t), 3) for t in times),
                )
            )  # fmt: skip
            codes.append(own[:frames])
            teacher.append(ids)
            first += frames
        done += count
        if done // 500 != (done - count) // 500:
            say(f"{done} of {len(pairs)} clips")
    out.mkdir(parents=True, exist_ok=True)
    for name, array in (("codes", np.concatenate(codes)), ("teacher", np.concatenate(teacher))):
        with (out / f"{name}.tmp").open("wb") as file:
            np.save(file, array)
    (out / "clips.tmp").write_text("".join(json.dumps(asdict(clip)) + "\n" for clip in clips))
    for name, kind in (("codes", "npy"), ("teacher", "npy"), ("clips", "jsonl")):
        (out / f"{name}.tmp").replace(out / f"{name}.{kind}")
    return Speech(out)


def renamed(clip: Aligned, names: Mapping[str, Sequence[str]]) -> Aligned:
    """The clip with the phones of another dictionary, in every word that has as many; times stay.

    The aligner's dictionary may know fewer vowels than the speaker is to tell apart.
    """
    phones: list[int] = []
    at = 0
    for word, count in zip(clip.words, clip.phones_per_word, strict=True):
        said = names.get(word, ())
        own = clip.phones[at : at + count]
        phones += [PHONE_IDS[phone] for phone in said] if len(said) == count else own
        at += count
    return replace(clip, phones=tuple(phones))


def _played(wave: NDArray[np.float32], speed: float) -> NDArray[np.float32]:
    return wave if speed == 1.0 else Audio(wave, round(RATE * speed)).resample(RATE).samples


@torch.inference_mode()
def _encode(codec: CodecModel, waves: Sequence[NDArray[np.float32]]) -> list[NDArray[np.int16]]:
    """Codes of every wave; what follows a shorter one in the batch changes nothing that it has heard."""
    assert codec.encoder is not None
    frame = codec.config.frame
    longest = max(frame, -(-max(map(len, waves)) // frame) * frame)
    batch = torch.zeros(len(waves), longest)
    for row, wave in zip(batch, waves, strict=True):
        row[: len(wave)] = torch.as_tensor(wave)
    codes = codec.quantizer.encode(codec.encoder(batch))
    return [
        row[: -(-len(wave) // frame)].numpy().astype(np.int16) for row, wave in zip(codes, waves, strict=True)
    ]


def _teacher(sounds: Sounds, offset: int, samples: int, at: NDArray[np.floating]) -> NDArray[np.int16]:
    """The teacher's codes of frames that begin at these samples of the recording."""
    place = offset // STEP + np.rint(at / STEP).astype(np.int64)
    inside = place < (offset + samples) // STEP
    return np.where(inside, sounds.ids[np.minimum(place, len(sounds.ids) - 1)], -1).astype(np.int16)


def main_speech(
    sounds: Path,
    pool: Path,
    out: Path,
    codec: str,
    speed: float,
    shift: int,
    lexicon: Path | None,
    voice: str,
    say: Callable[[str], None],
) -> None:
    """`rillvox train speech`; see `prepare`. `voice` is flite's, for words that the lexicon lacks."""
    names = None if lexicon is None else Lexicon(lexicon, jobs=2, voice=voice)
    model = Codec.load(codec, weights="float32").model
    found = prepare(
        Sounds(sounds), Pool.open(pool), model, out, speed=speed, shift=shift, lexicon=names, say=say
    )
    hours = sum(clip.frames for clip in found.clips) * 0.08 / 3600
    say(f"{len(found.clips)} clips, {hours:.2f} hours")
