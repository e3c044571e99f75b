"""Vectors of a language model for the words of a folder of sounds: what `TextTeacher` teaches.

When a word is said comes from the aligned pool that `rillvox train prepare` makes of the same recordings.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import CheckpointError, ConfigError
from ..training.pool import Clip, Pool
from ..training.sounds import Sounds
from ..training.sounds_text import write_texts


def prepare_text(sounds: Path, pool: Path, model: Path, say: Callable[[str], None] = print) -> None:
    """Write the words' vectors beside the sounds.

    Args:
        model: a text model in the transformers format with its fast tokenizer.

    Raises:
        ConfigError: no sounds, no pool, no clip in both, or no transformers.
        CheckpointError: no model that can be read.
    """
    wanted = {clip.id for clip in Sounds(sounds).clips}
    clips = [clip for clip in Pool.open(pool).clips if clip.id in wanted and clip.words and clip.spans]
    if not clips:
        raise ConfigError(f"{pool}: none of its aligned clips is among the sounds of {sounds}")
    tokenizer, network = _load(model)
    rows: list[NDArray[np.float16]] = []
    found: list[tuple[str, list[list[int]]]] = []
    for number, clip in enumerate(clips):
        if number % 500 == 0:
            say(f"{number} of {len(clips)} texts")
        rows.append(word_vectors(tokenizer, network, clip.words))
        found.append((clip.id, word_spans(clip)))
    write_texts(sounds, found, np.concatenate(rows))
    say(f"{sum(map(len, rows))} words of {len(clips)} clips, vectors of {rows[0].shape[1]}")


def word_spans(clip: Clip) -> list[list[int]]:
    """Start of the first and end of the last phone of every word, in 20 ms frames."""
    spans: list[list[int]] = []
    begin = 0
    for count in clip.phones_per_word:
        spans.append([clip.spans[begin][0], clip.spans[begin + count - 1][1]])
        begin += count
    return spans


@torch.no_grad()
def word_vectors(tokenizer: Any, network: Any, words: Sequence[str]) -> NDArray[np.float16]:
    """[words, width]: the mean of the last layer over the pieces of each word, in the context of all."""
    pieces = tokenizer(list(words), is_split_into_words=True, return_tensors="pt", truncation=True)
    hidden = network(**pieces).last_hidden_state[0].float()
    vectors = torch.zeros(len(words), hidden.shape[1])
    counts = torch.zeros(len(words), 1)
    for place, word in enumerate(pieces.word_ids(0)):
        if word is not None:
            vectors[word] += hidden[place]
            counts[word] += 1
    return (vectors / counts.clamp(min=1)).half().numpy()


def _load(folder: Path) -> tuple[Any, Any]:
    try:
        module: Any = import_module("transformers")
    except ImportError as error:
        raise ConfigError("a text teacher needs `pip install 'rillvox[train]'`") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tokenizer = module.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
            network = module.AutoModel.from_pretrained(str(folder), local_files_only=True).eval()
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{folder}: no text model in the transformers format ({reason})") from error
    if not getattr(tokenizer, "is_fast", False):
        raise CheckpointError(
            f"{folder}: its tokenizer can't say which word a piece is of; it must be a fast one"
        )
    return tokenizer, network
