"""Audio written to files: what is read again, and what was there before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from rillvox import Audio, AudioError
from rillvox.audio import read_audio

TONE = Audio((0.5 * np.sin(np.arange(24000) / 20)).astype(np.float32), 24000)


@pytest.mark.parametrize(("name", "apart"), [("a.wav", 1e-4), ("b.FLAC", 1e-4), ("c.ogg", 0.1)])
def test_what_is_saved_is_read_again(name: str, apart: float, tmp_path: Path) -> None:
    TONE.save(tmp_path / name)
    found = read_audio(tmp_path / name)
    assert found.rate == 24000
    assert found.seconds == pytest.approx(1.0, abs=0.01)
    assert np.abs(found.samples[:20000] - TONE.samples[:20000]).max() < apart
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_cannot_be_saved_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    TONE.save(str(tmp_path / "a.wav"))
    before = (tmp_path / "a.wav").read_bytes()
    with pytest.raises(AudioError, match=r"name a \.wav, \.flac, \.ogg file"):
        TONE.save(tmp_path / "a.mp3")
    with pytest.raises(AudioError, match="cannot be written"):
        TONE.save(tmp_path / "none" / "a.wav")
    real = sf.write  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]

    def full(path: Path, samples: np.ndarray, rate: int) -> None:
        real(path, samples[:100], rate)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sf, "write", full)
    with pytest.raises(AudioError, match="cannot be written: no space left"):
        TONE.save(tmp_path / "a.wav")
    assert (tmp_path / "a.wav").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
