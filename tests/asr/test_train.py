"""Training of the listener, on sounds made up for it: every stage runs, learns and resumes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("lightning_fabric")
pytest.importorskip("tokenizers")

from rillvox.asr import recipe as recipes
from rillvox.asr import train as training
from rillvox.asr.config import ASRConfig, small_english
from rillvox.asr.delays import DelayClock
from rillvox.asr.prepare import plain_words
from rillvox.asr.stream import ASR
from rillvox.asr.targets import IGNORED, input_tokens, target_tokens
from rillvox.asr.train import Run, main_train_asr
from rillvox.audio import Audio
from rillvox.errors import CheckpointError, ConfigError
from rillvox.kernels.transformer import TransformerConfig
from rillvox.training.pool import Clip, Pool, write_pool
from rillvox.training.splice import PhoneBank, Spoken

PAD, WORD = 3, 4
WORDS = {"ta": (31, 1), "mi": (22, 18), "so": (29, 25), "ka": (20, 1)}


def tone_clips(count: int) -> list[tuple[Clip, np.ndarray]]:
    """Words of two phones each; a phone is a tone of its own for 120 ms."""
    rng = np.random.default_rng(5)
    clips: list[tuple[Clip, np.ndarray]] = []
    for number in range(count):
        words = [list(WORDS)[int(rng.integers(4))] for _ in range(4)]
        phones = [phone for word in words for phone in WORDS[word]]
        t = np.arange(6 * 320) / 16000
        x = np.concatenate([np.sin(2 * np.pi * (150 + 90 * phone) * t) for phone in phones])
        pcm = (x * 8000).astype(np.int16)
        spans = tuple((6 * i, 6 * i + 6) for i in range(len(phones)))
        corpus = "human_dev" if number < 3 else "tones"
        clip = Clip(
            f"c{number}", corpus, "s", 0, len(pcm), tuple(words), tuple(phones), (2,) * 4, spans, -0.5
        )
        clips.append((clip, pcm))
    return clips


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    write_pool(tmp_path / "pool", tone_clips(12))
    lexicon = {"ta": ["t", "aa"], "mi": ["m", "iy"], "so": ["s", "ow"], "ka": ["k", "aa"]}
    (tmp_path / "pool" / "lexicon.json").write_text(json.dumps(lexicon))
    return tmp_path / "pool"


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    def tiny_english(vocab_size: int, decoder: TransformerConfig | None = None) -> ASRConfig:
        config = small_english(vocab_size, decoder)
        stack = replace(config.encoder.stack, dim=32, n_layers=1, n_heads=2, head_dim=16, hidden_dim=64)
        config = replace(config, encoder=replace(config.encoder, stack=stack))
        if decoder is None:
            return config
        decoder = replace(decoder, dim=32, n_layers=1, n_heads=2, head_dim=16, hidden_dim=48)
        return replace(config, decoder=decoder, adapter_dim=176)

    monkeypatch.setattr(recipes, "small_english", tiny_english)
    monkeypatch.setattr(training, "small_english", tiny_english)


def figures(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_the_stages_run_one_after_the_other_and_learn(pool: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("ta mi so\nka ka ta mi\nso mi ta ka\n" * 3)
    run = Run(pool, tmp_path / "run", text=text, steps=60, rows=2, seconds=5.12)
    run.out.mkdir()
    # 256 bytes and three words are too little text for a vocabulary of 1024.
    from rillvox.training.bpe import train_bpe

    train_bpe([" ".join(WORDS)] * 3, 8 + 256 + 4).save(run.tokenizer)
    quiet = lambda _: None  # noqa: E731
    main_train_asr("encoder", run, quiet)
    encoder = figures(run.out / "encoder")
    assert encoder[-1]["loss"] < encoder[0]["loss"]
    main_train_asr("search", run, quiet)
    found = ASR.load(run.out / "model").transcribe(
        Audio(Pool.open(pool).samples(Pool.open(pool).clips[0]), 16000)
    )
    assert set(found.text.split()) <= set(WORDS)
    main_train_asr("features", run, quiet)
    main_train_asr("decoder", run, quiet)
    decoder = figures(run.out / "decoder")
    assert decoder[-1]["loss"] < decoder[0]["loss"]
    main_train_asr("joint", replace(run, steps=4), quiet)
    main_train_asr("export", run, quiet)
    assert (run.out / "model" / "consolidated.safetensors").exists()
    assert {"params.json", "tekken.json"} < {path.name for path in (run.out / "model").iterdir()}


def test_a_stage_without_its_input_says_which_comes_first(pool: Path, tmp_path: Path) -> None:
    from rillvox.training.bpe import train_bpe

    run = Run(pool, tmp_path / "run", steps=1)
    run.out.mkdir()
    train_bpe([" ".join(WORDS)] * 3, 8 + 256 + 4).save(run.tokenizer)
    with pytest.raises(CheckpointError, match="run the stage `encoder` first"):
        main_train_asr("features", run, print)
    with pytest.raises(ConfigError, match="run the stage `features` first"):
        main_train_asr("decoder", run, print)
    with pytest.raises(ConfigError, match="name the file of Whisper's weights"):
        main_train_asr("search", replace(run, whisper_share=0.2), print)
    with pytest.raises(ConfigError, match="stage must be one of"):
        main_train_asr("dance", run, print)


def test_the_development_set_is_never_trained_on(pool: Path) -> None:
    opened = Pool.open(pool)
    assert {clip.corpus for clip in opened.clips} == {"human_dev", "tones"}
    assert {clip.corpus for clip in opened.training()} == {"tones"}


def test_a_folder_without_a_pool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="train prepare"):
        Pool.open(tmp_path)


# Targets.


def test_a_word_is_written_once_it_is_heard_and_the_delay_has_passed() -> None:
    clock = DelayClock(2, left_pad_tokens=4)
    out = target_tokens(clock, [([10, 11], 160)], 16, PAD, WORD)
    # Prompt of 7; the word ends with real step 1, stream step 5; two steps later it is due.
    assert out.tolist() == [IGNORED] * 6 + [PAD, WORD, 10, 11] + [PAD] * 6
    assert input_tokens(clock, out, 1, PAD).tolist() == [1] + [PAD] * 6 + [PAD, WORD, 10, 11] + [PAD] * 5


def test_words_that_are_due_when_another_ends_follow_without_a_mark() -> None:
    clock = DelayClock(1, left_pad_tokens=4)
    out = target_tokens(clock, [([10, 11], 80), ([12], 160), ([13], 800)], 20, PAD, WORD)
    text = out[clock.prompt_length - 1 :].tolist()
    assert text[:4] == [WORD, 10, 11, 12]
    assert text.count(WORD) == 2
    assert text[text.index(13) - 1] == WORD


def test_a_longer_delay_writes_the_same_later() -> None:
    words = [([10, 11], 400), ([12], 900)]
    early = target_tokens(DelayClock(3), words, 80, PAD, WORD)
    late = target_tokens(DelayClock(9), words, 80, PAD, WORD)
    assert np.flatnonzero(late == 10)[0] - np.flatnonzero(early == 10)[0] == 6
    assert [t for t in early if t > WORD] == [t for t in late if t > WORD]


# Spliced speech.


def spoken(number: int) -> Spoken:
    symbols = (2 * 31 + 1, 2 * 1, 2 * 22 + 1, 2 * 18)
    return Spoken(symbols, (0, 3, 6, 9), (3, 6, 9, 12), 12 * number)


def test_spliced_words_end_where_their_last_phone_does() -> None:
    features = np.repeat(np.arange(24, dtype=np.float16)[:, None], 2, 1)
    bank = PhoneBank([spoken(0), spoken(1)], features)
    silence = lambda n: np.full((n, 2), -1, np.float16)  # noqa: E731
    rng = np.random.default_rng(0)
    for _ in range(20):
        frames, ends = bank.say([(31, 1), (22, 18), (22, 18)], rng, silence)
        pauses = int((frames[:, 0] < 0).sum())
        assert len(frames) == 18 + pauses
        assert ends[-1] == len(frames)
        # The last frame of "ta" is frame 5 of whichever recording it came from.
        assert frames[ends[0] - 1, 0] % 12 == 5
        assert frames[ends[1] - 1, 0] % 12 == 11


def test_a_phone_nobody_said_is_skipped() -> None:
    bank = PhoneBank([spoken(0)], np.zeros((12, 2), np.float16))
    frames, ends = bank.say([(31, 39, 1)], np.random.default_rng(0), lambda n: np.zeros((n, 2), np.float16))
    assert len(frames) == 6
    assert ends == [6]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop, well-known CAFÉ!", ["don't", "stop", "well", "known", "cafe"]),
        ("\u2018Twas 5 o\u2019clock", ["twas", "o'clock"]),
        ("\u2014", []),
    ],
)
def test_texts_become_plain_words(text: str, words: list[str]) -> None:
    assert plain_words(text) == words


def test_a_batch_is_the_same_for_the_same_generator(pool: Path, tmp_path: Path) -> None:
    from rillvox.training.bpe import train_bpe

    train_bpe([" ".join(WORDS)] * 3, 8 + 256 + 4).save(tmp_path / "tekken.json")
    drawn = [
        recipes.Recipe(pool, tmp_path / "tekken.json", None).audio_batch(
            2, 5.12, np.random.default_rng(3), 0.5, words=True
        )
        for _ in range(2)
    ]
    assert torch.equal(drawn[0].mel, drawn[1].mel)
    assert drawn[0].token_out is not None
    assert drawn[1].token_out is not None
    assert torch.equal(drawn[0].token_out, drawn[1].token_out)
    shutil.rmtree(pool)
