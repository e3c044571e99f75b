"""Clones that are tuned: what is sought, what is found, and what stays as it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_runner import run
from safetensors.torch import save_file
from small_speaker import random_speaker, small, speaker, voice_codes, write_speaker
from stub_studio import opening, write_people

from rillvox.asr.stream import ASR
from rillvox.audio import Audio
from rillvox.errors import CheckpointError, ConfigError, VoiceError
from rillvox.tts import timbre, train_timbres
from rillvox.tts.config import SPECIAL
from rillvox.tts.evaluate import OURS
from rillvox.tts.evaluate_people import people_of
from rillvox.tts.evaluate_work import Take
from rillvox.tts.flow import FlowHead
from rillvox.tts.speaker import TTS
from rillvox.tts.timbre import (
    STRENGTH,
    TIMBRES,
    Lesson,
    Timbres,
    lesson_of,
    missed,
    tokens_heard,
    tuned,
)
from rillvox.tts.tokens import FIRST, PAUSE, STOP
from rillvox.tts.voices import Voice

RATE = 24000
DIM = 32


@dataclass(frozen=True)
class Heard:
    phone: int
    start: float
    end: float


class Ear:
    """Hears the same phones in everything."""

    def __init__(self, count: int = 30) -> None:
        self.count = count

    def phones(self, audio: Audio, /) -> Sequence[Heard]:
        assert audio.rate == RATE
        return [Heard(1 + n % 39, 0.1 * n, 0.1 * n + 0.1) for n in range(self.count)]


def hum(seconds: float, hertz: float = 150.0) -> Audio:
    time = np.arange(round(seconds * RATE)) / RATE
    wave = 0.2 * np.sin(2 * np.pi * hertz * time) * (np.sin(2 * np.pi * 1.5 * time) > -0.5)
    noise = 1e-4 * np.random.default_rng(0).standard_normal(len(time))
    return Audio((wave + noise).astype(np.float32), RATE)


def ways(count: int, seed: int = 1) -> Timbres:
    generator = torch.Generator().manual_seed(seed)
    found = torch.linalg.qr(torch.randn(DIM, count, generator=generator))[0].T.contiguous()
    return Timbres(torch.zeros(DIM), found)


def drawn(flow: FlowHead, step: torch.Tensor, seed: int, frames: int = 60) -> Lesson:
    """Frames of somebody whose hidden states are a step away from what the speaker thinks."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(frames, DIM, generator=generator)
    semantic = torch.randint(2, 20, (frames,), generator=generator)
    noise = torch.randn(frames, flow.values, generator=generator)
    with torch.no_grad():
        codes = flow.round(flow.solve(hidden + step, noise, semantic=semantic), semantic)
    return Lesson(hidden, codes - SPECIAL)


def flow_head() -> FlowHead:
    # A head whose frames hang on the hidden state.
    model = random_speaker(small(spans=True))
    with torch.no_grad():
        model.flow.llm_projection.weight.mul_(6)
        model.flow.acoustic_codebook_output.weight.mul_(2)
    return model.flow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_speaker(tmp_path_factory.mktemp("tuned") / "small")
    ways(4).save(folder / TIMBRES)
    return folder


@pytest.fixture(scope="module")
def tts(folder: Path) -> TTS:
    return TTS.load(folder)


def test_phones_without_words_are_read_as_tokens() -> None:
    heard = [Heard(5, 0.04, 0.2), Heard(6, 0.2, 0.3), Heard(7, 0.44, 0.5), Heard(8, 0.9, 1.0)]
    tokens, starts = tokens_heard(heard)
    # 140 ms are no pause yet; 400 ms are one, and a word begins behind it.
    assert tokens == [5 + FIRST, 6, 7, PAUSE, 8 + FIRST, STOP]
    assert starts == pytest.approx([0.5, 2.5, 5.5, 6.25, 11.25, 12.5])


