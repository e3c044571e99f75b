"""Tiny speakers with text beside their frames, random weights, alike every time."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from tiny_codec import TINY, frames_of_codes, made

from rillvox.codec.checkpoint import save_model
from rillvox.codec.config import CodecConfig
from rillvox.codec.stream import Codec
from rillvox.tts.config import AlignedTextConfig, FlowConfig, TTSConfig, backbone
from rillvox.tts.model import SpeakerModel
from rillvox.tts.own import save_own
from rillvox.tts.pronounce import SHIPPED
from rillvox.tts.speaker import TTS
from rillvox.tts.tokens import PAUSE, STOP, TOKENS
from rillvox.tts.voices import Voice


def small(codec: CodecConfig = TINY, *, spans: bool = False, named: bool = True) -> TTSConfig:
    """The default speaker, made narrow, shallow and forgetful."""
    return TTSConfig(
        backbone(32, 2, 2, 2, 16, 48, rope_theta=1e4, context=64),
        FlowConfig(32, 2, 2, 2, 16, 48, named=named, spans=spans, steps=4, guidance=1.5),
        codec,
        0,
        "small",
        AlignedTextConfig(TOKENS, width=16),
    )


def random_speaker(config: TTSConfig, seed: int = 3) -> SpeakerModel:
    """Random weights; it says a token or two in a frame, and its text is felt."""
    torch.manual_seed(seed)
    model = SpeakerModel(config).eval()
    with torch.no_grad():
        for parameter in (model.text.begin, model.text.beside):
            parameter.normal_()
        model.text.window.weight.mul_(4)
        model.flow.acoustic_codebook_output.weight.mul_(2)
        model.text.advance.bias.copy_(-0.4 * torch.arange(len(model.text.advance.bias)))
    return model.requires_grad_(False)


@cache
def speaker(spans: bool = False) -> SpeakerModel:
    """One on the tiny codec; never to be changed."""
    return random_speaker(small(spans=spans))


def voice_rows(model: SpeakerModel, frames: int, seed: int = 0) -> torch.Tensor:
    """Embedded frames [frames, dim] of a voice."""
    return model.frame_embedding(voice_codes(model, frames, seed) + 2)


def voice_codes(model: SpeakerModel, frames: int, seed: int = 0) -> torch.Tensor:
    """Codes [frames, 37] of a voice."""
    generator = torch.Generator().manual_seed(seed)
    columns = [
        torch.randint(0, values, (frames,), generator=generator) for values in model.config.codec.alphabets
    ]
    return torch.stack(columns, 1)


def text_tokens(count: int, seed: int = 0) -> list[int]:
    """Phones, some of them pauses, and the end."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, PAUSE, (count,), generator=generator).tolist()
    return [PAUSE if number % 7 == 6 else token for number, token in enumerate(ids)] + [STOP]


def write_speaker(folder: Path, *, spans: bool = False) -> Path:
    """A whole model folder: speaker, words, and a codec with frames of 80 ms beside it."""
    codec = made("80 ms")
    save_model(codec.model, folder / "codec")
    config = replace(small(codec.config, spans=spans), backbone=replace(small().backbone, window=256))
    fingerprint = Codec.load(folder / "codec", weights="float32").fingerprint
    save_own(random_speaker(config), folder, "codec", fingerprint)
    (folder / "words.safetensors").symlink_to(SHIPPED)
    return folder


def made_voice(tts: TTS, name: str = "ana", seconds: float = 2.0) -> Voice:
    """A voice of random codes that the model has heard."""
    codes = frames_of_codes(tts.codec, round(seconds * 12.5)).to(torch.int16)
    return tts.remember(Voice(name, tts.fingerprint, codes, record={"consent": "Ana allows it"}))
