"""`rillvox train timbres`: the ways in which people differ, for a speaker that is there (`timbre.py`).

One recording of each person becomes a lesson, as when a voice is cloned. Then for all people at once: what
they have in common, a few ways, and how far each of them goes each way, so that the head gives the codes that
are there. The ways begin as the principal components of what the speaker thinks when it speaks as each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import AudioError, ConfigError, VoiceError
from ..training.manifests import Clip, Manifest
from .aligned_speaker import AlignedSpeaker
from .flow import FlowHead
from .reference import LONGEST
from .speaker import TTS
from .timbre import NOISE, Lesson, PhoneListener, Timbres, is_timbres, missed, tuned

SHORTEST = 5.0  # seconds of a recording that teaches
PEOPLE, FRAMES = 20, 8  # of a batch
SPREAD = 3.0  # of the ways at first, in units of the hidden state
RATES = {"ways": 0.005, "usual": 0.02, "far": 0.08}
EVERY = 50
KEPT_BACK, JUDGED = 8, 0.6  # people who don't teach; the part of their lesson that they are tuned to

Say = Callable[[str], None]


def train_timbres(
    flow: FlowHead, lessons: Sequence[Lesson], ways: int, steps: int, noise: float, *, seed: int, say: Say
) -> Timbres:
    """Find what lessons of many people have in common, and how they differ.

    Raises:
        ConfigError: no more people than ways, or more ways than a hidden state has numbers.
    """
    if len(lessons) <= ways:
        raise ConfigError(
            f"{ways} ways need more people than {len(lessons)}; give more recordings, or --ways"
        )
    if ways > lessons[0].hidden.shape[1]:
        raise ConfigError(f"--ways is at most {lessons[0].hidden.shape[1]}, the model's width; got {ways}")
    generator = torch.Generator().manual_seed(seed)
    means = torch.stack([lesson.hidden.mean(0) for lesson in lessons])
    axes = np.linalg.svd((means - means.mean(0)).numpy(), full_matrices=False)[2]
    away = torch.as_tensor(SPREAD * axes[:ways]).requires_grad_()
    usual = torch.zeros(means.shape[1], requires_grad=True)
    far = torch.zeros(len(lessons), ways, requires_grad=True)
    flow.requires_grad_(False)
    groups = [{"params": [p], "lr": RATES[n]} for n, p in (("ways", away), ("usual", usual), ("far", far))]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.98))
    scores: list[float] = []
    for step in range(1, steps + 1):
        hidden: list[Tensor] = []
        codes: list[Tensor] = []
        middle = far.mean(0).detach()  # what all have in common is `usual`
        drawn: list[int] = torch.randperm(len(lessons), generator=generator)[:PEOPLE].tolist()  # pyright: ignore
        for who in drawn:
            lesson = lessons[who]
            some = torch.randint(len(lesson.codes), (FRAMES,), generator=generator)
            hidden.append(lesson.hidden[some] + usual + (far[who] - middle) @ away)
            codes.append(lesson.codes[some])
        loss = missed(flow, torch.cat(hidden), torch.cat(codes), noise, generator)
        optimizer.zero_grad()
        loss.backward()  # pyright: ignore[reportUnknownMemberType]
        optimizer.step()  # pyright: ignore[reportUnknownMemberType]
        scores.append(float(loss.detach()))
        if step % EVERY == 0 or step == steps:
            say(f"step {step}: energy score {np.mean(scores[-EVERY:]):.4f}")
    return Timbres(usual.detach(), away.detach())


@torch.no_grad()
def gain(
    flow: FlowHead, timbres: Timbres, lessons: Sequence[Lesson], noise: float
) -> tuple[float, float, float]:
    """Energy scores of the last part of lessons: as it was, with what is usual, tuned to the first part."""
    found: list[tuple[float, ...]] = []
    for lesson in lessons:
        cut = int(len(lesson.codes) * JUDGED)
        step = tuned(flow, timbres, Lesson(lesson.hidden[:cut], lesson.codes[:cut]), noise)
        hidden, codes = lesson.hidden[cut:], lesson.codes[cut:]
        each = (torch.zeros_like(step), timbres.usual, timbres.usual + step)
        found.append(
            tuple(
                float(missed(flow, hidden + more, codes, noise, torch.Generator().manual_seed(0)))
                for more in each
            )
        )
    plain, usual, own = np.mean(found, 0)
    return float(plain), float(usual), float(own)


def people_of(manifests: Sequence[Manifest]) -> list[tuple[Manifest, Clip]]:
    """The longest fitting recording of everybody."""
    found: dict[str, tuple[Manifest, Clip]] = {}
    for manifest in manifests:
        for clip in manifest.clips:
            seconds = clip.seconds or 0.0
            known = found.get(clip.speaker)
            if SHORTEST <= seconds <= LONGEST and (known is None or seconds > (known[1].seconds or 0.0)):
                found[clip.speaker] = manifest, clip
    return list(found.values())


def main_timbres(
    manifests: Sequence[Path],
    out: Path,
    model: str,
    listener: PhoneListener,
    *,
    ways: int,
    steps: int,
    seed: int,
    say: Say,
) -> None:
    """Write the timbres of a speaker.

    Args:
        out: the file; it belongs into the speaker's folder as `timbres.safetensors`.

    Raises:
        ConfigError: too few people, or a model that has no timbres.
    """
    if out.suffix != ".safetensors" or (out.exists() and not is_timbres(out)):
        raise ConfigError(f"{out}: timbres are a .safetensors file of their own; name another one")
    tts = TTS.load(model, weights="float32")
    speaker = tts.speaker
    if not isinstance(speaker, AlignedSpeaker):
        raise ConfigError(f"{model}: timbres are for rillvox's own speakers")
    lessons: list[Lesson] = []
    people = people_of([Manifest(path) for path in manifests])
    if len(people) <= KEPT_BACK + ways:
        raise ConfigError(
            f"--ways {ways} needs more people than {KEPT_BACK + ways}, {KEPT_BACK} of them to judge by, and "
            f"there are {len(people)}: give recordings of {SHORTEST:g} to {LONGEST:g} s with speaker and "
            "seconds in their manifests, or fewer ways"
        )
    for number, (manifest, clip) in enumerate(people, 1):
        try:
            lessons.append(speaker.lesson(manifest.load(clip), listener))
        except (VoiceError, AudioError) as error:
            say(f"{clip.id} is left out: {error}")
        if number % EVERY == 0:
            say(f"{number} of {len(people)} people")
    order = np.random.default_rng(seed).permutation(len(lessons))
    mixed = [lessons[int(place)] for place in order]
    flow = tts.model.flow
    timbres = train_timbres(flow, mixed[KEPT_BACK:], ways, steps, NOISE, seed=seed, say=say)
    timbres.save(out)
    say(f"wrote {out}: {ways} ways of {len(mixed) - KEPT_BACK} people")
    plain, usual, own = gain(flow, timbres, mixed[:KEPT_BACK], NOISE)
    say(
        f"{KEPT_BACK} people kept back, the last {1 - JUDGED:.0%} of each recording: energy score "
        f"{plain:.4f}, with what is usual {usual:.4f}, tuned to the rest of the recording {own:.4f}"
    )