def test_what_is_sought_is_found() -> None:
    flow = flow_head()
    timbres = ways(4)
    truth = 3.0 * torch.tensor([1.0, -1.0, 0.5, 0.0]) @ timbres.ways
    lesson = drawn(flow, truth, 1)
    step = tuned(flow, timbres, lesson, 1.0)
    assert torch.equal(step, tuned(flow, timbres, lesson, 1.0))
    assert not torch.equal(step, tuned(flow, timbres, lesson, 1.0, seed=1))
    assert torch.nn.functional.cosine_similarity(step, truth, dim=0) > 0.8
    # On frames of the same person that were not heard; and another person's step is of no use to them.
    other = drawn(flow, truth, 2)
    stranger = tuned(flow, timbres, drawn(flow, -truth, 3), 1.0)

    def score(step: torch.Tensor) -> float:
        generator = torch.Generator().manual_seed(0)
        return float(missed(flow, other.hidden + step, other.codes, 1.0, generator))

    near = score(step / STRENGTH)
    assert near < score(step * 0) - 0.1
    assert near < score(stranger) - 0.1


def test_a_score_is_least_for_frames_that_are_drawn_alike() -> None:
    # Not for the mean of what may be drawn, which a squared error would prefer.
    flow = flow_head()
    lesson = drawn(flow, torch.zeros(DIM), 4, frames=400)
    scores = [
        float(missed(flow, lesson.hidden, lesson.codes, noise, torch.Generator().manual_seed(0)))
        for noise in (0.0, 0.5, 1.0)
    ]
    assert scores[2] < scores[1] < scores[0]


def test_tuning_leaves_the_head_as_it_was() -> None:
    flow = flow_head().requires_grad_(True)
    before = {name: value.clone() for name, value in flow.state_dict().items()}
    tuned(flow, ways(2), drawn(flow, torch.zeros(DIM), 1), 0.7)
    assert all(torch.equal(value, before[name]) for name, value in flow.state_dict().items())
    assert all(value.grad is None and value.requires_grad for value in flow.parameters())


def test_a_half_is_spoken_after_the_other_and_knows_nothing_of_what_comes() -> None:
    model = speaker()
    codes = voice_codes(model, 40, 5)
    phones = Ear().phones(hum(3.2))
    lesson = lesson_of(model, codes, phones)
    assert lesson.hidden.shape == (40, DIM)
    assert torch.equal(lesson.codes, codes)
    changed = codes.clone()
    changed[10] = (changed[10] + 1) % 5
    found = lesson_of(model, changed, phones).hidden
    same = (found == lesson.hidden).all(1)
    # The frame itself is not heard before it is said; those behind it, and the other half, are.
    assert same[:11].all()
    assert not same[11:20].any()
    assert not same[20:].any()
    # What is said matters, and a half reads its own part of it.
    other = [replace(heard, phone=40 - heard.phone) for heard in phones if heard.start > 1.6]
    found = lesson_of(model, codes, [*(heard for heard in phones if heard.start <= 1.6), *other]).hidden
    near = model.config.text
    assert near is not None
    assert torch.equal(found[:5], lesson.hidden[:5])
    assert not (found[25:] == lesson.hidden[25:]).all(1).any()


def test_a_clone_is_tuned_kept_and_spoken_with(tts: TTS, tmp_path: Path) -> None:
    plain = tts.clone(hum(6.0), consent="Ana")
    before = tts.synthesize("Hello there.", plain, seed=2).audio.samples
    voice = tts.clone(hum(6.0), consent="Ana", listener=Ear())
    assert plain.record["tuned"] is None
    assert voice.record["tuned"] == tts.speaker.stored
    assert plain.timbre is None
    assert voice.timbre is not None
    assert voice.timbre.shape == (DIM,)
    assert float(voice.timbre.norm()) > 0.01
    said = tts.synthesize("Hello there.", voice, seed=2).audio.samples
    assert not np.array_equal(said[:4000], before[:4000])
    voice.save(tmp_path / "ana.safetensors")
    kept = tts.voice(tmp_path / "ana.safetensors")
    assert kept.timbre is not None
    assert torch.equal(kept.timbre, voice.timbre)
    assert np.array_equal(tts.synthesize("Hello there.", kept, seed=2).audio.samples, said)
    # Whoever is not tuned sounds as before.
    assert np.array_equal(tts.synthesize("Hello there.", plain, seed=2).audio.samples, before)


