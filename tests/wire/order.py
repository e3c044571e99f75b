"""What a client may rely on: the legal orders of server events, checked over a whole session."""

from __future__ import annotations

from collections.abc import Sequence

from wire.play import COMPLETED, DELTA, FAILED, Json, types


def check_openai(replies: Sequence[Json], settled: bool) -> None:
    """Laws of a GA session. `settled`: the engine has ended every stream it was told to end.

    Raises AssertionError.
    """
    kinds = types(replies)
    assert kinds[0] == "session.created"
    assert kinds.count("session.created") == 1
    ids = [reply["event_id"] for reply in replies]
    assert len(ids) == len(set(ids))
    _check_items(replies)
    committed = [reply["item_id"] for reply in replies if reply["type"] == "input_audio_buffer.committed"]
    answers = [reply["item_id"] for reply in replies if reply["type"] in (COMPLETED, FAILED)]
    assert len(set(committed)) == len(committed)
    assert len(set(answers)) == len(answers), "an item was answered twice"
    assert set(answers) <= set(committed), "an item was answered before it was committed"
    if settled:
        assert set(answers) == set(committed), "an item was never answered"


def _check_items(replies: Sequence[Json]) -> None:
    text: dict[str, str] = {}
    phase: dict[str, str] = {}  # item -> speaking | silent | committed | answered
    previous = None
    for at, reply in enumerate(replies):
        kind, item = reply["type"], str(reply.get("item_id"))
        if kind == "input_audio_buffer.speech_started":
            assert item not in phase
            phase[item] = "speaking"
        elif kind == "input_audio_buffer.speech_stopped":
            assert phase[item] == "speaking"
            phase[item] = "silent"
        elif kind == "input_audio_buffer.committed":
            assert phase.get(item) in (None, "silent", "heard"), "committed while speaking"
            assert reply["previous_item_id"] == previous
            assert types(replies[at + 1 : at + 3]) == ["conversation.item.added", "conversation.item.done"]
            assert all(later["item"]["id"] == item for later in replies[at + 1 : at + 3])
            previous, phase[item] = item, "committed"
        elif kind == DELTA:
            assert phase.get(item) != "answered", "a delta after the end"
            assert reply["delta"] != ""
            phase.setdefault(item, "heard")
            text[item] = text.get(item, "") + reply["delta"]
        elif kind == COMPLETED:
            assert phase[item] == "committed"
            assert reply["transcript"] == text.get(item, ""), "joined deltas differ from the transcript"
            phase[item] = "answered"
        elif kind == FAILED:
            assert phase[item] == "committed"
            phase[item] = "answered"


def check_vllm(replies: Sequence[Json]) -> int:
    """Laws of a vLLM session; gives the number of `done`s. Raises AssertionError."""
    kinds = types(replies)
    assert kinds[0] == "session.created"
    assert kinds.count("session.created") == 1
    text, done = "", 0
    for reply in replies:
        if reply["type"] == "transcription.delta":
            assert reply["delta"] != ""
            text += reply["delta"]
        elif reply["type"] == "transcription.done":
            assert reply["text"] == text, "joined deltas differ from the text"
            text, done = "", done + 1
        elif reply["type"] == "error":
            assert isinstance(reply["error"], str)
            if reply["code"] == "processing_error":
                text = ""
    return done
