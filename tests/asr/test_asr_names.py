"""The names that `rillvox.asr` promises."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rillvox import asr

PROMISED = {
    "ASR",
    "Batch",
    "DelayChanged",
    "Draft",
    "Event",
    "Final",
    "Mark",
    "Partial",
    "RutRules",
    "Session",
    "Transcript",
    "Word",
}


def test_the_public_names_are_pinned_and_there() -> None:
    assert set(asr.__all__) == PROMISED
    assert all(getattr(asr, name) is not None for name in PROMISED)


def test_other_names_are_missing() -> None:
    with pytest.raises(AttributeError, match="has no attribute"):
        asr.Ears  # noqa: B018  (a name that is not there)


def test_transcripts_do_not_wait_for_torch() -> None:
    code = "import sys, rillvox.asr.transcript, rillvox.asr.events; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
