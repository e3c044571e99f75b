"""A distilled head against its teacher: what passes, what doesn't, and what can't be compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_speaker import random_speaker, write_speaker
from stub_studio import Opening, write_people

from rillvox.errors import ConfigError
from rillvox.training.manifests import Manifest
from rillvox.training.score import Edits
from rillvox.tts import evaluate_heads as heads
from rillvox.tts.evaluate_heads import (
    HEAD,
    ONE_STEP,
    TEACHER,
    compare,
    difference,
    mean_interval,
    table_of_heads,
)
from rillvox.tts.evaluate_work import Take, Workers
from rillvox.tts.model import SpeakerModel
from rillvox.tts.own import load_own, save_own
from rillvox.tts.scoreboard import Said

ERRORS = [2, 5, 1, 7, 3, 4, 0, 6, 2, 5] * 2
VOICES = ["ana", "tom"] * 10


def quiet(_: str) -> None:
    pass


def said(errors: int, similarity: float = 0.7) -> Said:
    edits = Edits(errors, 0, 0, 10)
    return Said(edits, {"ear": edits}, {"ear": edits}, 1.0, similarity=similarity, failed=False)


def row(change: int, rarely: bool = False) -> list[Said]:
    """The teacher's errors and so many more in most sentences, or in two of them."""
    changed = [number % 10 == 1 if rarely else number % 4 > 0 for number in range(len(ERRORS))]
    return [said(max(0, errors + change * more)) for errors, more in zip(ERRORS, changed, strict=True)]


def test_pairs_show_what_means_would_hide() -> None:
    rows = {"a": row(1), "b": row(0)}
    found = difference(rows, "a", "b", VOICES)
    middle, low, high = found["phones"]
    assert middle == pytest.approx(0.075)
    assert 0.05 <= low < middle < high <= 0.1
    assert found["words: ear"] == found["phones"]
    assert found["similarity"] == [0, 0, 0]
    same = difference(rows, "b", "b", VOICES)["phones"]
    assert same == [0, 0, 0]
    back = difference(rows, "b", "a", VOICES)["phones"]
    assert back == [-middle, -high, -low]


def test_many_voices_are_drawn_and_not_their_sentences() -> None:
    # All the difference is one voice's: whoever draws voices knows that another one might have had none.
    many = [f"v{number // 2}" for number in range(20)]
    a = [replace(said, phones=Edits(9, 0, 0, 10)) for said in row(0)[:2]] + row(0)[2:]
    few = difference({"a": a, "b": row(0)}, "a", "b", VOICES)["phones"]
    drawn = difference({"a": a, "b": row(0)}, "a", "b", many)["phones"]
    assert drawn[0] == few[0]
    assert drawn[2] > few[2]


def test_a_mean_has_an_interval() -> None:
    values = np.array([0.0, 0.1] * 50)
    middle, low, high = mean_interval(values)
    assert middle == 0.05
    assert low == pytest.approx(0.05 - 1.96 * 0.005, abs=2e-3)
    assert high == pytest.approx(0.05 + 1.96 * 0.005, abs=2e-3)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speaker(tmp_path_factory.mktemp("teacher") / "teacher")


