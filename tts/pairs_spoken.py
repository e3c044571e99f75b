"""Making pairs: each text in a voice several times over, judged, the best and the worst take kept.

`rillvox train pairs`. Voxtral TTS (arXiv 2603.25551) section 3 ranks by words, likeness and loudness; here
phones stand for words, as they tell more of a short sentence, and nothing judges naturalness.

A folder that was begun goes on where it was cut off: every job has a generator of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..codec.codes import Codes
from ..codec.config import SAMPLE_RATE
from ..codec.stream import Codec
from ..errors import ConfigError
from ..training.manifests import write_json
from ..training.score import edits
from .aligned_speaking import LONGEST_PAUSE, STUCK, TAIL, AlignedSpeaking
from .config import END, SPECIAL
from .model import SpeakerModel
from .pairs import Pair, Take, save_pair
from .pairs_texts import Texts, phones_of
from .rows import VOICE_FRAMES
from .speaker import FRAMES_A_TOKEN, FRAMES_EXTRA
from .speaking import Manner
from .tokens import PAUSE

# Livelier than a speaker's own, so that takes differ; of 4 steps no more phones were wrong than of 8.
MANNER = Manner(temperature=0.5, noise=0.8, steps=4)
WINDOW, LOUD_DB = 0.4, 20.0  # seconds of one level; below the loudest by more is a pause, not a decay
# What a take loses by: a phone in ten wrong is as bad as a likeness lower by 0.2, or 10 dB of unevenness.
LIKENESS, LOUDNESS, CUT_OFF = 0.5, 0.01, 1.0

Wave = NDArray[np.float32]
Hearing = Callable[[Wave], Sequence[str]]  # phones, "1" to "39", of 24 kHz mono


class Likeness(Protocol):
    """Tells voices apart: embeddings of length 1."""

    def embed(self, wave: Wave, /) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Score:
    """What the judges say of a take."""

    phones: float  # share of the phones that are wrong; may be above 1
    likeness: float | None  # cosine with the voice's embedding; None: nobody judged it
    loudness: float  # deviation of its level in dB, see `unevenness`
    ended: bool

    @property
    def cost(self) -> float:
        """One number to rank by; less is better."""
        unlike = 0.0 if self.likeness is None else LIKENESS * (1 - self.likeness)
        return self.phones + unlike + LOUDNESS * self.loudness + CUT_OFF * (not self.ended)


@dataclass(frozen=True)
class Settings:
    """How pairs are made."""

    count: int  # of texts to be spoken; a pair each, but for those within the margin
    takes: int = 4
    margin: float = 0.05  # that the costs of best and worst differ by, at least
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"count must be at least 1, got {self.count}")
        if self.takes < 2:
            raise ConfigError(f"takes must be at least 2, got {self.takes}")
        if not 0 < self.margin < float("inf"):
            raise ConfigError(f"margin must be above 0, got {self.margin}")


def unevenness(wave: Wave) -> float:
    """Standard deviation in dB of the level of 0.4 s windows, every 0.2 s, within 20 dB of the loudest.

    Of 24 kHz mono; 0 for less than two such windows.
    """
    size = round(WINDOW * SAMPLE_RATE)
    if len(wave) < size:
        return 0.0
    power = np.square(np.lib.stride_tricks.sliding_window_view(wave, size)[:: size // 2]).mean(1)
    level = 10 * np.log10(np.maximum(power, 1e-12))
    return float(level[level > level.max() - LOUD_DB].std())


def ranked(scores: Sequence[Score], margin: float) -> tuple[int, int] | None:
    """Places of the best and the worst take; None where they are too near, or the best was cut off."""
    costs = np.array([score.cost for score in scores])
    best, worst = int(costs.argmin()), int(costs.argmax())
    apart = costs[worst] - costs[best] >= margin  # not if one is no number
    return (best, worst) if apart and scores[best].ended else None


@torch.inference_mode()
def speak(
    engine: AlignedSpeaking, voice: NDArray[np.int16], tokens: Sequence[int], manners: Sequence[Manner]
) -> list[Take]:
    """Takes of one text side by side, one for each manner; where the pointer was is read off at every tick.

    Args:
        voice: codes [frames, 37].
        tokens: of the text, `STOP` last.
    """
    rows = engine.model.frame_embedding(torch.as_tensor(voice.astype(np.int64)) + SPECIAL)
    engine.read(0, rows)
    heard = engine.heard(0, len(rows))
    for slot, manner in enumerate(manners):
        engine.open(slot, manner, heard)
        engine.say(slot, tokens, whole=True)
    running = [_Running(slot) for slot in range(len(manners))]
    for _ in range(FRAMES_A_TOKEN * len(tokens) + FRAMES_EXTRA):
        speaking = [each for each in running if not each.ended]
        if not speaking:
            break
        active = torch.zeros(engine.slots, dtype=torch.bool)
        active[[each.slot for each in speaking]] = True
        for each in speaking:
            each.before(engine, tokens)
        frames = engine.tick(active)
        for each in speaking:
            each.after(frames[each.slot])
    return [each.take(engine) for each in running]


@dataclass
class _Running:
    """A take while it is spoken."""

    slot: int
    codes: list[NDArray[np.int16]] = field(default_factory=list[NDArray[np.int16]])
    moved: list[int] = field(default_factory=list[int])
    own: list[tuple[bool, bool]] = field(default_factory=list[tuple[bool, bool]])
    ended: bool = False

    def before(self, engine: AlignedSpeaking, tokens: Sequence[int]) -> None:
        """Read off where the frame is that comes next."""
        self.moved.append(int(engine.moved[self.slot]))
        self.own.append(_own(tokens, int(engine.pointer[self.slot]), int(engine.age[self.slot])))

    def after(self, frame: Tensor) -> None:
        """The frame, int64 [37] with special ids."""
        self.ended = int(frame[0]) == END
        if not self.ended:
            self.codes.append((frame - SPECIAL).numpy().astype(np.int16))

    def take(self, engine: AlignedSpeaking) -> Take:
        """All of it; after what was cut off comes a frame that was not spoken any more."""
        moved, own = self.moved, self.own
        if self.ended:
            own = [*own[:-1], (own[-1][0], False)]
        else:
            moved, own = [*moved, int(engine.moved[self.slot])], [*own, (False, False)]
        return Take(np.stack(self.codes), np.array(moved, np.int16), np.array(own), self.ended)


def _own(tokens: Sequence[int], pointer: int, age: int) -> tuple[bool, bool]:
    """Whether the code of a frame, and the move after it, are the model's choice."""
    left = len(tokens) - pointer
    longest = LONGEST_PAUSE if pointer and tokens[pointer - 1] == PAUSE else STUCK
    return not (left <= 0 and age >= TAIL), left > 0 and age + 1 < longest


