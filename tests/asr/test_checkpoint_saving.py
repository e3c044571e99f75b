"""Model folders as they are written: what comes back, and what a failure leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_listener import assert_same_weights, byte_tokenizer, golden_config, random_listener, small_config

from rillvox.asr import checkpoint
from rillvox.asr.checkpoint import load_listener, load_model, save_native
from rillvox.asr.config import ASRConfig, small_decoder, small_english
from rillvox.asr.model import RealtimeASR
from rillvox.errors import CheckpointError


@pytest.mark.parametrize("config", [golden_config(vocab_size=300), small_config()], ids=["golden", "small"])
def test_a_saved_model_comes_back_bit_for_bit(tmp_path: Path, config: ASRConfig) -> None:
    model, tokenizer = random_listener(config), byte_tokenizer(config.vocab_size)
    save_native(model, tokenizer, tmp_path / "m")
    back, words = load_listener(tmp_path / "m")
    assert back.config == model.config
    assert_same_weights(back, model)
    assert words.pieces == tokenizer.pieces
    assert words.specials == tokenizer.specials
    assert words.left_pad_tokens == 32
    assert words.delay_ms == 480


def test_the_default_model_fits_its_budget_in_half_precision(tmp_path: Path) -> None:
    config = small_english(1100, small_decoder())
    model = RealtimeASR(config).eval()
    save_native(model, byte_tokenizer(1100), tmp_path / "asr-en", dtype=torch.float16)
    size = sum(path.stat().st_size for path in (tmp_path / "asr-en").iterdir())
    assert size <= 55e6
    back = load_model(tmp_path / "asr-en")
    assert back.config == config
    for (name, kept), weight in zip(model.named_parameters(), back.parameters(), strict=True):
        assert torch.equal(kept.half().float(), weight), name


def test_files_are_readable_by_whom_the_umask_allows(tmp_path: Path) -> None:
    save_native(random_listener(small_config()), byte_tokenizer(300), tmp_path / "m")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "m").iterdir()}
    assert set(modes) == {"params.json", "consolidated.safetensors", "tekken.json"}
    assert len(set(modes.values())) == 1


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_saving_over_a_model_keeps_the_other_files(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    save_native(random_listener(small_config(), 1), byte_tokenizer(300), folder)
    (folder / "README.md").write_text("a card")
    newer = random_listener(small_config(), 2)
    save_native(newer, byte_tokenizer(300), folder)
    assert (folder / "README.md").read_text() == "a card"
    assert_same_weights(load_model(folder), newer)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("fail_at", ["write", "first move", "second move", "third move"])
@pytest.mark.parametrize("existing", ["whole", "card only"])
def test_a_failed_save_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail_at: str, existing: str
) -> None:
    folder = tmp_path / "m"
    if existing == "whole":
        save_native(random_listener(small_config(), 1), byte_tokenizer(300), folder)
    else:
        folder.mkdir()
        (folder / "README.md").write_text("a card")
    before = contents(folder)

    if fail_at == "write":
        monkeypatch.setattr(checkpoint, "save_file", _no_space)
    else:
        target = {"first move": "params.json", "second move": "consolidated.safetensors"}
        _fail_moving(monkeypatch, folder / target.get(fail_at, "tekken.json"))
    with pytest.raises(OSError, match="No space left"):
        save_native(random_listener(small_config(), 2), byte_tokenizer(300), folder)
    assert contents(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def _no_space(*args: object, **kwargs: object) -> None:
    raise OSError(28, "No space left on device")


def _fail_moving(monkeypatch: pytest.MonkeyPatch, target: Path) -> None:
    replace, failed = Path.replace, False

    def once(self: Path, to: Path) -> Path:
        nonlocal failed
        if to == target and not failed:
            failed = True
            _no_space()
        return replace(self, to)

    monkeypatch.setattr(Path, "replace", once)


def test_numbers_that_half_precision_cannot_hold_are_refused(tmp_path: Path) -> None:
    model = random_listener(small_config())
    with torch.no_grad():
        model.get_parameter("adapter.0.weight")[0, 0] = 1e5
    with pytest.raises(CheckpointError, match=r"adapter\.0\.weight: .* not finite as torch\.float16"):
        save_native(model, byte_tokenizer(300), tmp_path / "m", dtype=torch.float16)
    assert not list(tmp_path.iterdir())
    save_native(model, byte_tokenizer(300), tmp_path / "m", dtype=torch.bfloat16)


def test_a_tokenizer_of_another_model_is_not_saved(tmp_path: Path) -> None:
    model = random_listener(small_config())
    with pytest.raises(CheckpointError, match="has 301 tokens, but the model has 300"):
        save_native(model, byte_tokenizer(301), tmp_path / "m")
    short = byte_tokenizer(300, audio={"streaming_n_left_pad_tokens": 16})
    with pytest.raises(CheckpointError, match="streaming_n_left_pad_tokens is 16, but the model has 32"):
        save_native(model, short, tmp_path / "m")
    assert not list(tmp_path.iterdir())
