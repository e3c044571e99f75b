"""A model made ready, with a word on stderr where that takes long."""

from __future__ import annotations

import sys
import threading

from ..asr.stream import ASR

PATIENCE_SECONDS = 2.0


def load_ready(model: str, delay_ms: int, draft_ms: int | None = None) -> ASR:
    """Load a model and begin a session with it, so that what has to be compiled is.

    Raises:
        CheckpointError: there is no such model.
        ConfigError: it cannot do these delays.
    """
    notice = threading.Timer(PATIENCE_SECONDS, _tell, [model])
    notice.daemon = True
    notice.start()
    try:
        asr = ASR.load(model)
        asr.stream(delay_ms, draft_ms=draft_ms).cancel()
    finally:
        notice.cancel()
    return asr


def _tell(model: str) -> None:
    print(f"rillvox: loading {model}; a first run also compiles, some ten seconds", file=sys.stderr)
