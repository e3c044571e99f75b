"""`rillvox listen`: live captions, from the microphone or from a file at the pace of speech."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..asr.events import Draft, Partial
from ..audio import open_audio
from ..errors import AudioError
from .caption_line import CaptionLine
from .loading import load_ready

if TYPE_CHECKING:
    from types import FrameType

RATE = 16000
BLOCK_SECONDS = 0.08


def listen(file: str | None, model: str, delay_ms: int, draft_ms: int | None = None) -> None:
    """Show what is being said until the file ends or Ctrl-C is pressed.

    Args:
        file: a recording; the microphone if None.
        model: the name of a model that comes along, or the path of a model folder.
        delay_ms: how much audio after a word the model waits for.
        draft_ms: also show, dimmed, what it would write at this shorter delay.

    Raises:
        RillvoxError: no such model, file or microphone.
    """
    stopped = threading.Event()
    if file is None:
        from .microphone import microphone, refuse_null_device

        refuse_null_device()  # before the model is loaded
        blocks = microphone(RATE, stopped)
    else:
        blocks = paced(open_audio(file, RATE, BLOCK_SECONDS), stopped)
    asr = load_ready(model, delay_ms, draft_ms)
    if file is None:
        print("Listening; Ctrl-C ends.", file=sys.stderr)
    previous = signal.signal(signal.SIGINT, _stop_at_first(stopped))
    try:
        session = asr.stream(delay_ms, draft_ms=draft_ms)
        line = CaptionLine(sys.stdout)
        try:
            for block in blocks:
                session.feed(block)
                for event in session.poll():
                    if isinstance(event, Partial):
                        line.add(event.text)
                    elif isinstance(event, Draft):
                        line.draft(event.text)
        except AudioError:  # a file that breaks off: what could be read is shown before that is said
            line.finish(session.finish().text)
            raise
        line.finish(session.finish().text)
    finally:
        signal.signal(signal.SIGINT, previous)


def paced(
    blocks: Iterator[NDArray[np.float32]],
    stopped: threading.Event,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[NDArray[np.float32]]:
    """The blocks of a recording, each when its last sample would have been spoken; until `stopped` is set.

    Whoever takes them too slowly is not waited for: what is late comes at once.
    """
    start = clock()
    spoken = 0
    for block in blocks:
        spoken += len(block)
        if stopped.wait(max(0.0, start + spoken / RATE - clock())):
            return
        yield block


def _stop_at_first(stopped: threading.Event) -> Callable[[int, FrameType | None], None]:
    """A first Ctrl-C ends the recording, so that the last words are still shown; a second one ends it all."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    return interrupt