def test_what_cannot_be_tuned_is_told(tts: TTS, tmp_path: Path) -> None:
    assert tts.can_tune
    with pytest.raises(VoiceError, match="no phones are heard"):
        tts.clone(hum(6.0), consent="Ana", listener=Ear(0))
    bare = TTS.load(write_speaker(tmp_path / "bare"))
    assert not bare.can_tune
    with pytest.raises(ConfigError, match="clone without a listener"):
        bare.clone(hum(6.0), consent="Ana", listener=Ear())
    assert bare.clone(hum(6.0), consent="Ana").timbre is None


class Wrong(Ear):
    """Hears what there is not."""

    def __init__(self, heard: Heard) -> None:
        self.heard = heard

    def phones(self, audio: Audio, /) -> Sequence[Heard]:
        assert len(audio.samples)
        return [self.heard]


@pytest.mark.parametrize("heard", [Heard(99, 0.0, 1.0), Heard(0, 0.0, 1.0), Heard(4, 80.0, 84.0)])
def test_phones_that_there_are_not_are_refused(tts: TTS, heard: Heard) -> None:
    with pytest.raises(ConfigError, match="phones are 1 to 39"):
        tts.clone(hum(4.0), consent="Ana", listener=Wrong(heard))


@pytest.mark.parametrize("listener", ["asr", 3, Ear, object()])
def test_a_listener_that_is_none_is_told(tts: TTS, listener: Any) -> None:
    with pytest.raises(ConfigError, match="listener must be an ASR"):
        tts.clone(hum(4.0), consent="Ana", listener=listener)


def test_a_voice_is_tuned_in_inference_mode_alike(tts: TTS) -> None:
    with torch.inference_mode():
        found = tts.clone(hum(4.0), consent="Ana", listener=Ear(), record={"tuned": "by somebody"})
    again = tts.clone(hum(4.0), consent="Ana", listener=Ear())
    assert found.timbre is not None
    assert again.timbre is not None
    assert torch.equal(found.timbre, again.timbre)
    assert found.record["tuned"] == tts.speaker.stored


def test_a_timbre_is_of_one_flow_head(tts: TTS) -> None:
    voice = tts.clone(hum(4.0), consent="Ana", listener=Ear())
    other = replace(voice, record={**voice.record, "tuned": "0" * 16})
    with pytest.raises(VoiceError, match="tuned to other weights"):
        tts.synthesize("Hello.", other)


@pytest.mark.parametrize(
    "kept",
    [
        {"usual": torch.zeros(DIM)},
        {"usual": torch.zeros(DIM), "ways": torch.zeros(3, DIM + 1)},
        {"usual": torch.zeros(DIM + 1), "ways": torch.zeros(3, DIM)},
        {"usual": torch.full((DIM,), float("nan")), "ways": torch.zeros(3, DIM)},
    ],
)
def test_timbres_of_another_model_are_refused(kept: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / TIMBRES
    save_file(kept, path, metadata={"format": timbre.FORMAT})
    with pytest.raises(CheckpointError, match=TIMBRES):
        Timbres.load(path, DIM)
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="damaged"):
        Timbres.load(path, DIM)
    ways(3).save(path)
    found = Timbres.load(path, DIM)
    assert torch.equal(found.ways, ways(3).ways.half().float())
    save_file({"usual": found.usual, "ways": found.ways}, path)
    with pytest.raises(CheckpointError, match="holds no timbres"):
        Timbres.load(path, DIM)


@pytest.mark.parametrize("wrong", [torch.zeros(DIM + 1), torch.full((DIM,), float("inf"))])
def test_a_voice_with_an_odd_timbre_is_refused(tts: TTS, wrong: torch.Tensor) -> None:
    voice = tts.clone(hum(4.0), consent="Ana")
    with pytest.raises(VoiceError, match="its timbre"):
        tts.synthesize("Hello.", replace(voice, timbre=wrong))


def people(flow: FlowHead, count: int, true: Timbres) -> list[Lesson]:
    generator = torch.Generator().manual_seed(7)
    far = 6.0 * torch.randn(count, len(true.ways), generator=generator)
    return [drawn(flow, each @ true.ways, seed) for seed, each in enumerate(far)]


