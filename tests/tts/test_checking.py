"""Speech that is listened to before it is given out, with a listener that hears what the test wants."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from rillvox.audio import Audio
from rillvox.tts.checking import SEED_STEP, check, not_heard
from rillvox.tts.speaker import Synthesis


class Parrot:
    """A speaker whose audio is its seed."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, object, int, object]] = []

    def synthesize(
        self, text: str, voice: object, *, seed: int, lexicon: Mapping[str, str] | None = None
    ) -> Synthesis:
        self.asked.append((text, voice, seed, lexicon))
        return Synthesis(Audio(np.full(9, len(self.asked), np.float32), 24000), [], "stop", seed, ["before"])


def listen(heard: list[str], text: str, tries: int = 3, **more: object) -> tuple[Parrot, object, list[str]]:
    parrot = Parrot()
    waiting = list(heard)
    found = check(parrot, text, "ana", lambda _: waiting.pop(0), seed=7, tries=tries, **more)  # type: ignore[arg-type]
    return parrot, found, waiting


def test_what_is_heard_at_once_is_spoken_once() -> None:
    parrot, found, left = listen(["hello there", "never"], "Hello there!")
    assert parrot.asked == [("Hello there!", "ana", 7, None)]
    assert left == ["never"]
    assert found.missing == [[]]  # type: ignore[attr-defined]
    assert found.best == 0  # type: ignore[attr-defined]
    assert found.synthesis.notes == ["before", "try 1: every word was heard"]  # type: ignore[attr-defined]


def test_it_is_spoken_anew_until_all_is_heard() -> None:
    parrot, found, _ = listen(["hello", "hello there my friend"], "Hello there, my friend.")
    assert [asked[2] for asked in parrot.asked] == [7, 7 + SEED_STEP]
    assert found.synthesis.seed == 7 + SEED_STEP  # type: ignore[attr-defined]
    assert found.synthesis.notes[1:] == [  # type: ignore[attr-defined]
        "try 1: not heard: there, my, friend",
        "try 2: every word was heard",
    ]


@pytest.mark.parametrize(
    ("heard", "best", "missing"),
    [
        (["one", "one two", "two"], 2, [2, 1, 2]),
        (["one two", "one three", "one"], 1, [1, 1, 2]),
        (["", "", "three"], 3, [3, 3, 2]),
    ],
)
def test_the_best_try_is_kept_and_of_equal_ones_the_first(
    heard: list[str], best: int, missing: list[int]
) -> None:
    parrot, found, left = listen(heard, "One, two, three.")
    assert len(parrot.asked) == 3
    assert not left
    assert found.synthesis.audio.samples[0] == best  # type: ignore[attr-defined]
    assert [len(lost) for lost in found.missing] == missing  # type: ignore[attr-defined]
    assert len(found.synthesis.notes) == 4  # type: ignore[attr-defined]


def test_tries_are_as_many_as_asked_for() -> None:
    parrot, _, _ = listen(["", "", "", ""], "One.", tries=1)
    assert len(parrot.asked) == 1


def test_numbers_are_wanted_as_they_are_said_and_a_lexicon_is_passed_on() -> None:
    parrot, found, _ = listen(["three cats"], "3 cats")
    assert len(parrot.asked) == 1
    lexicon = {"GIF": "jif"}
    parrot, found, _ = listen(["the jif", "the jif"], "the GIF", lexicon=lexicon)
    assert found.missing == [[]]  # type: ignore[attr-defined]
    assert parrot.asked[0][3] == lexicon


def test_words_are_lost_where_no_word_stands_for_them() -> None:
    wanted = ["the", "cat", "sat", "on", "the", "mat"]
    assert not_heard(wanted, wanted) == []
    assert not_heard(wanted, ["the", "cat", "uh", "sat", "on", "the", "big", "mat"]) == []
    assert not_heard(wanted, ["the", "cat", "on", "the", "mat"]) == ["sat"]
    assert not_heard(wanted, []) == wanted
    assert not_heard([], wanted) == []
    # Heard twice is not heard in two places.
    assert not_heard(["no", "no", "no"], ["no", "no"]) == ["no"]
