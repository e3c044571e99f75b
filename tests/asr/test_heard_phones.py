"""Phones of a recording, and when they are said."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from laws.listening import small

from rillvox.asr.heard_phones import HeardPhone, runs_of
from rillvox.asr.stream import ASR
from rillvox.audio import Audio, read_audio
from rillvox.errors import AudioError, ConfigError

KATHLEEN = Path(__file__).parents[2] / "samples" / "recordings" / "kathleen.flac"


def test_equal_frames_are_one_phone_and_silence_is_none() -> None:
    found = runs_of([0, 0, 5, 5, 5, 7, 0, 7, 7, 0])
    assert [heard.phone for heard in found] == [5, 7, 7]
    assert [(heard.start, heard.end) for heard in found] == [
        pytest.approx(times) for times in [(0.04, 0.1), (0.1, 0.12), (0.14, 0.18)]
    ]
    assert runs_of([]) == runs_of([0, 0]) == []
    assert runs_of([3]) == [HeardPhone(3, 0.0, 0.02)]


def test_the_default_listener_tells_phones() -> None:
    asr = ASR.load()
    found = asr.phones(KATHLEEN)
    seconds = read_audio(KATHLEEN).seconds
    assert 6 < len(found) / seconds < 20
    assert all(0 <= one.start < one.end <= seconds for one in found)
    assert all(one.end <= other.start for one, other in pairwise(found))
    assert all(1 <= one.phone <= 39 for one in found)
    with pytest.raises(AudioError, match="at most 60 s"):
        asr.phones(Audio(np.zeros(61 * 16000, np.float32), 16000))


def test_a_listener_that_writes_tokens_has_no_phones() -> None:
    tiny = small()
    with pytest.raises(ConfigError, match="writes tokens"):
        ASR(tiny.model, tiny.tokenizer, "tiny").phones(Audio(np.zeros(16000, np.float32), 16000))
