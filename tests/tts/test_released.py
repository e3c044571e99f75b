"""A model folder as released, through the same calls as rillvox's own speakers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from cli_runner import run
from released_speaker import E2E, TEXT, write_released
from safetensors.torch import load_file, save_file

from rillvox.audio import Audio
from rillvox.codec.codes import Codes
from rillvox.errors import CheckpointError, ConfigError, TextError, VoiceError
from rillvox.tts import prompted_speaker
from rillvox.tts.config import END
from rillvox.tts.flow import FlowHead
from rillvox.tts.prompted_speaker import most_frames, respelled
from rillvox.tts.speaker import TTS, Piece
from rillvox.tts.speaking import Manner, Speaking
from rillvox.tts.voices import Voice

FRAME = 192  # samples of the tiny codec
RATE = 24000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_released(tmp_path_factory.mktemp("released") / "tiny")


@pytest.fixture(scope="module")
def tts(folder: Path) -> TTS:
    return TTS.load(folder)


@pytest.fixture(scope="module")
def golden_voice(tts: TTS) -> Voice:
    return Voice("golden", tts.fingerprint, rows=E2E["voice_embedding"])


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights never end: so many frames are enough."""
    monkeypatch.setattr(prompted_speaker, "FRAMES_A_CHARACTER", 1)
    monkeypatch.setattr(prompted_speaker, "FRAMES_EXTRA", 4)


def joined(pieces: list[Piece]) -> np.ndarray:
    return np.concatenate([piece.samples for piece in pieces])


def ending_after(patch: pytest.MonkeyPatch, frames: int) -> None:
    """Have the end be likeliest from so many frames on; `Speaking` asks once for each."""
    real, asked = FlowHead.semantic_logits, [0]

    def logits(self: FlowHead, hidden: torch.Tensor) -> torch.Tensor:
        found = real(self, hidden)
        found[:, END] = 1e4 if asked[0] >= frames else -1e4
        asked[0] += 1
        return found

    patch.setattr(FlowHead, "semantic_logits", logits)


