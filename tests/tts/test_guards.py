"""Speech that has run away is cut off and named; ordinary speech never is."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from rillvox.tts.guards import LOOP_CODES, LOOP_FRAMES, LOOP_PERIOD, SILENCE_SECONDS, Guard, repeats
from rillvox.tts.pieces import FINISHES, Finish, worst

FRAME = 1920
LOUD = (0.1 * np.random.default_rng(0).standard_normal(FRAME)).astype(np.float32)
NOTHING = np.zeros(FRAME, np.float32)


def told(codes: list[int], sound: np.ndarray = LOUD) -> tuple[Finish | None, int]:
    """What it says first, and after how many frames."""
    guard = Guard()
    for number, code in enumerate(codes, 1):
        if finish := guard.heard(code, sound):
            return finish, number
    return None, len(codes)


@pytest.mark.parametrize("period", [1, 2, LOOP_CODES, 9, LOOP_PERIOD])
def test_the_same_codes_over_and_over_are_a_loop(period: int) -> None:
    speech = list(range(100, 130))
    loop = [2 + k % period for k in range(3 * LOOP_FRAMES)]
    finish, frames = told(speech + loop)
    assert finish == "loop"
    assert LOOP_FRAMES - LOOP_CODES <= frames - len(speech) <= LOOP_FRAMES
    assert told(speech + loop[: LOOP_FRAMES - 6] + speech)[0] is None


def test_few_codes_in_any_order_are_a_loop_and_some_more_are_not() -> None:
    draw = np.random.default_rng(1)
    few = draw.integers(0, LOOP_CODES, 200).tolist()
    assert told(few) == ("loop", LOOP_FRAMES)
    # "No no no no ...": ten codes, never twice in the same order.
    assert told(draw.integers(0, 10, 400).tolist())[0] is None
    assert told([k % (LOOP_PERIOD + 1) for k in range(400)])[0] is None


def test_nothing_to_hear_is_silence_and_a_pause_is_not() -> None:
    codes = np.random.default_rng(2).integers(0, 500, 400).tolist()
    most = int(SILENCE_SECONDS * 24000 / FRAME)
    assert told(codes, NOTHING) == ("silence", most + 1)
    assert told(codes, NOTHING + np.float32(1e-4)) == ("silence", most + 1)
    assert told(codes, 0.05 * LOUD)[0] is None
    guard = Guard()
    for number, code in enumerate(codes):
        assert guard.heard(code, LOUD if number % most == 0 else NOTHING) is None
    # A frame whose samples come with the next one says nothing.
    assert told(codes, np.zeros(0, np.float32))[0] is None


def test_of_all_sentences_the_worst_is_told() -> None:
    assert worst([]) == worst(["stop", "stop"]) == "stop"
    for better, worse in pairwise(FINISHES):
        assert worst([worse, better, "stop"]) == worse


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("No, no, no, no, no! No.", True),
        ("it is very very very very very very good", True),
        ("left right left right left right", True),
        ("no no no no no", False),
        ("Five four three two one none", False),
        ("", False),
    ],
)
def test_a_text_that_says_the_same_over_and_over_is_known(text: str, told: bool) -> None:
    assert repeats(text.split()) == told
