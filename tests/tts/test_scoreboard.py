"""Figures of a speaker: what is counted, over what, and what is left out of whose row."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from rillvox.training.score import Edits
from rillvox.tts.scoreboard import Said, row_of, said_of, table

PLAIN = Said(Edits(1, 0, 0, 10), {"ear": Edits(0, 1, 0, 4)}, {"ear": Edits(2, 0, 0, 20)}, 2.0)
PERFECT = replace(PLAIN, phones=Edits(0, 0, 0, 10))


def spoken(errors: int, length: int = 10, **more: object) -> Said:
    return replace(PLAIN, phones=Edits(errors, 0, 0, length), failed=False, **more)  # type: ignore[arg-type]


def test_a_rate_is_of_all_phones_and_not_a_mean_of_rates() -> None:
    row = row_of([spoken(5, 10), spoken(5, 40)], [PLAIN, replace(PLAIN, phones=Edits(0, 0, 0, 40))])
    assert row["phone_errors"] == 0.2
    assert row["above_codec"] == pytest.approx(0.2 - 0.02)
    low, high = row["interval"]
    assert low == 0.125
    assert high == 0.5
    assert row["words: ear"] == 0.25
    assert row["characters: ear"] == 0.1
    assert row["phones_a_second"] == 12.5


def test_differences_are_paired() -> None:
    base = [spoken(errors) for errors in (0, 9, 0, 9, 0, 9)]
    row = row_of([spoken(said.phones.errors + 1) for said in base], base)
    # Rates differ by more than this from sentence to sentence, the difference never does.
    assert row["above_codec_interval"] == [0.1, 0.1]
    assert row["interval"][1] - row["interval"][0] > 0.2
    # The same sentences in several voices stand beside the same base; another number stands alone.
    assert row_of([*base, *base], base)["above_codec"] == 0
    assert "above_codec" not in row_of(base[:5], base)


def test_means_are_of_those_who_have_a_figure() -> None:
    found = [
        spoken(0, nearest=True, similarity=0.9, quality={"mos": 3.0}, first=0.1, pace=0.2),
        spoken(0, nearest=False, similarity=0.5, quality={}, first=0.3, pace=0.4),
        replace(spoken(9, similarity=0.4, nearest=False, first=0.2, pace=0.9), failed=True),
    ]
    row = row_of(found, [PLAIN] * 3)
    assert row["nearest"] == pytest.approx(1 / 3, abs=1e-4)
    assert row["similarity"] == 0.6
    assert row["mos"] == 3.0
    assert row["failures"] == 1
    assert row["first_audio_ms"] == 200.0
    assert row["rtf"] == 0.4


def test_who_is_not_ours_does_not_fail_and_is_not_timed() -> None:
    row = row_of([PLAIN, PERFECT], [PLAIN, PERFECT])
    assert not {"failures", "rtf", "first_audio_ms", "nearest", "similarity"} & set(row)
    untimed = row_of([spoken(1)] * 2, [PLAIN] * 2)
    assert untimed["failures"] == 0
    assert "rtf" not in untimed


def test_what_was_found_can_be_kept() -> None:
    for said in (PLAIN, spoken(3, nearest=True, similarity=0.25, quality={"mos": 2.5}, first=0.1, pace=1.0)):
        assert said_of(json.loads(json.dumps(said.as_json()))) == said


@pytest.mark.parametrize(("jobs", "told"), [(1, "times are measured"), (2, "no times: jobs share the cores")])
def test_a_table_has_every_row_and_gaps(jobs: int, told: str) -> None:
    rows = {"people": row_of([PLAIN], [PLAIN]), "ours": row_of([spoken(2, nearest=True)], [PLAIN])}
    report = {
        "sentences": 1,
        "jobs": jobs,
        "judges": ["phones", "ear"],
        "people": [{"name": "ana"}],
        "rows": rows,
        "seed_spread": {"length": 0.1},
    }
    lines = table(report, "rillvox eval tts").splitlines()
    assert lines[0] == "### rillvox eval tts"
    assert f"- jobs: {jobs}; {told}" in lines
    assert "- 1 sentences; people: ana" in lines
    people, ours = (next(line for line in lines if line.startswith(f"| {name}")) for name in rows)
    assert "| 10.0 % (10.0 to 10.0) | 0.0 % (0.0 to 0.0) |" in people
    assert "| 20.0 % (20.0 to 20.0) | 10.0 % (10.0 to 10.0) |" in ours
    assert "100.0 %" in ours
    assert people.count("|") == ours.count("|")
    assert "|  |" in people
    assert lines[-1] == "- seed spread: {'length': 0.1}"
