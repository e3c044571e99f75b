"""A listener's text as a search for words: what the small default model has in place of a text decoder.

Speech with a transcript is short and text is not. A decoder of six million weights that hears a few hours of
speech learns which sounds there are, but not how 40 000 words are spelled; a dictionary and counted text know
that from the start. So the encoder's frames are turned into scores of the 39 phones of English, and the words
whose sounds fit best are sought among all in the dictionary (`kernels/numba_search.py`). What a listener
promises stays as with Voxtral's decoder: a word that is due is written, D steps after its sound; D is any
delay and may change at any moment; nothing is taken back. Unusual:
- words are settled where an encoder block ends, as nothing new is heard in between: on average a word is
  judged by half a block more of sound than D promises, at no cost in time;
- memory is on the CPU, wherever the encoder runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError
from ..kernels.search_tables import MOST_TOKENS, ROOM, Habits, Tokens
from ..kernels.state import StateTree, leaf
from .delays import ENCODER_PER_STEP
from .vocabulary import Vocabulary

PHONES = 40  # 39 and none


@dataclass(frozen=True)
class SearchConfig:
    """Numbers of the search, found on the development set; see `kernels.search_tables.Habits`."""

    tokens: int = 1024
    history: int = 32
    language: float = 1.6
    word: float = -3.0
    phone: float = -0.35
    noise: float = 3.2
    beam: float = 21.0
    sharpness: float = 1.0
    sure: float = 0.8

    def __post_init__(self) -> None:
        if not 1 <= self.tokens <= MOST_TOKENS:
            raise ConfigError(f"search.tokens must be 1 to {MOST_TOKENS}, got {self.tokens}")
        if self.history <= ROOM:
            raise ConfigError(f"search.history must be more than {ROOM} words, got {self.history}")
        if not 0 < self.sure <= 1:
            raise ConfigError(f"search.sure must lie between 0 and 1, got {self.sure}")
        for name in ("language", "beam", "sharpness"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"search.{name} must be above 0, got {getattr(self, name)}")

    @property
    def dim(self) -> int:
        """Numbers of a step: the phone scores of its four frames."""
        return ENCODER_PER_STEP * PHONES


@dataclass(frozen=True)
class Found:
    """A word; its first frame of 20 ms and the one behind its last, from the start of the search."""

    text: str
    frames: tuple[int, int]
    confidence: float  # before calibration


class PhoneScores(nn.Module):
    """Encoder frames to log-probabilities of phones."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.head = nn.Linear(dim, PHONES)

    def forward(self, frames: Tensor) -> Tensor:
        """[batch, 4 n, dim] -> [batch, n, 160], float32."""
        scores = self.head(frames).float().log_softmax(-1)
        return scores.reshape(len(frames), -1, ENCODER_PER_STEP * PHONES)


class WordSearch(nn.Module):
    """The search of many streams, one row of the state for each."""

    def __init__(self, config: SearchConfig) -> None:
        super().__init__()
        self.config = config
        self._vocabulary: Vocabulary | None = None
        self._habits: Habits | None = None

    @property
    def vocabulary(self) -> Vocabulary:
        """The words that can be found.

        Raises:
            CheckpointError: none were given.
        """
        if self._vocabulary is None:
            raise CheckpointError(
                "this model searches for words and was loaded without its words.safetensors"
            )
        return self._vocabulary

    def learn(self, vocabulary: Vocabulary) -> None:
        """Search among these words from now on."""
        config = self.config
        if int(vocabulary.tree.phone.max()) >= PHONES:
            raise CheckpointError(f"the words have phones above {PHONES - 1}, which the model does not know")
        self._vocabulary = vocabulary
        self._habits = Habits(
            config.language,
            config.word,
            config.phone,
            config.noise,
            config.beam,
            config.sharpness,
            config.sure,
        )

    def initial_state(self, slots: int) -> StateTree:
        """Fresh slots, on the CPU."""
        most, depth = self.config.tokens, self.config.history
        shapes = {
            "size": (slots, 2),
            **dict.fromkeys(("node", "last", "begin", "words"), (slots, most)),
            **dict.fromkeys(("word", "start", "stop"), (slots, most, depth)),
        }
        tree: StateTree = {
            name: torch.zeros(shape, dtype=torch.int64 if name == "size" else torch.int32)
            for name, shape in shapes.items()
        }
        tree |= {name: torch.zeros(slots, most) for name in ("score", "fit")}
        tree["fits"] = torch.zeros(slots, most, depth)
        return tree

    def step(
        self,
        phones: Tensor,
        delays: Sequence[int],
        settles: Sequence[bool],
        state: StateTree,
        slots: Sequence[int],
    ) -> list[list[Found]]:
        """Hear one step of some slots.

        Args:
            phones: log-probabilities [n, 160] on the CPU, four frames a row.
            delays: D of each, in steps.
            settles: whether an encoder block ends with this step, so that words may be written.
            slots: rows of `state`, in the same order.

        Returns:
            The words that were written, for each.
        """
        # Not at the top: numba takes half a second to import, and other listeners need none of it.
        from ..kernels.numba_search import search_step

        vocabulary, habits = self.vocabulary, self._habits
        assert habits is not None
        scores = phones.float().reshape(len(slots), ENCODER_PER_STEP, PHONES).numpy()
        out = np.zeros((self.config.history, 3), np.int32)
        out_scores = np.zeros((self.config.history, 2), np.float32)
        found: list[list[Found]] = []
        for row, delay, settled, slot in zip(scores, delays, settles, slots, strict=True):
            tokens = Tokens(**{name: leaf(state, name)[slot].numpy() for name in Tokens._fields})
            heard = int(tokens.size[1]) // ENCODER_PER_STEP + 1
            deadline = ENCODER_PER_STEP * (heard - delay)
            count = search_step(
                row, deadline, settled, vocabulary.tree, vocabulary.language, habits, tokens, out, out_scores
            )
            found.append(
                [
                    Found(
                        vocabulary.words[int(out[i, 0])],
                        (int(out[i, 1]), int(out[i, 2])),
                        float(out_scores[i, 1] * np.exp(out_scores[i, 0])),
                    )
                    for i in range(count)
                ]
            )
        return found
