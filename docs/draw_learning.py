"""Draw the learning curves of the default listener as an SVG: the picture in its card.

    python docs/draw_learning.py training/curves/asr.json docs/learning_asr.svg

The points are copied from the logs of the runs (`log.jsonl`) and from `rillvox eval asr`, with their dates.
"""

import json
import sys
from html import escape
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, MARGIN, GAP = 760, 300, 54, 60
COLOURS = ("#4493f8", "#f78166", "#3fb950", "#d29922")
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#e6edf3}.axis{stroke:#484f58}.grid{stroke:#30363d}"
    ".small{font-size:11px;fill:#9198a1}"
)


def panel(left: float, width: float, panel: dict[str, Any]) -> list[str]:
    """One diagram: title, axes with numbers, and each curve with its points."""
    top, bottom = 48.0, HEIGHT - 44.0
    points = [point for curve in panel["curves"] for point in curve["points"]]
    most = max(x for x, _ in points)
    low, high = panel["range"]

    def place(x: float, y: float) -> tuple[float, float]:
        return left + x / most * width, bottom - (y - low) / (high - low) * (bottom - top)

    parts = [f'<text x="{left}" y="22">{escape(panel["title"])}</text>']
    for step in range(5):
        value = low + (high - low) * step / 4
        _, y = place(0, value)
        parts.append(f'<line class="grid" x1="{left}" y1="{y:.1f}" x2="{left + width:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="small" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.0f} %</text>'
        )
    for step in range(5):
        count = most * step / 4
        x, _ = place(count, low)
        parts.append(
            f'<text class="small" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{count:.0f}</text>'
        )
    parts.append(
        f'<text class="small" x="{left + width / 2:.1f}" y="{bottom + 34}" text-anchor="middle">'
        f"{escape(panel['x'])}</text>"
    )
    for colour, curve in zip(COLOURS, panel["curves"], strict=False):
        places = [place(x, y) for x, y in curve["points"]]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        x, y = places[-1]
        name = escape(curve["name"])
        parts.append(f'<text class="small" x="{x:.1f}" y="{y - 8:.1f}" text-anchor="end">{name}</text>')
    return parts


def draw(document: dict[str, Any]) -> str:
    """The picture."""
    panels = document["panels"]
    width = (WIDTH - MARGIN - 20 - GAP * (len(panels) - 1)) / len(panels)
    body = [part for i, p in enumerate(panels) for part in panel(MARGIN + i * (width + GAP), width, p)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f"<title>{escape(document['title'])}</title><style>{STYLE}</style>"
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#0d1117"/>' + "".join(body) + "</svg>\n"
    )


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:3])
    target.write_text(draw(json.loads(source.read_text("utf-8"))), "utf-8")
