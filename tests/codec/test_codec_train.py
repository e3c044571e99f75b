"""Training of the codec, on sounds made up for it: every stage runs, lowers its loss, resumes and exports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("lightning_fabric")

from codec_batches import CODES, DIM, batch, tiny
from safetensors.torch import save_file

from rillvox.codec import train as training
from rillvox.codec.checkpoint import load_model, save_model
from rillvox.codec.losses import mel_distance, mel_filters, stft_distance, wave_distance
from rillvox.codec.model import CodecModel
from rillvox.codec.naming import LEAD, Naming, cluster, kmeans, nearest
from rillvox.codec.rows import WaveRows, low_pass
from rillvox.codec.stream import Codec
from rillvox.codec.tasks import CodecTask, Recipe, WaveBatch
from rillvox.codec.train import CodecRun, averaged, main_train_codec, recipe_of
from rillvox.errors import CheckpointError, ConfigError
from rillvox.training.sounds import RATE, STEP, Sound, Sounds, write_sounds


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Clips of hums; what the teacher calls code k is the k-th pitch."""
    monkeypatch.setattr(training, "small_codec", tiny)
    rng = np.random.default_rng(0)
    clips: list[Sound] = []
    pcm: list[np.ndarray] = []
    ids: list[np.ndarray] = []
    offset = 0
    for number in range(10):
        codes = rng.integers(0, CODES, 40)
        phase = 2 * np.pi * np.cumsum(np.repeat(100.0 * 1.2**codes, 1920)) / RATE
        wave = 0.2 * np.sin(phase) + 0.1 * np.sin(2 * phase) + 0.01 * rng.standard_normal(len(phase))
        corpus = "human_dev" if number < 2 else "tones"
        native = 16000 if number % 3 == 2 else 24000
        clips.append(Sound(f"c{number}", corpus, f"s{number % 3}", native, offset, len(wave)))
        pcm.append((wave * 32767).astype(np.int16))
        ids.append(np.repeat(codes, 4))
        offset += len(wave)
    entries = torch.randn(CODES, DIM, generator=torch.Generator().manual_seed(1))
    write_sounds(
        tmp_path / "sounds", clips, np.concatenate(pcm), np.concatenate(ids).astype(np.int16), entries
    )
    return tmp_path / "sounds"


