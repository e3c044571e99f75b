"""Settings of an OpenAI GA transcription session: what was asked, merged and echoed.

An update changes what it names: an absent field keeps its value, null brings back the default
(for `turn_detection` and `noise_reduction`: switches off). An update that is wrong anywhere
changes nothing. Unknown fields are ignored.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ..events import TurnRules
from .message import JsonObject, MessageError, number_field, object_field, text_field, text_list
from .names import ModelNames
from .pcm import AudioFormat

LOGPROBS = "item.input_audio_transcription.logprobs"
WORDS = "item.input_audio_transcription.words"  # ours: words with times in `completed`

DELAYS_MS = {"minimal": 160, "low": 320, "medium": 480, "high": 960, "xhigh": 1920}
DEFAULT_AUDIO = AudioFormat("s16le", 24000)
RATES = (8000, 16000, 22050, 24000, 32000, 44100, 48000)
_PATIENCE_MS = {"low": 8000, "medium": 4000, "high": 2000, "auto": 4000}
_G711 = {"audio/pcmu": AudioFormat("mulaw", 8000), "audio/pcma": AudioFormat("alaw", 8000)}
_TYPES = {"mulaw": "audio/pcmu", "alaw": "audio/pcma"}


@dataclass(frozen=True)
class TurnDetection:
    """`server_vad`, or `semantic_vad` where `eagerness` is set."""

    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 500
    eagerness: str | None = None

    def rules(self) -> TurnRules:
        """The same for the engine."""
        patience = None if self.eagerness is None else _PATIENCE_MS[self.eagerness]
        return TurnRules(self.silence_duration_ms, patience, self.threshold)

    def to_json(self) -> JsonObject:
        """As the session object shows it."""
        if self.eagerness is not None:
            return {"type": "semantic_vad", "eagerness": self.eagerness}
        return {
            "type": "server_vad",
            "threshold": self.threshold,
            "prefix_padding_ms": self.prefix_padding_ms,
            "silence_duration_ms": self.silence_duration_ms,
        }


@dataclass(frozen=True)
class Transcription:
    """What the client says about the text it wants. All but delay and language is advice."""

    model: str
    language: str | None = None
    prompt: str | None = None
    languages: tuple[str, ...] | None = None
    keywords: tuple[str, ...] | None = None
    delay: str | None = None

    def to_json(self) -> JsonObject:
        """As the session object shows it; rarer fields only where they are set."""
        shown: JsonObject = {"model": self.model, "language": self.language, "prompt": self.prompt}
        if self.languages is not None:
            shown["languages"] = list(self.languages)
        if self.keywords is not None:
            shown["keywords"] = list(self.keywords)
        if self.delay is not None:
            shown["delay"] = self.delay
        return shown


@dataclass(frozen=True)
class Settings:
    """One session's settings."""

    names: ModelNames
    transcription: Transcription
    audio: AudioFormat = DEFAULT_AUDIO
    turns: TurnDetection | None = field(default_factory=TurnDetection)
    noise_reduction: JsonObject | None = None
    include: tuple[str, ...] = ()

    @staticmethod
    def initial(names: ModelNames, model: str | None = None) -> Settings:
        """The defaults, with the model of the query string."""
        return Settings(names, Transcription(model or names.default))

    @property
    def delay_ms(self) -> int | None:
        """The delay asked for; `None` is the server's default."""
        return DELAYS_MS.get(self.transcription.delay or "")

    def rules(self) -> TurnRules | None:
        """Turn detection for the engine."""
        return None if self.turns is None else self.turns.rules()

    def to_json(self) -> JsonObject:
        """The `audio` and `include` of the session object."""
        shown: JsonObject = {"type": "audio/pcm", "rate": self.audio.rate}
        if self.audio.encoding in _TYPES:
            shown = {"type": _TYPES[self.audio.encoding]}
        audio = {
            "format": shown,
            "noise_reduction": self.noise_reduction,
            "transcription": self.transcription.to_json(),
            "turn_detection": None if self.turns is None else self.turns.to_json(),
        }
        return {"audio": {"input": audio}, "include": list(self.include) or None}

    def updated(self, session: JsonObject) -> Settings:
        """These settings after an update.

        Raises:
            MessageError: the first field that is wrong.
        """
        audio = object_field(session, "audio", "session.audio") or {}
        given = object_field(audio, "input", "session.audio.input") or {}
        _check_type(session, given)
        result = self
        if "format" in given:
            result = replace(result, audio=_format(given))
        if "transcription" in given:
            result = replace(result, transcription=self._transcription(given))
        if "turn_detection" in given:
            result = replace(result, turns=_turns(given, self.turns))
        if "noise_reduction" in given:
            result = replace(result, noise_reduction=_noise_reduction(given, self.noise_reduction))
        if "include" in session:
            asked = text_list(session, "include", "session.include") or []
            result = replace(result, include=tuple(name for name in (LOGPROBS, WORDS) if name in asked))
        return result

    def _transcription(self, given: JsonObject) -> Transcription:
        path = "session.audio.input.transcription"
        asked = object_field(given, "transcription", path)
        if asked is None:
            return Transcription(self.names.default)
        result = self.transcription
        if "model" in asked:
            model = text_field(asked, "model", f"{path}.model")
            if self.names.resolve(model) is None:
                raise MessageError(f"there is no model {model!r} here", "model_not_found", f"{path}.model")
            result = replace(result, model=model or self.names.default)
        if "language" in asked:
            result = replace(result, language=text_field(asked, "language", f"{path}.language", 64))
        if "prompt" in asked:
            result = replace(result, prompt=text_field(asked, "prompt", f"{path}.prompt", 20_000))
        if "delay" in asked:  # an unknown word is no delay, never an error
            delay = asked["delay"]
            result = replace(result, delay=delay if isinstance(delay, str) and delay in DELAYS_MS else None)
        for key in ("languages", "keywords"):
            if key in asked:
                listed = text_list(asked, key, f"{path}.{key}")
                result = replace(result, **{key: None if listed is None else tuple(listed)})
        return result