def test_what_it_says_is_what_the_reference_says(
    tts: TTS, golden_voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[torch.Tensor] = []
    tick = Speaking.tick

    def with_their_noise(self: Speaking, active: torch.Tensor) -> torch.Tensor:
        frame = int(self.frame[0])
        said.append(tick(self, active, E2E["noise"][frame : frame + 1] if frame < 9 else None)[0])
        return said[-1][None]

    monkeypatch.setattr(Speaking, "tick", with_their_noise)
    sound = tts.synthesize(TEXT, golden_voice).audio.samples
    assert torch.equal(torch.stack(said[:9]), E2E["frames"])
    # Shaped: without what is below 10 Hz and with a soft begin, so it is only like theirs.
    alike = np.corrcoef(sound[: 9 * FRAME], E2E["waveform"].numpy())[0, 1]
    assert alike > 0.9


def test_seven_steps_are_its_own_and_others_may_be_asked_for(tts: TTS) -> None:
    own = tts.synthesize(TEXT, "ana").audio.samples
    assert np.array_equal(tts.synthesize(TEXT, "ana", manner=Manner(steps=7)).audio.samples, own)
    assert not np.array_equal(tts.synthesize(TEXT, "ana", manner=Manner(steps=2)).audio.samples, own)


def test_what_is_streamed_is_what_is_synthesized(tts: TTS, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Paris is big. Is it? [pause 0.5s] Yes."
    whole = tts.synthesize(text, "ana", seed=3)
    for parts in (text, list(text), [text[:15], text[15:]]):
        pieces = list(tts.stream(parts, "ana", seed=3))
        assert np.array_equal(joined(pieces), whole.audio.samples)
        assert sum(piece.finish is not None for piece in pieces) == 3
        assert any(len(piece.samples) == RATE // 2 and not piece.samples.any() for piece in pieces)
    assert whole.words == []
    assert not np.array_equal(tts.synthesize(text, "ana", seed=4).audio.samples[:FRAME], whole.audio.samples)
    # The second sentence alone is not the second sentence of a text: it draws otherwise.
    assert len(tts.synthesize("Is it?", "ana", seed=3).audio.samples) > FRAME


def test_it_stops_where_the_model_does(tts: TTS, monkeypatch: pytest.MonkeyPatch) -> None:
    ending_after(monkeypatch, 6)
    found = tts.synthesize(TEXT, "ana")
    assert found.finish_reason == "stop"
    assert len(found.audio.samples) == 6 * FRAME


@pytest.mark.parametrize(("text", "least"), [("Hi.", 1), (TEXT * 10, 10)])
def test_it_never_ends_at_once_nor_long_before_the_text_is_said(
    tts: TTS, text: str, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending_after(monkeypatch, 0)
    found = tts.synthesize(text, "ana")
    assert len(found.audio.samples) == least * FRAME
    ending_after(monkeypatch, 0)
    asked = tts.synthesize(text, "ana", manner=Manner(min_frames=least + 3))
    assert len(asked.audio.samples) == (least + 3) * FRAME


def test_what_never_ends_is_cut_off_and_told(tts: TTS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rillvox.tts.guards.LOOP_FRAMES", 10**6)
    ending_after(monkeypatch, 10**6)
    found = tts.synthesize(TEXT, "ana")
    assert found.finish_reason == "length"
    assert len(found.audio.samples) == most_frames(TEXT) * FRAME
    assert most_frames("a" * 5000) == 2048
    assert most_frames("7" * 20) > most_frames("a" * 20)


def test_white_space_is_one_space_and_nothing_else_is_changed(
    tts: TTS, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = prompted_speaker.embed_prompt
    monkeypatch.setattr(
        prompted_speaker, "embed_prompt", lambda *args: (read.append(args[-1]), real(*args))[1]
    )
    tts.synthesize("It  cost\n$3.50 on 5/3. * * *", "ana", lexicon={"cost": "was"})
    assert read == ["It was $3.50 on 5/3. * * *"]
    with pytest.raises(TextError, match="nothing to say"):
        tts.synthesize(" * * * \n", "ana")


def test_a_lexicon_respells_whole_words() -> None:
    assert respelled("SQL, MySQL and SQL's", {"SQL": "sequel"}) == "sequel, MySQL and sequel's"
    assert respelled("a b a", {"a": "one", "b": "two"}) == "one two one"
    assert respelled("a b", {}) == "a b"
    with pytest.raises(TextError, match="as it sounds"):
        respelled("x", {"SQL": "/S IY K W AH L/"})


def test_voices_come_as_pickles_of_a_tensor_or_as_safetensors(tts: TTS, tmp_path: Path) -> None:
    assert tts.voices == ["ana", "bea"]
    ana, bea = tts.voice("ana"), tts.voice("bea")
    assert tts.voice().name == "ana"
    assert ana.rows is not None
    assert bea.rows is not None
    assert torch.equal(ana.rows, E2E["voice_embedding"].to(torch.bfloat16))
    assert torch.equal(bea.rows, E2E["voice_embedding"] * 0.5)
    assert "licence" in ana.record["consent"]
    one = tts.synthesize(TEXT, "ana").audio.samples
    assert not np.array_equal(tts.synthesize(TEXT, "bea").audio.samples, one)
    # Converted: the same rows in a file that says whose they are.
    ana.save(tmp_path / "ana.safetensors")
    assert np.array_equal(tts.synthesize(TEXT, tmp_path / "ana.safetensors").audio.samples, one)
    copy = write_released(tmp_path / "copy")
    ana.save(copy / "voice_embedding" / "ana.safetensors")
    again = TTS.load(copy)
    assert again.fingerprint == tts.fingerprint
    assert np.array_equal(again.synthesize(TEXT, "ana").audio.samples, one)


class _Surprise:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("surprise"),))


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("cut", "damaged"),
        ("noise", "damaged"),
        ("code", "damaged"),
        ("list", "holds no tensor"),
        ("flat", r"expected numbers \[rows, 64\]"),
        ("narrow", r"expected numbers \[rows, 64\]"),
        ("whole numbers", r"expected numbers \[rows, 64\]"),
        ("empty", r"expected numbers \[rows, 64\]"),
        ("rows", "has 5 rows, tekken.json says 6"),
        ("nan", r"ana: expected numbers"),
    ],
)
def test_what_is_no_voice_is_refused_and_runs_nothing(
    what: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tts = TTS.load(write_released(tmp_path / "model"))
    path = tmp_path / "model" / "voice_embedding" / "ana.pt"
    rows = E2E["voice_embedding"]
    stored: dict[str, object] = {
        "code": _Surprise(),
        "list": [rows],
        "flat": rows[0],
        "narrow": rows[:, :-1],
        "whole numbers": rows.long(),
        "empty": rows[:0],
        "rows": rows[:5],
        "nan": torch.full_like(rows, float("nan")),
    }
    if what == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif what == "noise":
        path.write_bytes(b"\x80\x02noise")
    else:
        torch.save(stored[what], path)
    with pytest.raises(VoiceError, match=told):
        tts.voice("ana")
    assert not (tmp_path / "surprise").exists()


def test_a_codec_that_cannot_hear_says_what_to_do(tmp_path: Path) -> None:
    tts = TTS.load(write_released(tmp_path / "model", encoder=False))
    audio = Audio(np.zeros(5 * RATE, np.float32), RATE)
    with pytest.raises(VoiceError, match="enrol optimise"):
        tts.clone(audio, consent="Ana")
    with pytest.raises(VoiceError, match="consent is missing"):
        tts.clone(audio, consent="")
    assert len(tts.synthesize(TEXT).audio.samples) > FRAME
    # Codes that were sought are a voice, if it is known whose.
    codes = np.ones((20, 37), np.int16)
    path = tmp_path / "me.rvc"
    Codes(codes, 20 * FRAME, tts.codec.layout).save(path)
    with pytest.raises(VoiceError, match=r"me\.rvc\.json"):
        tts.voice(path)
    record = tmp_path / "me.rvc.json"
    record.write_text(json.dumps({"consent": ""}))
    with pytest.raises(VoiceError, match="names no consent"):
        tts.voice(path)
    record.write_text(json.dumps({"consent": "Ana allows it"}))
    voice = tts.voice(str(path))
    assert voice.record["consent"] == "Ana allows it"
    assert len(voice) == 21
    assert len(tts.synthesize(TEXT, path).audio.samples) > FRAME
    other = Codes(
        codes, 20 * FRAME, type(tts.codec.layout)(**{**vars(tts.codec.layout), "fingerprint": "0" * 32})
    )
    other.save(path)
    with pytest.raises(VoiceError, match="another codec"):
        tts.voice(path)


def test_a_codec_that_hears_clones(tts: TTS) -> None:
    time = np.arange(4 * RATE) / RATE
    wave = 0.2 * np.sin(2 * np.pi * 150 * time) * (np.sin(2 * np.pi * 1.5 * time) > -0.5)
    noise = 1e-4 * np.random.default_rng(0).standard_normal(len(time))
    voice = tts.clone(Audio((wave + noise).astype(np.float32), RATE), consent="Ana")
    assert voice.codes is not None
    assert voice.state is None
    assert len(voice) == len(voice.codes) + 1
    assert len(tts.synthesize(TEXT, voice).audio.samples) > FRAME


def test_weights_in_half_the_bytes(folder: Path, tts: TTS) -> None:
    half = TTS.load(folder, weights="bfloat16")
    assert half.model.kind.dtype == torch.bfloat16
    assert tts.model.kind.dtype == TTS.load(folder, weights="float32").model.kind.dtype == torch.float32
    assert half.synthesize(TEXT, "ana").audio.samples.dtype == np.float32


def test_what_it_cannot_do_is_refused(folder: Path, tts: TTS, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="may be float32 or bfloat16"):
        TTS.load(folder, weights="int8")
    with pytest.raises(ConfigError, match="device"):
        TTS.load(folder, device="toaster")
    with pytest.raises(ConfigError, match=r"manner\.pace is for"):
        tts.synthesize(TEXT, "ana", manner=Manner(pace=1.2))
    with pytest.raises(VoiceError, match="no such voice; there are ana, bea"):
        tts.synthesize(TEXT, "kathleen")
    with pytest.raises(TextError, match="the text is int"):
        tts.stream(5, "ana")  # type: ignore[arg-type]
    with pytest.raises(TextError, match="a part of the text is bytes"):
        list(tts.stream([b"Paris"], "ana"))  # type: ignore[list-item]
    copy = write_released(tmp_path / "copy")
    (copy / "tekken.json").unlink()
    with pytest.raises(CheckpointError, match=r"tekken\.json"):
        TTS.load(copy)
    copy = write_released(tmp_path / "other")
    params = json.loads((copy / "params.json").read_text())
    tensors = load_file(copy / "consolidated.safetensors")
    name = "mm_audio_embeddings.tok_embeddings.weight"
    save_file(tensors | {name: tensors[name][:200].clone()}, copy / "consolidated.safetensors")
    (copy / "params.json").write_text(json.dumps(params | {"vocab_size": 200}))
    with pytest.raises(CheckpointError, match="has 296 tokens, the model 200"):
        TTS.load(copy)


def test_the_command_line_says_it(
    folder: Path, tts: TTS, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.wav"
    assert run("say", TEXT, "--model", folder, "-o", path, "--seed", 2, "--steps", 3) == 0
    found, _ = soundfile.read(path, dtype="float32")
    expected = tts.synthesize(TEXT, "ana", seed=2, manner=Manner(steps=3)).audio.samples
    assert np.abs(found - expected).max() < 1e-4
    assert run("say", "--voices", "--model", folder) == 0
    assert capsys.readouterr().out.startswith("ana\t")
    assert run("say", TEXT, "--model", folder, "-o", path, "--weights", "int8") == 2
    assert "weights of tiny may be" in capsys.readouterr().err
