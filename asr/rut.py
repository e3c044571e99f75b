"""The blank rut: a listener that writes nothing over real speech, found and undone.

Long-running greedy sessions have been reported to write [P] for minutes over speech and then to recover. What
tells a rut from silence: [P] leads the next symbol by less in a rut (median 5) than in true silence (above
8.5), or there is sound. Off by default, and then nothing changes, bit for bit.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import ConfigError

Action = Literal["off", "soft", "reread"]


@dataclass(frozen=True)
class RutRules:
    """When a run of [P] counts as a rut, and what is done about it.

    soft: takes min(`most`, `slope` x (run - `run_tokens`)) off the logit of [P].
    reread: decodes the buffered audio of the run again in a fresh lane, and goes on from there if that one
    finds text; no audio is lost and nothing is encoded twice.
    """

    action: Action = "off"
    run_tokens: int = 200
    margin: float = 8.0  # mean lead of [P] over the recent run below which it is no silence
    loud_db: float = -45.0  # mean level of the recent audio, dB full scale, above which it is no silence
    recent_tokens: int = 50
    slope: float = 0.5
    most: float = 7.0

    def __post_init__(self) -> None:
        if self.action not in ("off", "soft", "reread"):
            raise ConfigError(f"rut.action must be off, soft or reread, got {self.action!r}")
        if self.run_tokens < 1 or self.recent_tokens < 1:
            raise ConfigError("rut.run_tokens and rut.recent_tokens must be at least 1")


class RutWatch:
    """Counts the [P] of one lane."""

    def __init__(self, rules: RutRules) -> None:
        self.rules = rules
        self.run = 0
        self._margins: deque[float] = deque(maxlen=rules.recent_tokens)

    def see(self, is_pad: bool, margin: float) -> None:
        """One more token; `margin` is logit[P] less the best other logit."""
        self.run = self.run + 1 if is_pad else 0
        if is_pad:
            self._margins.append(margin)
        else:
            self._margins.clear()

    def again(self) -> None:
        """A reading found nothing either: wait for as long a run once more."""
        self.run = 0

    def caught(self, level_db: float) -> bool:
        """This run is no silence; `level_db` is the mean level of the audio of the recent tokens."""
        if self.run < self.rules.run_tokens or not self._margins:
            return False
        margin = sum(self._margins) / len(self._margins)
        return margin < self.rules.margin or level_db > self.rules.loud_db

    def penalty(self, level_db: float) -> float:
        """What the soft action takes off the logit of [P]."""
        if self.rules.action != "soft" or not self.caught(level_db):
            return 0.0
        return min(self.rules.most, self.rules.slope * (self.run - self.rules.run_tokens))

    def state(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {"run": self.run, "margins": list(self._margins)}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where another watch stood."""
        self.run = int(state["run"])
        self._margins = deque(state["margins"], maxlen=self.rules.recent_tokens)
