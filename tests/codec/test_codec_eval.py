"""`rillvox eval codec`: rows, the identity, bits, and what codes give away."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cli_runner import run
from tiny_codec import GOLDEN, golden, made

from rillvox.codec.checkpoint import save_model
from rillvox.codec.evaluate import System, code_statistics, evaluate, table
from rillvox.codec.evaluate_codes import evaluate_codes
from rillvox.codec.measures import aligned, installed_measures, mel_db
from rillvox.codec.probes import leaks, probe
from rillvox.errors import ConfigError
from rillvox.training.manifests import Manifest
from rillvox.training.sounds import Sound, Sounds, write_sounds

VOICES = {"low": 110.0, "high": 230.0}


def speech(pitch: float, seconds: float, seed: int) -> np.ndarray:
    """Something voiced with pauses in it."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * 24000)) / 24000
    wave = sum(np.sin(2 * np.pi * pitch * k * time + k) / k for k in range(1, 20))
    beat = np.clip(np.sin(2 * np.pi * 3 * time + seed), 0, 1)
    return (0.1 * wave * beat + 0.001 * rng.standard_normal(len(time))).astype(np.float32)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    rows: list[dict[str, object]] = []
    for number in range(4):
        voice = sorted(VOICES)[number % 2]
        rate = 16000 if number == 3 else 24000
        wave = speech(VOICES[voice], 1.0 + 0.1 * (number == 2), number)[:: 24000 // rate]
        soundfile.write(tmp_path / f"{number}.wav", wave, rate, subtype="FLOAT")
        rows.append({"id": f"c{number}", "path": f"{number}.wav", "speaker": voice, "text": None})
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Manifest(tmp_path)


def test_the_identity_comes_out_as_the_recording(manifest: Manifest) -> None:
    report = evaluate(
        golden(), [manifest], peers=False, others=[System("identity", lambda wave: (wave.copy(), 0))]
    )
    recording, ours, identity = report["rows"]
    assert recording["measures"] == identity["measures"]
    assert ours["measures"] != identity["measures"]
    perfect = {"mel_db": 0.0, "stft": 0.0, "stoi": 1.0, "estoi": 1.0, "similarity": 1.0}
    for name, value in perfect.items():
        if name in identity["measures"]:
            assert identity["measures"][name]["mean"] == pytest.approx(value, abs=1e-4), name
    assert "identity, 0.00 kbit/s" in table(report)


def test_bits_are_all_bits_and_lists_can_be_narrowed(manifest: Manifest, tmp_path: Path) -> None:
    codec = golden()
    report = evaluate(codec, [manifest], peers=False, min_rate=22000)
    assert report["header"]["clips"] == 3
    clips = [manifest.load(clip).samples for clip in manifest.clips[:3]]
    frames = sum(len(codec.encode(wave)) for wave in clips)
    bits = 8 * codec.layout.block_bytes(1) * frames
    assert report["rows"][1]["bits_per_second"] == pytest.approx(bits / (sum(map(len, clips)) / 24000))
    with pytest.raises(ConfigError, match="no clips to code of 48000 Hz"):
        evaluate(codec, [manifest], min_rate=48000)
    with pytest.raises(ConfigError, match="clip c0 is in another list too"):
        evaluate(codec, [manifest, manifest], peers=False)


def test_a_clip_that_fails_counts_with_the_worst_of_everything(manifest: Manifest) -> None:
    calls = 0

    def fails_once(wave: np.ndarray) -> tuple[np.ndarray, int]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise RuntimeError("broken")
        return wave, 8

    report = evaluate(golden(), [manifest], peers=False, others=[System("shaky", fails_once)])
    shaky = report["rows"][2]
    assert shaky["failed"] == ["c1: broken"]
    assert shaky["measures"]["mel_db"]["mean"] == pytest.approx(60 / 4)


def test_the_command_prints_and_keeps_a_report(
    manifest: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.json"
    assert run("eval", "codec", manifest.folder, "--model", GOLDEN, "--no-peers", "--json", out) == 0
    said = capsys.readouterr().out
    assert "semantic codes: perplexity" in said
    assert "speaker from semantic codes" in said
    assert set(json.loads(out.read_text())) == {"header", "rows", "codes", "leaks"}


def test_codes_are_counted_as_they_are_used() -> None:
    values = np.zeros((64, 5), np.int16)
    values[:, 0] = np.arange(64) % 4
    values[:32, 1:] = 10
    found = code_statistics(golden(), [values[:20], values[20:]])
    assert found["semantic_perplexity"] == pytest.approx(4)
    assert found["semantic_unused"] == golden().config.semantic_codes - 4
    assert found["end_levels"] == pytest.approx(0.5)
    assert found["acoustic_bits"] == pytest.approx(1.0)


def test_a_delay_is_found_and_taken_off() -> None:
    wave = speech(120, 1, 0)
    for late in (-300, 0, 480):
        shifted = np.roll(wave, late)
        a, b = aligned(wave, shifted)
        assert mel_db(a[600:-600], b[600:-600]) < 0.5
    assert mel_db(wave, wave * np.float32(0.5)) == pytest.approx(6.02, abs=0.3)


def test_pulses_that_stand_elsewhere_are_no_delay() -> None:
    """Phases of its own, as a source has them: the envelopes are in their place already."""
    time = np.arange(36000) / 24000
    rng = np.random.default_rng(0)
    loud = np.interp(time, np.arange(31) * 0.05, rng.random(31)) * 0.01
    order = np.arange(1, 30)[:, None]
    hum, other = (
        (np.cos(2 * np.pi * 110 * order * time + phases) * loud).sum(0)
        for phases in (np.zeros((29, 1)), rng.uniform(-3, 3, (29, 1)))
    )
    a, b = aligned(hum.astype(np.float32), other.astype(np.float32))
    assert len(a) == len(b) == len(hum)


@pytest.mark.skipif("pesq_wb" not in installed_measures(), reason="needs the eval extra")
def test_installed_judges_hear_a_worse_copy_as_worse() -> None:
    wave = speech(140, 4, 1)
    noise = np.random.default_rng(0).standard_normal(len(wave)).astype(np.float32)
    a_little, a_lot = wave + 0.003 * noise, wave + 0.1 * noise
    judges = installed_measures()
    for name in ("pesq_wb", "stoi", "estoi", "similarity"):
        assert judges[name](wave, a_little) > judges[name](wave, a_lot), name


def test_codes_are_compared_with_the_teachers_where_they_are_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codec = made("80 ms")
    rng = np.random.default_rng(0)
    pcm = (rng.standard_normal(3 * 38400) * 3000).astype(np.int16)
    clips = [
        Sound(f"c{k}", "human_dev" if k == 2 else "tones", "s", 24000, k * 38400, 38400) for k in range(3)
    ]
    entries = codec.model.quantizer.semantic_codebook.entries()
    codes = [codec.encode(pcm[k * 38400 :][:38400] / np.float32(32768)).values[:, 0] for k in range(3)]
    ids = np.repeat(np.concatenate(codes), 4)
    ids[80:160] = (ids[80:160] + 1) % len(entries)  # the second clip is all wrong
    ids[160:200] = -1
    write_sounds(tmp_path / "s", clips, pcm, ids.astype(np.int16), entries)
    save_model(codec.model, tmp_path / "m")
    found = evaluate_codes(codec, Sounds(tmp_path / "s"), every=1)
    assert found["pool"]["teacher_right"] == pytest.approx(0.5)
    assert found["held out"]["teacher_right"] == 1.0
    assert found["pool"]["frames"] == 40
    assert "teacher_right" not in evaluate_codes(golden(), Sounds(tmp_path / "s"), every=2)["pool"]
    out = tmp_path / "codes.json"
    assert run("eval", "codes", tmp_path / "s", "--model", tmp_path / "m", "--every", 1, "--json", out) == 0
    assert "teacher's code in 50.0 % of frames" in capsys.readouterr().out
    assert json.loads(out.read_text())["pool"]["frames"] == 40


# Probes.


def codes_of(speakers: list[str], where: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Semantic and acoustic features of clips; `where` says which of them give the speaker away."""
    rng = np.random.default_rng(0)
    voices = {name: rng.standard_normal(6) for name in sorted(set(speakers))}
    semantic = [rng.standard_normal((50, 6)).astype(np.float32) for _ in speakers]
    acoustic = [rng.standard_normal((50, 6)).astype(np.float32) for _ in speakers]
    for name, s, a in zip(speakers, semantic, acoustic, strict=True):
        (s if where == "semantic" else a)[:] += voices[name]
    return semantic, acoustic


@pytest.mark.parametrize("where", ["semantic", "acoustic"])
def test_a_leak_is_found_where_it_is_and_only_there(where: str) -> None:
    speakers = [f"s{number % 5}" for number in range(30)]
    found = leaks(*codes_of(speakers, where), speakers, None)
    control = "speaker from acoustic codes (control)"
    here, there = "speaker from semantic codes", control
    if where == "acoustic":
        here, there = there, here
    assert found[here]["leak"] > 0.9
    assert abs(found[there]["leak"]) < 0.25
    assert found["shuffled speaker from acoustic codes (control)"]["leak"] < 0.25


def test_phones_are_found_by_the_frame_and_shuffled_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    phones = [rng.integers(0, 5, 60) for _ in range(12)]
    shapes = rng.standard_normal((5, 8))
    semantic = [(shapes[p] + 0.2 * rng.standard_normal((60, 8))).astype(np.float32) for p in phones]
    acoustic = [rng.standard_normal((60, 8)).astype(np.float32) for _ in phones]
    found = leaks(semantic, acoustic, ["one"] * 12, phones)
    assert found["phone from semantic codes (control)"]["leak"] > 0.9
    assert abs(found["phone from acoustic codes"]["leak"]) < 0.2
    assert abs(found["shuffled phone from semantic codes (control)"]["leak"]) < 0.2
    # Frames without a phone are not asked for, and one speaker alone is no question.
    assert found["phone from acoustic codes"]["samples"] == sum(int((p > 0).sum()) for p in phones)
    assert not any("speaker" in name for name in found)


def test_one_clip_alone_is_no_question() -> None:
    rng = np.random.default_rng(0)
    clip = [rng.standard_normal((40, 4)).astype(np.float32)]
    assert leaks(clip, clip, ["s"], [rng.integers(0, 3, 40)]) == {}
    two = clip * 2
    assert leaks(two, two, ["s", "t"], [np.ones(40, np.int64)] * 2) == {}


def test_a_probe_never_judges_a_clip_that_it_was_fitted_to() -> None:
    # Each clip has a mark of its own; only a probe that has seen the clip could use it.
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 10)
    labels = np.repeat(rng.integers(0, 2, 20), 10)
    inputs = np.repeat(np.eye(20, dtype=np.float32), 10, 0)
    assert abs(probe(inputs, labels, groups).accuracy - 0.5) < 0.35
    assert probe(inputs, labels, np.arange(200)).accuracy > 0.99
    with pytest.raises(ValueError, match="two labels"):
        probe(inputs, np.zeros(200, np.int64), groups)
