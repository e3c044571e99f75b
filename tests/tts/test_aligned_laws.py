"""The laws, for utterances with text beside their frames: alone or in a crowd, in pieces, with a seed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_speaker import random_speaker, small, speaker, text_tokens, voice_rows

from rillvox.errors import ConfigError, VoiceError
from rillvox.kernels.fused import FusedStack
from rillvox.kernels.state import flatten, nbytes
from rillvox.tts.aligned_speaking import (
    LONGEST_PAUSE,
    STUCK,
    TAIL,
    AlignedSpeaking,
    haste_of,
    pack_speaker,
)
from rillvox.tts.config import END
from rillvox.tts.flow import FlowHead
from rillvox.tts.model import SpeakerModel
from rillvox.tts.speaking import Manner
from rillvox.tts.tokens import PAUSE, STOP
from rillvox.tts.voices import Voice

MANNERS = [
    Manner(seed=5),
    Manner(seed=6, temperature=0.9, steps=2),
    Manner(seed=7, guidance=2.5, noise=0.5, temperature=1.2, top_p=0.9),
]
VOICES = (30, 11, 45)  # frames; some go on past the chunk, and all past the window
LENGTHS = (14, 17, 11)  # tokens
TUNED = 1  # whose voice is tuned
SLOTS = 4
LIMIT = 80
EVERYONE = torch.ones(1, dtype=torch.bool)


def timbre(number: int, of: Kind) -> torch.Tensor | None:
    """What the voice of an utterance adds to every hidden state."""
    if number != TUNED:
        return None
    return torch.randn(of[0].config.backbone.dim, generator=torch.Generator().manual_seed(8))


Kind = tuple[SpeakerModel, FusedStack | None]


@cache
def kind(name: str) -> Kind:
    if name == "packed":
        model = copy.deepcopy(speaker())
        return model, pack_speaker(model)
    return speaker(spans=name == "spans"), None


def engine(of: Kind, slots: int = 1) -> AlignedSpeaking:
    return AlignedSpeaking(of[0], slots, chunk=16, fused=of[1])


@cache
def alone(name: str, number: int, manner: Manner | None = None, slots: int = 1) -> torch.Tensor:
    """All codes of an utterance, its end among them: [frames, 37]."""
    of = kind(name)
    speaking = engine(of, slots)
    speaking.read(0, voice_rows(of[0], VOICES[number], number))
    speaking.open(0, manner or MANNERS[number], timbre=timbre(number, of))
    speaking.say(0, text_tokens(LENGTHS[number], number), whole=True)
    return torch.stack(spoken(speaking))


def only(slot: int, slots: int) -> torch.Tensor:
    return torch.arange(slots) == slot


def spoken(speaking: AlignedSpeaking, after: Callable[[], None] = lambda: None) -> list[torch.Tensor]:
    codes: list[torch.Tensor] = []
    while len(codes) < LIMIT and (not codes or codes[-1][0] != END):
        codes.append(speaking.tick(only(0, speaking.slots))[0])
        after()
    return codes


def crowded(of: Kind, slots: Sequence[int], piece: int | None) -> list[list[torch.Tensor]]:
    """Three utterances that begin at different ticks, beside and after a fourth one."""
    speaking = engine(of, SLOTS)
    begins = [0, 4, 7]
    tenant = slots[2]
    speaking.read(tenant, voice_rows(of[0], 7, 9))
    speaking.open(tenant, Manner(seed=99, steps=3, temperature=1.0), timbre=timbre(TUNED, of))
    speaking.say(tenant, text_tokens(30, 9), whole=True)
    found: list[list[torch.Tensor]] = [[], [], []]
    waiting = [text_tokens(length, number) for number, length in enumerate(LENGTHS)]
    waited = 0
    for tick in range(100):
        active = torch.zeros(SLOTS, dtype=torch.bool)
        active[tenant] = tick < 5
        for number, (slot, begin) in enumerate(zip(slots, begins, strict=True)):
            if tick == begin:
                speaking.read(slot, voice_rows(of[0], VOICES[number], number))
                speaking.open(slot, MANNERS[number], timbre=timbre(number, of))
            if tick < begin or (found[number] and found[number][-1][0] == END):
                continue
            if waiting[number]:
                given = waiting[number][:piece]
                waiting[number] = waiting[number][len(given) :]
                speaking.say(slot, given, whole=not waiting[number])
            waited += not speaking.ready(slot)
            # With pauses, and never before the text that a frame looks at is there.
            active[slot] = bool((tick + number) % 3) and speaking.ready(slot)
        codes = speaking.tick(active)
        for number, slot in enumerate(slots):
            if active[slot] and tick >= begins[number]:
                found[number].append(codes[slot])
    assert piece != 1 or waited > 5
    return found


@pytest.mark.parametrize(
    ("name", "slots", "piece"),
    [
        ("float32", [2, 0, 3], None),
        ("float32", [1, 3, 2], 1),
        ("float32", [3, 2, 0], 5),
        ("spans", [1, 3, 2], 1),
        ("packed", [3, 2, 0], 5),
    ],
)
def test_an_utterance_does_not_feel_the_others_nor_how_its_text_came(
    name: str, slots: list[int], piece: int | None
) -> None:
    found = crowded(kind(name), slots, piece)
    for number in range(3):
        expected = alone(name, number, slots=1)
        assert expected[-1, 0] == END
        assert torch.equal(torch.stack(found[number]), expected), number


def test_a_frame_that_does_not_wait_for_its_text_is_another_one() -> None:
    speaking = engine(kind("float32"))
    speaking.read(0, voice_rows(speaking.model, VOICES[0], 0))
    speaking.open(0, MANNERS[0])
    tokens = text_tokens(LENGTHS[0], 0)
    codes = []
    for number in range(10):
        speaking.say(0, tokens[number : number + 1], whole=False)
        codes.append(speaking.tick(EVERYONE)[0])
    assert not torch.equal(torch.stack(codes), alone("float32", 0)[:10])


def test_a_frame_waits_for_what_it_looks_at() -> None:
    speaking = engine(kind("float32"))
    speaking.open(0, MANNERS[0])
    ahead = speaking.config.ahead
    for number in range(ahead):
        assert not speaking.ready(0), number
        speaking.say(0, [5], whole=False)
    assert speaking.ready(0)
    speaking.pointer = torch.ones(1, dtype=torch.int64)
    assert not speaking.ready(0)
    speaking.say(0, [], whole=True)
    assert speaking.ready(0)


def test_a_seed_is_the_same_every_time_and_another_one_is_not() -> None:
    first = alone("float32", 1)
    assert torch.equal(first, alone.__wrapped__("float32", 1))
    other = alone("float32", 1, Manner(seed=8, temperature=0.9, steps=2))
    assert not torch.equal(first[:8, 0], other[:8, 0])
    # The likeliest words, but another noise and other moves.
    calm, calmer = (alone("float32", 1, Manner(seed=seed)) for seed in (8, 9))
    assert calm[0, 0] == calmer[0, 0]
    assert not torch.equal(calm[0, 1:], calmer[0, 1:])


@pytest.mark.parametrize("name", ["float32", "packed"])
def test_a_voice_that_is_recalled_is_a_voice_that_was_read(name: str) -> None:
    of = kind(name)
    rows = voice_rows(of[0], 30, 1)
    teacher = engine(of, 3)
    teacher.read(2, rows)
    heard = teacher.heard(2, len(rows))
    one, other = engine(of, 2), engine(of, 2)
    one.read(1, rows)
    one.open(1, MANNERS[1])
    # In a slot that has said something else.
    other.read(1, voice_rows(of[0], 50, 8))
    other.open(1, MANNERS[0])
    other.say(1, text_tokens(20), whole=True)
    for _ in range(20):
        other.tick(only(1, 2))
    other.open(1, MANNERS[1], heard)
    for speaking in (one, other):
        speaking.say(1, text_tokens(40, 3), whole=True)
    for _ in range(25):
        assert torch.equal(one.tick(only(1, 2))[1], other.tick(only(1, 2))[1])
        assert torch.equal(one.fed[1], other.fed[1])
    for (path, mine), (_, its) in zip(flatten(one.state), flatten(other.state), strict=True):
        assert torch.equal(mine[1], its[1]), path


def test_what_another_model_heard_is_refused_and_nothing_is_lost() -> None:
    of = kind("float32")
    speaking = engine(of)
    rows = voice_rows(of[0], 9)
    speaking.read(0, rows)
    heard = speaking.heard(0, 9)
    first, *_ = heard
    wrong = [
        {name: leaf for name, leaf in heard.items() if name != first},
        {**heard, "layers_2.k": heard[first]},
        {**heard, first: heard[first][:1]},
        {**heard, first: heard[first][..., :-1]},
        {},
    ]
    before = {name: leaf.clone() for name, leaf in flatten(speaking.state)}
    for state in wrong:
        with pytest.raises(VoiceError, match="another shape"):
            speaking.open(0, MANNERS[0], state)
    assert all(torch.equal(leaf, before[name]) for name, leaf in flatten(speaking.state))
    speaking.open(0, MANNERS[0], heard)


def test_an_utterance_costs_a_constant_however_long_it_is() -> None:
    speaking = engine(kind("float32"))
    window = speaking.model.config.backbone.window
    assert window == 64
    assert nbytes(engine(kind("float32"), 3).state) == 3 * nbytes(speaking.state)
    speaking.read(0, voice_rows(speaking.model, 40))
    speaking.open(0, MANNERS[1])
    speaking.say(0, text_tokens(400), whole=True)
    before = {name: (leaf.data_ptr(), leaf.shape) for name, leaf in flatten(speaking.state)}
    for _ in range(100):
        assert speaking.tick(EVERYONE)[0, 0] != END
    assert {name: (leaf.data_ptr(), leaf.shape) for name, leaf in flatten(speaking.state)} == before
    assert before["layers_0.k"][1][2] == window + 16 - 1


def eager(patch: pytest.MonkeyPatch, by: float) -> None:
    """Make the end likelier than all words, or less likely."""
    real = FlowHead.semantic_logits

    def logits(self: FlowHead, hidden: torch.Tensor) -> torch.Tensor:
        found = real(self, hidden)
        found[:, END] += by
        return found

    patch.setattr(FlowHead, "semantic_logits", logits)


@pytest.mark.parametrize(
    ("count", "seed", "temperature"), [(0, 1, 0.0), (1, 1, 1.0), (9, 2, 0.0), (17, 3, 1.0)]
)
@pytest.mark.parametrize("wish", [1000.0, -1000.0])
def test_the_end_comes_after_the_text_and_then_at_once_or_soon(
    wish: float, count: int, seed: int, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    speaking = engine(kind("float32"))
    speaking.open(0, Manner(seed=seed, temperature=temperature))
    tokens = text_tokens(count)
    pointers = [0]
    eager(monkeypatch, wish)
    # The end is not said while more text may come.
    for number in range(0, len(tokens), 3):
        speaking.say(0, tokens[number : number + 3], whole=False)
        while speaking.ready(0):
            assert speaking.tick(EVERYONE)[0, 0] != END
            pointers.append(int(speaking.pointer[0]))
    speaking.say(0, [], whole=True)
    spoken(speaking, lambda: pointers.append(int(speaking.pointer[0])))
    moves = [after - before for before, after in pairwise(pointers)]
    assert all(0 <= move <= speaking.config.most for move in moves)
    over = pointers.index(len(tokens))  # the frame that first knows all its text
    assert over >= 1
    assert len(moves) == over + (1 if wish > 0 else TAIL + 1)


def test_what_is_stuck_is_pushed_on_and_a_pause_sooner() -> None:
    model = random_speaker(small())
    speaking = AlignedSpeaking(model)
    speaking.open(0, Manner(seed=1))
    speaking.say(0, [5, 6, PAUSE, 7, 8, STOP], whole=True)
    # From here on it would rather stay for ever, and at most go on by one.
    with torch.no_grad():
        model.text.advance.bias[0], model.text.advance.bias[1] = 1000, 500
    speaking.pointer, speaking.age = (
        torch.ones_like(EVERYONE, dtype=torch.int64),
        torch.zeros(1, dtype=torch.int64),
    )
    at: list[int] = []
    spoken(speaking, lambda: at.append(int(speaking.pointer[0])))
    stayed = [at.count(place) for place in (1, 2, 3, 4, 5)]
    assert stayed == [STUCK - 1, STUCK, LONGEST_PAUSE, STUCK, STUCK]


def test_closing_forgets() -> None:
    speaking = engine(kind("float32"), 2)
    speaking.read(1, voice_rows(speaking.model, 9))
    speaking.open(1, MANNERS[0])
    speaking.say(1, text_tokens(9), whole=True)
    speaking.close(1)
    assert all(not leaf.any() for _, leaf in flatten(speaking.state))
    assert not speaking.text[1].tokens
    assert not speaking.ready(1)


@pytest.mark.parametrize("name", ["float32", "packed"])
@pytest.mark.parametrize(("slots", "slot"), [(1, 0), (3, 2)])
@pytest.mark.parametrize("after", [0, 1, 9])
def test_an_utterance_that_is_resumed_elsewhere_is_the_same(
    name: str, slots: int, slot: int, after: int, tmp_path: Path
) -> None:
    of, tokens = kind(name), text_tokens(LENGTHS[1], 1)
    first = engine(of, 2)
    first.read(1, voice_rows(of[0], VOICES[1], 1))
    first.open(1, MANNERS[1], timbre=timbre(1, of))
    first.say(1, tokens[:12], whole=False)
    found = [first.tick(only(1, 2))[1] for _ in range(after)]
    kept = first.snapshot(1)
    save_file(kept, tmp_path / "kept.safetensors")  # all of it is tensors
    first.close(1)
    second = engine(of, slots)
    second.read(slot, voice_rows(of[0], 40, 8))  # it has said something else
    second.open(slot, MANNERS[2])
    second.say(slot, text_tokens(20), whole=True)
    second.tick(only(slot, slots))
    second.restore(slot, load_file(tmp_path / "kept.safetensors"))
    second.say(slot, tokens[12:], whole=True)
    while not found or found[-1][0] != END:
        found.append(second.tick(only(slot, slots))[slot])
    assert torch.equal(torch.stack(found), alone(name, 1))


def test_a_snapshot_is_a_copy_and_is_of_one_model() -> None:
    of = kind("float32")
    speaking = engine(of)
    speaking.read(0, voice_rows(of[0], 9))
    speaking.open(0, MANNERS[1])
    speaking.say(0, text_tokens(20), whole=True)
    kept = speaking.snapshot(0)
    once = [speaking.tick(EVERYONE)[0] for _ in range(4)]
    speaking.restore(0, kept)
    assert torch.equal(torch.stack([speaking.tick(EVERYONE)[0] for _ in range(4)]), torch.stack(once))
    before = {name: leaf.clone() for name, leaf in speaking.snapshot(0).items()}
    missing = {name: leaf for name, leaf in kept.items() if name != "haste"}
    wrong = [
        {},
        missing,
        kept | {"more": torch.ones(1)},
        kept | {"state.layers_0.k": kept["state.layers_0.k"][:, 1:]},
        kept | {"fed": kept["fed"].double()},
        {name: leaf for name, leaf in kept.items() if name != "tokens"},
        AlignedSpeaking(of[0], chunk=8).snapshot(0),
    ]
    for other in wrong:
        with pytest.raises(ConfigError, match="snapshot"):
            speaking.restore(0, other)
    after = speaking.snapshot(0)
    assert all(torch.equal(leaf, after[name]) for name, leaf in before.items())


def test_whoever_is_cut_off_leaves_a_clean_slot_and_the_others_alone() -> None:
    of = kind("float32")
    speaking, fresh = engine(of, 2), engine(of, 2)
    for slot, number in ((0, 0), (1, 1)):
        speaking.read(slot, voice_rows(of[0], VOICES[number], number))
        speaking.open(slot, MANNERS[number])
        speaking.say(slot, text_tokens(LENGTHS[number], number), whole=True)
    found: list[torch.Tensor] = []
    while not found or found[-1][0] != END:
        cut = len(found) >= 3
        if len(found) == 3:
            speaking.close(1)
            assert all(not leaf[1].any() for _, leaf in flatten(speaking.state))
            for name in ("fed", "frame", "pointer", "moved", "age"):
                assert torch.equal(getattr(speaking, name)[1], getattr(fresh, name)[1]), name
        found.append(speaking.tick(only(0, 2) if cut else torch.ones(2, dtype=torch.bool))[0])
    assert torch.equal(torch.stack(found), alone("float32", 0))
    # Whoever comes next speaks as in a new engine.
    speaking.read(1, voice_rows(of[0], VOICES[2], 2))
    speaking.open(1, MANNERS[2])
    speaking.say(1, text_tokens(LENGTHS[2], 2), whole=True)
    next_ = [speaking.tick(only(1, 2))[1]]
    while next_[-1][0] != END:
        next_.append(speaking.tick(only(1, 2))[1])
    assert torch.equal(torch.stack(next_), alone("float32", 2))


def test_an_utterance_does_not_end_before_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    eager(monkeypatch, 1000.0)
    lengths = []
    for least in (0, 60):
        speaking = engine(kind("float32"))
        speaking.open(0, Manner(seed=1, min_frames=least))
        speaking.say(0, text_tokens(5), whole=True)
        lengths.append(len(spoken(speaking)))
    assert lengths[0] < 50
    assert lengths[1] == 61


def test_pace_moves_the_pointer_sooner_or_later() -> None:
    def frames(pace: float) -> float:
        speaking = engine(kind("float32"))
        speaking.read(0, voice_rows(speaking.model, 9))
        speaking.open(0, Manner(seed=4, temperature=0.5, pace=pace))
        tokens = text_tokens(60)
        speaking.say(0, tokens, whole=True)
        count = 0
        while int(speaking.pointer[0]) < len(tokens):
            speaking.tick(EVERYONE)
            count += 1
        return count

    slow, own, fast = frames(0.7), frames(1.0), frames(1.4)
    assert slow > 1.1 * own
    assert fast < 0.9 * own
    assert haste_of(1.0) == 0.0
    paces = [haste_of(pace / 100) for pace in range(70, 141)]
    assert paces == sorted(paces)


@pytest.mark.parametrize(
    ("name", "value"),
    [("pace", 0.5), ("pace", 1.5), ("pace", float("nan")), ("steps", 0), ("noise", -1.0),
     ("temperature", -0.1), ("top_p", 0.0), ("top_p", 1.1), ("min_frames", -1), ("seed", 1 << 63),
     ("guidance", float("nan"))],
)  # fmt: skip
def test_manners_that_there_are_not_are_named(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"manner.{name} must be"):
        Manner(**{name: value})  # type: ignore[arg-type]


def test_a_model_that_reads_its_text_first_is_refused() -> None:
    from tiny_speaker import golden

    with pytest.raises(ValueError, match="see Speaking"):
        AlignedSpeaking(golden()[0])


def test_a_voice_of_codes_says_how_many_rows_it_takes() -> None:
    codes = torch.zeros(9, 37, dtype=torch.int16)
    assert len(Voice("v", "m", codes)) == 10