def _check_type(session: JsonObject, audio_input: JsonObject) -> None:
    kind = session.get("type")
    if kind is None or kind == "transcription" or (kind == "realtime" and audio_input.get("transcription")):
        return
    raise MessageError(
        'only transcription sessions are served here; set session.type to "transcription"',
        "invalid_session_type",
        "session.type",
    )


def _format(given: JsonObject) -> AudioFormat:
    path = "session.audio.input.format"
    asked = object_field(given, "format", path)
    if asked is None:
        return DEFAULT_AUDIO
    kind = text_field(asked, "type", f"{path}.type", 40)
    if kind in _G711:
        return _G711[kind]
    if kind != "audio/pcm":
        raise MessageError(
            f"{path}.type must be audio/pcm, audio/pcmu or audio/pcma", "invalid_value", f"{path}.type"
        )
    rate = number_field(asked, "rate", f"{path}.rate", 0, 1_000_000)
    if rate is None:
        return DEFAULT_AUDIO
    if rate not in RATES:
        known = ", ".join(str(known) for known in RATES)
        raise MessageError(
            f"{path}.rate must be one of {known}, got {rate:g}", "invalid_value", f"{path}.rate"
        )
    return AudioFormat("s16le", int(rate))


def _turns(given: JsonObject, before: TurnDetection | None) -> TurnDetection | None:
    path = "session.audio.input.turn_detection"
    asked = object_field(given, "turn_detection", path)
    if asked is None:
        return None
    kind = text_field(asked, "type", f"{path}.type", 40) or "server_vad"
    if kind == "semantic_vad":
        eagerness = text_field(asked, "eagerness", f"{path}.eagerness", 40) or "auto"
        if eagerness not in _PATIENCE_MS:
            raise MessageError(
                f"{path}.eagerness must be low, medium, high or auto", "invalid_value", f"{path}.eagerness"
            )
        return TurnDetection(eagerness=eagerness)
    if kind != "server_vad":
        raise MessageError(f"{path}.type must be server_vad or semantic_vad", "invalid_value", f"{path}.type")
    old = before if before is not None and before.eagerness is None else TurnDetection()
    threshold = number_field(asked, "threshold", f"{path}.threshold", 0, 1)
    padding = number_field(asked, "prefix_padding_ms", f"{path}.prefix_padding_ms", 0, 10_000)
    silence = number_field(asked, "silence_duration_ms", f"{path}.silence_duration_ms", 0, 60_000)
    return TurnDetection(
        old.threshold if threshold is None else threshold,
        old.prefix_padding_ms if padding is None else round(padding),
        old.silence_duration_ms if silence is None else round(silence),
    )


def _noise_reduction(given: JsonObject, before: JsonObject | None) -> JsonObject | None:
    path = "session.audio.input.noise_reduction"
    asked = object_field(given, "noise_reduction", path)
    if asked is None:
        return None
    kind = text_field(asked, "type", f"{path}.type", 40) or (before or {}).get("type")
    if kind not in ("near_field", "far_field"):
        raise MessageError(f"{path}.type must be near_field or far_field", "invalid_value", f"{path}.type")
    strength = number_field(asked, "strength", f"{path}.strength", 0, 100)
    if strength is None:
        strength = (before or {}).get("strength")
    return {"type": kind} if strength is None else {"type": kind, "strength": strength}
