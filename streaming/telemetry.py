"""Counters and logs. Neither ever holds audio, transcripts, prompts or keys."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, TextIO

LOGGER = logging.getLogger("rillvox.gateway")

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, event, and the fields given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line.update((name, value) for name, value in vars(record).items() if name not in _PLAIN)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_to(stream: TextIO = sys.stderr, level: int = logging.INFO) -> None:
    """Send the gateway's and uvicorn's logs to a stream as JSON lines."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    for name in ("rillvox.gateway", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level if name.startswith("rillvox") else logging.WARNING)
        logger.propagate = False


class Telemetry:
    """Counters by name and labels, written in the Prometheus text format.

    Adding is safe from any thread that holds the interpreter's lock for a dict update; a lost count under
    free threading would be harmless.
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()

    def add(self, name: str, value: float = 1.0, **labels: str) -> None:
        """Raise a counter."""
        self._counts[name, tuple(sorted(labels.items()))] += value  # type: ignore[assignment]

    def value(self, name: str, **labels: str) -> float:
        """A counter's value so far."""
        return self._counts[name, tuple(sorted(labels.items()))]

    def render(self, gauges: Mapping[str, float]) -> str:
        """All counters, and the given gauges, as Prometheus text."""
        lines: list[str] = []
        seen: set[str] = set()
        for (name, labels), value in sorted(self._counts.items()):
            if name not in seen:
                lines.append(f"# TYPE {name} counter")
                seen.add(name)
            shown = ",".join(f'{key}="{_escape(text)}"' for key, text in labels)
            lines.append(f"{name}{{{shown}}} {value:g}" if shown else f"{name} {value:g}")
        for name, value in sorted(gauges.items()):
            lines += [f"# TYPE {name} gauge", f"{name} {value:g}"]
        return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
