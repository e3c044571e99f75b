"""Captions from timed words: cues that fit a screen, as SubRip (srt) or WebVTT (vtt).

A cue has at most two lines of 42 characters and lasts at most 7 s, the usual limits of subtitling guides.
It ends at a long pause at once, and where it must end for want of room, at the best place of its last two
thirds: the longest pause, with a bonus behind the end of a sentence or a comma. No character of the text is
lost: the cues read one after the other are the text, whitespace aside.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Protocol

LINE_LENGTH = 42
LINES = 2
LONGEST_MS = 7000
SHORTEST_MS = 1000  # a shorter cue stays up this long if the next one leaves the room
LONG_PAUSE_MS = 1500
STEP_MS = 80  # words that share one frame of the model still get a visible cue

# The escapes are the full-width marks of Chinese and Japanese.
SENTENCE_END = (".", "!", "?", "…", "\u3002", "\uff01", "\uff1f")
CLAUSE_END = (",", ";", ":", "\u3001", "\uff0c")


class TimedWord(Protocol):
    """A text with its times in seconds."""

    @property
    def text(self) -> str: ...
    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...


@dataclass(frozen=True)
class Cue:
    """One caption: its times in milliseconds and its lines."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class _Piece:
    """A word with the spaces and marks that follow it, never longer than a line."""

    text: str
    start_ms: int
    end_ms: int


def cues(text: str, words: Sequence[TimedWord], seconds: float) -> list[Cue]:
    """Cut `text` into cues at the times of `words`; without words, evenly over `seconds`."""
    pieces = [part for piece in _pieces(text, words, seconds) for part in _chop(piece)]
    groups: list[list[_Piece]] = []
    at = 0
    while at < len(pieces):
        end = _cue_end(pieces, at)
        groups.append(pieces[at:end])
        at = end
    return _timed(groups)


def srt(cue_list: Sequence[Cue]) -> str:
    """SubRip: numbered cues, times as `00:00:00,100`."""
    # "-->" inside a line would be read as a time line, and SubRip has no escape for it.
    return "\n".join(
        f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n"
        + "".join(line.replace("-->", "->") + "\n" for line in cue.lines)
        for number, cue in enumerate(cue_list, 1)
    )


def vtt(cue_list: Sequence[Cue]) -> str:
    """WebVTT: a header, then cues, times as `00:00:00.100`; `&`, `<` and `>` escaped."""
    return "WEBVTT\n" + "".join(
        f"\n{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n"
        + "".join(escape(line, quote=False) + "\n" for line in cue.lines)
        for cue in cue_list
    )


def _clock(ms: int, mark: str) -> str:
    minutes, rest = divmod(ms, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{mark}{rest % 1000:03d}"


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _pieces(text: str, words: Sequence[TimedWord], seconds: float) -> list[_Piece]:
    spoken = [word for word in words if word.text.strip()]
    if not spoken:
        return _spread(text, seconds)
    starts = _find(text, [word.text.strip() for word in spoken])
    if starts is None:  # words that are not those of the text: trust the words
        slices = [word.text.strip() + " " for word in spoken]
    else:
        bounds = [0, *starts[1:], len(text)]  # the first piece takes whatever stands before its word
        slices = [text[a:b] for a, b in pairwise(bounds)]
    pieces: list[_Piece] = []
    clock = 0
    for part, word in zip(slices, spoken, strict=True):
        clock = max(clock, _ms(word.start))
        pieces.append(_Piece(part, clock, max(clock, _ms(word.end))))
    return pieces


def _find(text: str, words: Sequence[str]) -> list[int] | None:
    starts: list[int] = []
    at = 0
    for word in words:
        found = text.find(word, at)
        if found < 0:
            return None
        starts.append(found)
        at = found + len(word)
    return starts


def _spread(text: str, seconds: float) -> list[_Piece]:
    parts = [part + " " for part in text.split()]
    total, done = sum(map(len, parts)), 0
    pieces: list[_Piece] = []
    for part in parts:
        start = done
        done += len(part)
        pieces.append(_Piece(part, _ms(seconds * start / total), _ms(seconds * done / total)))
    return pieces


def _chop(piece: _Piece) -> list[_Piece]:
    """Parts of a piece that each fit a line, times in proportion."""
    size = len(piece.text)
    if len(piece.text.strip()) <= LINE_LENGTH:
        return [piece]
    span = piece.end_ms - piece.start_ms
    cuts = [*range(0, size, LINE_LENGTH), size]
    return [
        _Piece(piece.text[a:b], piece.start_ms + span * a // size, piece.start_ms + span * b // size)
        for a, b in pairwise(cuts)
    ]


def _wrap(pieces: Sequence[_Piece]) -> list[str]:
    text = "".join(piece.text for piece in pieces)
    return textwrap.wrap(" ".join(text.split()), LINE_LENGTH, break_on_hyphens=False)


def _cue_end(pieces: Sequence[_Piece], start: int) -> int:
    """Index behind the last piece of the cue that begins at `start`."""
    end = start + 1
    while end < len(pieces):
        if pieces[end].start_ms - pieces[end - 1].end_ms >= LONG_PAUSE_MS:
            return end
        if pieces[end].end_ms - pieces[start].start_ms > LONGEST_MS:
            break
        if len(_wrap(pieces[start : end + 1])) > LINES:
            break
        end += 1
    else:
        return end
    earliest = start + (end - start + 2) // 3
    return max(range(earliest, end + 1), key=lambda at: (_merit(pieces, at), at))


def _merit(pieces: Sequence[_Piece], at: int) -> int:
    """How good a break before piece `at` is, in milliseconds of pause."""
    before = pieces[at - 1].text.rstrip()
    bonus = 600 if before.endswith(SENTENCE_END) else 300 if before.endswith(CLAUSE_END) else 0
    return bonus + max(0, pieces[at].start_ms - pieces[at - 1].end_ms)


def _timed(groups: Sequence[Sequence[_Piece]]) -> list[Cue]:
    shown: list[Cue] = []
    clock = 0
    for index, group in enumerate(groups):
        lines = tuple(_wrap(group))
        if not lines:
            continue
        start = max(clock, group[0].start_ms)
        room = groups[index + 1][0].start_ms if index + 1 < len(groups) else start + LONGEST_MS
        end = max(group[-1].end_ms, start + SHORTEST_MS)
        end = max(min(end, room, start + LONGEST_MS), start + STEP_MS)
        shown.append(Cue(start, end, lines))
        clock = end
    return shown
