"""Segments of a transcript as `verbose_json` has them: a sentence each, or the piece before a pause."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING

from .message import JsonObject

if TYPE_CHECKING:
    from ...asr.transcript import Transcript, Word

LONGEST = 30.0  # seconds; whisper's window
PAUSE = 1.5
_ENDS = (".", "!", "?", "…", "\u3002", "\uff01", "\uff1f")


def segments_json(transcript: Transcript) -> list[JsonObject]:
    """All segments. Law: their texts joined are the text, one space in front aside."""
    if not transcript.text.strip():
        return []
    if not transcript.words:
        return [_segment(0, transcript.text, 0.0, transcript.seconds, ())]
    text, at = transcript.text, 0
    made: list[JsonObject] = []
    for words, is_last in _grouped(transcript.words):
        end = len(text) if is_last else _after(text, at, words)
        made.append(_segment(len(made), text[at:end], words[0].start, words[-1].end, words))
        at = end
    return made


def _grouped(words: tuple[Word, ...]) -> list[tuple[tuple[Word, ...], bool]]:
    groups: list[list[Word]] = []
    for word in words:
        if not groups or _breaks(groups[-1], word):
            groups.append([])
        groups[-1].append(word)
    return [(tuple(group), group is groups[-1]) for group in groups]


def _breaks(group: list[Word], word: Word) -> bool:
    before = group[-1]
    sentence = before.text.rstrip().endswith(_ENDS)
    return sentence or word.start - before.end >= PAUSE or word.end - group[0].start > LONGEST


def _after(text: str, at: int, words: tuple[Word, ...]) -> int:
    """Index behind the last of `words` and the marks that cling to it."""
    for word in words:
        found = text.find(word.text.strip(), at)
        at = at if found < 0 else found + len(word.text.strip())
    while at < len(text) and not text[at].isspace():
        at += 1
    return at


def _segment(number: int, text: str, start: float, end: float, words: tuple[Word, ...]) -> JsonObject:
    confidences = [min(1.0, max(word.confidence, 1e-9)) for word in words] or [1.0]
    data = text.encode()
    return {
        "id": number,
        "seek": round(start * 100),
        "start": round(start, 3),
        "end": round(max(start, end), 3),
        "text": text if text.startswith(" ") else " " + text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(sum(map(math.log, confidences)) / len(confidences), 4),
        "compression_ratio": round(len(data) / len(zlib.compress(data)), 3) if data else 0.0,
        "no_speech_prob": 0.0,
    }
