"""A model made ready, with a word on stderr where that takes long."""

from __future__ import annotations

import sys
import threading

from ..asr.stream import ASR

PATIENCE_SECONDS = 2.0
COMPILING_SECONDS = 10.0


def load_ready(model: str, delay_ms: int, draft_ms: int | None = None) -> ASR:
    """Load a model and begin a session with it, so that what has to be compiled is.

    Raises:
        CheckpointError: there is no such model.
        ConfigError: it cannot do these delays.
    """
    notices = [
        threading.Timer(PATIENCE_SECONDS, _tell, [f"loading {model}"]),
        threading.Timer(COMPILING_SECONDS, _tell, ["still loading; a first run also compiles"]),
    ]
    for notice in notices:
        notice.daemon = True
        notice.start()
    try:
        asr = ASR.load(model)
        asr.stream(delay_ms, draft_ms=draft_ms).cancel()
    finally:
        for notice in notices:
            notice.cancel()
    return asr


def _tell(what: str) -> None:
    print(f"rillvox: {what} ...", file=sys.stderr)
