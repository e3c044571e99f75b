"""What was heard: a text, its words with times, and the formats in which people ask for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .captions import cues, srt, vtt


@dataclass(frozen=True)
class Word:
    """One word of a transcript; times in seconds from the start of the audio.

    `confidence` is a probability in 0..1. `approximate` marks times that were not measured for this word but
    taken from its neighbours, as happens where several words leave the model at once.
    """

    text: str
    start: float
    end: float
    confidence: float = 1.0
    approximate: bool = False


@dataclass(frozen=True)
class Transcript:
    """The final text of a piece of audio, `seconds` long.

    `words` may be empty where times were not asked for; otherwise their texts, in order, occur in `text`.
    """

    text: str
    words: tuple[Word, ...] = ()
    seconds: float = 0.0

    def to_text(self) -> str:
        """The text and one line break."""
        return self.text.strip() + "\n"

    def to_dict(self) -> dict[str, Any]:
        """`text`, `seconds` and `words`, ready for JSON; times rounded to milliseconds."""
        return {
            "text": self.text,
            "seconds": round(self.seconds, 3),
            "words": [
                {
                    "text": word.text,
                    "start": round(word.start, 3),
                    "end": round(word.end, 3),
                    "confidence": round(word.confidence, 4),
                    "approximate": word.approximate,
                }
                for word in self.words
            ],
        }

    def to_json(self, indent: int | None = 2) -> str:
        """`to_dict` as a JSON document, non-ASCII letters kept."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=indent) + "\n"

    def to_srt(self) -> str:
        """SubRip captions; empty for an empty text."""
        return srt(cues(self.text, self.words, self.seconds))

    def to_vtt(self) -> str:
        """WebVTT captions; only the header for an empty text."""
        return vtt(cues(self.text, self.words, self.seconds))
