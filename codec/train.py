"""Training of the codec in stages: `rillvox train codec`.

`rillvox train sounds` comes first: recordings to 24 kHz and the teacher's codes (`prepare.py`).

1. `reconstruct`: encoder and decoder from spectra and samples, the semantic latent from the teacher.
2. `adversarial`: slim discriminators; the encoder stays as it is, so that codes made before stay valid.
3. `export`: the averaged weights as a model folder.

Every stage resumes from its folder, logs to `log.jsonl`, and keeps averaged weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError
from ..training.augment import change_speed
from ..training.loop import CHECKPOINT, Figures, LoopConfig, make_fabric, train
from ..training.pool import HELD_OUT
from ..training.sounds import RATE, STEP, Sound, Sounds
from .checkpoint import save_model
from .config import CodecConfig, small_codec
from .losses import mel_distance
from .model import CodecModel
from .tasks import CodecTask, WaveBatch

STAGES = ("reconstruct", "adversarial", "export")
TOP = 0.94  # of half the native rate: resamplers and coders leave nothing above
GAIN_DB = (-8.0, 4.0)
SPEED = (0.85, 1.18)
SPEED_SHARE = 0.3  # of the items; they have no teacher
NARROW_SHARE = 0.2  # of the 24 kHz items: heard through a narrow line, wanted as they were
WIDE_SHARE = 0.5  # of the items, of recordings of 22 kHz and more


@dataclass(frozen=True)
class CodecRun:
    """Where everything of one training lies, and how long its stages are."""

    sounds: Path
    out: Path
    steps: int = 5000
    rows: int = 8
    frames: int = 12
    devices: int = 1
    precision: str = "auto"
    seed: int = 0
    init: Path | None = None
    rate: float = 1.0


def main_train_codec(stage: str, run: CodecRun, say: Callable[[str], None] = print) -> None:
    """One stage of a run; the earlier ones must have been through.

    Raises:
        ConfigError: an unknown stage, or one whose input is missing.
    """
    if stage not in STAGES:
        raise ConfigError(f"stage must be {', '.join(STAGES)}, got {stage!r}")
    sounds = Sounds(run.sounds)
    say(f"{len(sounds.clips)} clips, {sum(clip.seconds for clip in sounds.clips) / 3600:.2f} hours")
    if stage == "export":
        export(run, sounds, say)
    else:
        train_stage(stage, run, sounds, say)


def config_of(sounds: Sounds) -> CodecConfig:
    """The default shape with the teacher's codebook."""
    return small_codec(len(sounds.codebook))


def train_stage(stage: str, run: CodecRun, sounds: Sounds, say: Callable[[str], None]) -> None:
    """`reconstruct` or `adversarial`."""
    adversarial = stage == "adversarial"
    config = config_of(sounds)
    torch.manual_seed(run.seed)  # pyright: ignore[reportUnknownMemberType]
    task = CodecTask(config, sounds.codebook, adversarial=adversarial, frozen_encoder=adversarial)
    if run.init is not None:
        task.model.load_state_dict(averaged(run.init))
    elif adversarial:
        task.model.load_state_dict(averaged(run.out / "reconstruct"))
    peak = (4e-4 if adversarial else 1.2e-3) * run.rate
    learning = [p for p in task.model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in learning if p.dim() > 1], "lr": peak, "weight_decay": 0.01},
        {"params": [p for p in learning if p.dim() <= 1], "lr": peak, "weight_decay": 0.0},
    ]
    if task.critics is not None:
        critics = list(task.critics.parameters())
        groups.append({"params": critics, "lr": 3e-4, "betas": (0.8, 0.99), "weight_decay": 0.0})
    rows = WaveRows(sounds, config, run.frames)
    train(
        make_fabric(run.devices, run.precision),
        LoopConfig(run.steps, warmup=100, clip=5.0, ema=0.998, evaluate_every=500, seed=run.seed),
        run.out / stage,
        task,
        groups,
        lambda rng, done: rows.draw(run.rows, rng, done if adversarial else 0.0),
        lambda trained: dev_figures(trained, sounds),
        say,
    )


