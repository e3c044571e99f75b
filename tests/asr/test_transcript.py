"""Transcripts and captions: nothing of the text is lost, every cue fits a screen, times never overlap."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rillvox.asr import captions
from rillvox.asr.captions import LINE_LENGTH, LINES, LONGEST_MS, cues
from rillvox.asr.transcript import Transcript, Word


def spoken(text: str, pace: float = 0.4, pauses: dict[int, float] | None = None) -> Transcript:
    """One word every `pace` seconds, its sound 0.3 s long; `pauses[k]` seconds of silence before word k."""
    words: list[Word] = []
    at = 0.1
    for index, part in enumerate(text.split()):
        at += (pauses or {}).get(index, 0.0)
        words.append(Word(part, at, at + 0.3))
        at += pace
    return Transcript(text, tuple(words), at)


LONG = " ".join(f"word{index}," if index % 9 == 4 else f"word{index}" for index in range(120))


def assert_cues_are_lawful(transcript: Transcript) -> None:
    shown = cues(transcript.text, transcript.words, transcript.seconds)
    assert "".join("".join(cue.lines) for cue in shown).replace(" ", "") == "".join(transcript.text.split())
    last = 0
    for cue in shown:
        assert 1 <= len(cue.lines) <= LINES
        assert all(0 < len(line) <= LINE_LENGTH for line in cue.lines)
        assert last <= cue.start_ms < cue.end_ms <= cue.start_ms + LONGEST_MS
        last = cue.end_ms


def test_srt_and_vtt_write_times_as_their_formats_ask():
    transcript = Transcript("Hello there", (Word("Hello", 0.1, 0.5), Word("there", 0.6, 3661.25)), 3662.0)
    short = Transcript("Hello there", (Word("Hello", 0.1, 0.5), Word("there", 0.6, 1.25)), 2.0)
    assert short.to_srt() == "1\n00:00:00,100 --> 00:00:01,250\nHello there\n"
    assert short.to_vtt() == "WEBVTT\n\n00:00:00.100 --> 00:00:01.250\nHello there\n"
    assert "01:01:0" not in transcript.to_srt()  # one cue never lasts longer than its limit
    late = Transcript("late", (Word("late", 3661.25, 3662.5),), 3663.0)
    assert "01:01:01,250 --> 01:01:02,500" in late.to_srt()


def test_a_long_text_becomes_cues_that_fit_the_screen():
    assert_cues_are_lawful(spoken(LONG))
    assert len(spoken(LONG).to_srt().split("\n\n")) > 8


def test_the_check_of_cues_catches_a_cue_that_is_too_wide(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(captions, "LINES", 3)
    with pytest.raises(AssertionError):
        assert_cues_are_lawful(spoken(LONG, pace=0.05))


def test_a_cue_ends_at_a_long_pause():
    shown = spoken("one two three four", pauses={2: 3.0}).to_vtt()
    assert "one two\n\n" in shown
    assert shown.endswith("three four\n")


def test_a_word_that_lasts_too_long_does_not_keep_its_cue_up():
    words = (Word("aaah", 0.0, 9.0), Word("yes", 9.5, 9.8))
    shown = cues("aaah yes", words, 10.0)
    assert [(cue.start_ms, cue.end_ms) for cue in shown] == [(0, LONGEST_MS), (9500, 10500)]


def test_where_room_runs_out_the_cue_ends_at_the_longest_pause():
    text = " ".join(["seven"] * 30)
    transcript = spoken(text, pace=0.35, pauses={10: 0.4})
    first = cues(transcript.text, transcript.words, transcript.seconds)[0]
    assert " ".join(first.lines).split() == ["seven"] * 10


def test_a_cue_prefers_the_end_of_a_sentence():
    text = "this is the first sentence of two. this is then the second of them and it goes on for a while"
    shown = cues(text, spoken(text, pace=0.3).words, 10.0)
    assert shown[0].lines[-1].endswith("two.")


def test_no_two_cues_share_a_moment_even_if_all_words_have_the_same_time():
    words = tuple(Word(part, 1.0, 1.0, approximate=True) for part in LONG.split())
    assert_cues_are_lawful(Transcript(LONG, words, 2.0))


def test_without_words_the_text_is_spread_over_the_audio():
    transcript = Transcript(LONG, (), 50.0)
    assert_cues_are_lawful(transcript)
    starts = [cue.start_ms for cue in cues(LONG, (), 50.0)]
    assert starts[0] == 0
    assert 40_000 < starts[-1] < 50_000


def test_an_empty_transcript_has_no_cues():
    assert Transcript("").to_srt() == ""
    assert Transcript("  ").to_vtt() == "WEBVTT\n"
    assert Transcript("").to_text() == "\n"


def test_text_without_spaces_is_cut_too():
    text = "春眠不觉晓处处闻啼鸟" * 12
    words = tuple(Word(text[i : i + 2], i * 0.2, i * 0.2 + 0.3) for i in range(0, len(text), 2))
    assert_cues_are_lawful(Transcript(text, words, 30.0))


def test_words_that_are_not_in_the_text_are_shown_as_they_are():
    transcript = Transcript("something else", (Word("Hello", 0.0, 0.4), Word("there", 0.5, 0.9)), 1.0)
    assert transcript.to_vtt().endswith("Hello there\n")


def test_marks_that_would_break_the_format_are_disarmed():
    transcript = Transcript("a --> b <i> & c", (), 3.0)
    assert "a -> b" in transcript.to_srt()
    assert transcript.to_vtt().endswith("a --&gt; b &lt;i&gt; &amp; c\n")


def test_json_keeps_letters_and_rounds_times():
    transcript = Transcript("Füße", (Word("Füße", 0.12345, 0.5, 0.98765, True),), 1.00049)
    document = transcript.to_json()
    assert "Füße" in document
    word = json.loads(document)["words"][0]
    assert word == {"text": "Füße", "start": 0.123, "end": 0.5, "confidence": 0.9877, "approximate": True}
    assert json.loads(document)["seconds"] == 1.0


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.text("abcdefg.,-é春", min_size=1, max_size=100), st.floats(-1, 6), st.floats(0, 9)),
        max_size=60,
    )
)
def test_any_words_at_any_times_give_lawful_cues(parts: list[tuple[str, float, float]]):
    words: list[Word] = []
    clock = 0.0
    for text, gap, length in parts:
        clock += gap
        words.append(Word(text, clock, clock + length))
    text = " ".join(part[0] for part in parts)
    assert_cues_are_lawful(Transcript(text, tuple(words), clock))


def test_cue_numbers_count_from_one():
    numbers = re.findall(r"(?m)^(\d+)\n\d\d:", spoken(LONG).to_srt())
    assert numbers == [str(index) for index in range(1, len(numbers) + 1)]
