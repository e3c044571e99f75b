"""What a listening session is told to do, and what it says, in our own words.

Every wire protocol is a translation of these values. They hold no sockets, clocks or
tensors: a dialect turns messages into commands, the engine turns commands into events.

One *stream* is one utterance: it is opened, gets audio, and ends in exactly one `Final` or
`Failed`, or is closed and never heard of again. A socket owns any number of streams, one
after the other; a new one may be opened and fed while an older one still finishes. Times in
events are seconds of the stream's own audio.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..asr.transcript import Word
    from ..errors import RillvoxError

# ---- commands: dialect to engine -------------------------------------------------------


@dataclass(frozen=True)
class TurnRules:
    """When a speaker's turn is over.

    silence_ms: silence that ends a turn. patience_ms: the silence granted instead while the
    text so far looks unfinished; `None` means the same. threshold: how sure one must be that
    somebody speaks, 0..1.
    """

    silence_ms: int = 500
    patience_ms: int | None = None
    threshold: float = 0.5


@dataclass(frozen=True)
class OpenStream:
    """Begin an utterance.

    delay_ms: how long text may wait for more audio, a multiple of 80; `None` is the server's
    default. language: as the client named it. turns: `None` when nobody wants
    `SpeechStarted` and `TurnEnded`.
    """

    stream: str
    delay_ms: int | None = None
    language: str | None = None
    turns: TurnRules | None = None


@dataclass(frozen=True)
class PushAudio:
    """More audio of a stream.

    samples: float32 mono [n], n > 0, in [-1, 1]. The rate may differ from the stream's
    previous one only after the client changed its format; the audio is then continuous
    in time all the same.
    """

    stream: str
    samples: npt.NDArray[np.float32]
    rate: int


@dataclass(frozen=True)
class Configure:
    """New settings for a running stream, as in `OpenStream`; text already said stays as it is."""

    stream: str
    delay_ms: int | None
    turns: TurnRules | None


@dataclass(frozen=True)
class Flush:
    """Say all text of the audio heard so far; answered by `Mark(stream, id)` after it."""

    stream: str
    id: str


@dataclass(frozen=True)
class Finish:
    """No more audio comes: say the rest, then `Final`."""

    stream: str


@dataclass(frozen=True)
class CloseStream:
    """Forget a stream at once; it says nothing more."""

    stream: str


@dataclass(frozen=True)
class CloseSocket:
    """Close the connection after all earlier replies are written. Nothing follows it."""

    code: int
    reason: str


Command: TypeAlias = OpenStream | PushAudio | Configure | Flush | Finish | CloseStream | CloseSocket


@dataclass(frozen=True)
class Reply:
    """One JSON message to the client."""

    json: Mapping[str, Any]


Output: TypeAlias = Command | Reply

# ---- events: engine to dialect ---------------------------------------------------------


@dataclass(frozen=True)
class SpeechStarted:
    """Somebody began to speak `at` seconds into the stream."""

    stream: str
    at: float


@dataclass(frozen=True)
class Partial:
    """New text, to be appended; never revised.

    words: those that became complete with this piece; stable_until: the audio, in seconds,
    that all text so far accounts for.
    """

    stream: str
    text: str
    words: tuple[Word, ...] = ()
    stable_until: float = 0.0


@dataclass(frozen=True)
class TurnEnded:
    """The speaker stopped `at` seconds into the stream. The stream goes on until `Finish`."""

    stream: str
    at: float


@dataclass(frozen=True)
class Final:
    """The whole text of a finished stream: all partial texts joined, with its words.

    seconds: audio heard. The token counts are the model's: prompt positions, and decoder
    steps after them.
    """

    stream: str
    text: str
    words: tuple[Word, ...] = ()
    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    language: str | None = None


@dataclass(frozen=True)
class Mark:
    """All text of the audio before `Flush(stream, id)` has been said."""

    stream: str
    id: str


@dataclass(frozen=True)
class Failed:
    """The stream ended without a result. `fatal`: the engine is gone, close the socket."""

    stream: str
    error: RillvoxError
    fatal: bool = False


Event: TypeAlias = SpeechStarted | Partial | TurnEnded | Final | Mark | Failed
