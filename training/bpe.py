"""A byte-level BPE vocabulary trained on plain text, as a `Tekken`.

Training is the `tokenizers` library's; its table read as ranks gives the same ids in tiktoken. The streaming
decoder writes one piece per 80 ms, so the vocabulary size is a latency: pieces carry the space in front of
their word, which makes a frequent word one piece, and every text starts with a space so that the first word
is spelt like all others (the transcript drops it once).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..tekken import BOS, EOS, STREAMING_PAD, STREAMING_WORD, Tekken

if TYPE_CHECKING:
    import tokenizers

# A word with the space before it and its apostrophes (" don't"), one digit, or a run of anything else. Only
# the plain space is a separator, and no \s: its meaning differs between the engines that share this pattern.
WORD = r"\p{L}\p{M}'" + "\u2019"
PATTERN = rf" ?[{WORD}]+| ?\p{{N}}| ?[^ \p{{N}}{WORD}]+| +(?= )| "

BOS_PLAIN = "[BOS_PLAIN]"  # starts streams of lower-case text without punctuation; BOS those with both
SPECIALS = ("<unk>", BOS, EOS, STREAMING_PAD, STREAMING_WORD, BOS_PLAIN)
N_SPECIAL = 8


def streaming_audio(n_mels: int = 80, delay_ms: int = 480, left_pad_tokens: int = 32) -> dict[str, object]:
    """The `audio` part of a tekken.json for a model with 80 ms steps of 16 kHz sound."""
    return {
        "sampling_rate": 16000,
        "frame_rate": 12.5,
        "audio_encoding_config": {"num_mel_bins": n_mels, "hop_length": 160, "window_size": 400},
        "transcription_format": "streaming",
        "transcription_delay_ms": delay_ms,
        "streaming_look_ahead_ms": 2.5,
        "streaming_look_back_ms": 52.5,
        "streaming_n_left_pad_tokens": left_pad_tokens,
    }


def train_bpe(
    texts: Iterable[str],
    vocab_size: int = 1024,
    *,
    audio: dict[str, object] | None = None,
    specials: Sequence[str] = SPECIALS,
    n_special: int = N_SPECIAL,
    pattern: str = PATTERN,
) -> Tekken:
    """Learn `vocab_size` tokens in all: `n_special` control symbols, 256 bytes, and merged pieces.

    The same texts give the same vocabulary.

    Raises:
        ConfigError: `vocab_size` leaves no room for the bytes, or the texts hold too few different pieces.
    """
    n_pieces = vocab_size - n_special
    if n_pieces < 256:
        raise ConfigError(f"vocab_size must be at least {n_special + 256}, got {vocab_size}")
    pieces = _pieces(_train(texts, n_pieces, pattern).get_vocab())
    if len(pieces) < n_pieces:
        raise ConfigError(
            f"vocab_size {vocab_size} needs {n_pieces} pieces, but the text yields only {len(pieces)}; "
            "give more text or a smaller size"
        )
    return Tekken.build(pieces, pattern, specials, streaming_audio() if audio is None else audio, n_special)


def _train(texts: Iterable[str], n_pieces: int, pattern: str) -> tokenizers.Tokenizer:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    trainer = trainers.BpeTrainer(vocab_size=n_pieces, initial_alphabet=level.alphabet(), show_progress=False)
    tokenizer.train_from_iterator((" " + text.strip() for text in texts), trainer)
    return tokenizer


def _pieces(vocab: dict[str, int]) -> list[bytes]:
    """The table of `tokenizers` as bytes: the single bytes in order, then merges in the order learned."""
    decode = {char: byte for byte, char in enumerate(_byte_letters())}
    learned = sorted(vocab, key=vocab.__getitem__)
    merged = [bytes(decode[char] for char in piece) for piece in learned if len(piece) > 1]
    return [bytes([byte]) for byte in range(256)] + merged


def _byte_letters() -> str:
    """The letter that byte-level BPE writes for each byte: itself if printable, else one from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return "".join(chr(byte if byte in printable else next(others)) for byte in range(256))
