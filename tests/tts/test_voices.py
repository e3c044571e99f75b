"""Voices as files, and prompts: what goes in comes out, and what fits no model is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_codec import GOLDEN as CODEC
from tiny_speaker import GOLDEN, golden

from rillvox.errors import TextError, VoiceError
from rillvox.tekken import BOS, EOS, Tekken
from rillvox.tts.prompt import SYMBOLS, embed_prompt, prompt_ids
from rillvox.tts.voices import FORMAT, VERSION, Voice

E2E = load_file(GOLDEN / "e2e.safetensors")
ENCODE = load_file(CODEC / "codec_encode.safetensors")


@pytest.fixture
def tekken() -> Tekken:
    """Control symbols where the released vocabulary has them, letters behind."""
    specials = dict(zip(SYMBOLS, (1, 24, 25, 36, 35), strict=True)) | {EOS: 2}
    return Tekken(
        tuple(bytes([byte]) for byte in range(256)),
        r"\p{L}+|.",
        specials,
        {},
        n_special=40,
    )


def test_the_order_of_the_prompt(tekken: Tekken) -> None:
    text = "".join(map(chr, range(14, 19)))
    ids = prompt_ids(tekken, 6, text)
    assert ids[:9] == [1, 25, *[24] * 6, 36]
    assert ids[-2:] == [35, 25]
    assert ids[9:-2] == [40 + code for code in range(14, 19)]
    assert [k for k in range(len(ids)) if ids[k] != int(E2E["prompt_ids"][k])] == [*range(9, 14)]
    assert BOS in SYMBOLS
    with pytest.raises(TextError, match="no text"):
        prompt_ids(tekken, 6, "")


def test_names_of_control_symbols_in_a_text_are_text(tekken: Tekken) -> None:
    assert 24 not in prompt_ids(tekken, 0, "[AUDIO]")[3:-2]


def test_a_voice_of_codes_ends_as_prompts_end(tekken: Tekken) -> None:
    model = golden()[0]
    embed = load_file(GOLDEN / "embed.safetensors")
    codes = ENCODE["codes_no_offset"]
    rows = Voice("v", "m", codes).embed(model)
    assert len(rows) == len(Voice("v", "m", codes)) == 14
    torch.testing.assert_close(rows[-1], embed["reference_eoa_embedding"], atol=1e-5, rtol=0)
    torch.testing.assert_close(rows[:-1], model.frame_embedding(codes + 2))
    # A voice that came with the model is its rows.
    preset = Voice("p", "m", rows=E2E["voice_embedding"])
    prompt = embed_prompt(model, tekken, preset, "\x0b\x0c")
    torch.testing.assert_close(prompt[2:8], E2E["voice_embedding"])
    torch.testing.assert_close(prompt[0], E2E["prompt_embeds"][0])


def test_a_text_that_leaves_no_room_is_refused(tekken: Tekken) -> None:
    with pytest.raises(TextError, match="several parts"):
        embed_prompt(golden()[0], tekken, Voice("p", "m", rows=E2E["voice_embedding"]), "\x0b" * 3000)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    record = {"consent": "I am Ana and allow it", "recording": {"seconds": 3.5}}
    for voice in (
        Voice("ana", "f" * 32, ENCODE["codes_no_offset"], record=record),
        Voice("preset", "f" * 32, rows=E2E["voice_embedding"]),
    ):
        voice.save(tmp_path / "v.safetensors")
        again = Voice.load(tmp_path / "v.safetensors", "f" * 32)
        assert (again.name, again.model, again.record) == (voice.name, voice.model, dict(voice.record))
        torch.testing.assert_close(again.embed(golden()[0]), voice.embed(golden()[0]))
    assert [path.name for path in tmp_path.iterdir()] == ["v.safetensors"]


@pytest.mark.parametrize(
    "voice",
    [
        Voice("v", "m", torch.zeros(0, 37, dtype=torch.int16)),
        Voice("v", "m", torch.zeros(5, 36, dtype=torch.int16)),
        Voice("v", "m", torch.full((5, 37), 21, dtype=torch.int16)),
        Voice("v", "m", torch.full((5, 37), -1, dtype=torch.int16)),
        Voice("v", "m", torch.zeros(5, 37)),
        Voice("v", "m", rows=torch.zeros(5, 63)),
        Voice("v", "m", rows=torch.full((5, 64), float("inf"))),
        Voice("v", "m", rows=torch.zeros(5, 64, dtype=torch.int64)),
    ],
)
def test_what_no_voice_of_a_model_can_be_is_named(voice: Voice) -> None:
    config = golden()[0].config
    Voice("v", "m", ENCODE["codes_no_offset"]).check(config)
    Voice("v", "m", rows=E2E["voice_embedding"]).check(config)
    with pytest.raises(VoiceError, match=r"v: expected .* clone it again with this model"):
        voice.check(config)


@pytest.mark.parametrize("what", ["other model", "cut", "foreign", "missing", "newer"])
def test_what_is_no_voice_of_this_model_is_refused(what: str, tmp_path: Path) -> None:
    path = tmp_path / "v.safetensors"
    Voice("ana", "f" * 32, ENCODE["codes_no_offset"]).save(path)
    told = "is no voice, or damaged"
    if what == "other model":
        told = "is a voice of another model"
    elif what == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif what == "foreign":
        save_file({"x": torch.ones(2)}, path)
        told = "is no voice; make one"
    elif what == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes().replace(b'"version":"1"', b'"version":"9"'))
        told = "has version 9"
    with pytest.raises(VoiceError, match=told):
        Voice.load(path, "e" * 32 if what == "other model" else "f" * 32)
    with pytest.raises(VoiceError, match="either codes or rows"):
        Voice("x", "m")


def test_a_voice_that_is_not_finite_or_has_no_record_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "v.safetensors"
    Voice("preset", "f" * 32, rows=torch.full((3, 4), float("nan"))).save(path)
    with pytest.raises(VoiceError, match="is damaged; rows is not finite"):
        Voice.load(path)
    about = {"format": FORMAT, "version": VERSION, "name": "ana", "model": "f", "record": "[1]"}
    save_file({"codes": torch.zeros(3, 37, dtype=torch.int16)}, path, about)
    with pytest.raises(VoiceError, match="is damaged; its record is no object"):
        Voice.load(path)
