"""Teachers that know the text: what they lose, their controls, and that off is off."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

pytest.importorskip("lightning_fabric")

from codec_batches import CODES, DIM, batch, tiny

from rillvox.codec.prepare_text import prepare_text
from rillvox.codec.tasks import CodecTask, Recipe
from rillvox.codec.textual import TextTeacher, along_time, contrast
from rillvox.errors import CheckpointError, ConfigError
from rillvox.training.pool import Clip, write_pool
from rillvox.training.sounds import Sound, Sounds, write_sounds
from rillvox.training.sounds_text import Texts

WIDTH = 12


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_features_that_go_along_lose_less_and_silence_does_not_count() -> None:
    teacher = drawn(0, 2, 20, WIDTH)
    said = torch.ones(2, 20, dtype=torch.bool)
    losses = [
        float(along_time(student, teacher, said)) for student in (teacher, drawn(1, 2, 20, WIDTH), -teacher)
    ]
    assert losses == sorted(losses)
    assert losses[0] == pytest.approx(float(-torch.nn.functional.logsigmoid(torch.tensor(1.0))), abs=1e-4)
    said[:, 10:] = False
    wild = teacher.clone()
    wild[:, 10:] = 100 * drawn(2, 2, 10, WIDTH)
    assert float(along_time(wild, teacher, said)) == pytest.approx(losses[0], abs=1e-4)
    assert float(along_time(teacher, teacher, torch.zeros(2, 20, dtype=torch.bool))) == 0


def test_a_frame_is_told_from_other_words_and_not_from_its_own() -> None:
    words = torch.tensor([[0, 0, 1, 1, -1], [0, 0, 0, 2, 2]])
    vectors = drawn(0, 10, WIDTH)[torch.tensor([[0, 0, 1, 1, 2], [3, 3, 3, 4, 4]])]
    assert float(contrast(vectors, vectors, words)) < 0.05
    assert float(contrast(vectors.roll(1, 0), vectors, words)) > 1
    assert float(contrast(vectors, vectors, torch.full((2, 5), -1))) == 0


def test_a_teacher_that_fits_is_learned_and_its_control_is_not() -> None:
    # Entries say which word it is; only the right recording's vectors can be read from them.
    words = torch.arange(4).repeat_interleave(5).repeat(6, 1)
    vectors = drawn(0, 6, 4, WIDTH).repeat_interleave(5, 1)
    entry = vectors @ drawn(1, WIDTH, DIM) / WIDTH**0.5
    left: dict[bool, float] = {}
    for control in (False, True):
        torch.manual_seed(0)
        teacher = TextTeacher(DIM, WIDTH, 0.0, 1.0, control=control)
        optimizer = torch.optim.Adam(teacher.parameters(), 1e-2)
        loss = torch.zeros(())
        for _ in range(25):
            optimizer.zero_grad()
            loss, _ = teacher(entry, vectors, words)
            loss.backward()
            optimizer.step()
        left[control] = float(loss.detach())
    assert left[False] < 0.5 * left[True]


def test_off_is_off_bit_for_bit_and_on_reaches_the_encoder() -> None:
    losses: list[torch.Tensor] = []
    for recipe in (Recipe(), Recipe(along=0.0, contrast=0.0, text_control=True)):
        torch.manual_seed(0)
        given = batch()
        if recipe.text_control:
            given.vectors, given.words = drawn(3, 4, 6, WIDTH), torch.zeros(4, 6, dtype=torch.int64)
        losses.append(CodecTask(tiny(), drawn(1, CODES, DIM), recipe)(given)[0].detach())
    assert torch.equal(*losses)
    task = CodecTask(tiny(), drawn(1, CODES, DIM), Recipe(along=1.0, contrast=1.0), text_width=WIDTH)
    given = batch()
    given.vectors, given.words = drawn(3, 4, 6, WIDTH), torch.arange(6).repeat(4, 1)
    _, figures, loss = task.encode(given)
    assert {"along", "contrast"} <= set(figures)
    assert task.model.encoder is not None
    last = task.model.encoder.stages.blocks[-1].get_parameter("weight")
    bare = torch.autograd.grad(CodecTask.encode(task, batch())[2], last, retain_graph=True)[0]
    assert not torch.equal(torch.autograd.grad(loss, last)[0], bare)
    with pytest.raises(ConfigError, match="rillvox train text"):
        CodecTask(tiny(), drawn(1, CODES, DIM), Recipe(along=1.0))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Sounds, an aligned pool, and a text model with random weights."""
    clips = [Sound(f"c{k}", "tones", "s", 24000, k * 19200, 19200) for k in range(3)]
    write_sounds(
        tmp_path / "s", clips, np.zeros(3 * 19200, np.int16), np.zeros(120, np.int16), drawn(0, 4, DIM)
    )
    spans = ((2, 5), (5, 9), (20, 30))
    aligned = Clip("c1", "tones", "s", 0, 12800, ("hello", "you"), (1, 2, 3), (2, 1), spans, -0.5)
    write_pool(tmp_path / "p", [(aligned, np.zeros(12800, np.int16))])
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "hel", "##lo", "you"]
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm" / "vocab.txt").write_text("\n".join(words) + "\n")
    tokenizer = transformers.BertTokenizer(vocab={word: k for k, word in enumerate(words)})
    tokenizer.save_pretrained(tmp_path / "lm")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=7, hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "lm")
    return tmp_path / "s", tmp_path / "p", tmp_path / "lm"


def test_words_stand_where_they_are_spoken(folders: tuple[Path, Path, Path]) -> None:
    sounds, pool, model = folders
    prepare_text(sounds, pool, model, lambda _: None)
    texts = Texts(sounds)
    assert texts.width == WIDTH
    assert json.loads((sounds / "text.jsonl").read_text())["spans"] == [[2, 9], [20, 30]]
    clip = Sounds(sounds).clips[1]
    vectors, said = texts.crop(clip, 0, 10)  # middles at 2, 6, 10, ... of 20 ms
    assert said.tolist() == [0, 0, -1, -1, -1, 1, 1, -1, -1, -1]
    assert np.array_equal(vectors[0], vectors[1])
    assert not np.array_equal(vectors[0], vectors[5])
    assert texts.crop(clip, 4 * 480, 3)[1].tolist() == [0, -1, -1]
    assert texts.crop(Sounds(sounds).clips[0], 0, 4)[1].tolist() == [-1] * 4


def test_what_is_no_text_teacher_is_told(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    sounds, pool, model = folders
    with pytest.raises(CheckpointError, match="no text model"):
        prepare_text(sounds, pool, tmp_path, lambda _: None)
    with pytest.raises(ConfigError, match="rillvox train text"):
        Texts(sounds)
    (pool / "clips.jsonl").write_text((pool / "clips.jsonl").read_text().replace('"c1"', '"other"'))
    with pytest.raises(ConfigError, match="none of its aligned clips"):
        prepare_text(sounds, pool, model, lambda _: None)
