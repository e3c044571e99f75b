"""What users may rely on: these names, and that asking for them is cheap."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import rillvox
from rillvox import errors

NAMES = [
    "ASR",
    "Audio",
    "AudioError",
    "AuthError",
    "CapacityError",
    "CheckpointError",
    "Codec",
    "Codes",
    "ConfigError",
    "ProtocolError",
    "RillvoxError",
    "Synthesis",
    "TTS",
    "TextError",
    "Transcript",
    "Voice",
    "VoiceError",
    "Word",
]


def test_the_public_names_are_these() -> None:
    assert sorted(rillvox.__all__) == NAMES
    assert set(NAMES) <= set(dir(rillvox))


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_can_be_imported(name: str) -> None:
    assert getattr(rillvox, name).__name__ == name


def test_a_name_that_is_not_there_is_named() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Telepathy'"):
        _ = rillvox.Telepathy  # type: ignore[attr-defined]


def test_there_is_one_error_tree() -> None:
    own = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, Exception)]
    assert len(own) == 9
    assert all(issubclass(error, rillvox.RillvoxError) for error in own)


def test_the_version_is_the_installed_one() -> None:
    assert rillvox.__version__ == version("rillvox")


def test_importing_rillvox_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'numpy', 'soundfile', 'fastapi'} & set(sys.modules)"
    code = f"import sys, rillvox; rillvox.RillvoxError; sys.exit(str({heavy}) if {heavy} else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
