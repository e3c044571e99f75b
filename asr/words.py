"""Words with times and a confidence, from tokens as they are written.

The model marks the end of a word in the audio by [W], D steps late (`DelayClock.group_end_ms`), and writes
the word after it; words that became due meanwhile follow without a mark of their own. So the first word of a
group has a measured end, of one step's resolution, and the others lie between that end and the step in which
they were begun: their ends are guessed from the number of characters and flagged `approximate`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from ..tekken import Tekken
from .transcript import Word

# Read English runs at 14 to 16 characters a second, blanks included.
SECONDS_PER_CHARACTER = 0.065

# Keys of tekken.json's `audio`, written by `asr/calibrate.py`.
OFFSET = "word_time_offset_ms"
CONFIDENCE = "confidence_scale_shift"

_PARTS = re.compile(r"\s+|\S+")

_Row: TypeAlias = "tuple[str, float, bool, float, list[float]]"

# When did the sound of a word begin that lies between two moments? None: no telling.
Onset = Callable[[float, float], float | None]


@dataclass
class _Writing:
    """A word that may still grow."""

    text: str
    end: float
    approximate: bool
    latest: float  # its audio has ended by then
    scores: list[float] = field(default_factory=list[float])  # log-probabilities of tokens and mark


class Words:
    """Collects the words of one session, in order; times never run backwards."""

    def __init__(
        self,
        offset: float = 0.0,
        onset: Onset | None = None,
        keep: bool = True,
        calibration: tuple[float, float] = (1.0, 0.0),
    ) -> None:
        self.offset = offset  # seconds added to measured ends: the model's own bias
        self.calibration = calibration  # scale and shift, see `calibrated`
        self.keep = keep  # remember all words, for the transcript
        self.all: list[Word] = []
        self._onset = onset
        self._fresh: list[Word] = []
        self._writing: _Writing | None = None
        self._mark: tuple[float, float] | None = None  # end and log-probability of a [W] without a word yet
        self._scores: list[float] = []  # of tokens whose bytes are not yet a character
        self._end = 0.0  # of the last complete word
        self._cut = False  # the last word was closed by a pause: a piece without a blank belongs to it

    @property
    def is_open(self) -> bool:
        """A group was marked, or a word begun, that is not complete."""
        return self._writing is not None or self._mark is not None

    @property
    def end(self) -> float:
        """End of the last complete word, in seconds."""
        return self._end

    @property
    def writing_end(self) -> float:
        """End of the word that is being written, or of the last one."""
        return self._end if self._writing is None else self._writing.end

    def mark(self, seconds: float, log_probability: float) -> None:
        """[W]: a word has ended at this moment of the audio."""
        self._close()
        self._cut = False
        self._mark = (seconds + self.offset, log_probability)

    def pause(self) -> None:
        """[P]: nothing more to write for now."""
        if self._writing is not None:
            self._close()
            self._cut = True
        self._mark = None

    def write(self, text: str, seconds: float, log_probability: float) -> None:
        """A token's text, which may be empty; `seconds` is the latest moment its audio can have ended."""
        self._scores.append(log_probability)
        taken = False
        for part in _PARTS.findall(text):
            if part.isspace():
                self._close()
                self._cut = False
                continue
            writing = self._writing
            if writing is None:
                writing = self._writing = self._open(seconds + self.offset)
            writing.text += part
            writing.scores += self._scores
            taken = True
            if writing.approximate:
                guess = self._end + SECONDS_PER_CHARACTER * (len(writing.text) + 1)
                writing.end = min(writing.latest, guess)
        if taken:
            self._scores = []

    def add(self, text: str, start: float, end: float, confidence: float) -> None:
        """A whole word with measured times in seconds, as a search finds it."""
        start = max(start + self.offset, self._end)
        end = max(end + self.offset, start)
        word = Word(text, start, end, calibrated(confidence, *self.calibration))
        self._end, self._cut = end, False
        self._fresh.append(word)
        if self.keep:
            self.all.append(word)

    def finish(self) -> None:
        """The end of the session: what is written is complete."""
        self._close()

    def take(self) -> tuple[Word, ...]:
        """Words that became complete since the last call.

        A word that went on after a pause is told in two parts here, and as one in `all`.
        """
        fresh, self._fresh = tuple(self._fresh), []
        return fresh

    def state(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        writing = self._writing
        return {
            "all": [_row(word) for word in self.all],
            "fresh": [_row(word) for word in self._fresh],
            "writing": None
            if writing is None
            else [writing.text, writing.end, writing.approximate, writing.latest, writing.scores],
            "mark": self._mark,
            "scores": self._scores,
            "end": self._end,
            "cut": self._cut,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where other words stood."""
        self.all = [Word(*row) for row in state["all"]]
        self._fresh = [Word(*row) for row in state["fresh"]]
        writing = state["writing"]
        self._writing = None if writing is None else _Writing(*cast(_Row, tuple(writing)))
        self._mark = None if state["mark"] is None else (state["mark"][0], state["mark"][1])
        self._scores = list(state["scores"])
        self._end = float(state["end"])
        self._cut = bool(state["cut"])

    def _open(self, latest: float) -> _Writing:
        mark, self._mark = self._mark, None
        if mark is not None:
            end = max(mark[0], self._end)
            return _Writing("", end, False, end, [mark[1]])
        # Later in a group: it was due when its first token was written, and not before the last word.
        latest = max(latest, self._end)
        return _Writing("", latest, True, latest)

    def _close(self) -> None:
        writing, self._writing = self._writing, None
        if writing is None:
            return
        start = self._end
        if self._onset is not None and writing.end > start:
            onset = self._onset(start, writing.end)
            start = start if onset is None else min(max(onset, start), writing.end)
        confidence = math.exp(sum(writing.scores) / len(writing.scores)) if writing.scores else 1.0
        confidence = calibrated(confidence, *self.calibration)
        word = Word(writing.text, start, writing.end, confidence, writing.approximate)
        self._end = writing.end
        self._fresh.append(word)
        if not self.keep:
            return
        if self._cut and self.all:
            word = _joined(self.all.pop(), word)
        self._cut = False
        self.all.append(word)


def word_offset(tokenizer: Tekken) -> float:
    """Seconds to add to measured ends: the bias of a model, measured once and noted in its tekken.json."""
    offset = tokenizer.audio.get(OFFSET, 0)
    return float(offset) / 1000 if isinstance(offset, (int, float)) else 0.0


def word_calibration(tokenizer: Tekken) -> tuple[float, float]:
    """Scale and shift of a model's confidences, as its tekken.json has them; (1, 0) changes nothing."""
    match tokenizer.audio.get(CONFIDENCE):
        case [int() | float() as scale, int() | float() as shift]:
            return float(scale), float(shift)
        case _:
            return 1.0, 0.0


def calibrated(confidence: float, scale: float, shift: float) -> float:
    """sigmoid(scale logit(confidence) + shift), 0..1."""
    if (scale, shift) == (1.0, 0.0):
        return min(confidence, 1.0)
    bounded = min(max(confidence, 1e-4), 1 - 1e-4)
    logit = scale * math.log(bounded / (1 - bounded)) + shift
    return 1 / (1 + math.exp(-min(max(logit, -500.0), 500.0)))


def _joined(first: Word, rest: Word) -> Word:
    """One word that was written in two parts, with a pause between them."""
    share = len(first.text) / (len(first.text) + len(rest.text))
    score = share * math.log(max(first.confidence, 1e-30)) + (1 - share) * math.log(
        max(rest.confidence, 1e-30)
    )
    return Word(first.text + rest.text, first.start, rest.end, math.exp(score), True)


def _row(word: Word) -> list[Any]:
    return [word.text, word.start, word.end, word.confidence, word.approximate]
