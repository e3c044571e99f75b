"""The evaluation of a speaker: who says what, in which voices; each utterance once, wherever it is spoken."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import stub_studio
from small_speaker import made_voice, write_speaker
from stub_studio import RATE, Opening, Pitches, hum, judges, opening, write_people

from rillvox.errors import ConfigError
from rillvox.training.manifests import Manifest
from rillvox.tts import evaluate as evaluation
from rillvox.tts.evaluate import OURS, evaluate
from rillvox.tts.evaluate_judges import framed
from rillvox.tts.evaluate_people import Person, people_of, sentences_of, text_of
from rillvox.tts.evaluate_work import CODEC, RECORDING, Studio, Take, Workers
from rillvox.tts.speaker import TTS, Piece

SENTENCES = 2


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("held_out") / "list", {"eva": 220.0, "tom": 100.0})


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Of the same name as the voice that comes along.
    return write_people(tmp_path_factory.mktemp("seen") / "list", {"ana": 160.0})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_speaker(tmp_path_factory.mktemp("speaker") / "small")
    (folder / "voices").mkdir()
    made_voice(TTS.load(folder)).save(folder / "voices" / "ana.safetensors")
    return folder


@pytest.fixture(scope="module")
def open_studio(held_out: Path, model: Path) -> Opening:
    return opening(held_out, model)


@pytest.fixture(scope="module")
def studio(open_studio: Opening, seen: Path, held_out: Path) -> Studio:
    found = open_studio()
    found.people = [
        *people_of([Manifest(seen)], True, Pitches(), 1),
        *people_of([Manifest(held_out)], False, Pitches(), 2),
    ]
    return found


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "HARD", ("Yes.", "No, no!"))
    monkeypatch.setattr(evaluation, "ENDINGS", 4)
    monkeypatch.setattr(evaluation, "SPREAD_TEXTS", 2)


def measured(open_studio: Opening, seen: Path, **more: object) -> dict[str, object]:
    told = {"sentences": SENTENCES, "voices": 1, "spread": 2, "default": "ana", "say": quiet, **more}
    return evaluate(open_studio, [Manifest(seen)], **told)  # type: ignore[arg-type]


# Whose voices, which sentences.


def test_people_are_those_with_most_recordings(tmp_path: Path) -> None:
    heard: list[np.ndarray] = []

    class Heard(Pitches):
        def embed(self, wave: np.ndarray) -> np.ndarray:
            heard.append(wave)
            return super().embed(wave)

    folder = write_people(tmp_path / "list", {"few": 90.0, "more": 130.0})
    manifest = Manifest(folder).where(lambda clip: clip.id not in ("few-5",))
    found = people_of([manifest], True, Heard(), 2)
    assert [(person.name, person.seen) for person in found] == [("more", True), ("few", True)]
    assert np.linalg.norm(found[0].likeness) == pytest.approx(1)
    # The reference is a recording of theirs, and none of those that the likeness was taken from.
    reference = manifest.load(manifest.clips[5]).samples
    assert np.array_equal(found[0].reference.samples, reference)
    assert len(heard) == 5 + 4
    assert not any(np.array_equal(wave, reference) for wave in heard)
    assert found[0].likeness @ Pitches().embed(hum(130.0, 4)) > found[0].likeness @ Pitches().embed(
        hum(90.0, 4)
    )
    with pytest.raises(ConfigError, match="1 people have enough recordings, 2 are needed"):
        people_of([manifest.where(lambda clip: clip.id not in ("few-0", "few-1"))], True, Pitches(), 2)


@pytest.mark.parametrize(("seconds", "fits"), [(2.9, False), (3.2, True), (29.9, True), (31.0, False)])
def test_a_reference_is_neither_short_nor_long(tmp_path: Path, seconds: float, fits: bool) -> None:
    manifest = Manifest(write_people(tmp_path / "list", {"ana": 130.0}))
    # A list says how long its clips are.
    manifest.clips = [
        replace(clip, seconds=seconds if number == 0 else 40.0) for number, clip in enumerate(manifest.clips)
    ]
    if fits:
        assert len(people_of([manifest], True, Pitches(), 1)) == 1
    else:
        with pytest.raises(ConfigError, match="0 people"):
            people_of([manifest], True, Pitches(), 1)


def test_sentences_are_spread_over_the_list_and_none_comes_twice(tmp_path: Path) -> None:
    manifest = Manifest(write_people(tmp_path / "list", {"ana": 130.0}))
    texts = ["too short a", "One, two three four.", "one two three four", "a b c d e", None, "w " * 31]
    clips = [replace(clip, text=text) for clip, text in zip(manifest.clips, texts, strict=True)]
    manifest.clips = clips
    assert [clip.text for clip in sentences_of(manifest, 10)] == ["One, two three four.", "a b c d e"]
    manifest.clips = [replace(clips[0], id=str(n), text=f"this is number {n}") for n in range(9)]
    assert [clip.id for clip in sentences_of(manifest, 3)] == ["0", "4", "8"]
    assert text_of(replace(clips[0], text="I SAW IT")) == "i saw it"
    assert text_of(replace(clips[0], text="I saw NASA")) == "I saw NASA"


# Judging.


def test_a_speaker_is_looked_for_among_people() -> None:
    likeness = {name: Pitches().embed(hum(pitch, 3)) for name, pitch in (("low", 100.0), ("high", 220.0))}
    low, high = (
        Person(name, True, None, likeness[name])  # type: ignore[arg-type]
        for name in likeness
    )
    wave = hum(104.0, 3, seed=1)
    right, wrong = (judges().judge("a e i", wave, [low, high], person) for person in (low, high))
    assert right.nearest
    assert not wrong.nearest
    assert right.similarity is not None
    assert wrong.similarity is not None
    assert right.similarity > wrong.similarity
    nobody = judges().judge("a e i", wave)
    assert nobody.nearest is nobody.similarity is nobody.failed is None
    assert nobody.phones.length == 3
    assert nobody.words["counter"].length == 3
    assert nobody.seconds == 3.0


def test_quality_is_heard_with_the_same_silence_and_left_out_where_it_says_nothing() -> None:
    wave = hum(100.0, 2)
    loud = np.abs(wave).max()
    assert judges().judge("a", wave).quality == {"loudness": pytest.approx(loud)}
    # Too short without the silence, and with it.
    assert judges().judge("a", wave[: RATE // 5]).quality
    assert judges().judge("a", wave[: RATE // 20]).quality == {}
    sound = np.concatenate([np.zeros(9999), np.ones(24000), np.zeros(70000)]).astype(np.float32)
    even = framed(sound)
    assert np.array_equal(framed(np.concatenate([np.zeros(2400, np.float32), sound])), even)
    assert abs(len(even) - 24000 - 9600) <= 480
    assert not even[:4800].any()
    assert not even[-4800:].any()
    assert len(framed(np.zeros(0, np.float32))) == 9600


# The whole.


@pytest.mark.usefixtures("short")
def test_everybody_says_the_same_sentences(
    open_studio: Opening, seen: Path, held_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes: list[Take] = []
    listen = Workers.listen
    monkeypatch.setattr(Workers, "listen", lambda self, given: takes.extend(given) or listen(self, given))
    lines: list[str] = []
    report = measured(open_studio, seen, say=lines.append)
    rows = report["rows"]
    assert isinstance(rows, dict)
    ours = ["default voice, ana", "seen voices", "never-seen voices"]
    assert list(rows) == ["recordings", "recordings through the codec", *ours, "beeper"]
    texts = [text_of(clip) for clip in sentences_of(Manifest(held_out), SENTENCES)]
    for number in range(6):
        assert [take.text for take in takes[number * SENTENCES :][:SENTENCES]] == texts
    spoken = takes[2 * SENTENCES : 5 * SENTENCES]
    assert [take.seed for take in spoken] == [0, 1] * 3
    default, known, strange = spoken[::SENTENCES]
    assert (default.voice, default.person) == ("ana", "")
    assert (known.voice, known.person) == ("", "ana")
    assert strange.person in ("eva", "tom")
    spread = takes[6 * SENTENCES :]
    assert [(take.text, take.seed) for take in spread] == [(t, s) for t in texts[:2] for s in (1000, 1001)]
    for name, row in rows.items():
        assert ("rtf" in row) == ("failures" in row) == (name in ours), name
        assert ("nearest" in row) == (name in ours[1:]), name
        assert row["phone_errors"] > 0
    assert rows["recordings through the codec"]["above_codec"] == 0
    loud, coded = (rows[name]["loudness"] for name in list(rows)[:2])
    assert loud == pytest.approx(2 * coded, abs=2e-3)
    assert report["people"] == [{"name": "ana", "seen": True}, {"name": strange.person, "seen": False}]
    assert report["hard"] == {"texts": 4, "ended": 4, "not": []}
    assert report["seed_spread"]["length"] > 0  # type: ignore[index]
    assert report["judges"] == ["phones", "counter", "likeness", "loudness"]
    assert any(line.startswith("seen voices: ") for line in lines)
    assert json.loads(json.dumps(report)) == report


def test_a_voice_that_is_cloned_is_not_the_one_of_that_name(studio: Studio) -> None:
    text = "I am Ana and you are not."
    own, cloned = Take(text, OURS, voice="ana"), Take(text, OURS, person="ana")
    assert studio.key("listen", own) != studio.key("listen", cloned)
    heard = [studio.listen(take) for take in (own, cloned)]
    assert heard[0].similarity is None
    assert heard[1].similarity is not None
    assert heard[0].seconds != heard[1].seconds


def test_who_is_cut_off_or_not_understood_has_failed(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    take = Take("a e i o u a e i o u a", OURS, voice="ana")
    monkeypatch.setattr(stub_studio.Phones, "heard", lambda self, wave: self.said(take.text))
    assert studio.listen(take).failed is False
    assert studio.ends(take)
    with monkeypatch.context() as patch:
        patch.setattr(stub_studio.Phones, "heard", lambda *_: [])
        assert studio.listen(take).failed is True
    stream = TTS.stream

    def cut_off(self: TTS, *args: object, **kwargs: object) -> Iterator[Piece]:
        for piece in stream(self, *args, **kwargs):  # type: ignore[arg-type]
            yield replace(piece, finish="length") if piece.finish else piece

    monkeypatch.setattr(TTS, "stream", cut_off)
    assert studio.listen(take).failed is True
    assert not studio.ends(take)


def test_texts_that_do_not_end_are_named(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "HARD", ("Yes.", "x" * 60))
    monkeypatch.setattr(Studio, "ends", lambda self, take: take.text == "Yes.")
    found = evaluation.hard_texts(Workers(studio, lambda: studio, 1, None, quiet), "ana", ["No."])
    assert found == {"texts": 3, "ended": 1, "not": ["x" * 40, "No."]}


# Once, and anywhere.

TAKES = [
    Take("I am here now.", OURS, person="eva", seed=3),
    Take("I am here now.", OURS, voice="ana"),
    Take("I am here now.", "beeper"),
    Take("i am eva a", RECORDING, clip="eva-0"),
    Take("i am eva a", CODEC, clip="eva-0"),
]


def untimed(found: list[object]) -> list[object]:
    return [replace(said, first=None, pace=None) for said in found]  # type: ignore[type-var]


def test_keys_differ_where_anything_does(studio: Studio, open_studio: Opening, held_out: Path) -> None:
    take = TAKES[0]
    others = [
        *TAKES[1:],
        replace(take, text="I am there now."),
        replace(take, seed=4),
        replace(take, person="tom"),
        Take("I am here now.", OURS, person="ana", seed=3),
        replace(TAKES[3], clip="eva-1"),
        replace(TAKES[4], clip="eva-1"),
    ]
    keys = [studio.key("listen", each) for each in (take, *others)]
    assert len(set(keys)) == len(keys)
    assert studio.key("ends", take) not in keys
    assert studio.key("listen", take) == keys[0]
    changed: list[Studio] = []
    for _ in range(4):
        other = open_studio()
        other.people = studio.people
        changed.append(other)
    assert changed[0].key("listen", take) == keys[0]
    speaker = changed[0].speakers[OURS]
    changed[0].speakers = {OURS: replace(speaker, manner=replace(speaker.manner, noise=0.5))}
    changed[1].speakers = {OURS: replace(speaker, identity="another model")}
    changed[2].judges = judges("another judge")
    changed[3].people = [person for person in studio.people if person.name != "tom"]
    for other in changed:
        assert other.key("listen", take) != keys[0]
    # Who plays a recording doesn't hang on the model, whose judges do.
    assert changed[1].key("listen", TAKES[3]) == keys[4 - 1]
    assert changed[2].key("listen", TAKES[3]) != keys[4 - 1]
    assert changed[2].key("ends", take) == studio.key("ends", take)


def test_what_was_found_is_not_done_again(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Take] = []
    real = Studio.listen

    def breaks(self: Studio, take: Take) -> object:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(take)
        return real(self, take)

    cache = tmp_path / "kept"
    monkeypatch.setattr(Studio, "listen", breaks)
    workers = Workers(studio, lambda: studio, 1, cache, quiet)
    with pytest.raises(KeyboardInterrupt):
        workers.listen(TAKES)
    assert len(list(cache.iterdir())) == 3
    done.clear()
    found = workers.listen(TAKES)
    assert done == TAKES[3:]
    done.clear()
    # As it was, times too; a file that is damaged is made anew.
    assert workers.listen(TAKES) == found
    assert done == []
    path = cache / f"{studio.key('listen', TAKES[2])}.json"
    kept = json.loads(path.read_text())
    assert kept["take"]["speaker"] == "beeper"
    path.write_text(path.read_text()[:-5])
    assert workers.listen(TAKES) == found
    assert done == [TAKES[2]]
    assert json.loads(path.read_text()) == kept
    # Whether a text ends is another question.
    assert workers.ends(TAKES[1:2]) == [True]
    assert len(list(cache.iterdir())) == 6


def test_progress_is_told(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rillvox.tts.evaluate_work.EVERY", 2)
    lines: list[str] = []
    Workers(studio, lambda: studio, 1, None, lines.append).listen([TAKES[2]] * 5)
    assert lines == ["2 of 5 utterances", "4 of 5 utterances"]
    with pytest.raises(ConfigError, match="jobs must be at least 1, got 0"):
        Workers(studio, lambda: studio, 0, None, quiet)


@pytest.mark.slow
def test_jobs_find_the_same_and_measure_no_times(
    studio: Studio, open_studio: Opening, tmp_path: Path
) -> None:
    with Workers(studio, open_studio, 1, None, quiet) as alone:
        expected = alone.listen(TAKES)
    assert expected[0].pace is not None
    cache = tmp_path / "kept"
    with Workers(studio, open_studio, 2, cache, quiet) as workers:
        assert workers.listen(TAKES) == untimed(list(expected))
        assert workers.ends(TAKES[:2]) == [True, True]
    assert len(list(cache.iterdir())) == len(TAKES) + 2