def test_the_ways_in_which_people_differ_are_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    flow, true = flow_head(), ways(2, seed=9)
    lessons = people(flow, 24, true)
    monkeypatch.setattr(train_timbres, "SPREAD", 0.3)  # far from any answer
    said: list[str] = []
    found = train_timbres.train_timbres(flow, lessons[4:], 2, 150, 1.0, seed=0, say=said.append)
    assert [line.split(":")[0] for line in said] == ["step 50", "step 100", "step 150"]
    # They span nearly what the people were made of.
    axes = torch.linalg.qr(found.ways.T)[0]
    inside = (true.ways @ axes).norm(dim=1)
    untaught = torch.linalg.qr(ways(2, seed=3).ways.T)[0]
    assert inside.min() > 1.5 * (true.ways @ untaught).norm(dim=1).max()
    plain, usual, own = train_timbres.gain(flow, found, lessons[:4], 1.0)
    assert own < usual - 0.01 < plain - 0.1
    with pytest.raises(ConfigError, match="need more people"):
        train_timbres.train_timbres(flow, lessons[:2], 2, 1, 1.0, seed=0, say=said.append)


def test_a_voice_of_before_has_no_timbre(tmp_path: Path) -> None:
    voice = Voice("ana", "f" * 32, torch.zeros(3, 37, dtype=torch.int16))
    voice.save(tmp_path / "ana.safetensors")
    assert Voice.load(tmp_path / "ana.safetensors").timbre is None


def test_an_evaluation_tunes_the_people_alone(folder: Path, tmp_path: Path) -> None:
    people = write_people(tmp_path / "people", {"ana": 110.0, "bea": 170.0})
    studio = opening(people, folder)()
    manifest = studio.held_out
    studio.people = people_of([manifest], False, studio.judges.similarity, 2)
    take = Take("Hello there.", OURS, person="ana")
    plain = studio.key("listen", take), studio._voice(take)
    studio.listener = Ear()
    studio._voices.clear()
    assert plain[1].timbre is None
    assert studio._voice(take).timbre is not None
    assert studio.key("listen", take) != plain[0]


def test_from_the_command_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ASR, "load", staticmethod(lambda *_: Ear()))
    pitches = {f"p{number}": 90.0 + 10 * number for number in range(12)}
    people = write_people(tmp_path / "people", pitches, clips=1)
    reference = people / "p00.wav"
    monkeypatch.setattr(train_timbres, "SHORTEST", 3.0)
    out = tmp_path / "found.safetensors"
    more = ["--out", out, "--model", folder, "--steps", 2]
    assert run("train", "timbres", people, *more, "--ways", 3) == 0
    told = capsys.readouterr().out
    assert "3 ways of 4 people" in told
    assert "8 people kept back, the last 40% of each recording: energy score" in told
    assert Timbres.load(out, DIM).ways.shape == (3, DIM)
    assert run("train", "timbres", people, *more, "--ways", 4) == 2
    assert "--ways 4 needs more people than 12" in capsys.readouterr().err
    # What is no file of timbres is never written over, and nothing is made that can't be kept.
    for wrong in (
        people / "p00.wav",
        folder / "consolidated.safetensors",
        tmp_path / "none" / "a.safetensors",
    ):
        before = wrong.read_bytes() if wrong.exists() else None
        assert run("train", "timbres", people, "--out", wrong, "--model", folder, "--ways", 3) == 2
        assert capsys.readouterr().err.count("\n") == 1
        assert before is None or wrong.read_bytes() == before
    # A clip that cannot be read is left out.
    (people / "p10.wav").write_bytes(b"no sound")
    assert run("train", "timbres", people, *more, "--ways", 2) == 0
    assert "p1-0 is left out" in capsys.readouterr().out
    # The recording itself is never written over.
    for flags in (["--say", "Hello.", "--wav", reference], ["-o", reference]):
        assert run("clone", reference, "--consent", "Ana", "--model", folder, *flags) == 2
        assert "is the recording itself" in capsys.readouterr().err
    # Cloning tunes where the model can be tuned, unless it is told not to.
    for flag, wanted in ((), True), (("--no-tune",), False):
        path = tmp_path / "ana.safetensors"
        assert run("clone", reference, "-o", path, "--consent", "Ana", "--model", folder, *flag) == 0
        assert ("tuning the voice" in capsys.readouterr().err) == wanted
        assert (Voice.load(path).timbre is not None) == wanted
