"""When somebody begins to speak, and when a turn is over: from loudness and from the text itself.

No model of its own. Loudness says that it is quiet, the run of steps without text says that nothing more
is being written; a turn ends when both have lasted. Where one of the two never comes (music, a fan), the
other one has to last longer.
"""

from __future__ import annotations

import re

import numpy as np

from .events import Event, SpeechStarted, TurnEnded, TurnRules
from .listener import Samples

_FRAME = 320  # 20 ms at 16 kHz
_FRAME_SECONDS = 0.02
_FLOOR_START_DB = -55.0
_FLOOR_RISE_DB = 0.02  # a frame: 1 dB a second
_QUIETEST_DB = -55.0  # below it nothing is speech, however quiet the room
_ONSET_FRAMES = 3  # a click is shorter
_LONELY_FACTOR = 3  # times the silence, where only loudness or only the text says that it is over

# Words after which hardly anybody stops for good.
_UNFINISHED = re.compile(
    r"a|an|and|are|as|at|because|but|by|for|from|if|in|is|like|my|of|on|or|our|so|than|that|the|their|then"
    r"|to|uh|um|was|we|when|which|with|your"
)


class TurnWatch:
    """Follows one stream. Feed it all audio, ask it after each step."""

    def __init__(self, stream: str, rules: TurnRules) -> None:
        self.rules = rules
        self._stream = stream
        self._rest = np.zeros(0, np.float32)
        self._frames = 0
        self._floor = _FLOOR_START_DB
        self._loud_run = 0
        self._last_loud = 0.0  # seconds: end of the last loud frame
        self._onset: float | None = None
        self._speaking = False
        self._tail = ""  # the end of this turn's text

    def hear(self, samples: Samples) -> None:
        """Measure audio: [n] at 16 kHz."""
        x = np.concatenate([self._rest, samples])
        whole = len(x) // _FRAME * _FRAME
        self._rest = x[whole:].copy()
        power = np.square(x[:whole]).reshape(-1, _FRAME).mean(axis=1)
        for level in (10 * np.log10(power + 1e-12)).tolist():
            self._see(level)

    def report(self, text: str, quiet_seconds: float) -> list[Event]:
        """What the last step changed.

        Args:
            text: what it added; speech, whatever the loudness says.
            quiet_seconds: how long the model has heard audio without writing.
        """
        events: list[Event] = []
        if text:
            self._tail = (self._tail + text)[-40:]
        if not self._speaking and (self._onset is not None or text.strip()):
            self._speaking = True
            at = self._last_loud if self._onset is None else self._onset
            events.append(SpeechStarted(self._stream, at))
        if self._speaking and self._is_over(quiet_seconds):
            self._speaking = False
            self._onset = None
            self._tail = ""
            events.append(TurnEnded(self._stream, min(self._last_loud, self._now)))
        return events

    @property
    def _now(self) -> float:
        return self._frames * _FRAME_SECONDS

    def _see(self, level: float) -> None:
        self._floor = min(level, self._floor + _FLOOR_RISE_DB)
        margin = 6 + 12 * self.rules.threshold
        loud = level > max(self._floor + margin, _QUIETEST_DB)
        self._frames += 1
        self._loud_run = self._loud_run + 1 if loud else 0
        if loud:
            self._last_loud = self._now
        if self._loud_run >= _ONSET_FRAMES and self._onset is None:
            self._onset = self._now - self._loud_run * _FRAME_SECONDS

    def _is_over(self, quiet_seconds: float) -> bool:
        silence = self.rules.silence_ms / 1000
        if self.rules.patience_ms is not None and self._unfinished():
            silence = self.rules.patience_ms / 1000
        soundless = self._now - self._last_loud
        # One of the two may never come: it is loud for ever, or the model writes on in silence.
        if max(soundless, quiet_seconds if self._tail else 0.0) >= _LONELY_FACTOR * silence:
            return True
        # The last word is written some steps after it was said; a turn may not end in between.
        return soundless >= silence and quiet_seconds >= min(silence, 0.24)

    def _unfinished(self) -> bool:
        words = self._tail.lower().split()
        return not words or words[-1].endswith((",", "-")) or bool(_UNFINISHED.fullmatch(words[-1]))
