"""The tiny Voxtral TTS of the golden vectors."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from safetensors.torch import load_file, save_file

from rillvox.codec.model import CodecModel
from rillvox.tts.checkpoint import load_model
from rillvox.tts.model import SpeakerModel

GOLDEN = Path(__file__).parent / "golden" / "tts_tiny"
CODEC = GOLDEN.parent / "codec_tiny"


def write_folder(folder: Path) -> Path:
    """The speaker's and the codec's tensors in one file, as the release has them."""
    tensors = load_file(GOLDEN / "speaker.safetensors") | load_file(CODEC / "consolidated.safetensors")
    save_file(tensors, folder / "consolidated.safetensors")
    (folder / "params.json").write_text((GOLDEN / "params.json").read_text())
    return folder


@cache
def golden() -> tuple[SpeakerModel, CodecModel]:
    """Both models."""
    with tempfile.TemporaryDirectory() as folder:
        return load_model(write_folder(Path(folder)))
