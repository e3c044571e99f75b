"""A text that is still being written, as sentences whose first words may be spoken before the last are there.

A sentence is a chunk of `chunks.py`, read as `script.py` reads it. Of one that is not whole, tokens are given
out that are those of the whole sentence, whatever follows: a word goes out when

- no reading of what may follow ends the sentence, or cuts it, before that word;
- numbers, short forms and signs were followed by `SETTLED` plain words; what they are may hang on a unit, a
  name or a bracket behind them;
- the sentence so far, read again with the latest word and without it, gave the same tokens up to there: what
  is next to a word may change how it is read ("No 5", "plan A").

Whether that was right is looked at when the sentence is whole. If it was not, what has gone out is said, and
what stands behind it in the text follows; no word is said twice.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from ..errors import TextError
from .chunks import Chunk, Chunker, may_tie
from .pieces import Pause
from .script import Script, ScriptWord
from .spoken_sentences import ends_sentence
from .tokens import PAUSE

SETTLED = 3  # plain words behind a number or sign, after which it is read as it was
READINGS = 2  # of the sentence so far that have to agree

_PLAIN = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*[,;:]?")
_CLAUSE = ",;:—\u2013"
_WORD = re.compile(r"\S+")
_OVER = object()  # behind the last part; None is what some clients put where a part is missing


@dataclass
class Growing:
    """A sentence on its way: tokens and words that are certain, with places in the whole text.

    `whole`: nothing will be added. `broken`: what had gone out was not how the whole sentence is read.
    """

    more: Callable[[Growing], None]  # waits for more text; adds to this sentence, or makes it whole
    tokens: list[int] = field(default_factory=list[int])
    words: list[ScriptWord] = field(default_factory=list[ScriptWord])
    whole: bool = False
    broken: bool = False


class WordFeed:
    """Sentences and pauses of a text that comes in parts; see the module's text.

    Law: the tokens of the sentences are those of `WordFeed.of` the whole text, if none is `broken`.

    Raises:
        TextError: a part is no text.
    """

    def __init__(self, parts: Iterable[str], read: Callable[[str], Script], most: int = 240) -> None:
        self._parts, self._read, self._most = iter(parts), read, most
        self._chunker = Chunker(most)
        self._chunks: deque[Chunk] = deque()
        self._rest, self._at = "", 0  # what is in no chunk yet, and where it begins in the whole
        self._said = 0  # whatever stands before that in the whole text has gone out
        self._over = False
        self._readings: list[Script] = []  # of the sentence so far, by number of words

    @classmethod
    def of(cls, text: str, read: Callable[[str], Script]) -> WordFeed:
        """Of a text that is whole: nothing is given out before its sentence is."""
        feed = cls([text], read)
        feed._pull()
        if not feed._over:
            feed._pull()
        return feed

    def __iter__(self) -> Iterator[Growing | Pause]:
        while True:
            if self._chunks:
                chunk = self._chunks.popleft()
                if chunk.pause is not None:
                    yield Pause(chunk.pause)
                    continue
                sentence = Growing(self._more)
                self._complete(sentence, chunk)
                if sentence.tokens:
                    yield sentence
            elif self._over:
                return
            else:
                sentence = Growing(self._more)
                self._grow(sentence)
                if not sentence.tokens:
                    self._pull()
                    continue
                yield sentence
                if not sentence.whole:
                    return  # whoever listened has had enough

    def _more(self, sentence: Growing) -> None:
        self._pull()
        if self._chunks:
            self._complete(sentence, self._chunks.popleft())
        else:
            self._grow(sentence)

    def _pull(self) -> None:
        """Wait for a part, and take the chunks that are certain with it."""
        part = next(self._parts, _OVER)
        if part is _OVER:
            self._over = True
            given = self._chunker.finish()
        elif isinstance(part, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            self._rest += part
            given = self._chunker.feed(part)
        else:
            raise TextError(f"a part of the text is {type(part).__name__}; give str, or an iterable of str")
        if given:
            end = given[-1].source[1]
            self._rest, self._at = self._rest[end - self._at :], end
            self._readings.clear()
        self._chunks += given

    def _complete(self, sentence: Growing, chunk: Chunk) -> None:
        """All of a sentence; what went out stays."""
        found = _placed(self._read(chunk.text), chunk.source[0])
        sent = len(sentence.tokens)
        fits = found.tokens[:sent] == sentence.tokens and found.words[: len(sentence.words)] == sentence.words
        if not fits or (found.words and found.words[0].source[0] < self._said and not sent):
            sentence.broken = True
            found = _behind(found, self._said, sentence.tokens)
        else:
            found = Script(found.tokens[sent:], found.words[len(sentence.words) :])
        sentence.tokens += found.tokens
        sentence.words += found.words
        sentence.whole = True
        self._said = max(self._said, chunk.source[1])

    def _grow(self, sentence: Growing) -> None:
        """Give out what has become certain."""
        rest = self._rest.lstrip()
        offset = self._at + len(self._rest) - len(rest)
        ends = certain(rest, self._most)
        if len(ends) <= len(self._readings):
            return
        while len(self._readings) < len(ends):
            self._readings.append(_placed(self._read(rest[: ends[len(self._readings)]]), offset))
        reach = _settled([rest[begin:end].strip() for begin, end in zip([0, *ends], ends, strict=False)])
        if reach < 1:
            return
        latest, *others = self._readings[: -READINGS - 1 : -1]
        if len(others) < READINGS - 1:
            return
        agreed = min(_common(latest.tokens, other.tokens) for other in [latest, *others])
        until = offset + ends[reach - 1]
        sent = len(sentence.words)
        if latest.words[:sent] != sentence.words:
            return  # seen for what it is when the sentence is whole
        for word in latest.words[sent:]:
            if word.source[1] > until or word.last > agreed:
                break
            sentence.tokens += latest.tokens[len(sentence.tokens) : word.last]
            sentence.words.append(word)
            self._said = word.source[1]


def certain(rest: str, most: int) -> list[int]:
    """Where the words end that are whole and, whatever follows, in the first chunk of `rest`.

    Args:
        rest: text that begins with a word.
        most: characters in a chunk, as `Chunker` cuts it.
    """
    found = list(_WORD.finditer(rest))
    small = next(filter(str.isalpha, rest), "").islower()
    ends: list[int] = []
    open_: list[int] = []  # behind a place where a long sentence may be cut
    may_be_cut = False
    for at, word in enumerate(found):
        # A bracket may become a pause; and behind three quarters of the length words that belong together
        # may be kept for the next chunk.
        if word.end() == len(rest) or word.end() > 3 * most // 4 or {"[", "<"} & set(word[0]):
            break
        open_.append(word.end())
        bare = word[0].rstrip("\"'\u201d\u2019»)]*_")
        marked = bare[-1:] in _CLAUSE or bare in ("-", "--")
        # A word that may belong to the next may be cut off before with it.
        if not may_tie(word[0]) and (not may_be_cut or (marked and not any(map(str.isdigit, bare)))):
            ends += open_
            open_ = []
        if at + 1 == len(found):
            break
        following = found[at + 1]
        if word.end() >= most // 4 and (marked or following[0][0] in "(—\u2013"):
            may_be_cut = True
        if "\n" in rest[word.end() : following.start()]:
            break
        texts = [earlier[0] for earlier in found[: at + 1]]
        if ends_sentence(texts, following[0], following.end() < len(rest), small) is not False:
            break
    return ends


def _settled(words: list[str]) -> int:
    """How many of the words are read as they are, whatever follows, as far as their kinds tell."""
    for at, word in enumerate(words):
        if len(words) - at <= SETTLED and not _PLAIN.fullmatch(word):
            return at
    return len(words)


def _placed(read: Script, offset: int) -> Script:
    """The same with places in the whole text."""
    return Script(
        read.tokens,
        [replace(word, source=(word.source[0] + offset, word.source[1] + offset)) for word in read.words],
    )


def _common(one: list[int], other: list[int]) -> int:
    """How many tokens two readings begin with alike."""
    for at, (mine, its) in enumerate(zip(one, other, strict=False)):
        if mine != its:
            return at
    return min(len(one), len(other))


def _behind(read: Script, said: int, before: list[int]) -> Script:
    """The words of a reading that stand behind a place in the text, as they follow tokens."""
    words = [word for word in read.words if word.source[0] >= said]
    if not words:
        return Script([], [])
    first = words[0].first
    paused = bool(before) and first > 0 and read.tokens[first - 1] == PAUSE and before[-1] != PAUSE
    moved = len(before) + paused - first
    return Script(
        [PAUSE] * paused + read.tokens[first:],
        [replace(word, first=word.first + moved, last=word.last + moved) for word in words],
    )
