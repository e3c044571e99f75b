"""Speech that is listened to before it is given out: transcribed, and spoken anew where words are missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from .speaker import TTS, Synthesis
from .spoken import speakable
from .voices import Voice

SEED_STEP = 1_000_003
Transcribe = Callable[[Synthesis], str]


@dataclass(frozen=True)
class Checked:
    """A synthesis, and what was found: the words of the text that were not heard, in each try."""

    synthesis: Synthesis
    missing: list[list[str]]

    @property
    def best(self) -> int:
        """Words not heard in the try that was taken."""
        return min(map(len, self.missing))


def check(
    tts: TTS,
    text: str,
    voice: Voice | str,
    transcribe: Transcribe,
    *,
    seed: int = 0,
    tries: int = 3,
    lexicon: Mapping[str, str] | None = None,
) -> Checked:
    """Speak until every word is heard, at most `tries` times, and take the try with fewest words missing.

    Args:
        transcribe: gives the words that are heard in a synthesis.
    """
    wanted = _words(speakable(text, lexicon).text)
    best: Synthesis | None = None
    missing: list[list[str]] = []
    for number in range(tries):
        found = tts.synthesize(text, voice, seed=seed + number * SEED_STEP, lexicon=lexicon)
        lost = not_heard(wanted, _words(transcribe(found)))
        if best is None or len(lost) < min(map(len, missing)):
            best = found
        missing.append(lost)
        if not lost:
            break
    assert best is not None
    return Checked(replace(best, notes=[*best.notes, *_told(missing)]), missing)


def not_heard(wanted: list[str], heard: list[str]) -> list[str]:
    """Words of a text that no word of a transcript stands for, in the best alignment."""
    kept = SequenceMatcher(None, wanted, heard, autojunk=False).get_matching_blocks()
    found = {block.a + i for block in kept for i in range(block.size)}
    return [word for i, word in enumerate(wanted) if i not in found]


def _words(text: str) -> list[str]:
    plain = "".join(c if c.isalnum() or c == "'" else " " for c in text.lower())
    return plain.split()


def _told(missing: list[list[str]]) -> list[str]:
    return [
        f"try {number}: " + ("every word was heard" if not lost else f"not heard: {', '.join(lost)}")
        for number, lost in enumerate(missing, 1)
    ]