def make_pairs(
    model: SpeakerModel,
    codec: Codec,
    texts: Texts,
    hear: Hearing,
    similarity: Likeness | None,
    out: Path,
    settings: Settings,
    say: Callable[[str], None] = print,
) -> int:
    """Speak, judge, keep; gives the number of pairs in the folder.

    Raises:
        ConfigError: the folder was begun with other settings, texts or weights.
    """
    out.mkdir(parents=True, exist_ok=True)
    _check_plan(out / "plan.json", _plan(model, texts, similarity is not None, settings))
    jobs = out / "jobs.jsonl"
    lines = jobs.read_text(encoding="utf-8").splitlines() if jobs.exists() else []
    engine = AlignedSpeaking(model, settings.takes)
    for number in range(len(lines), settings.count):
        name, voice, tokens = texts.job(number)
        row: dict[str, Any] = {"job": number, "voice": name, "tokens": len(tokens), "pair": None}
        if len(voice) >= VOICE_FRAMES[0]:
            manners = [replace(MANNER, seed=seed) for seed in _seeds(settings, number)]
            takes = speak(engine, voice, tokens, manners)
            scores = list(_scores(codec, voice, tokens, takes, hear, similarity))
            row["takes"] = [{**asdict(score), "cost": round(score.cost, 4)} for score in scores]
            row["pair"] = ranked(scores, settings.margin)
            if row["pair"] is not None:
                best, worst = row["pair"]
                pair = Pair(voice, np.array(tokens, np.int16), takes[best], takes[worst])
                save_pair(out / f"{number:06d}.npz", pair)
        lines.append(json.dumps(row))
        # The line says that the job is done, so it comes last.
        draft = jobs.with_suffix(".tmp")
        draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
        draft.replace(jobs)
        say(f"{number + 1} of {settings.count}: " + ("no pair" if row["pair"] is None else "a pair"))
    return sum(json.loads(line)["pair"] is not None for line in lines)


def _seeds(settings: Settings, number: int) -> list[int]:
    drawn = np.random.default_rng([settings.seed, number, 1]).integers(0, 1 << 62, settings.takes)
    return [int(seed) for seed in drawn]


def _scores(
    codec: Codec,
    voice: NDArray[np.int16],
    tokens: Sequence[int],
    takes: Sequence[Take],
    hear: Hearing,
    similarity: Likeness | None,
) -> Iterator[Score]:
    wanted = phones_of(tokens)
    own = None if similarity is None else similarity.embed(_sound(codec, voice))
    for take in takes:
        wave = _sound(codec, take.codes)
        alike = None
        if similarity is not None and own is not None:
            alike = round(float(own @ similarity.embed(wave)), 4)
        wrong = round(edits(wanted, list(hear(wave))).rate, 4)
        yield Score(wrong, alike, round(unevenness(wave), 3), take.ended)


def _sound(codec: Codec, codes: NDArray[np.int16]) -> Wave:
    samples = len(codes) * codec.config.frame
    return codec.decode(Codes(codes, samples, codec.layout)).samples


def _plan(model: SpeakerModel, texts: Texts, likeness: bool, settings: Settings) -> dict[str, Any]:
    """What must be the same for a folder to go on; it may be asked for more jobs."""
    digest = hashlib.sha256()
    for value in model.state_dict().values():
        digest.update(value.detach().float().cpu().numpy().tobytes())
    wanted = hashlib.sha256(json.dumps(texts.texts).encode())
    for _, name, clips in texts.voices:
        wanted.update(json.dumps([name, [clip.id for clip in clips]]).encode())
    plan: dict[str, Any] = {key: value for key, value in asdict(settings).items() if key != "count"}
    return {
        **plan,
        "likeness": likeness,
        "texts and voices": wanted.hexdigest()[:16],
        "weights": digest.hexdigest()[:16],
    }


def _check_plan(path: Path, plan: dict[str, Any]) -> None:
    if not path.exists():
        write_json(path, plan)
        return
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for key, value in plan.items():
        if kept.get(key) != value:
            raise ConfigError(
                f"{path}: begun with {key} {kept.get(key)}, not {value}; use a fresh folder for it"
            )
