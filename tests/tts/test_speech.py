"""Speech for a speaker's training: which clips, at which speed and place, with which tokens when."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_runner import run
from tiny_codec import made

from rillvox.codec.checkpoint import save_model
from rillvox.codec.stream import Codec
from rillvox.errors import ConfigError
from rillvox.training.lexicon import PHONE_IDS, Lexicon
from rillvox.training.pool import Clip, Pool, write_pool
from rillvox.training.sounds import RATE, STEP, Sound, Sounds, write_sounds
from rillvox.tts.speech import MIN_SCORE, Speech, prepare, renamed
from rillvox.tts.tokens import FIRST, PAUSE, STOP

FRAME = 1920
SAMPLES = {"a": 20 * FRAME, "b": 25 * FRAME + STEP, "c": 30 * FRAME, "d": 22 * FRAME}
HELD_OUT = "human_dev"
# Two words of two phones and one, with a pause of ten frames of 20 ms between them.
SPANS = ((0, 4), (4, 12), (22, 30))


def quiet(_: str) -> None:
    pass


def aligned(name: str, corpus: str, **more: object) -> Clip:
    told = {
        "words": ("one", "two"),
        "phones": (3, 5, 7),
        "phones_per_word": (2, 1),
        "spans": SPANS,
        "score": -1.0,
        **more,
    }
    return Clip(name, corpus, "s", 0, 0, **told)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds") / "sounds"
    rng = np.random.default_rng(0)
    clips: list[Sound] = []
    offset = 0
    for name, samples in SAMPLES.items():
        corpus = {"c": "source_of_wideband", "d": HELD_OUT}.get(name, "toys")
        clips.append(Sound(name, corpus, f"s{name}", 16000 if name == "b" else 24000, offset, samples))
        offset += samples
    time = np.arange(offset) / RATE
    wave = 3000 * np.sin(2 * np.pi * 200 * time) + rng.normal(0, 300, offset)
    # The teacher names every step after its number.
    ids = (np.arange(offset // STEP) % 500).astype(np.int16)
    write_sounds(folder, clips, wave.astype(np.int16), ids, torch.zeros(500, 4))
    return folder


@pytest.fixture(scope="module")
def sounds(folder: Path) -> Sounds:
    return Sounds(folder)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pool") / "pool"
    empty = np.zeros(100, np.int16)
    clips = [
        aligned("a", "toys"),
        aligned("b", "toys"),
        aligned("c", "wideband"),
        aligned("d", HELD_OUT),
        aligned("stranger", "toys"),
    ]
    write_pool(folder, [(clip, empty) for clip in clips])
    return folder


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("codec") / "codec"
    save_model(made("80 ms").model, folder)
    return folder


@pytest.fixture(scope="module")
def plain(sounds: Sounds, pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Speech:
    folder = tmp_path_factory.mktemp("speech") / "speech"
    return prepare(sounds, Pool.open(pool), made("80 ms").model, folder, say=quiet)


def codes_of(speech: Speech, name: str) -> np.ndarray:
    (clip,) = [clip for clip in speech.clips if clip.id == name]
    return np.asarray(speech.codes[clip.first : clip.first + clip.frames])


def names_of(speech: Speech, name: str) -> np.ndarray:
    (clip,) = [clip for clip in speech.clips if clip.id == name]
    return np.asarray(speech.teacher[clip.first : clip.first + clip.frames])


def test_codes_are_those_of_each_clip_alone(plain: Speech, sounds: Sounds) -> None:
    assert sorted(clip.id for clip in plain.clips) == ["a", "b", "c", "d"]
    codec = made("80 ms")
    for clip, sound in ((clip, next(s for s in sounds.clips if s.id == clip.id)) for clip in plain.clips):
        assert clip.frames == sound.samples // FRAME
        assert (clip.corpus, clip.speaker, clip.native) == (sound.corpus, sound.speaker, sound.native)
        alone = codec.encode(sounds.samples(sound)).values[: clip.frames]
        # Rows of a batch are computed in another order than one alone: now and then a level is the next one.
        found = codes_of(plain, clip.id)
        assert found.shape == alone.shape
        assert (found == alone).mean() > 0.999
    firsts = sorted((clip.first, clip.frames) for clip in plain.clips)
    assert [first for first, _ in firsts] == np.cumsum([0, *(n for _, n in firsts)])[:-1].tolist()
    assert len(plain.codes) == len(plain.teacher) == sum(clip.frames for clip in plain.clips)
    assert plain.codes.dtype == plain.teacher.dtype == np.int16


def test_tokens_begin_when_they_are_said(plain: Speech) -> None:
    for clip in plain.clips:
        # A word's first phone is a token of its own kind.
        assert clip.tokens == (3 + FIRST, 5, PAUSE, 7 + FIRST, STOP)
        assert clip.starts == (0, 1, 3, 5.5, 7.5)


def test_the_teacher_names_the_frame_that_begins_there(plain: Speech, sounds: Sounds) -> None:
    for sound in sounds.clips:
        first = sound.offset // STEP
        wanted = (first + 4 * np.arange(sound.samples // FRAME)) % 500
        assert names_of(plain, sound.id).tolist() == wanted.tolist()


@pytest.mark.parametrize(("speed", "shift"), [(1.25, 0), (0.8, 0), (1.0, 960), (1.25, 960)])
def test_another_speed_and_place_move_everything_alike(
    speed: float, shift: int, plain: Speech, sounds: Sounds, pool: Path, tmp_path: Path
) -> None:
    found = prepare(
        sounds, Pool.open(pool), made("80 ms").model, tmp_path / "s", speed=speed, shift=shift, say=quiet
    )
    for clip in found.clips:
        assert abs(clip.frames - (SAMPLES[clip.id] / speed - shift) / FRAME) <= 1
        (own,) = [other for other in plain.clips if other.id == clip.id]
        wanted = [start / speed - shift / FRAME for start in own.starts]
        assert clip.starts == pytest.approx(wanted, abs=1e-3)
        # What the teacher says of a frame is what it says of the place of the recording that is played there.
        at = (np.arange(clip.frames) * FRAME + shift) * speed
        (sound,) = [sound for sound in sounds.clips if sound.id == clip.id]
        places = np.rint(at / STEP).astype(int)
        inside = places < sound.samples // STEP
        assert inside.mean() > 0.9
        named = names_of(found, clip.id)
        assert (named[inside] == (sound.offset // STEP + places[inside]) % 500).all()
        assert (named[~inside] == -1).all()
        assert not np.array_equal(codes_of(found, clip.id)[:15], codes_of(plain, clip.id)[:15])


def test_what_is_not_believed_is_left_out(sounds: Sounds, tmp_path: Path) -> None:
    empty = np.zeros(10, np.int16)
    clips = [
        aligned("a", "toys", score=MIN_SCORE - 0.1),
        aligned("b", "toys", score=MIN_SCORE),
        aligned("c", "other"),
        aligned("d", HELD_OUT, spans=()),
    ]
    doubtful = write_pool(tmp_path / "pool", [(clip, empty) for clip in clips])
    found = prepare(sounds, doubtful, made("80 ms").model, tmp_path / "s", say=quiet)
    assert [clip.id for clip in found.clips] == ["b"]
    nothing = write_pool(tmp_path / "none", [(clips[0], empty)])
    with pytest.raises(ConfigError, match="no clip of the sounds has an alignment"):
        prepare(sounds, nothing, made("80 ms").model, tmp_path / "t", say=quiet)
    assert not (tmp_path / "t").exists()


def test_clips_shorter_than_a_frame_are_left_out(sounds: Sounds, pool: Path, tmp_path: Path) -> None:
    shift = SAMPLES["a"] - FRAME + 1
    found = prepare(sounds, Pool.open(pool), made("80 ms").model, tmp_path / "s", shift=shift, say=quiet)
    assert sorted(clip.id for clip in found.clips) == ["b", "c", "d"]


def test_what_is_held_out_is_not_for_training(plain: Speech) -> None:
    assert sorted(clip.id for clip in plain.training()) == ["a", "b", "c"]


def test_a_codec_without_an_encoder_is_refused(
    sounds: Sounds, pool: Path, tmp_path: Path, codec: Path
) -> None:
    model = Codec.load(codec, weights="float32").model
    model.encoder = None
    with pytest.raises(ConfigError, match="this codec has no encoder"):
        prepare(sounds, Pool.open(pool), model, tmp_path / "s", say=quiet)


def test_a_folder_is_opened_whole_or_refused(plain: Speech, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no speech as codes here; make it with `rillvox train speech`"):
        Speech(tmp_path)
    np.save(tmp_path / "codes.npy", plain.codes)
    np.save(tmp_path / "teacher.npy", plain.teacher)
    (tmp_path / "clips.jsonl").write_text('{"id": ')
    with pytest.raises(ConfigError, match="no speech as codes here"):
        Speech(tmp_path)


def test_the_command_writes_a_folder(
    folder: Path, pool: Path, codec: Path, plain: Speech, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "speech"
    told = ["--pool", pool, "--out", out, "--model", codec]
    assert run("train", "speech", folder, *told) == 0
    frames = sum(clip.frames for clip in plain.clips)
    assert f"4 clips, {frames * 0.08 / 3600:.2f} hours" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {"codes.npy", "teacher.npy", "clips.jsonl"}
    found = Speech(out)
    assert found.clips == plain.clips
    assert np.array_equal(found.codes, plain.codes)
    assert np.array_equal(found.teacher, plain.teacher)
    assert all("tokens" in json.loads(line) for line in (out / "clips.jsonl").read_text().splitlines())
    assert run("train", "speech", tmp_path, *told) == 2


def test_phones_are_called_as_a_lexicon_does_where_it_has_as_many(
    sounds: Sounds, pool: Path, tmp_path: Path
) -> None:
    names = {"one": ("ah", "n"), "two": ("t", "uw")}
    clip = renamed(aligned("a", "toys"), names)
    assert clip.phones == (PHONE_IDS["ah"], PHONE_IDS["n"], 7)
    assert clip.spans == SPANS
    assert renamed(clip, {}).phones == clip.phones
    (tmp_path / "lexicon.json").write_text(json.dumps(names))
    codec = made("80 ms").model
    lexicon = Lexicon(tmp_path / "lexicon.json", program="no such program")
    plain, found = (
        prepare(sounds, Pool.open(pool), codec, tmp_path / name, lexicon=given, say=quiet)
        for name, given in (("plain", None), ("named", lexicon))
    )
    for before, after in zip(plain.clips, found.clips, strict=True):
        assert after.tokens != before.tokens
        assert after.tokens[0] == PHONE_IDS["ah"] + FIRST
        assert after.starts == before.starts
