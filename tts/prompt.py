"""What a model is given before it speaks.

    <s> [BEGIN_AUDIO] [AUDIO] x rows [NEXT_AUDIO_TEXT] text ... [REPEAT_AUDIO_TEXT] [BEGIN_AUDIO]

The rows of the voice stand in for the `[AUDIO]` tokens. Control symbols are found by name: other files put
other symbols at the same ids.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import TextError
from ..tekken import BOS, Tekken
from .config import TTSConfig
from .model import SpeakerModel
from .voices import Voice

AUDIO, BEGIN_AUDIO = "[AUDIO]", "[BEGIN_AUDIO]"
NEXT, REPEAT = "[NEXT_AUDIO_TEXT]", "[REPEAT_AUDIO_TEXT]"
SYMBOLS = (BOS, AUDIO, BEGIN_AUDIO, NEXT, REPEAT)
LONGEST_FRAMES = 2048  # that the reference speaks in one go


def prompt_ids(tekken: Tekken, rows: int, text: str) -> list[int]:
    """Ids of a prompt for a voice of so many rows; text is text, also where it names a control symbol.

    Raises:
        TextError: no text.
        CheckpointError: a vocabulary without the symbols.
    """
    words = tekken.encode(text)
    if not words:
        raise TextError("there is no text to speak")
    audio = [tekken.special(AUDIO)] * rows
    begin, next_, repeat = (tekken.special(name) for name in (BEGIN_AUDIO, NEXT, REPEAT))
    return [tekken.special(BOS), begin, *audio, next_, *words, repeat, begin]


def embed_prompt(model: SpeakerModel, tekken: Tekken, voice: Voice, text: str) -> Tensor:
    """The prompt as the backbone reads it, [positions, dim].

    Raises:
        TextError: no text, or more than the context holds.
    """
    ids = torch.tensor(prompt_ids(tekken, len(voice), text), device=model.kind.device)
    check_length(model.config, len(ids))
    with torch.no_grad():
        return model.prompt(ids, voice.embed(model), tekken.special(AUDIO))


def check_length(config: TTSConfig, positions: int) -> None:
    """Refuse a prompt that leaves no room to speak.

    Raises:
        TextError: it fills more than half the context.
    """
    context = config.backbone.window
    assert context is not None
    if positions > context // 2:
        raise TextError(
            f"text and voice take {positions} of {context} positions; speak the text in several parts"
        )
