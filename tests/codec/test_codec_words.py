"""A Whisper's words: what is kept of its decoder, which of it a crop holds, and what codes learn from it."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

pytest.importorskip("lightning_fabric")

from cli_runner import run
from codec_batches import CODES, DIM, batch, tiny
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from rillvox.audio import Audio
from rillvox.codec import train as training
from rillvox.codec.prepare_words import Scribe, align, alignment_heads, prepare_words
from rillvox.codec.rows import WaveRows
from rillvox.codec.tasks import RECIPES, CodecTask, Recipe, WaveBatch
from rillvox.codec.train import CodecRun, main_train_codec
from rillvox.errors import CheckpointError, ConfigError
from rillvox.training.sounds import RATE, Sound, Sounds, write_sounds
from rillvox.training.sounds_words import FRAME, Words, write_words

WIDTH = 32
START, END, ENGLISH, GERMAN, TRANSCRIBE, UNTIMED = 1, 2, 3, 4, 5, 50  # 51 to 59 are times
SCRIPT = [10, 11, 12, 13]
SECONDS = 2  # that the tiny Whisper hears at once
OWN = Recipe(semantic="learned")


def quiet(_: str) -> None:
    """Nobody listens."""


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def whisper(folder: Path, aims: list[list[int]], **habits: Any) -> Path:
    """A Whisper with random weights that writes by the place: at place p it likes `aims[p][0]` best.

    The places' vectors lean towards the embeddings of those tokens, which are also the output's.
    """
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        vocab_size=60,
        d_model=WIDTH,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        num_mel_bins=16,
        max_source_positions=SECONDS * 50,
        max_target_positions=24,
        decoder_start_token_id=START,
        bos_token_id=START,
        eos_token_id=END,
        pad_token_id=0,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        init_std=0.2,  # so that states and attention tell one sound from another
    )
    model = transformers.WhisperForConditionalGeneration(config)
    with torch.no_grad():
        decoder = model.model.decoder
        for place, liked in enumerate(aims):
            lean = sum(
                40.0 * 0.8**rank * decoder.embed_tokens.weight[token] for rank, token in enumerate(liked)
            )
            decoder.embed_positions.weight[place] = lean
    model.generation_config = transformers.GenerationConfig(
        decoder_start_token_id=START, eos_token_id=END, pad_token_id=0, **habits
    )
    model.save_pretrained(folder)
    return folder


def published(folder: Path, first: list[int], script: list[int] = SCRIPT, **habits: Any) -> Path:
    """One with languages and times, as openai's are; `first` is what it likes best after the start."""
    aims = [first, [TRANSCRIBE], [UNTIMED], *([token] for token in script), [END]]
    return whisper(
        folder,
        aims,
        is_multilingual=True,
        lang_to_id={"<|en|>": ENGLISH, "<|de|>": GERMAN},
        task_to_id={"transcribe": TRANSCRIBE, "translate": 6},
        no_timestamps_token_id=UNTIMED,
        **habits,
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whisper(tmp_path_factory.mktemp("plain"), [*([token] for token in SCRIPT), [END]])


def tones(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    pitch = np.repeat(200 * 1.3 ** rng.integers(0, 8, math.ceil(seconds * 12.5)), FRAME)
    wave = 0.2 * np.sin(2 * np.pi * np.cumsum(pitch) / RATE) + 0.01 * rng.standard_normal(len(pitch))
    return wave[: int(seconds * RATE)].astype(np.float32)


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    clips: list[Sound] = []
    pcm: list[NDArray[np.int16]] = []
    for number in range(5):
        wave = tones(1.2 if number == 4 else 3.2, number)
        clips.append(Sound(f"c{number}", "tones", "s", 24000, sum(map(len, pcm)), len(wave)))
        pcm.append((wave * 32767).astype(np.int16))
    samples = np.concatenate(pcm)
    folder = tmp_path / "sounds"
    write_sounds(folder, clips, samples, np.zeros(len(samples) // 480, np.int16), drawn(0, CODES, DIM))
    return folder


# What is kept of the decoder.


def test_a_clip_gives_a_state_and_a_row_of_weights_for_every_token(plain: Path) -> None:
    scribe = Scribe(plain)
    hidden, weights = scribe.hear(tones(1.0))
    assert (hidden.shape, weights.shape) == ((len(SCRIPT), WIDTH), (len(SCRIPT), 13))
    assert (hidden.dtype, weights.dtype) == (np.float16, np.float16)
    assert np.isfinite(hidden).all()
    assert np.isfinite(weights).all()
    again = Scribe(plain).hear(tones(1.0))
    assert np.array_equal(hidden, again[0])
    assert np.array_equal(weights, again[1])
    other = scribe.hear(tones(1.0, seed=9))
    assert not np.array_equal(hidden, other[0])
    assert not np.array_equal(weights, other[1])
    # Of a long clip as much as it hears at once.
    assert scribe.hear(tones(3.0))[1].shape == (len(SCRIPT), SECONDS * 50 // 4)


def test_states_and_weights_are_those_that_the_tokens_were_chosen_from(plain: Path) -> None:
    scribe = Scribe(plain)
    hidden, weights = scribe.hear(tones(1.04))
    model = transformers.WhisperForConditionalGeneration.from_pretrained(plain, attn_implementation="eager")
    extract = transformers.WhisperFeatureExtractor(feature_size=16, chunk_length=SECONDS)
    heard = Audio(tones(1.04), RATE).resample(16000).samples
    given = extract(heard, sampling_rate=16000, return_tensors="pt")["input_features"]
    with torch.no_grad():
        found = model.eval()(
            given,
            decoder_input_ids=torch.tensor([[START, *SCRIPT, END]]),
            output_attentions=True,
            output_hidden_states=True,
        )
    assert found.logits[0].argmax(-1)[: len(SCRIPT) + 1].tolist() == [*SCRIPT, END]
    np.testing.assert_allclose(hidden, found.decoder_hidden_states[-1][0, : len(SCRIPT)], atol=2e-3)
    # By numpy and scipy, of the last layer's heads, the upper half of two layers.
    attention = found.cross_attentions[1][0].double().numpy()[..., :52]
    attention /= attention.sum(-1, keepdims=True)
    scored = (attention - attention.mean(1, keepdims=True)) / attention.std(1, keepdims=True)
    smooth = median_filter(scored, (1, 1, 7), mode="mirror").mean(0)
    expected = (smooth[:, 1::4] + smooth[:, 2::4]) / 2  # the middle of four lies between two
    np.testing.assert_allclose(weights, expected[: len(SCRIPT)], atol=4e-3)


@pytest.mark.parametrize(("first", "language"), [([GERMAN], GERMAN), ([20, ENGLISH], ENGLISH)])
def test_a_published_one_is_asked_in_its_language_and_writes_what_transformers_writes(
    first: list[int], language: int, tmp_path: Path
) -> None:
    scribe = Scribe(published(tmp_path / "w", first))
    heard = Audio(tones(1.5), RATE).resample(16000).samples
    features = scribe.features(heard, sampling_rate=16000, max_length=SECONDS * 16000, return_tensors="pt")
    with torch.no_grad():
        encoded = scribe.model.model.encoder(features["input_features"]).last_hidden_state
        prompt = scribe.prompt(encoded)
        assert prompt == [START, language, TRANSCRIBE, UNTIMED]
        assert scribe.write(encoded, prompt) == SCRIPT
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library's own, of its own options
            theirs = scribe.model.generate(features["input_features"], max_new_tokens=6)[0].tolist()
    assert [token for token in theirs if token not in (*prompt, END)] == SCRIPT
    assert scribe.hear(tones(1.5))[0].shape == (len(SCRIPT), WIDTH)


def test_times_and_what_a_model_forbids_are_never_written(tmp_path: Path) -> None:
    folder = whisper(
        tmp_path / "w",
        [[UNTIMED], [55, 10], [20, 11], [END, 12], [END]],
        no_timestamps_token_id=UNTIMED,
        suppress_tokens=[20],
    )
    scribe = Scribe(folder)
    encoded = drawn(0, 1, SECONDS * 50, WIDTH)
    assert scribe.write(encoded, scribe.prompt(encoded)) == [10, 11]
    scribe.banned[1, 10] = -torch.inf  # of the first token only
    assert scribe.write(encoded, scribe.prompt(encoded))[0] != 10


def test_a_transcript_without_an_end_is_none(tmp_path: Path) -> None:
    scribe = Scribe(whisper(tmp_path / "w", [[10, 11]] * 24))
    hidden, weights = scribe.hear(tones(1.0))
    assert (hidden.shape, weights.shape) == ((0, WIDTH), (0, 13))


def test_heads_are_the_models_own_or_the_upper_half(plain: Path, tmp_path: Path) -> None:
    assert Scribe(plain).heads == [(1, 0), (1, 1)]
    listed = whisper(tmp_path / "w", [[END]], alignment_heads=[[0, 1], [1, 0]])
    assert Scribe(listed).heads == [(0, 1), (1, 0)]
    large = transformers.WhisperConfig(decoder_layers=4, decoder_attention_heads=3)
    assert alignment_heads(large, None) == [(layer, head) for layer in (2, 3) for head in range(3)]


# From attention to weights.


def diagonal(tokens: int) -> torch.Tensor:
    """[2 heads, tokens, 4 frames to a token]: each looks at its own four frames."""
    own = torch.eye(tokens).repeat_interleave(4, 1) / 4
    return (own + 0.001).repeat(2, 1, 1)


def test_attention_along_the_diagonal_gives_weights_along_the_diagonal() -> None:
    weights = align(diagonal(12))
    assert weights.shape == (12, 12)
    assert weights.argmax(1).tolist() == list(range(12))
    # A z-score among twelve of which one stands out.
    torch.testing.assert_close(weights.diagonal(), torch.full((12,), 11**0.5))
    assert float(weights.sum(0).abs().max()) < 1e-4


def test_a_flicker_is_smoothed_away_and_a_look_is_not() -> None:
    still = align(diagonal(12))
    flicker = diagonal(12)
    flicker[:, 3, 29:32] += 0.5  # three frames of 20 ms, while another is said
    assert int(align(flicker)[3].argmax()) == 3
    assert float(align(flicker)[3, 7]) < 0
    look = diagonal(12)
    look[:, 3, 28:32] += 0.5
    assert float(align(look)[3, 7]) > 1
    assert float(still[3, 7]) < 0


def test_what_a_token_sees_of_the_padding_does_not_count() -> None:
    seen = diagonal(8)
    seen[:, 2] *= 0.01
    torch.testing.assert_close(align(seen), align(diagonal(8)), atol=1e-4, rtol=1e-4)


def test_heads_count_alike_and_a_lone_token_is_finite() -> None:
    mixed = torch.stack([diagonal(8)[0], diagonal(8)[0].flip(0)])
    torch.testing.assert_close(align(mixed), (align(mixed[:1]) + align(mixed[1:])) / 2)
    assert float(align(torch.full((2, 1, 8), 0.125)).abs().max()) == 0
    assert bool(torch.isfinite(align(torch.zeros(2, 3, 4))).all())


# The files.


def rows(*peaks: tuple[int, float], frames: int = 20) -> NDArray[np.float16]:
    """A row for each token: its height in two frames from the peak on, and -0.2 elsewhere."""
    weights = np.full((len(peaks), frames), -0.2, np.float16)
    for row, (first, height) in zip(weights, peaks, strict=True):
        row[first : first + 2] = height
    return weights


def said(tokens: int, seed: int) -> NDArray[np.float16]:
    return drawn(seed, tokens, WIDTH).half().numpy()


@pytest.fixture
def written(sounds: Path) -> Path:
    """Words by hand: two clips of three tokens, then one of none, then others."""
    weights = [
        rows((2, 3), (9, 3), (15, 3)),
        rows((0, 1), (5, 2), (18, 3)),
        rows(),
        rows((5, 2)),
        rows((0, 1)),
    ]
    words = [(said(len(part), seed), part) for seed, part in enumerate(weights)]
    write_words(sounds, Sounds(sounds).clips, words)
    return sounds


def test_a_crop_holds_the_tokens_that_are_said_in_it(written: Path) -> None:
    words, clips = Words(written), Sounds(written).clips
    assert words.width == WIDTH
    hidden, weights = words.crop(clips[0], 8 * FRAME, 6)
    np.testing.assert_array_equal(hidden, said(3, 0)[1:2].astype(np.float32))
    np.testing.assert_allclose(weights, [[-0.2, 3, 3, -0.2, -0.2, -0.2]], atol=1e-3)
    assert (hidden.dtype, weights.dtype) == (np.float32, np.float32)
    whole, all_weights = words.crop(clips[1], 0, 20)
    np.testing.assert_array_equal(whole, said(3, 1))
    np.testing.assert_allclose(all_weights, rows((0, 1), (5, 2), (18, 3)))
    assert words.crop(clips[2], 0, 6)[1].shape == (0, 6)


def test_a_token_of_which_half_lies_outside_is_not_held(written: Path) -> None:
    words, clips = Words(written), Sounds(written).clips
    assert len(words.crop(clips[0], 3 * FRAME, 5)[0]) == 0  # 3 of (2, 3) only
    assert len(words.crop(clips[0], 2 * FRAME, 5)[0]) == 1
    # Low and wide beside high and narrow: the squares decide.
    weights = np.full((1, 20), 0.4, np.float16)
    weights[0, 10:12] = 4
    write_words(written, clips, [(said(1, seed), weights) for seed in range(5)])
    share = np.maximum(weights.astype(float), 0)[0, 8:14].sum() / weights.astype(float).sum()
    assert share < 0.8
    assert len(Words(written).crop(clips[0], 8 * FRAME, 6)[0]) == 1


def test_a_crop_begins_at_the_nearest_frame_and_ends_in_zeros(written: Path) -> None:
    words, clip = Words(written), Sounds(written).clips[0]
    at = [int(words.crop(clip, begin, 6)[1][0].argmax()) for begin in (0, 480, 960, 1440, 1920, 2400)]
    assert at == [2, 2, 1, 1, 1, 1]
    _, weights = words.crop(clip, 14 * FRAME, 10)
    np.testing.assert_allclose(weights[0, 6:], 0)
    np.testing.assert_allclose(weights[0, 1:3], 3)
    assert words.crop(clip, 30 * FRAME, 10)[1].shape == (0, 10)


def test_the_words_of_a_folder_are_made_and_made_again_alike(sounds: Path, plain: Path) -> None:
    lines: list[str] = []
    prepare_words(sounds, plain, lines.append)
    assert lines == ["0 of 5 clips", "20 tokens of 5 clips; 0 clips without any"]
    first = {path.name: path.read_bytes() for path in sounds.iterdir()}
    assert {"words.jsonl", "words_hidden.npy", "words_weights.npy"} <= set(first)
    spans = [json.loads(line) for line in first["words.jsonl"].decode().splitlines()]
    assert [(span["tokens"], span["frames"]) for span in spans] == [(4, 25)] * 4 + [(4, 15)]
    words, clip = Words(sounds), Sounds(sounds).clips[4]
    hidden, weights = Scribe(plain).hear(Sounds(sounds).samples(clip))
    found = words.crop(clip, 0, 15)
    np.testing.assert_array_equal(found[0], hidden.astype(np.float32))
    np.testing.assert_array_equal(found[1], weights.astype(np.float32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scribe, "hear", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare_words(sounds, plain, quiet)
    assert run("train", "words", sounds, "--whisper", plain) == 0
    assert {path.name: path.read_bytes() for path in sounds.iterdir()} == first


def test_words_of_other_clips_are_refused(written: Path) -> None:
    clips = Sounds(written).clips
    lines = (written / "clips.jsonl").read_text()
    (written / "clips.jsonl").write_text(lines.replace('"c1"', '"new"'))
    with pytest.raises(ConfigError, match="of other clips; run `rillvox train words` again"):
        Words(written)
    (written / "clips.jsonl").write_text(lines)
    assert len(Words(written).spans) == len(clips)
    (written / "words.jsonl").unlink()
    with pytest.raises(ConfigError, match="make them with `rillvox train words`"):
        Words(written)


# Errors.


def test_a_folder_that_is_no_whisper_is_told_in_a_line(sounds: Path, plain: Path, tmp_path: Path) -> None:
    def refused(folder: Path, match: str) -> None:
        with pytest.raises(CheckpointError, match=match) as caught:
            prepare_words(sounds, folder, quiet)
        assert "\n" not in str(caught.value)

    broken = tmp_path / "broken"
    refused(broken, "no Whisper here")
    broken.mkdir()
    for config in ("{", "[]", '{"model_type": "llama"}'):
        (broken / "config.json").write_text(config)
        refused(broken, "no Whisper here")
    (broken / "config.json").write_bytes((plain / "config.json").read_bytes())
    refused(broken, "cannot be read")
    weights = (plain / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    refused(broken, "cannot be read")
    (broken / "model.safetensors").write_bytes(weights)
    config = json.loads((plain / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"decoder_layers": 3}))
    refused(broken, r"weights are missing, such as model\.decoder\.layers\.2")
    (broken / "config.json").write_text(json.dumps(config | {"d_model": 16}))
    refused(broken, "cannot be read")
    assert not (sounds / "words.jsonl").exists()


def test_without_the_library_it_says_what_to_install(
    sounds: Path, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"pip install 'rillvox\[train\]'"):
        prepare_words(sounds, plain, quiet)
    with pytest.raises(ConfigError, match="train sounds"):
        prepare_words(plain, plain, quiet)


def test_codes_of_the_teacher_learn_from_no_words(written: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="teacher's own"):
        CodecTask(tiny(), drawn(0, CODES, DIM), words_width=WIDTH)
    for stage in ("reconstruct", "adversarial"):
        with pytest.raises(ConfigError, match="--semantic learned or fsq"):
            main_train_codec(stage, CodecRun(written, tmp_path / "run", words=True), quiet)
    (written / "words.jsonl").unlink()
    with pytest.raises(ConfigError, match="rillvox train words"):
        main_train_codec("published", CodecRun(written, tmp_path / "run", words=True), quiet)
    assert run("train", "codec", "reconstruct", "--sounds", written, "--out", tmp_path, "--words") == 2


# The loss.


def task_of(width: int | None = WIDTH) -> CodecTask:
    torch.manual_seed(0)
    return CodecTask(tiny(), drawn(1, CODES, DIM), OWN, words_width=width)


def with_words(hidden: torch.Tensor, alignment: torch.Tensor) -> WaveBatch:
    given = batch()
    given.hidden, given.alignment = hidden, alignment
    return given


def test_the_loss_is_one_minus_the_mean_cosine_over_tokens() -> None:
    task = task_of(2)
    assert task.distil is not None
    with torch.no_grad():
        task.distil.weight.zero_()
        task.distil.bias.zero_()
        task.distil.weight[:, :2] = torch.eye(2)
    entry = torch.zeros(2, 3, DIM)
    entry[0, :, :2] = torch.tensor([[1.0, 0], [0, 2], [0, 4]])
    entry[1, :, :2] = torch.tensor([[3.0, 3], [0, 0], [0, 0]])
    entry.requires_grad_()
    alignment = torch.tensor([[[1.0, 0, 0], [2, 0.5, 0.25]], [[-1, 0, 0], [0, 0, 0]]])
    hidden = torch.tensor([[[5.0, 0], [0, 1]], [[7, 7], [9, 9]]])  # the last is no token
    loss = task.distillation(entry, with_words(hidden, alignment))
    assert float(loss.detach()) == pytest.approx(1 - (1 + 2 / 8**0.5 - 1) / 3)
    loss.backward()
    assert entry.grad is not None
    assert float(entry.grad[0].abs().sum()) > 0
    learned = {name for name, value in task.named_parameters() if value.grad is not None}
    assert learned == {"distil.weight", "distil.bias"}
    assert hidden.grad is None
    assert alignment.grad is None


@pytest.mark.parametrize("tokens", [0, 3])
def test_a_batch_without_a_token_loses_nothing(tokens: int) -> None:
    task = task_of()
    assert task.distil is not None
    entry = drawn(0, 4, 6, DIM).requires_grad_()
    given = with_words(torch.zeros(4, tokens, WIDTH), torch.zeros(4, tokens, 6))
    loss = task.distillation(entry, given)
    assert float(loss.detach()) == 0
    loss.backward()
    for gradient in (entry.grad, task.distil.weight.grad):  # there, as processes that share a step expect
        assert gradient is not None
        assert float(gradient.abs().sum()) == 0
    loss, figures = task(given)
    assert bool(torch.isfinite(loss))
    assert float(figures["asr"]) == 0


def test_words_of_the_right_frames_are_learned_and_those_of_others_are_not() -> None:
    # Twelve kinds of frames and as many states; a token looks at two frames of its own kind.
    kinds, tokens = 12, 6
    kind = torch.randint(kinds, (8, tokens), generator=torch.Generator().manual_seed(0))
    entry = drawn(0, kinds, DIM)[kind].repeat_interleave(2, 1)
    hidden = drawn(1, kinds, WIDTH)[kind]
    right = torch.eye(tokens).repeat_interleave(2, 1).repeat(8, 1, 1)
    left: dict[str, float] = {}
    for name, alignment in (("right", right), ("shuffled", right.roll(2, 1))):
        task = task_of()
        assert task.distil is not None
        optimizer = torch.optim.Adam(task.distil.parameters(), 1e-2)
        loss = torch.zeros(())
        for _ in range(25):
            optimizer.zero_grad()
            loss = task.distillation(entry, with_words(hidden, alignment))
            loss.backward()
            optimizer.step()
        left[name] = float(loss.detach())
    assert left["right"] < 0.1
    assert left["shuffled"] > 3 * left["right"]


@pytest.mark.parametrize("recipe", [Recipe(), OWN, RECIPES["encoder"]])
def test_off_is_off_bit_for_bit(recipe: Recipe) -> None:
    losses: list[torch.Tensor] = []
    for given in (batch(), with_words(drawn(0, 4, 3, WIDTH), drawn(1, 4, 3, 6))):
        torch.manual_seed(0)
        loss, _ = CodecTask(tiny(), drawn(1, CODES, DIM), recipe)(given)
        losses.append(loss.detach())
    assert torch.equal(*losses)


def test_without_words_the_loss_is_that_of_the_teachers_frames() -> None:
    task, given = task_of(None), batch()
    entry = drawn(3, 4, 6, DIM)
    assert task.distil is not None
    known = given.ids >= 0
    cosine = torch.cosine_similarity(task.distil(entry), task.teacher[given.ids.clamp(min=0)], dim=-1)
    expected = ((1 - cosine) * known).sum() / (known.sum() + 1)
    assert torch.equal(task.distillation(entry, given), expected)


# Batches and a run.


@pytest.fixture
def dense(written: Path) -> Path:
    """A token in every second frame of every clip."""
    words = [(said(20, seed), rows(*((2 * k, 3) for k in range(20)), frames=40)) for seed in range(5)]
    write_words(written, Sounds(written).clips, words)
    return written


def test_rows_carry_the_words_of_their_crops_and_are_otherwise_the_same(dense: Path) -> None:
    opened, words = Sounds(dense), Words(dense)
    bare = WaveRows(opened, tiny(), 12).draw(16, np.random.default_rng(0), 0.0)
    assert bare.hidden is None
    assert bare.alignment is None
    drawn_ = WaveRows(opened, tiny(), 12, words=words).draw(16, np.random.default_rng(0), 0.0)
    for name, value in vars(bare).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, getattr(drawn_, name)), name
    assert drawn_.hidden is not None
    assert drawn_.alignment is not None
    assert drawn_.hidden.shape == (*drawn_.alignment.shape[:2], WIDTH)
    assert drawn_.alignment.shape[2] == 12
    spoken = drawn_.alignment.abs().sum((1, 2)) > 0
    sped = (drawn_.ids < 0).all(1)  # played at another speed: nothing of the clip is where it was
    assert int(sped.sum()) > 0
    assert int(spoken.sum()) > 2
    assert not bool((spoken & sped).any())
    # Every state is one of those that were written.
    known = torch.as_tensor(words.hidden.astype(np.float32))
    states = drawn_.hidden[drawn_.alignment.abs().sum(2) > 0]
    assert bool((states[:, None] == known).all(2).any(1).all())


def test_codes_of_its_own_learn_from_words_in_a_run(
    dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "small_codec", tiny)
    begun = CodecRun(dense, tmp_path / "run", steps=3, rows=4, frames=12, recipe=OWN, words=True)
    main_train_codec("reconstruct", begun, quiet)
    log = [json.loads(line) for line in (begun.out / "reconstruct" / "log.jsonl").read_text().splitlines()]
    assert 0 < log[-1]["asr"] < 2
    task = torch.load(begun.out / "reconstruct" / "checkpoint.pt", weights_only=True)["task"]
    assert task["distil.weight"].shape == (WIDTH, DIM)