def figures(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_the_stages_run_one_after_the_other_and_learn(folder: Path, tmp_path: Path) -> None:
    run = CodecRun(folder, tmp_path / "run", steps=60, rows=4, frames=6, rate=3.0)
    quiet = lambda _: None  # noqa: E731
    with pytest.raises(CheckpointError, match="run the stage `reconstruct` first"):
        main_train_codec("adversarial", run, quiet)
    main_train_codec("reconstruct", run, quiet)
    log = figures(run.out / "reconstruct")
    assert log[-1]["loss"] < 0.9 * log[0]["loss"]
    assert log[-1]["mel"] < log[0]["mel"]
    assert "dev_mel" in log[-1]
    first = averaged(run.out / "reconstruct")
    main_train_codec("adversarial", replace(run, steps=20), quiet)
    second = averaged(run.out / "adversarial")
    for name, value in first.items():
        same = torch.equal(value, second[name])
        # Codes that were made before stay valid: what makes them does not move, what reads them does.
        assert same == (not name.startswith("decoder.")), name
    main_train_codec("export", replace(run, blend=0.25), quiet)
    mixed = load_model(run.out / "model").state_dict()
    name = "decoder.stages.blocks.0.weight"
    torch.testing.assert_close(mixed[name], 0.75 * second[name] + 0.25 * first[name], atol=1e-3, rtol=1e-3)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        main_train_codec("export", replace(run, blend=1.5), quiet)
    main_train_codec("export", run, quiet)
    codec = Codec.load(run.out / "model")
    clip = Sounds(folder).clips[0]
    wave = Sounds(folder).samples(clip, 0, 19200)
    assert len(codec.decode(codec.encode(wave)).samples) == 19200


@pytest.mark.slow
def test_a_run_that_was_cut_off_goes_on_as_if_it_had_not_been(folder: Path, tmp_path: Path) -> None:
    quiet = lambda _: None  # noqa: E731
    whole = CodecRun(folder, tmp_path / "whole", steps=4, rows=2, frames=6)
    main_train_codec("reconstruct", whole, quiet)
    cut = replace(whole, out=tmp_path / "cut")
    calls = 0
    real = WaveRows.draw

    def draws_twice(self: WaveRows, rows: int, rng: np.random.Generator, done: float) -> WaveBatch:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return real(self, rows, rng, done)

    with pytest.MonkeyPatch.context() as patch:
        from rillvox.training import loop

        patch.setattr(WaveRows, "draw", draws_twice)
        patch.setattr(loop.LoopConfig, "save_seconds", -1.0, raising=False)
        patch.setattr(
            training,
            "LoopConfig",
            lambda *args, **kwargs: loop.LoopConfig(*args, **kwargs, save_seconds=-1.0),
        )
        with pytest.raises(KeyboardInterrupt):
            main_train_codec("reconstruct", cut, quiet)
    main_train_codec("reconstruct", cut, quiet)
    one, other = averaged(whole.out / "reconstruct"), averaged(cut.out / "reconstruct")
    for name, value in one.items():
        torch.testing.assert_close(other[name], value)


def write_mute(folder: Path, codes: int = 5) -> Path:
    """A codec without an encoder, as the released one."""
    torch.manual_seed(3)
    config = replace(tiny(codes), head="istft", output_delay=480)
    mute = CodecModel(config, with_encoder=False).eval()
    mute.quantizer.semantic_codebook.embedding_sum.normal_()
    save_model(mute, folder / "released")
    return folder / "released"


@pytest.mark.slow
def test_an_encoder_is_fitted_to_a_decoder_that_stays(folder: Path, tmp_path: Path) -> None:
    quiet = lambda _: None  # noqa: E731
    released = write_mute(tmp_path, CODES)
    mute = load_model(released)
    run = CodecRun(folder, tmp_path / "run", steps=60, rows=4, frames=6, decoder=released)
    main_train_codec("encoder", run, quiet)
    log = figures(run.out / "encoder")
    assert log[-1]["mel"] < 0.9 * log[0]["mel"]
    main_train_codec("export", run, quiet)
    codec = Codec.load(run.out / "model", weights="float32")
    for name, value in mute.state_dict().items():
        torch.testing.assert_close(codec.model.state_dict()[name], value, atol=1e-3, rtol=1e-3)
    assert codec.can_encode
    with pytest.raises(ConfigError, match="needs --freeze-decoder"):
        main_train_codec("encoder", replace(run, decoder=None), quiet)
    with pytest.raises(ConfigError, match="for the stages encoder and export"):
        main_train_codec("reconstruct", run, quiet)


@pytest.mark.slow
@pytest.mark.parametrize("semantic", ["learned", "fsq"])
def test_other_ways_to_a_semantic_code_train_and_load(semantic: str, folder: Path, tmp_path: Path) -> None:
    quiet = lambda _: None  # noqa: E731
    recipe = recipe_of("published", semantic=semantic, critics="256,64", channels=4, balance=True)
    run = CodecRun(folder, tmp_path / "run", steps=80, rows=4, frames=6, recipe=replace(recipe, mel=15.0))
    main_train_codec("published", run, quiet)
    log = figures(run.out / "published")
    assert log[-1]["mel"] < log[0]["mel"]
    assert "asr" in log[-1]
    with pytest.raises(CheckpointError, match="trained another shape"):
        main_train_codec(
            "encoder",
            replace(run, init=run.out / "published", recipe=None, steps=1, decoder=write_mute(tmp_path)),
            quiet,
        )
    # What a command says at export is not how it was trained: the file knows.
    main_train_codec("export", replace(run, recipe=recipe_of("export")), quiet)
    codec = Codec.load(run.out / "model")
    wave = Sounds(folder).samples(Sounds(folder).clips[0], 0, 19200)
    used = len(np.unique(codec.encode(wave).values[:, 0]))
    assert codec.config.semantic_codes == (8192 if semantic == "fsq" else CODES)
    assert used > 1


@pytest.mark.slow
@pytest.mark.parametrize("only_narrow", [False, True])
def test_two_processes_share_a_batch(only_narrow: bool, folder: Path, tmp_path: Path) -> None:
    if only_narrow:  # the critics have nothing to judge
        clips = (folder / "clips.jsonl").read_text().replace('"native": 24000', '"native": 16000')
        (folder / "clips.jsonl").write_text(clips)
    command = [Path(sys.executable).parent / "rillvox", "train", "codec", "published", "--sounds", folder]
    command += ["--out", tmp_path / "run", "--steps", "3", "--rows", "2", "--frames", "6", "--devices", "2"]
    command += ["--critics", "64", "--channels", "2", "--semantic", "fsq"]
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert figures(tmp_path / "run" / "published")[-1]["step"] == 3


def test_stages_and_folders_that_are_none(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"stage must be reconstruct, .*export, got 'dance'"):
        main_train_codec("dance", CodecRun(folder, tmp_path), print)
    with pytest.raises(ConfigError, match="train sounds"):
        main_train_codec("export", CodecRun(tmp_path / "none", tmp_path), print)
    with pytest.raises(ConfigError, match=r"no clip of 16\.0 s or more"):
        WaveRows(Sounds(folder), tiny(), 200)


def test_the_development_sets_are_never_trained_on(folder: Path) -> None:
    rows = WaveRows(Sounds(folder), tiny(), 6)
    assert {clip.corpus for clip in rows.wide + rows.narrow} == {"tones"}


def test_a_batch_is_the_same_for_the_same_generator(folder: Path) -> None:
    rows = WaveRows(Sounds(folder), tiny(), 6)
    one, other = (rows.draw(6, np.random.default_rng(3), 0.5) for _ in range(2))
    for name, value in one.__dict__.items():
        torch.testing.assert_close(value, other.__dict__[name])
    assert one.heard.shape == (6, 6 * 1920)
    assert one.ids.max() < CODES


def test_the_codes_of_a_crop_are_those_of_its_frames(folder: Path) -> None:
    sounds = Sounds(folder)
    clip = sounds.clips[3]
    whole = sounds.codes(clip, 0, 40)
    assert np.array_equal(sounds.codes(clip, 4 * STEP * 5, 10), whole[5:15])
    assert sounds.codes(clip, 0, 42)[-2:].tolist() == [-1, -1]


# The loss.


def test_a_perfect_copy_is_at_no_distance_and_a_worse_one_farther() -> None:
    x = batch().wanted
    known = torch.full((4,), 24000.0)
    for distance in (mel_distance, stft_distance, wave_distance):
        assert float(distance(x, x, known)) == pytest.approx(0, abs=1e-6)
        near, far = (distance(x + step * torch.randn_like(x), x, known) for step in (0.01, 0.1))
        assert float(near) < float(far)


def test_what_lies_above_a_narrow_recording_does_not_count() -> None:
    rng = np.random.default_rng(0)
    wide = torch.as_tensor(rng.standard_normal((1, 9600)).astype(np.float32)) * 0.1
    narrow = torch.as_tensor(low_pass(wide[0].numpy(), 4000))[None]
    for distance in (mel_distance, stft_distance):
        assert float(distance(wide, narrow, torch.tensor([3000.0]))) < 0.3 * float(
            distance(wide, narrow, torch.tensor([24000.0]))
        )
    assert float(wave_distance(wide, narrow, torch.tensor([7500.0]))) == 0


def test_every_band_of_every_resolution_hears_something() -> None:
    for size, bands in ((2048, 160), (128, 20)):
        filters = mel_filters(size, bands, torch.device("cpu"))
        torch.testing.assert_close(filters.sum(1), torch.ones(bands))


@pytest.mark.parametrize("kind", ["rounded", "dithered", "passed"])
def test_each_way_of_quantising_lets_the_gradient_through(kind: str) -> None:
    torch.manual_seed(0)
    task = CodecTask(tiny(), torch.randn(CODES, DIM))
    drawn = batch()
    drawn.draw[:, 1] = {"rounded": 0.2, "dithered": 0.6, "passed": 0.9}[kind]
    latents, _, _ = task.encode(drawn)
    acoustic = latents[..., DIM:]
    on_grid = (acoustic * 10 - (acoustic * 10).round()).abs().max() < 1e-4
    assert bool(on_grid) == (kind == "rounded")
    acoustic.sum().backward()
    assert task.model.encoder is not None
    gradient = task.model.encoder.stages.blocks[-1].get_parameter("weight").grad
    assert gradient is not None
    assert float(gradient[DIM:].abs().sum()) > 0
    assert float(gradient[:DIM].abs().sum()) == 0  # the entry is given, nothing flows back


def test_a_batch_without_a_teacher_is_finite() -> None:
    task = CodecTask(tiny(), torch.randn(CODES, DIM))
    drawn = batch()
    drawn.ids[:] = -1
    loss, _ = task(drawn)
    assert bool(torch.isfinite(loss))


def test_a_batch_without_anything_to_judge_tells_no_figure_of_it() -> None:
    torch.manual_seed(0)
    task = CodecTask(tiny(), torch.randn(CODES, DIM), Recipe(critics=(64,)))
    for known, told in ((7500.0, False), (24000.0, True)):
        drawn = batch()
        drawn.known[:] = known
        drawn.wide = len(drawn.known) if told else 0
        loss, figures_ = task(drawn)
        assert bool(torch.isfinite(loss))
        assert bool(torch.isfinite(figures_["hinge"])) == told


def test_critics_and_codec_learn_against_each_other_and_not_from_each_other() -> None:
    torch.manual_seed(0)
    task = CodecTask(tiny(), torch.randn(CODES, DIM), Recipe(critics=(256, 128)))
    assert task.critics is not None
    drawn = batch()
    found = (drawn.wanted * 0.5).requires_grad_()
    task.criticise(found, drawn.wanted, drawn)[0].backward()
    assert found.grad is None or float(found.grad.abs().sum()) == 0
    alone = [p.grad.clone() for p in task.critics.parameters() if p.grad is not None]
    assert sum(float(g.abs().sum()) for g in alone) > 0
    task.zero_grad()
    torch.stack(task.criticise(found, drawn.wanted, drawn)).sum().backward()
    assert found.grad is not None
    assert float(found.grad.abs().sum()) > 0
    again = [p.grad for p in task.critics.parameters() if p.grad is not None]
    for before, after in zip(alone, again, strict=True):
        torch.testing.assert_close(before, after)


# The teacher's codes.


def test_clusters_of_a_mixture_are_found() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(6, 4, generator=generator) * 10
    points = centres[torch.arange(600) % 6] + 0.1 * torch.randn(600, 4, generator=generator)
    said: list[str] = []
    entries = kmeans(points, 12, generator, said.append)
    assert float((points - entries[nearest(points, entries)]).norm(dim=1).max()) < 1
    with pytest.raises(ConfigError, match="too few"):
        kmeans(points[:5], 6, generator, said.append)


def test_a_code_stands_for_the_four_frames_from_its_own_on() -> None:
    rng = np.random.default_rng(0)
    sounds = [rng.standard_normal(8).astype(np.float16) * 5 for _ in range(5)]
    clips = [np.stack([sounds[k] for k in np.repeat(rng.integers(0, 5, 60), 4)]) for _ in range(6)]
    naming, ids = cluster(clips, np.ones(6 * 240, bool), 5, 4, lambda _: None)
    assert naming.entries.shape == (5, 4)
    per_clip = ids.reshape(6, 240)
    assert (per_clip[:, -1] == -1).all()
    aligned = per_clip[:, LEAD::4]  # named 40 ms later
    for k in range(5):
        own = [aligned[c][[np.array_equal(x, sounds[k]) for x in clip[::4]]] for c, clip in enumerate(clips)]
        assert len(set(np.concatenate(own).tolist())) == 1


def test_a_codebook_names_other_recordings_as_its_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clips = [rng.standard_normal((200, 8)).astype(np.float16) for _ in range(6)]
    naming, ids = cluster(clips, np.ones(6 * 200, bool), 12, 4, lambda _: None)
    save_file(naming.tensors(), tmp_path / "codebook.safetensors")
    again = Naming.load(tmp_path)
    assert np.array_equal(again.ids(clips), ids)
    assert np.array_equal(again.ids(clips[4:]), ids[4 * 200 :])
    longer = np.concatenate([clips[0], clips[1]])  # later places than any that the codebook has heard
    assert np.array_equal(again.ids([longer])[:190], ids[:190])
    save_file({"entries": naming.entries}, tmp_path / "codebook.safetensors")
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigError, match="does not tell how frames are named"):
            Naming.load(folder)