@pytest.fixture(scope="module")
def distilled(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same speaker with a head that knows of spans."""
    folder = write_speaker(tmp_path_factory.mktemp("distilled") / "distilled")
    model, codec = load_own(teacher)
    config = replace(model.config, flow=replace(model.config.flow, spans=True, steps=2))
    other = SpeakerModel(config)
    span = random_speaker(config).flow.span_projection
    assert span is not None
    weights = {**model.state_dict(), "flow.span_projection.weight": span.weight}
    other.load_state_dict(weights)
    save_own(other, folder, "codec", codec.fingerprint)
    return folder


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("lists")
    return (
        write_people(folder / "held_out", {"eva": 220.0, "tom": 100.0}),
        write_people(folder / "seen", {"ana": 160.0}),
    )


def opening(held_out: Path, head: Path, teacher: Path) -> Opening:
    return Opening(held_out, ((HEAD, head, None), (TEACHER, teacher, None), (ONE_STEP, teacher, 1)))


def test_heads_say_the_same_in_the_same_voices_with_the_same_seeds(
    lists: tuple[Path, Path], distilled: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes: list[list[Take]] = []
    listen = Workers.listen
    monkeypatch.setattr(
        Workers, "listen", lambda self, given: takes.append(list(given)) or listen(self, given)
    )
    held_out, seen = lists
    report = compare(
        opening(held_out, distilled, teacher), [Manifest(seen)], sentences=2, voices=1, say=quiet
    )
    head, whole, single = takes
    assert [take.speaker for take in (head[0], whole[0], single[0])] == [HEAD, TEACHER, ONE_STEP]
    assert [replace(take, speaker="") for take in head] == [replace(take, speaker="") for take in whole]
    assert [replace(take, speaker="") for take in head] == [replace(take, speaker="") for take in single]
    assert [take.person for take in head] == ["ana", head[1].person]
    assert [take.seed for take in head] == [0, 1]
    assert head[1].person in ("eva", "tom")
    assert report["steps"] == {HEAD: 2, TEACHER: 4, ONE_STEP: 1}
    assert report["same_backbone"]
    pairs = [(found["of"], found["less"]) for found in report["differences"]]
    assert pairs == [(HEAD, TEACHER), (ONE_STEP, HEAD), (ONE_STEP, TEACHER)]
    rates = {name: row["phone_errors"] for name, row in report["rows"].items()}
    for found in report["differences"]:
        wanted = rates[found["of"]] - rates[found["less"]]
        assert found["phones"][0] == pytest.approx(wanted, abs=2e-4)
    # The heads are heard: each is another sound.
    assert len({row["loudness"] for row in report["rows"].values()}) == 3
    shown = table_of_heads(report, "rillvox eval heads")
    assert f"| {HEAD}, less {TEACHER} |" in shown
    assert f"- {ONE_STEP}, 1 steps: phones wrong" in shown
    assert "backbones differ" not in shown
    assert "backbones differ" in table_of_heads({**report, "same_backbone": False}, "")


@pytest.mark.parametrize(
    ("head", "single", "passed"),
    [
        (row(0), row(1), [True, True]),
        (row(-1), row(1), [True, True]),
        (row(1), row(2), [False, True]),
        (row(0), row(0), [True, False]),
        # Two sentences of twenty may be chance: that is no worse, and not clearly worse.
        (row(3, rarely=True), row(2), [True, True]),
        (row(0), row(3, rarely=True), [True, False]),
    ],
)
def test_a_head_passes_if_it_is_no_worse_and_one_step_is(
    head: list[Said], single: list[Said], passed: list[bool],
    lists: tuple[Path, Path], distilled: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    rows = {HEAD: head, TEACHER: row(0), ONE_STEP: single}
    monkeypatch.setattr(Workers, "listen", lambda self, takes: rows[takes[0].speaker])
    monkeypatch.setattr(heads, "text_of", lambda clip: clip.text)
    monkeypatch.setattr(heads, "sentences_of", lambda manifest, count: (list(manifest.clips) * 2)[:20])
    held_out, seen = lists
    report = compare(
        opening(held_out, distilled, teacher), [Manifest(seen)], voices=1, sentences=20, say=quiet
    )
    assert list(report["passed"].values()) == passed
    shown = table_of_heads(report, "").splitlines()[-2:]
    assert [line.rsplit(" ", 1)[1] == "yes" for line in shown] == passed


def test_a_distilled_teacher_is_refused_and_another_backbone_told(
    lists: tuple[Path, Path], distilled: Path, teacher: Path, tmp_path: Path
) -> None:
    held_out, seen = lists
    with pytest.raises(ConfigError, match="its head is distilled; the teacher is what the stage before gave"):
        compare(opening(held_out, distilled, distilled), [Manifest(seen)], voices=1, say=quiet)
    other = write_speaker(tmp_path / "other")
    model, codec = load_own(other)
    with torch.no_grad():
        model.backbone.layers[0].attention.wq.weight.mul_(2)  # type: ignore[union-attr, operator]
    save_own(model, other, "codec", codec.fingerprint)
    report = compare(opening(held_out, distilled, other), [Manifest(seen)], sentences=1, voices=1, say=quiet)
    assert not report["same_backbone"]
