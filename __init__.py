"""rillvox: live speech recognition at any size.

Names are resolved on first use, so `import rillvox` costs milliseconds: torch is loaded when a model is.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .asr.stream import ASR
    from .asr.transcript import Transcript, Word
    from .audio import Audio
    from .codec.codes import Codes
    from .codec.stream import Codec
    from .errors import (
        AudioError,
        AuthError,
        CapacityError,
        CheckpointError,
        ConfigError,
        ProtocolError,
        RillvoxError,
        TextError,
        VoiceError,
    )
    from .tts.speaker import TTS, Synthesis
    from .tts.voices import Voice

__version__ = "0.1.0"

_ERRORS = ".errors"
_HOME = {
    "ASR": ".asr.stream",
    "Audio": ".audio",
    "AudioError": _ERRORS,
    "AuthError": _ERRORS,
    "CapacityError": _ERRORS,
    "CheckpointError": _ERRORS,
    "Codec": ".codec.stream",
    "Codes": ".codec.codes",
    "ConfigError": _ERRORS,
    "ProtocolError": _ERRORS,
    "RillvoxError": _ERRORS,
    "Synthesis": ".tts.speaker",
    "TTS": ".tts.speaker",
    "TextError": _ERRORS,
    "Transcript": ".asr.transcript",
    "Voice": ".tts.voices",
    "VoiceError": _ERRORS,
    "Word": ".asr.transcript",
}

__all__ = [
    "ASR",
    "TTS",
    "Audio",
    "AudioError",
    "AuthError",
    "CapacityError",
    "CheckpointError",
    "Codec",
    "Codes",
    "ConfigError",
    "ProtocolError",
    "RillvoxError",
    "Synthesis",
    "TextError",
    "Transcript",
    "Voice",
    "VoiceError",
    "Word",
]


def __getattr__(name: str) -> object:
    """Import a public name from the module it lives in (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'rillvox' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, imported or not."""
    return sorted({*globals(), *__all__})
