"""What a Whisper wrote about every clip of a folder of sounds: its decoder's states, and where each looked.

Beside the files of `sounds.py`: `words_hidden.npy` (float16 [tokens of all clips, width]),
`words_weights.npy` (float16, flat, of each clip [tokens, frames], a frame to 80 ms from the clip's begin) and
`words.jsonl` (a line to a clip, in the order of `clips.jsonl`: where its tokens and weights begin, and how
many there are).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from .sounds import STEP, Sound, Sounds

FRAME = 4 * STEP  # samples in a frame of the codec
# A crop holds a token if so much of its row's energy, the squares of its positive part, lies inside. Not of
# the positive part itself: z-scores have unit variance at every frame, also in pauses, where no token looks.
# In made-up attention over 12 s, a third of it pauses, half of it noise, a crop of 1 s around a token has
# 0.68 of its positive part and 0.93 of its energy: by the first 6 % of tokens would stay, by the second 97 %.
SHARE = 0.8


@dataclass(frozen=True)
class Span:
    """A clip's part of the files; `offset` and `samples` are the clip's own and tell it from a newer one."""

    id: str
    offset: int
    samples: int
    token: int
    tokens: int
    weight: int
    frames: int


class Words:
    """What `rillvox train words` left in a folder of sounds.

    Raises:
        ConfigError: the folder holds no words, or those of clips that were there before.
    """

    def __init__(self, folder: Path | str) -> None:
        folder = Path(folder)
        try:
            lines = (folder / "words.jsonl").read_text().splitlines()
            spans = [Span(**json.loads(line)) for line in lines]
            self.hidden: NDArray[np.float16] = np.load(folder / "words_hidden.npy", mmap_mode="r")
            self.weights: NDArray[np.float16] = np.load(folder / "words_weights.npy", mmap_mode="r")
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"{folder}: no words of its clips here; make them with `rillvox train words`"
            ) from error
        clips = [(clip.id, clip.offset, clip.samples) for clip in Sounds(folder).clips]
        if clips != [(span.id, span.offset, span.samples) for span in spans]:
            raise ConfigError(f"{folder}: the words are of other clips; run `rillvox train words` again")
        # Ids are unique within a corpus only, places in the sound everywhere.
        self.spans = {span.offset: span for span in spans}

    @property
    def width(self) -> int:
        """Size of a state of the Whisper's decoder."""
        return self.hidden.shape[1]

    def crop(self, clip: Sound, begin: int, frames: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The tokens that are said in `frames` frames of 80 ms from sample `begin`.

        Crops begin at multiples of 20 ms, weights at multiples of 80: the nearest frame counts.

        Returns:
            States [k, width] and weights [k, frames] of the k tokens of which at least `SHARE` lies inside;
            zeros where the clip, or what the Whisper heard of it, has ended.
        """
        span = self.spans[clip.offset]
        first = (begin + FRAME // 2) // FRAME
        flat = self.weights[span.weight : span.weight + span.tokens * span.frames]
        weights = flat.reshape(span.tokens, span.frames).astype(np.float32)
        energy = np.square(np.maximum(weights, 0))
        inside = energy[:, first : first + frames].sum(1)
        held = (inside > 0) & (inside >= SHARE * energy.sum(1))
        cut = weights[held, first : first + frames]
        hidden = self.hidden[span.token : span.token + span.tokens][held].astype(np.float32)
        return hidden, np.pad(cut, ((0, 0), (0, frames - cut.shape[1])))


def write_words(
    folder: Path,
    clips: Sequence[Sound],
    words: Sequence[tuple[NDArray[np.float16], NDArray[np.float16]]],
) -> None:
    """Write states [tokens, width] and weights [tokens, frames] of every clip.

    Every file is moved there when all are whole.
    """
    spans: list[Span] = []
    token = weight = 0
    for clip, (hidden, weights) in zip(clips, words, strict=True):
        spans.append(Span(clip.id, clip.offset, clip.samples, token, len(hidden), weight, weights.shape[1]))
        token += len(hidden)
        weight += weights.size
    for name, array in (
        ("words_hidden", np.concatenate([hidden for hidden, _ in words])),
        ("words_weights", np.concatenate([weights.ravel() for _, weights in words])),
    ):
        with (folder / f"{name}.tmp").open("wb") as file:
            np.save(file, array)
    (folder / "words.tmp").write_text("".join(json.dumps(asdict(span)) + "\n" for span in spans))
    # Without its list a folder has no words: old and new files are never read together.
    (folder / "words.jsonl").unlink(missing_ok=True)
    for name, kind in (("words_hidden", "npy"), ("words_weights", "npy"), ("words", "jsonl")):
        (folder / f"{name}.tmp").replace(folder / f"{name}.{kind}")
