"""Progress of a long file on stderr."""

from __future__ import annotations

import io

from rillvox.commands.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(out: io.StringIO, wall_seconds: int, speed: int = 10) -> str:
    now = [0.0]
    progress = Progress("talk.flac", out, lambda: now[0])
    for second in range(wall_seconds):
        now[0] = float(second)
        progress.at(second * speed)
    progress.done()
    return out.getvalue()


def test_a_short_file_says_nothing() -> None:
    assert run(Terminal(), 2) == run(io.StringIO(), 2) == ""


def test_a_terminal_line_is_rewritten_and_taken_away() -> None:
    text = run(Terminal(), 400)
    assert "\n" not in text
    assert "talk.flac: 1:06:30 heard, 10.0x the pace of speech" in text
    assert text.endswith("\r\x1b[K")


def test_a_log_gets_a_line_each_half_minute() -> None:
    lines = run(io.StringIO(), 100).splitlines()
    assert [line.split(" heard")[0] for line in lines] == [
        "talk.flac: 0:20",
        "talk.flac: 5:20",
        "talk.flac: 10:20",
        "talk.flac: 15:20",
    ]
