"""Draw the live captions of a recording as an animated SVG: the picture in README.

    python docs/draw_captions.py samples/recordings/printing.flac docs/captions.svg [MODEL]

Each word appears when the model wrote it, counted in audio received; the time to compute is not in it.
"""

import sys
from html import escape
from pathlib import Path

import numpy as np

from rillvox import ASR
from rillvox.audio import open_audio, read_audio

RATE, BLOCK, DELAY_MS = 16000, 0.08, 480
WIDTH, WAVE, LINE, MARGIN, COLUMNS, LETTER = 760, 90, 26, 24, 74, 9.63
PAUSE = 3.0  # seconds before it starts again
STYLE = (
    "text{font:16px ui-monospace,Menlo,Consolas,monospace;fill:#e6edf3;white-space:pre}"
    ".wave{stroke:#4493f8;stroke-width:2}.head{fill:#f78166}"
)


def heard(asr: ASR, recording: Path) -> list[tuple[float, str]]:
    """Pieces of text and the seconds of audio after which each was written."""
    session = asr.stream(DELAY_MS)
    pieces, seconds, text = [], 0.0, ""
    for block in open_audio(recording, RATE, BLOCK):
        session.feed(block)
        seconds += len(block) / RATE
        pieces += [(seconds, getattr(event, "text", "")) for event in session.poll()]
    text = "".join(piece for _, piece in pieces)
    whole = session.finish().text
    return [*pieces, (seconds + DELAY_MS / 1000, whole[len(text.lstrip()) :])]


def words(pieces: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Whole words, each with the time of its last piece."""
    found: list[tuple[float, str]] = []
    for seconds, piece in pieces:
        for index, part in enumerate(piece.split(" ")):
            if index or not found:
                found.append((seconds, part))
            else:
                found[-1] = (seconds if part else found[-1][0], found[-1][1] + part)
    return [(seconds, word) for seconds, word in found if word]


def appearing(seconds: float, total: float) -> str:
    """An animation that shows its element from `seconds` on, each round anew."""
    return (
        '<animate attributeName="opacity" calcMode="discrete" values="0;1" '
        f'keyTimes="0;{seconds / total:.4f}" '
        f'dur="{total:.2f}s" repeatCount="indefinite"/>'
    )


def draw(recording: Path, target: Path, model: str) -> None:
    """Write the picture."""
    audio = read_audio(recording, RATE)
    said = words(heard(ASR.load(model), recording))
    total = audio.seconds + PAUSE
    inner = WIDTH - 2 * MARGIN
    peaks = [np.abs(part).max() for part in np.array_split(audio.samples, inner // 4)]
    middle = MARGIN + WAVE / 2
    bars = "".join(
        f"M{MARGIN + 4 * i} {middle - h:.1f}v{2 * h:.1f}"
        for i, h in enumerate(peak / max(peaks) * WAVE / 2 + 0.5 for peak in peaks)
    )
    rows, column, row = [], 0, 0
    for seconds, word in said:
        if column and column + len(word) > COLUMNS:
            column, row = 0, row + 1
        x, y = MARGIN + column * LETTER, MARGIN + WAVE + (row + 1.4) * LINE
        rows.append(f'<text x="{x:.1f}" y="{y:.1f}">{escape(word)}{appearing(seconds, total)}</text>')
        column += len(word) + 1
    height = MARGIN + WAVE + (row + 2.2) * LINE
    share = audio.seconds / total
    target.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img">'
        f"<title>A recording, and its captions as they come</title><style>{STYLE}</style>"
        f'<rect width="100%" height="100%" rx="8" fill="#0d1117"/><path class="wave" d="{bars}"/>'
        f'<rect class="head" x="{WIDTH - MARGIN}" y="{MARGIN}" width="2" height="{WAVE}">'
        f'<animate attributeName="x" values="{MARGIN};{WIDTH - MARGIN};{WIDTH - MARGIN}" '
        f'keyTimes="0;{share:.4f};1" dur="{total:.2f}s" repeatCount="indefinite"/></rect>'
        + "".join(rows)
        + "</svg>\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]), *(sys.argv[3:] or ["asr-en"]))
