"""What the decoder should write at each step, made from words and the moments they end.

Voxtral Realtime (arXiv 2602.11298), training targets: a word becomes due once it is fully heard
and the delay has passed; then [W] and its pieces follow, one a step. Words that are due when the
last piece of the one before was just written follow without another [W]. Everything else is [P].
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .delays import DelayClock

IGNORED = -1  # steps inside the prompt, whose output nobody reads


def target_tokens(
    clock: DelayClock, words: Sequence[tuple[Sequence[int], int]], steps: int, pad: int, word: int
) -> NDArray[np.int64]:
    """The output token of every step, int64 [steps]; `IGNORED` before the end of the prompt.

    Args:
        words: (pieces, end of the word in ms of real audio), in order of time.
        steps: length of the padded stream.
        pad: id of [P].
        word: id of [W].
    """
    out = np.full(steps, pad, dtype=np.int64)
    first = clock.prompt_length - 1
    out[:first] = IGNORED
    queue: deque[int] = deque()
    upcoming = 0
    silent = True
    for step in range(first, steps):
        while upcoming < len(words) and clock.due_step(words[upcoming][1]) <= step:
            if silent and not queue:
                queue.append(word)
            queue.extend(words[upcoming][0])
            upcoming += 1
        silent = not queue
        if queue:
            out[step] = queue.popleft()
    return out


def input_tokens(clock: DelayClock, out: NDArray[np.int64], bos: int, pad: int) -> NDArray[np.int64]:
    """The input token of every step: the prompt, then the output of the step before."""
    tokens = np.empty_like(out)
    tokens[1:] = out[:-1]
    tokens[: clock.prompt_length] = clock.prompt(bos, pad)[: len(tokens)]
    return tokens