class WaveRows:
    """Batches of speech: half of them wide, each drawn anew in loudness, start and speed."""

    def __init__(self, sounds: Sounds, config: CodecConfig, frames: int) -> None:
        self.sounds, self.config, self.frames = sounds, config, frames
        self.length = frames * config.frame
        long = [clip for clip in sounds.training() if clip.samples >= self.length * SPEED[1] + STEP]
        if not long:
            raise ConfigError(f"no clip of {self.length / RATE:.1f} s or more to train on")
        self.wide = [clip for clip in long if clip.native >= 22000] or long
        self.narrow = [clip for clip in long if clip.native < 22000] or long
        self.chances = {id(part): self._chances(part) for part in (self.wide, self.narrow)}

    @staticmethod
    def _chances(clips: list[Sound]) -> NDArray[np.float64]:
        """By the root of a speaker's time, so that one voice does not drown the rest."""
        time: dict[str, float] = {}
        for clip in clips:
            time[clip.speaker] = time.get(clip.speaker, 0.0) + clip.seconds
        each = np.array([clip.seconds / time[clip.speaker] ** 0.5 for clip in clips])
        return each / each.sum()

    def draw(self, rows: int, rng: np.random.Generator, done: float) -> WaveBatch:
        """A batch; `done` is how far the adversarial stage is, whose terms come in by and by."""
        heard = np.zeros((rows, self.length), np.float32)
        wanted = np.zeros_like(heard)
        ids = np.full((rows, self.frames), -1, np.int64)
        known = np.zeros(rows, np.float32)
        for row in range(rows):
            part = self.wide if rng.random() < WIDE_SHARE else self.narrow
            clip = part[int(rng.choice(len(part), p=self.chances[id(part)]))]
            speed = float(rng.uniform(*SPEED)) if rng.random() < SPEED_SHARE else 1.0
            need = int(self.length * speed) + 2
            begin = int(rng.integers(0, (clip.samples - need) // STEP + 1)) * STEP
            wave = self.sounds.samples(clip, begin, need)
            if speed == 1.0:
                ids[row] = self.sounds.codes(clip, begin, self.frames)
            else:
                wave, _ = change_speed(wave, np.zeros(0), speed)
            wave = wave[: self.length]
            wave = wave * np.float32(10 ** (rng.uniform(*GAIN_DB) / 20))
            heard[row, : len(wave)] = wanted[row, : len(wave)] = wave
            top = TOP * clip.native / 2 * speed
            known[row] = RATE if top >= TOP * RATE / 2 * min(1.0, speed) else top
            if known[row] == RATE and rng.random() < NARROW_SHARE:
                heard[row] = low_pass(heard[row], float(rng.uniform(3500, 9000)))
        peak = np.maximum(1.0, np.abs(wanted).max(1, keepdims=True))
        acoustic = self.config.acoustic_dim
        return WaveBatch(
            torch.as_tensor(heard / peak),
            torch.as_tensor(wanted / peak),
            torch.as_tensor(ids),
            torch.as_tensor(known),
            torch.as_tensor(rng.random((rows, 2), np.float32)),
            torch.as_tensor(rng.uniform(-1, 1, (rows, self.frames, acoustic)).astype(np.float32)),
            torch.tensor(float(np.clip((done - 0.02) / 0.1, 0.0, 1.0))),
        )


def low_pass(wave: NDArray[np.float32], hz: float) -> NDArray[np.float32]:
    """Without what lies above `hz`."""
    spectrum = np.fft.rfft(wave)
    spectrum[int(hz / (RATE / 2) * (len(spectrum) - 1)) :] = 0
    return np.fft.irfft(spectrum, len(wave)).astype(np.float32)


@torch.no_grad()
def dev_figures(task: nn.Module, sounds: Sounds) -> Figures:
    """Of the first seconds of held-out clips: distance, the teacher's codes named right, codes in use."""
    assert isinstance(task, CodecTask)
    device = next(task.parameters()).device
    frame, count = task.config.frame, 36
    mel: list[float] = []
    right = total = 0
    used: list[Tensor] = []
    encoder = task.model.encoder
    assert encoder is not None
    for clip in [clip for clip in sounds.clips if clip.corpus in HELD_OUT][::6]:
        frames = min(count, clip.samples // frame)
        wave = torch.as_tensor(sounds.samples(clip, 0, frames * frame))[None].to(device)
        codes = task.model.quantizer.encode(encoder(wave))
        found = task.model.decoder(task.model.quantizer.decode(codes))
        known = torch.tensor([min(RATE, TOP * clip.native / 2)], device=device)
        mel.append(float(mel_distance(found, wave, known)))
        ids = sounds.codes(clip, 0, frames)
        named = codes[0, :, 0].cpu().numpy()
        right += int((named == ids).sum())
        total += int((ids >= 0).sum())
        used.append(codes[0].cpu())
    if not mel:
        return {}
    codes = torch.cat(used)
    levels = task.config.acoustic_levels - 1
    share = torch.bincount(codes[:, 0]).float() / len(codes)
    return {
        "dev_mel": round(float(np.mean(mel)), 4),
        "dev_teacher_right": round(right / max(1, total), 4),
        "dev_end_levels": round(float(((codes[:, 1:] == 0) | (codes[:, 1:] == levels)).float().mean()), 4),
        "dev_perplexity": round(float(torch.exp(-(share * (share + 1e-12).log()).sum())), 1),
    }


def export(run: CodecRun, sounds: Sounds, say: Callable[[str], None]) -> None:
    """`model/` in the run's folder, of the adversarial stage if it has run."""
    model = CodecModel(config_of(sounds))
    last = "adversarial" if (run.out / "adversarial" / CHECKPOINT).exists() else "reconstruct"
    model.load_state_dict(averaged(run.out / last))
    save_model(model, run.out / "model", dtype=torch.float16)
    say(f"wrote {run.out / 'model'}")


def averaged(folder: Path) -> dict[str, Tensor]:
    """The averaged weights of a stage's codec."""
    try:
        kept = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{folder}: no checkpoint; run the stage `{folder.name}` first") from error
    weights: dict[str, Tensor] = kept["average"]
    return {k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")}
