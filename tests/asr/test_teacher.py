"""The teacher hears whole utterances, its scale is learned from rows, and the encoder takes after it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

pytest.importorskip("lightning_fabric")

from rillvox.asr.config import ASRConfig, small_english
from rillvox.asr.rows import AudioRows
from rillvox.asr.tasks import AudioBatch, EncoderTask
from rillvox.asr.teacher import WhisperTeacher
from rillvox.asr.train import begin_from
from rillvox.asr.whisper import load_whisper_encoder
from rillvox.errors import CheckpointError
from rillvox.training.augment import Augment, AugmentConfig
from rillvox.training.pool import Clip, Pool, write_pool

DIM, LAYERS, HEADS = 32, 2, 2


def tiny() -> ASRConfig:
    config = small_english(64)
    stack = replace(
        config.encoder.stack, dim=DIM, n_layers=LAYERS, n_heads=HEADS, head_dim=DIM // HEADS, hidden_dim=48
    )
    return replace(config, encoder=replace(config.encoder, stack=stack))


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A Whisper encoder of random weights, under openai's names."""
    generator = torch.Generator().manual_seed(3)
    shapes = {
        "conv1.weight": (DIM, 80, 3),
        "conv2.weight": (DIM, DIM, 3),
        "conv1.bias": (DIM,),
        "conv2.bias": (DIM,),
        "positional_embedding": (1500, DIM),
        "ln_post.weight": (DIM,),
        "ln_post.bias": (DIM,),
    }
    for layer in range(LAYERS):
        parts = {"attn.query": (DIM, DIM), "attn.key": (DIM, DIM), "attn.value": (DIM, DIM)}
        parts |= {"attn.out": (DIM, DIM), "mlp.0": (48, DIM), "mlp.2": (DIM, 48)}
        for part, shape in parts.items():
            shapes[f"blocks.{layer}.{part}.weight"] = shape
            if part != "attn.key":
                shapes[f"blocks.{layer}.{part}.bias"] = shape[:1]
        for norm in ("attn_ln", "mlp_ln"):
            shapes[f"blocks.{layer}.{norm}.weight"] = shapes[f"blocks.{layer}.{norm}.bias"] = (DIM,)
    path = tmp_path / "whisper.safetensors"
    tensors = {f"encoder.{n}": torch.randn(s, generator=generator) * 0.1 for n, s in shapes.items()}
    for name, value in tensors.items():
        if "ln" in name and name.endswith("weight"):
            value += 1.0
    save_file(tensors, path)
    return path


