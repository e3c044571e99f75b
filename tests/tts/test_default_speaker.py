"""What is promised of the speaker that comes along, measured with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rillvox.tts.speaker import TTS

TEXTS = [
    "The old man walked slowly along the river, and he thought of his brother.",
    "She put the letters back into the box and closed the lid with both hands.",
    "In the morning the wind had turned, and the boats were out again.",
    "Nobody could say who had left the window open during the night.",
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tts() -> TTS:
    return TTS.load()


def seconds(tts: TTS, pace: float) -> float:
    """From the first word's begin to the last one's end, over all texts."""
    manner = replace(tts.manner, pace=pace)
    found = [tts.synthesize(text, "kathleen", seed=1, manner=manner).words for text in TEXTS]
    return sum(words[-1].end - words[0].start for words in found)


def test_a_pace_is_what_was_asked_for(tts: TTS) -> None:
    own = seconds(tts, 1.0)
    for pace in (0.7, 0.85, 1.2, 1.35):
        assert own / seconds(tts, pace) == pytest.approx(pace, rel=0.1)


def test_a_text_that_says_the_same_over_and_over_is_said_to_its_end(tts: TTS) -> None:
    for seed in (1, 2):
        found = tts.synthesize(f"It is {'very ' * 20}good.", "kathleen", seed=seed)
        assert found.finish_reason == "stop"
        assert found.words[-1].text == "good"
