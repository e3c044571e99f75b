"""What the listener learns from text: its vocabulary, and words with how they sound and follow each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import ConfigError
from ..training.bpe import streaming_audio, train_bpe
from ..training.lexicon import PHONE_IDS, WORD, Lexicon
from ..training.ngrams import count_ngrams
from ..training.pool import Clip, Pool
from .prepare import plain_words
from .recipe import PROMPTS
from .vocabulary import Vocabulary

VOCABULARY_SIZE = 1024


def read_text(path: Path | None) -> list[list[str]]:
    """Sentences of a text file as plain words; none without a file.

    Raises:
        ConfigError: the file can't be read.
    """
    if path is None:
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: no readable text ({error.strerror})") from error
    return [words for words in map(plain_words, lines) if len(words) > 1]


def make_vocabulary(
    path: Path, pool: Path, text: Sequence[Sequence[str]], say: Callable[[str], None]
) -> None:
    """Train the vocabulary on the transcripts and the text, unless it is there."""
    if path.exists():
        return
    texts = [" ".join(clip.words) for clip in Pool.open(pool).training()]
    texts += [" ".join(words) for words in text]
    tokenizer = train_bpe(texts, VOCABULARY_SIZE, audio=streaming_audio())
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(path)
    say(f"vocabulary of {tokenizer.vocab_size} tokens")


def count_words(clips: Sequence[Clip], text: Sequence[Sequence[str]], lexicon: Path) -> Vocabulary:
    """Words of transcripts and text, how they sound, and how they follow each other."""
    sentences = [tuple(words) for words in text]
    spoken_too = {clip.words for clip in clips if clip.corpus not in PROMPTS}
    sentences += sorted(spoken_too - set(sentences))
    known = sorted({word for words in sentences for word in words if WORD.fullmatch(word)})
    said = Lexicon(lexicon, jobs=2).lookup(known)
    language = count_ngrams(sentences, known)
    sounds = {word: [[PHONE_IDS[phone] for phone in said[word]]] for word in known}
    return Vocabulary.build(sounds, language)