def whisper(path: Path, x: Tensor) -> Tensor:
    """OpenAI's encoder written down once more, plainly: [n] samples to [n / 320, dim]."""
    from safetensors.torch import load_file

    w = {name.removeprefix("encoder."): value for name, value in load_file(path).items()}
    teacher = WhisperTeacher(path, tiny().encoder)
    power = teacher.mel(x[None])[0] * 4 - 4  # log10, floor far below
    mel = (power.clamp(min=float(power.max()) - 8) + 4) / 4
    y = F.gelu(F.conv1d(mel[None], w["conv1.weight"], w["conv1.bias"], padding=1))
    y = F.gelu(F.conv1d(y, w["conv2.weight"], w["conv2.bias"], padding=1, stride=2))[0].T
    y = y + w["positional_embedding"][: len(y)]
    for layer in range(LAYERS):
        p = f"blocks.{layer}."
        z = F.layer_norm(y, (DIM,), w[p + "attn_ln.weight"], w[p + "attn_ln.bias"])
        q, k, v = (
            F.linear(z, w[f"{p}attn.{n}.weight"], w.get(f"{p}attn.{n}.bias")).reshape(len(y), HEADS, -1)
            for n in ("query", "key", "value")
        )
        seen = torch.einsum("thd,shd->hts", q, k) / (DIM // HEADS) ** 0.5
        z = torch.einsum("hts,shd->thd", seen.softmax(-1), v).flatten(1)
        y = y + F.linear(z, w[p + "attn.out.weight"], w[p + "attn.out.bias"])
        z = F.layer_norm(y, (DIM,), w[p + "mlp_ln.weight"], w[p + "mlp_ln.bias"])
        z = F.gelu(F.linear(z, w[p + "mlp.0.weight"], w[p + "mlp.0.bias"]))
        y = y + F.linear(z, w[p + "mlp.2.weight"], w[p + "mlp.2.bias"])
    return F.layer_norm(y, (DIM,), w["ln_post.weight"], w["ln_post.bias"])


def sound(seconds: float, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.as_tensor(rng.standard_normal(round(seconds * 16000)).astype(np.float32) * 0.1)


def test_the_teacher_is_whispers_encoder(stored: Path) -> None:
    teacher = WhisperTeacher(stored, tiny().encoder)
    x = torch.stack([sound(1.28), sound(1.28, 1) * 0.01])
    found = teacher.frames(x)
    assert found.shape == (2, 64, DIM)
    for row, wave in zip(found, x, strict=True):
        torch.testing.assert_close(row, whisper(stored, wave), atol=1e-4, rtol=1e-4)


def test_targets_have_the_mean_of_their_place_taken_off_and_unit_spread(stored: Path) -> None:
    teacher = WhisperTeacher(stored, tiny().encoder)
    rows = [sound(1.28, seed) for seed in range(12)]
    teacher.settle(rows)
    targets = torch.cat([teacher.targets(row[None]) for row in rows])
    assert targets.mean(0).abs().max() < 1e-3
    assert (targets.std((0, 1)) - 1).abs().max() < 0.01


def test_a_file_without_positions_is_refused(stored: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    bare = {k: v for k, v in load_file(stored).items() if "positional" not in k}
    save_file(bare, tmp_path / "bare.safetensors")
    with pytest.raises(CheckpointError, match="positional_embedding is missing"):
        WhisperTeacher(tmp_path / "bare.safetensors", tiny().encoder)


def test_the_encoder_learns_to_echo_its_teacher(stored: Path) -> None:
    torch.manual_seed(0)
    config = tiny()
    teacher = WhisperTeacher(stored, config.encoder)
    task = EncoderTask(config, taught=True)
    load_whisper_encoder(task.encoder, stored)
    pitches = np.random.default_rng(0).uniform(200, 4000, (6, 8)).repeat(2560, axis=1)
    x = torch.as_tensor(0.1 * np.sin(2 * np.pi * np.cumsum(pitches / 16000, axis=1)), dtype=torch.float32)
    teacher.settle(x)
    from rillvox.asr.frontend import LogMel, LogMelConfig

    mel = LogMel(LogMelConfig(n_mels=80))(x)
    batch = AudioBatch(
        mel, torch.zeros(6, 64, dtype=torch.int64), 64, torch.zeros(6, dtype=torch.int64), teacher.targets(x)
    )
    optimizer = torch.optim.Adam(task.parameters(), lr=1e-2)
    missed: list[float] = []
    for _ in range(60):
        optimizer.zero_grad()
        loss, figures = task(batch)
        loss.backward()
        optimizer.step()
        missed.append(float(figures["not_echoed"]))
    assert missed[-1] < 0.5 * missed[0]


def test_a_start_between_an_earlier_run_and_whisper(stored: Path) -> None:
    config = tiny()
    earlier, task = EncoderTask(config), EncoderTask(config, taught=True)
    load_whisper_encoder(task.encoder, stored)
    whispers = {name: value.clone() for name, value in task.encoder.state_dict().items()}
    begin_from(task, earlier.state_dict(), 0.75)
    for name, value in task.encoder.state_dict().items():
        expected = 0.75 * earlier.encoder.state_dict()[name] + 0.25 * whispers[name]
        torch.testing.assert_close(value, expected)
    torch.testing.assert_close(task.head.weight, earlier.head.weight)


def test_the_teacher_hears_the_voice_before_the_noise(tmp_path: Path) -> None:
    pcm = (np.sin(np.arange(16000) * 0.2) * 3000).astype(np.int16)
    clip = Clip("c", "tones", "s", 0, len(pcm), ("a",), (1,), (1,), ((0, 50),), -0.5)
    write_pool(tmp_path, [(clip, pcm)])
    pool = Pool.open(tmp_path)
    loud = Augment(AugmentConfig(speed=(1.0, 1.0), white_dbfs=(-20.0, -20.0), telephone_share=0.0))
    row = AudioRows(pool, pool.clips, loud).draw(4.0, np.random.default_rng(1))
    spoken = row.phones.repeat(320) > 0
    assert np.abs(row.clean[~spoken]).max() == 0
    voice = np.corrcoef(row.clean[spoken], row.wave[spoken])[0, 1]
    assert 0.2 < voice < 0.9  # the same voice in time, under noise
    assert np.sqrt(np.mean(row.clean[spoken] ** 2)) == pytest.approx(10 ** (-24 / 20), rel=0.05)
