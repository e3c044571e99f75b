"""Captions on a screen: a small terminal model shows what a person would see."""

from __future__ import annotations

import io
import re

from hypothesis import given
from hypothesis import strategies as st

from rillvox.commands.caption_line import CaptionLine, columns


class Screen(io.StringIO):
    """A terminal of which only the rows matter: colours are ignored."""

    def isatty(self) -> bool:
        return True

    def rows(self) -> list[str]:
        rows, at = [""], 0
        for token in re.findall(r"\x1b\[\d*[mK]|.|\n", self.getvalue(), re.DOTALL):
            if token == "\r":
                at = 0
            elif token == "\n":
                rows.append("")
                at = 0
            elif token.endswith("K") and token.startswith("\x1b"):
                rows[-1] = rows[-1][:at]
            elif not token.startswith("\x1b"):
                rows[-1] = rows[-1][:at] + token + rows[-1][at + 1 :]
                at += 1
        return rows


def shown(pieces: list[str], width: int = 30) -> list[str]:
    screen = Screen()
    line = CaptionLine(screen, lambda: width)
    for piece in pieces:
        line.add(piece)
    line.finish("".join(pieces).lstrip())
    return screen.rows()[:-1]


def test_a_growing_line_is_rewritten_in_place() -> None:
    assert shown([" Good", " eve", "ning."]) == ["Good evening."]


def test_a_full_line_scrolls_up_at_a_space() -> None:
    rows = shown([" one", " two three", " four five six", " seven eight nine ten"], width=24)
    assert rows == ["one two three four five", "six seven eight nine", "ten"]


@given(
    st.lists(
        st.text(st.characters(codec="ascii", categories=["L", "N", "P", "Zs"]), max_size=30), max_size=20
    )
)
def test_all_words_are_shown_whatever_the_pieces(pieces: list[str]) -> None:
    rows = shown(pieces, width=25)
    assert "".join("".join(rows).split()) == "".join("".join(pieces).split())
    assert all(len(row) <= 24 for row in rows)


def test_wide_letters_take_two_columns() -> None:
    assert columns("日本") == 4
    assert columns("e\u0301") == 1
    assert max(map(columns, shown(["日本語の字幕は幅が二倍になるので早く折り返す"], width=22))) <= 21


def test_the_last_word_is_dimmed_until_it_is_whole() -> None:
    screen = Screen()
    line = CaptionLine(screen, lambda: 40)
    line.add(" the gram")
    assert "the \x1b[2mgram\x1b[0m" in screen.getvalue()


def test_a_draft_is_replaced_by_what_comes() -> None:
    screen = Screen()
    line = CaptionLine(screen, lambda: 40)
    line.add("I scream")
    line.draft(" for eyes")
    assert screen.rows()[-1] == "I scream for eyes"
    line.add(" for ice")
    assert screen.rows()[-1] == "I scream for ice"
    assert line.text == "I scream for ice"


def test_a_draft_never_wraps_the_line() -> None:
    screen = Screen()
    line = CaptionLine(screen, lambda: 25)
    line.add("short")
    line.draft(" but the guess is far too long")
    assert len(screen.rows()) == 1
    assert len(screen.rows()[0]) <= 24


def test_control_characters_do_not_reach_the_terminal() -> None:
    screen = Screen()
    CaptionLine(screen, lambda: 60).add("red \x1b[31malert\x07\n")
    assert "\x1b[31m" not in screen.getvalue()
    assert "\x07" not in screen.getvalue()


def test_without_a_terminal_the_words_come_plain() -> None:
    out = io.StringIO()
    line = CaptionLine(out)
    for piece in [" Good", " eve"]:
        line.add(piece)
    line.draft("nings are long")
    line.finish("Good evening.")
    assert out.getvalue() == "Good evening.\n"
