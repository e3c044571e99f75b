"""A voice's sound set right: what a model makes of it is compared with the recording, once, when it is cloned.

A small model gives a stranger a voice of their kind; its acoustic codes lie, on average, beside the recording's,
nearer to those of voices it knows well. So it speaks some sentences, and what its averages lack is added to all
that its flow draws in that voice from then on. The backbone hears the corrected frames, and follows them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .aligned_speaking import AlignedSpeaking
from .config import END, SPECIAL
from .speaking import Manner
from .tokens import STOP

# Every phone of English, the frequent ones several times; spoken side by side.
SENTENCES = (
    "We watched the young fisherman mend his blue net, while the geese argued over a piece of bread.",
    "Perhaps you should choose the larger house, although the view from the garden is rather dull.",
    "Just before noon, both boys made away with a measure of oil and a thick rope.",
)
DOUBT = 25.0  # frames: so many of a recording are believed half
MOST = 0.5  # of a range of 2; what lies farther off is another sound, not another voice
FRAMES_A_TOKEN = 6  # a sentence of so many tokens is spoken in fewer frames, or not at all


def timbre(
    codes: Tensor,
    heard: Mapping[str, Tensor],
    engine: Callable[[int], AlignedSpeaking],
    read: Callable[[str], Sequence[int]],
    manner: Manner,
) -> Tensor:
    """What is added to the acoustic values of a voice, float32 [acoustic_dim].

    Args:
        codes: of the recording, whole numbers [frames, codes] from 0.
        heard: what the model knows once it has heard them.
        engine: slots of the model, so many.
        read: tokens of a text.
    """
    spoken = _speak(engine(len(SENTENCES)), heard, [read(text) for text in SENTENCES], manner)
    levels = codes[:, 1:].float().mean(0) - spoken[:, 1:].float().mean(0)
    top = engine(1).model.config.codec.acoustic_levels - 1
    believed = len(codes) / (len(codes) + DOUBT)
    return (believed * levels * 2 / top).clamp(-MOST, MOST)


def _speak(
    engine: AlignedSpeaking, heard: Mapping[str, Tensor], texts: Sequence[Sequence[int]], manner: Manner
) -> Tensor:
    """Frames of all texts, from 0, [frames, codes]."""
    for slot, tokens in enumerate(texts):
        engine.open(slot, replace(manner, seed=slot), heard)
        engine.say(slot, [*tokens, STOP], whole=True)
    active = torch.ones(len(texts), dtype=torch.bool, device=engine.device)
    frames: list[Tensor] = []
    for _ in range(FRAMES_A_TOKEN * max(map(len, texts))):
        found = engine.tick(active)
        active = active & (found[:, 0] != END)
        if not bool(active.any()):
            break
        frames.append(found[active] - SPECIAL)
    return torch.cat(frames).cpu()
