"""Pairs of takes: how they are spoken, judged, ranked, kept and drawn."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cli_runner import run as rillvox
from small_speaker import random_speaker, text_tokens
from small_speech import HELD_OUT, roomy, some_pairs, spoken, write_pairs, write_toys
from tiny_codec import FULL_FRAMES, made

from rillvox.audio import Audio
from rillvox.commands import make_pairs as make_pairs_command
from rillvox.errors import ConfigError
from rillvox.tts import aligned_speaking, pairs_spoken, pairs_texts
from rillvox.tts.aligned_speaking import STUCK
from rillvox.tts.config import EMPTY, END, SPECIAL
from rillvox.tts.model import SpeakerModel
from rillvox.tts.pairs import JUDGED, LONGEST, Pair, PairRows, Take, load_pair, save_pair
from rillvox.tts.pairs_spoken import (
    Score,
    Settings,
    make_pairs,
    ranked,
    unevenness,
)
from rillvox.tts.pairs_texts import Texts, phones_of, read_texts
from rillvox.tts.rows import VOICE_FRAMES, SpeechBatch
from rillvox.tts.speaking import Manner
from rillvox.tts.speech import Speech
from rillvox.tts.tasks import Recipe, TTSTask
from rillvox.tts.tokens import PAUSE, STOP


def same(one: Take, other: Take) -> bool:
    arrays = ("codes", "moved", "own")
    return one.ended == other.ended and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays
    )


@pytest.fixture(scope="module")
def model() -> SpeakerModel:
    return random_speaker(roomy())


def test_a_take_is_the_same_for_the_same_seed(model: SpeakerModel) -> None:
    manners = [Manner(seed=seed, temperature=0.8) for seed in (1, 2)]
    one, other = spoken(model, manners)
    assert not same(one, other)
    assert same(spoken(model, manners[1:])[0], other)
    assert len(one.moved) == len(one.own) == len(one.codes) + 1


@torch.no_grad()
def likeliest(model: SpeakerModel, batch: SpeechBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """The codes and moves that a model would take in rows that are given to it at once."""
    task = TTSTask(model.config, Recipe(dropout=0.0), model=model)
    hidden = task.hidden(batch)
    logits = model.flow.semantic_logits(hidden)
    logits[..., END] = float("-inf")
    return logits.argmax(-1), model.text.advance(hidden).argmax(-1)


def test_rows_hold_what_the_speaker_had_before_it(
    model: SpeakerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The likeliest code and move at every frame: all of them are found again from the rows alone.
    monkeypatch.setattr(aligned_speaking, "MOVE_TEMPERATURE", 1e-4)
    tokens = text_tokens(30, 5)
    (take,) = spoken(model, [Manner(seed=3)], tokens)
    rows = object.__new__(PairRows)
    assert model.config.text is not None
    rows.text = model.config.text
    voice = some_pairs(model, 1)[0].voice
    batch = rows.batch([Pair(voice, np.array(tokens, np.int16), take, take)])
    codes, moves = likeliest(model, batch)
    sounds, told = batch.semantic >= SPECIAL, batch.advance >= 0
    assert sounds.sum() == 2 * len(take.codes)
    assert torch.equal(codes[sounds], batch.semantic[sounds])
    left = len(tokens) - int(take.moved.sum())
    assert left <= 0
    # Where less text is left than the likeliest move, the speaker took less.
    agree = (moves == batch.advance)[told]
    assert agree.float().mean() > 0.8
    # One frame later is wrong.
    shifted = replace(batch, codes=batch.codes.roll(1, 1))
    assert not torch.equal(likeliest(model, shifted)[0][sounds], batch.semantic[sounds])
    assert EMPTY not in batch.semantic[sounds]


def test_what_was_forced_is_marked(model: SpeakerModel) -> None:
    still = random_speaker(roomy())
    with torch.no_grad():
        still.text.advance.weight.zero_()
        still.text.advance.bias[:] = torch.tensor([1e4] + [0.0] * (len(still.text.advance.bias) - 1))
        still.flow.semantic_codebook_output.weight[END] = 0
    (take,) = spoken(still, [Manner(seed=1)], [1, 2, STOP])
    assert take.ended
    pushed = take.moved[1:] > 0
    # It never moves by itself, so it is pushed; to stand still is its choice until the text is over.
    assert np.flatnonzero(pushed)[0] == STUCK - 1
    assert not take.own[:-1, 1][pushed].any()
    over = take.moved.cumsum() >= 3
    assert take.own[:-1, 1][~pushed & ~over[:-1]].all()
    assert not take.own[over, 1].any()
    # The end that came by force is no choice; every code before it is.
    assert take.own[:-1, 0].all()
    assert not take.own[-1, 0]


def test_a_take_that_is_cut_off_says_so(model: SpeakerModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_spoken, "FRAMES_A_TOKEN", 0)
    monkeypatch.setattr(pairs_spoken, "FRAMES_EXTRA", 4)
    (take,) = spoken(model, [Manner(seed=1)], text_tokens(40))
    assert not take.ended
    assert len(take.codes) == 4
    assert len(take.moved) == 5
    assert not take.own[-1].any()


def score(phones: float, likeness: float | None = 0.8, loudness: float = 2.0, ended: bool = True) -> Score:
    return Score(phones, likeness, loudness, ended)


def test_the_best_and_the_worst_are_found() -> None:
    assert ranked([score(0.2), score(0.1), score(0.4)], 0.05) == (1, 2)
    assert ranked([score(0.2, 0.5), score(0.2, 0.9)], 0.05) == (1, 0)
    assert ranked([score(0.2, loudness=1.0), score(0.2, loudness=9.0)], 0.05) == (0, 1)
    assert ranked([score(0.3), score(0.1, ended=False)], 0.05) == (0, 1)
    assert ranked([score(0.2, None), score(0.1, None)], 0.05) == (1, 0)


def test_pairs_within_the_margin_are_none() -> None:
    assert ranked([score(0.2), score(0.24)], 0.05) is None
    assert ranked([score(0.2), score(0.26)], 0.05) == (0, 1)
    # Nor is there a best where all were cut off, or where a judge gave no number.
    assert ranked([score(0.2, ended=False), score(0.4, ended=False)], 0.05) is None
    assert ranked([score(0.2), score(0.4, math.nan)], 0.05) is None


def test_unevenness_is_that_of_the_loud_parts() -> None:
    tone = np.sin(np.arange(4 * 24000) * 0.1).astype(np.float32) * 0.3
    assert unevenness(tone) < 0.1
    fading = tone * np.geomspace(1, 0.2, len(tone)).astype(np.float32)
    assert 3 < unevenness(fading) < 6
    paused = np.concatenate([tone, np.zeros(2 * 24000, np.float32)])
    assert unevenness(paused) < unevenness(fading) / 2
    assert unevenness(tone[:100]) == 0.0


def test_phones_are_those_that_a_judge_names() -> None:
    assert phones_of([1, 39, 40, 78, PAUSE, STOP, 0]) == ["1", "39", "1", "39"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toys(tmp_path_factory.mktemp("toys") / "speech", FULL_FRAMES)


def test_texts_and_voices_are_never_held_out(folder: Path) -> None:
    speech = Speech(folder)
    held_out = [list(clip.tokens) for clip in speech.clips if clip.corpus == HELD_OUT]
    own = {clip.tokens for clip in speech.training()}
    texts = Texts([speech], None, seed=0)
    for number in range(60):
        name, voice, tokens = texts.job(number)
        assert name.startswith("toys/")
        assert VOICE_FRAMES[0] <= len(voice) <= VOICE_FRAMES[1]
        assert voice.all()  # the held-out's frames are zeros
        assert tuple(tokens) in own
        (clip,) = [clip for clip in speech.training() if clip.tokens == tuple(tokens)]
        said = speech.codes[clip.first : clip.first + clip.frames]
        assert not any(np.array_equal(said[:10], voice[k : k + 10]) for k in range(len(voice) - 9))
        again = Texts([speech], None, seed=0).job(number)
        assert again[0] == name
        assert np.array_equal(again[1], voice)
        assert again[2] == tokens
    assert len({tuple(texts.job(number)[2]) for number in range(60)}) > 8
    assert len({texts.job(number)[0] for number in range(60)}) == 2
    other = [Texts([speech], None, seed=1).job(number)[2] for number in range(10)]
    assert other != [texts.job(number)[2] for number in range(10)]
    # Nor may a text be given that a held-out clip says, wherever its pauses are.
    said = held_out[0][:-1]
    given = [said, [*said[:3], PAUSE, *said[3:]], [5] * 9]
    assert Texts([speech], given, seed=0).texts == [[*[5] * 9, STOP]]
    with pytest.raises(ConfigError, match="no text of 8 to 120 phones"):
        Texts([speech], [said, [1, 2]], seed=0)


def test_voices_are_drawn_as_they_are_trained_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speech = Speech(folder)
    speech.clips = [
        replace(clip, corpus="learners") if clip.speaker == "s1" and clip.corpus == "toys" else clip
        for clip in speech.clips
    ]
    monkeypatch.setitem(pairs_texts.WEIGHTS, "learners", 0.0)
    assert {Texts([speech], None, seed=0).job(number)[0] for number in range(20)} == {"toys/s0"}


def test_a_folder_of_nothing_but_held_out_clips_has_no_voices(folder: Path, tmp_path: Path) -> None:
    speech = Speech(folder)
    speech.clips = [clip for clip in speech.clips if clip.corpus == HELD_OUT]
    with pytest.raises(ConfigError, match="no speaker to train on"):
        Texts([speech], None, seed=0)


def test_texts_are_read_as_a_user_writes(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("HELLO THERE\n\nIt is 5.\n")

    def placed(text: str) -> list[tuple[int, list[int]]]:
        return [(text.index(word), [len(word.strip("."))]) for word in text.split()]

    found = read_texts(path, placed)
    assert len(found) == 2
    assert found[0] == [5 + 39, 5 + 39]
    with pytest.raises(ConfigError, match="is no text"):
        read_texts(tmp_path / "none.txt", placed)


class Ear:
    """Hears a phone in every frame, and counts how often it has listened."""

    def __init__(self) -> None:
        self.heard = 0

    def __call__(self, wave: np.ndarray) -> list[str]:
        self.heard += 1
        return ["1"] * (len(wave) // 1920)  # so a long take is a bad one

    def embed(self, wave: np.ndarray) -> np.ndarray:
        levels = np.array([np.abs(part).mean() for part in np.array_split(wave, 4)])
        return (levels / np.linalg.norm(levels)).astype(np.float32)


def made_pairs(folder: Path, out: Path, count: int = 3, ear: Ear | None = None, **more: object) -> int:
    settings = replace(Settings(count, takes=2, margin=0.001), **more)  # type: ignore[arg-type]
    codec = made("80 ms")
    model = random_speaker(roomy(codec.config))
    ear = ear or Ear()
    texts = Texts([Speech(folder)], None, settings.seed)
    return make_pairs(model, codec, texts, ear, ear, out, settings, lambda _: None)


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "pairs"
    assert made_pairs(folder, out) == len(list(out.glob("*.npz")))
    return out


def jobs(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "jobs.jsonl").read_text().splitlines()]


def contents(out: Path) -> dict[str, list[Take]]:
    return {
        path.name: [pair.better, pair.worse]
        for path in sorted(out.glob("*.npz"))
        for pair in [load_pair(path)]
    }


def alike(one: Path, other: Path) -> bool:
    ours, theirs = contents(one), contents(other)
    return (
        jobs(one) == jobs(other)
        and ours.keys() == theirs.keys()
        and all(same(a, b) for name in ours for a, b in zip(ours[name], theirs[name], strict=True))
    )


def test_a_folder_holds_every_score_and_the_pairs(folder: Path, whole: Path) -> None:
    rows = jobs(whole)
    assert [row["job"] for row in rows] == [0, 1, 2]
    kept = 0
    for row in rows:
        takes = row["takes"]
        assert isinstance(takes, list)
        assert len(takes) == 2
        assert set(takes[0]) == {"phones", "likeness", "loudness", "ended", "cost"}
        if row["pair"] is not None:
            kept += 1
            best, worst = row["pair"]  # type: ignore[misc]
            assert takes[best]["cost"] < takes[worst]["cost"]
            assert takes[best]["ended"]
            pair = load_pair(whole / f"{row['job']:06d}.npz")
            assert pair.voice.dtype == pair.better.codes.dtype == np.int16
            assert pair.tokens[-1] == STOP
            assert len(pair.tokens) == row["tokens"]
    assert kept
    assert not list(whole.glob("*.tmp"))
    none = whole.parent / "none"
    assert made_pairs(folder, none, margin=9.0) == 0
    assert not list(none.glob("*.npz"))
    assert [row["takes"] for row in jobs(none)] == [row["takes"] for row in rows]


def test_making_that_was_cut_off_goes_on(
    folder: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = tmp_path / "cut", pairs_spoken.save_pair
    calls, last = 0, len(contents(whole))

    def breaks(path: Path, pair: Pair) -> None:
        nonlocal calls
        calls += 1
        if calls == last:
            real(path, pair)  # the pair is there, but its line is not
            raise KeyboardInterrupt
        real(path, pair)

    with monkeypatch.context() as patch:
        patch.setattr(pairs_spoken, "save_pair", breaks)
        with pytest.raises(KeyboardInterrupt):
            made_pairs(folder, out)
    done = len(jobs(out))
    assert done < 3
    ear = Ear()
    made_pairs(folder, out, ear=ear)
    assert ear.heard == 2 * (3 - done)
    assert alike(whole, out)
    # With nothing left to do nothing is spoken, and more may be asked for.
    ear = Ear()
    made_pairs(folder, out, ear=ear)
    assert ear.heard == 0
    made_pairs(folder, out, count=4, ear=ear)
    assert ear.heard == 2
    with pytest.raises(ConfigError, match="begun with seed 0, not 1"):
        made_pairs(folder, out, seed=1)
    with pytest.raises(ConfigError, match=r"begun with margin 0.001, not 0.1"):
        made_pairs(folder, out, margin=0.1)


def test_half_a_file_is_never_there(model: SpeakerModel, tmp_path: Path) -> None:
    (pair,) = some_pairs(model, 1)
    path = tmp_path / "000000.npz"
    with pytest.MonkeyPatch.context() as patch:

        def breaks(file: object, **arrays: object) -> None:
            file.write(b"half")  # type: ignore[attr-defined]
            raise KeyboardInterrupt

        patch.setattr(np, "savez_compressed", breaks)
        with pytest.raises(KeyboardInterrupt):
            save_pair(path, pair)
    assert not path.exists()
    save_pair(path, pair)
    found = load_pair(path)
    assert same(found.better, pair.better)
    assert same(found.worse, pair.worse)
    assert np.array_equal(found.voice, pair.voice)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ConfigError, match="is no pair, or damaged"):
        load_pair(path)
    nothing = Take(pair.better.codes[:0], pair.better.moved[:1], pair.better.own[:1], True)
    save_pair(path, replace(pair, worse=nothing))
    with pytest.raises(ConfigError, match="no sound"):
        load_pair(path)
    short = replace(pair, better=replace(pair.better, moved=pair.better.moved[:-1]))
    save_pair(path, short)
    with pytest.raises(ConfigError, match="frames of codes"):
        load_pair(path)


def test_folders_that_cannot_be_learned_from(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="make some with `rillvox train pairs`"):
        PairRows(tmp_path, roomy())
    config = roomy()
    folder = write_pairs(tmp_path / "pairs", 2)
    other = replace(config.codec, semantic_codes=2)
    with pytest.raises(ConfigError, match="of another codec"):
        PairRows(folder, replace(config, codec=other))
    assert config.text is not None
    with pytest.raises(ConfigError, match="reads other tokens"):
        PairRows(folder, replace(config, text=replace(config.text, tokens=STOP)))
    pair = load_pair(folder / "000000.npz")
    long = replace(pair, voice=np.repeat(pair.voice[:1], LONGEST, 0))
    save_pair(folder / "000000.npz", long)
    assert len(PairRows(folder, config)) == 1
    save_pair(folder / "000001.npz", long)
    with pytest.raises(ConfigError, match=f"2 are longer than {LONGEST} frames"):
        PairRows(folder, config)


def test_of_many_pairs_some_are_kept_to_judge(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "pairs", 1)
    pair = load_pair(folder / "000000.npz")
    for number in range(1, 2 * JUDGED):
        tokens = np.append(np.full(number, 3), pair.tokens).astype(np.int16)
        save_pair(folder / f"{number:06d}.npz", replace(pair, tokens=tokens))
    rows = PairRows(folder, roomy())
    assert len(rows) == 2 * JUDGED - 2
    assert [len(each.tokens) - len(pair.tokens) for each in rows.judged] == [0, JUDGED]
    drawn = rows.draw(len(rows), np.random.default_rng(0))
    # Every pair that is drawn is there once: their first windows differ.
    assert len({tuple(row.flatten().tolist()) for row in drawn.tokens[: len(rows)]}) > 1
    assert torch.equal(
        rows.draw(3, np.random.default_rng(2)).codes, rows.draw(3, np.random.default_rng(2)).codes
    )
    assert len(rows.draw(50, np.random.default_rng(0)).codes) == 100


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"count": 0}, "count"),
        ({"takes": 1}, "takes"),
        ({"margin": 0.0}, "margin"),
        ({"margin": math.nan}, "margin"),
    ],
)
def test_settings_out_of_range(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Settings(**{"count": 1, **wrong})  # type: ignore[arg-type]


def test_a_judge_of_phones_is_whole_or_not_there(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--speech", folder, "--run", tmp_path, "--out", tmp_path / "out"]
    assert rillvox("train", "pairs", *common, "--whisper", tmp_path) == 2
    assert "all of --whisper, --phone-head and --lexicon" in capsys.readouterr().err


def test_without_a_judge_rillvox_listens_itself(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codec = made("80 ms")
    heard: list[int] = []

    class Listener:
        @classmethod
        def load(cls) -> Listener:
            return cls()

        def transcribe(self, audio: Audio) -> SimpleNamespace:
            heard.append(audio.rate)
            return SimpleNamespace(text="hello there" * (len(heard) % 2))

    for name, stub in {
        "ASR": Listener,
        "Codec": SimpleNamespace(load=lambda *_, **__: codec),
        "spoken_model": lambda run: random_speaker(roomy(codec.config)),
        "util": SimpleNamespace(find_spec=lambda name: None),
    }.items():
        monkeypatch.setattr(make_pairs_command, name, stub)
    texts = tmp_path / "texts.txt"
    texts.write_text("Hello there, how are you?\n")
    out = tmp_path / "out"
    options = ["--count", 1, "--takes", 2, "--texts", texts]
    assert rillvox("train", "pairs", "--speech", folder, "--run", tmp_path, "--out", out, *options) == 0
    assert heard == [16000, 16000]
    (row,) = jobs(out)
    one, other = row["takes"]  # type: ignore[misc]
    assert one["likeness"] is None
    # Of the phones of "hello there" some are in the text; of nothing none are.
    assert one["phones"] < other["phones"] == 1.0
    assert row["pair"] == [0, 1]
    assert f"1 pairs in {out}" in capsys.readouterr().out
