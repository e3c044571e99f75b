"""Captions on a terminal: one line that is rewritten as words come, and scrolls up when it is full."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Callable
from typing import TextIO

_DIM, _PLAIN, _CLEAR_TO_END = "\x1b[2m", "\x1b[0m", "\x1b[K"


def _terminal_width() -> int:
    return shutil.get_terminal_size().columns


class CaptionLine:
    """Shows text that only ever grows.

    On a terminal the line under way is redrawn with each piece, its last and perhaps unfinished word dimmed;
    elsewhere the words are written as they come, and nothing else. What was shown is the text, whole.
    """

    def __init__(self, out: TextIO, width: Callable[[], int] = _terminal_width) -> None:
        self._out = out
        self._width = width
        self._live = out.isatty()
        self._line = ""
        self._draft = ""
        self.text = ""

    def add(self, piece: str) -> None:
        """Show more text."""
        if not self.text:
            piece = piece.lstrip()
        if not piece:
            return
        self.text += piece
        self._draft = ""
        if not self._live:
            self._out.write(piece)
            self._out.flush()
            return
        self._line += _printable(piece)
        # One column stays free: a cursor past the last one would wrap, and "\r" would miss the line's start.
        room = max(20, self._width() - 1)
        while columns(self._line) > room:
            head, self._line = _broken(self._line, room)
            self._out.write(f"\r{head}{_CLEAR_TO_END}\n")
        self._draw()

    def draft(self, guess: str) -> None:
        """Show dimmed, as far as the line has room, what may follow; the next piece or guess replaces it."""
        if self._live and guess != self._draft:
            self._draft = _printable(guess)
            self._draw()

    def finish(self, text: str) -> None:
        """Show what `text`, the final one, has beyond the pieces so far, and end the line."""
        if text.startswith(self.text):
            self.add(text[len(self.text) :])
        if self._live:
            self._out.write(f"\r{self._line}{_CLEAR_TO_END}")
        self._out.write("\n")
        self._out.flush()

    def _draw(self) -> None:
        settled, space, growing = self._line.rpartition(" ")
        growing += self._draft
        while columns(settled + space + growing) > max(20, self._width() - 1):
            growing = growing[:-1]
        self._out.write(f"\r{settled}{space}{_DIM}{growing}{_PLAIN}{_CLEAR_TO_END}")
        self._out.flush()


def columns(text: str) -> int:
    """Columns that `text` takes on a terminal: two for wide East Asian letters, none for combining marks."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def _broken(line: str, room: int) -> tuple[str, str]:
    """`line` as what fits in `room` columns, cut at a space if there is one, and the rest."""
    fits = 0
    for end in range(1, len(line) + 1):
        if columns(line[:end]) > room:
            break
        fits = end
    space = line.rfind(" ", 0, fits + 1)
    if space > 0:
        return line[:space], line[space + 1 :]
    return line[:fits], line[fits:]


def _printable(text: str) -> str:
    """`text` without control characters: what a model says must not move the cursor."""
    return "".join(" " if unicodedata.category(char) in ("Cc", "Zl", "Zp") else char for char in text)
