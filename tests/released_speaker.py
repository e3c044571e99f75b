"""The tiny Voxtral TTS of the golden vectors in a folder as released: with a vocabulary and voices."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tiny_speaker import CODEC, GOLDEN

from rillvox.tekken import EOS, Tekken
from rillvox.tts.prompt import SYMBOLS

TEXT = "Paris"  # is the text of the golden prompt: a token for each letter
N_SPECIAL = 40
E2E = load_file(GOLDEN / "e2e.safetensors")


def write_released(folder: Path, *, encoder: bool = True) -> Path:
    """Write one; without `encoder` it is as the public checkpoint, which can't hear."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = load_file(GOLDEN / "speaker.safetensors") | load_file(CODEC / "consolidated.safetensors")
    if not encoder:
        hearing = ("audio_tokenizer.encoder", "audio_tokenizer.input")
        tensors = {name: value for name, value in tensors.items() if not name.startswith(hearing)}
    name = "mm_audio_embeddings.tok_embeddings.weight"
    rows = torch.randn(N_SPECIAL + 256, 64, generator=torch.Generator().manual_seed(1))
    rows[:N_SPECIAL] = tensors[name][:N_SPECIAL]
    rows[[N_SPECIAL + ord(letter) for letter in TEXT]] = tensors[name][E2E["prompt_ids"][9:14]]
    tensors[name] = rows
    save_file(tensors, folder / "consolidated.safetensors")
    params = json.loads((GOLDEN / "params.json").read_text())
    (folder / "params.json").write_text(json.dumps(params | {"vocab_size": len(rows)}))
    specials = dict(zip(SYMBOLS, (1, 24, 25, 36, 35), strict=True)) | {EOS: 2}
    pieces = tuple(bytes([byte]) for byte in range(256))
    audio = {"voice_num_audio_tokens": {"ana": 6}}
    Tekken(pieces, r"\p{L}+|.", specials, audio, n_special=N_SPECIAL).save(folder / "tekken.json")
    (folder / "voice_embedding").mkdir()
    torch.save(E2E["voice_embedding"].to(torch.bfloat16), folder / "voice_embedding" / "ana.pt")
    save_file({"rows": E2E["voice_embedding"] * 0.5}, folder / "voice_embedding" / "bea.safetensors")
    return folder
