"""Text beside the frames and the flow head: against the obvious, slow way."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_speaker import random_speaker, small, speaker, text_tokens, voice_rows

from rillvox.errors import ConfigError
from rillvox.tts.aligned import pointers, steps_of, windows
from rillvox.tts.aligned_speaking import AlignedSpeaking
from rillvox.tts.config import END, AlignedTextConfig
from rillvox.tts.model import SpeakerModel
from rillvox.tts.rows import SpeechBatch
from rillvox.tts.speaking import Manner
from rillvox.tts.tasks import Recipe, TTSTask
from rillvox.tts.tokens import PAUSE, STOP, TOKENS, tokens_said, word_tokens
from rillvox.tts.undistilled import undistilled

CONFIG = AlignedTextConfig(TOKENS, behind=2, ahead=3, most=4)


@pytest.mark.parametrize(("behind", "ahead"), [(2, 3), (0, 0), (0, 5), (4, 0)])
def test_a_window_holds_the_tokens_around_the_one_that_began_last(behind: int, ahead: int) -> None:
    config = AlignedTextConfig(TOKENS, behind=behind, ahead=ahead)
    tokens = np.arange(1, 8)
    pointer = np.array([0, 0, 1, 3, 7])
    found = windows(tokens, pointer, config)
    assert found.shape == (5, behind + 1 + ahead)
    for row, begun in zip(found, pointer, strict=True):
        # Token number k, from 1, is k itself; the one that began last is number `begun`.
        around = range(begun - behind, begun + ahead + 1)
        assert row.tolist() == [k if 1 <= k <= 7 else 0 for k in around]


def test_windows_of_no_text_are_empty() -> None:
    assert not windows(np.zeros(0, np.int64), np.zeros(3, np.int64), CONFIG).any()


def test_what_learns_and_what_speaks_look_at_the_same_tokens() -> None:
    speaking = AlignedSpeaking(speaker(), 3)
    for slot, count in enumerate((0, 5, 40)):
        tokens = text_tokens(count, slot)
        for pointer in {0, 1, len(tokens) // 2, len(tokens)}:
            speaking.open(slot, Manner())
            speaking.say(slot, tokens, whole=True)
            speaking.pointer = torch.full((3,), pointer)
            expected = windows(np.array(tokens), np.array([pointer]), speaking.config)[0]
            assert speaking._windows()[slot].tolist() == expected.tolist()


@settings(deadline=None)
@given(
    st.lists(st.floats(-3, 30, width=32), max_size=40).map(sorted),
    st.integers(1, 40),
    st.integers(1, 9),
)
def test_pointers_count_what_has_begun_as_far_as_they_may(
    starts: list[float], frames: int, most: int
) -> None:
    found = pointers(np.array(starts), frames, most)
    last = 0
    for frame in range(frames):
        begun = sum(start < frame + 1 for start in starts)
        assert found[frame] == min(begun, last + most)
        last = int(found[frame])


def test_a_token_that_begins_with_a_frame_belongs_to_it() -> None:
    assert pointers(np.array([0.0, 1.0, 1.999]), 3, 8).tolist() == [1, 3, 3]
    assert pointers(np.zeros(10), 4, 4).tolist() == [4, 8, 10, 10]
    assert pointers(np.zeros(0), 2, 4).tolist() == [0, 0]


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_steps_and_ages_are_those_that_speaking_counts(moves: list[int]) -> None:
    moved, age = steps_of(np.cumsum(moves))
    assert moved.tolist() == moves
    expected = 0
    for frame, move in enumerate(moves):
        # The first frame begins the count, whether or not a token begins in it.
        expected = 0 if frame == 0 or move else expected + 1
        assert age[frame] == expected


def test_numbers_of_a_text_that_make_no_sense_are_named() -> None:
    for name in ("tokens", "width", "most", "longest"):
        with pytest.raises(ConfigError, match=f"text.{name}"):
            AlignedTextConfig(**{"tokens": 9, name: 0})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="negative"):
        AlignedTextConfig(9, behind=-1)


def test_tokens_of_a_recording_are_its_phones_pauses_and_end() -> None:
    class Said:
        phones = (3, 4, 5, 6)
        phones_per_word = (2, 1, 1)
        spans = ((2, 5), (5, 9), (9, 12), (20, 25))

    tokens, starts = tokens_said(Said())
    assert tokens == [*word_tokens([3, 4]), *word_tokens([5]), PAUSE, *word_tokens([6]), STOP]
    assert starts == [2, 5, 9, 12, 20, 25]
    assert word_tokens([3, 4]) == [42, 4]


def test_what_learns_hears_what_speaks() -> None:
    """The hidden states of a whole row are those of the ticks that spoke it: the likeliest codes agree."""
    model = random_speaker(small(), seed=5)
    voice = 20
    speaking = AlignedSpeaking(model)
    rows = voice_rows(model, voice)
    speaking.read(0, rows)
    speaking.open(0, Manner(seed=2))
    speaking.say(0, text_tokens(18), whole=True)
    everyone = torch.ones(1, dtype=torch.bool)
    codes, tokens, moved, age, moves = [], [], [], [], []
    for _ in range(25):
        tokens.append(speaking._windows()[0])
        moved.append(speaking.moved[0].clone())
        age.append(speaking.age[0].clone())
        codes.append(speaking.tick(everyone)[0])
        moves.append(speaking.moved[0].clone())
        if codes[-1][0] == END:
            break
    frames = len(codes)
    time = voice + frames
    batch = SpeechBatch(
        codes=torch.zeros(1, time, 37, dtype=torch.int64),
        voice=(torch.arange(time) < voice)[None],
        first=(torch.arange(time) == voice)[None],
        tokens=torch.zeros(1, time, speaking.config.window, dtype=torch.int64),
        moved=torch.zeros(1, time, dtype=torch.int64),
        age=torch.zeros(1, time, dtype=torch.int64),
        semantic=torch.zeros(1, time, dtype=torch.int64),
        advance=torch.zeros(1, time, dtype=torch.int64),
        acoustic=torch.zeros(1, time, 36, dtype=torch.int64),
        picked=torch.zeros(1, 1, dtype=torch.int64),
    )
    from small_speaker import voice_codes

    batch.codes[0, :voice] = voice_codes(model, voice) + 2
    batch.codes[0, voice + 1 :] = torch.stack(codes)[:-1]
    batch.tokens[0, voice:] = torch.stack(tokens)
    batch.moved[0, voice:] = torch.stack(moved)
    batch.age[0, voice:] = torch.stack(age)
    task = TTSTask(model.config, Recipe(dropout=0.0), model=model).eval()
    with torch.no_grad():
        logits = model.flow.semantic_logits(task.hidden(batch)[0, voice:])
    logits[:, END] = float("-inf")
    named = torch.stack(codes)[:, 0]
    said = named != END
    assert int(said.sum()) >= 20
    assert torch.equal(logits.argmax(-1)[said], named[said])
    # Control: without the text beside it, it would have said something else.
    batch.tokens.zero_()
    with torch.no_grad():
        other = model.flow.semantic_logits(task.hidden(batch)[0, voice:]).argmax(-1)
    assert not torch.equal(other[said], named[said])


def inputs(model: SpeakerModel, rows: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    hidden = torch.randn(rows, model.config.backbone.dim, generator=generator)
    noise = torch.randn(rows, 36, generator=generator)
    return hidden, noise, torch.randint(2, 60, (rows,), generator=generator)


@torch.no_grad()
def test_a_head_that_knows_spans_goes_by_its_mean_velocities() -> None:
    model = speaker(spans=True)
    flow = model.flow
    hidden, noise, semantic = inputs(model)
    token = flow.condition(hidden, semantic)
    found = flow.solve(hidden, noise, semantic=semantic, steps=torch.tensor([1, 2, 3, 4, 8]), guidance=3.0)
    for row, steps in enumerate((1, 2, 3, 4, 8)):
        x = noise[row : row + 1]
        for step in range(steps):
            time, span = torch.tensor([step / steps]), torch.tensor([1 / steps])
            x = x + flow.velocity(x, time, token[row : row + 1], span) / steps
        torch.testing.assert_close(found[row], x[0], atol=1e-5, rtol=1e-5)
    # Guidance is in its weights; how far it goes is not.
    torch.testing.assert_close(
        flow.solve(hidden, noise, semantic=semantic, steps=1, guidance=0.0)[0], found[0]
    )
    blind = noise + flow.velocity(noise, torch.zeros(5), token)
    assert (blind[0] - found[0]).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("steps", [1, 4])
def test_a_distilled_head_can_go_by_its_velocity_alone(steps: int) -> None:
    model = speaker(spans=True)
    hidden, noise, semantic = inputs(model)
    token = model.flow.condition(hidden, semantic)
    x = noise
    for step in range(steps):
        x = x + model.flow.velocity(x, torch.full((5,), step / steps), token) / steps
    flow = copy.deepcopy(model.flow)
    flow.euler = True
    found = flow.solve(hidden, noise, semantic=semantic, steps=steps, guidance=3.0)
    torch.testing.assert_close(found, x, atol=1e-5, rtol=1e-5)
    # As an ordinary head it does the same without being asked, and nothing else of the speaker changes.
    plain = undistilled(model)
    assert not plain.config.flow.spans
    assert plain.flow.span_projection is None
    assert plain.config.flow.guidance == 1
    found = plain.flow.solve(hidden, noise, semantic=semantic, steps=steps)
    torch.testing.assert_close(found, x, atol=1e-5, rtol=1e-5)
    others = {name: value for name, value in model.state_dict().items() if "time_proj" not in name}
    del others["flow.span_projection.weight"]
    for name, value in others.items():
        assert torch.equal(plain.state_dict()[name], value), name
    assert undistilled(speaker()) is speaker()


@torch.no_grad()
def test_a_head_that_knows_no_spans_is_guided() -> None:
    flow = speaker().flow
    hidden, noise, semantic = inputs(speaker())
    token = flow.condition(hidden, semantic)
    zero, nothing = torch.zeros(5), torch.zeros_like(token)
    by_hand = noise + 2.5 * flow.velocity(noise, zero, token) - 1.5 * flow.velocity(noise, zero, nothing)
    found = flow.solve(hidden, noise, semantic=semantic, steps=1, guidance=2.5)
    torch.testing.assert_close(found, by_hand, atol=1e-5, rtol=1e-5)


def test_a_head_that_knows_codes_must_be_told_them() -> None:
    model = speaker()
    hidden, noise, semantic = inputs(model)
    with pytest.raises(ValueError, match="semantic codes"):
        model.flow.solve(hidden, noise)
    assert not torch.equal(
        model.flow.condition(hidden, semantic), model.flow.condition(hidden, (semantic + 1) % 60)
    )
    plain = random_speaker(small(named=False)).flow
    assert torch.equal(plain.solve(hidden, noise), plain.solve(hidden, noise, semantic=semantic))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("by", ["span", "time"])
def test_how_fast_a_velocity_changes(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.func.jvp` against differences, all in float64."""
    flow = copy.deepcopy(speaker(spans=True).flow).double()
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self.double())  # the head counts time in float32
    real = torch.arange
    monkeypatch.setattr(
        torch, "arange", lambda *a, **k: real(*a, **{**k, "dtype": torch.float64} if "dtype" in k else k)
    )
    hidden, noise, semantic = inputs(speaker(spans=True))
    token = flow.condition(hidden.double(), semantic)
    at, other = torch.linspace(0.1, 0.8, 5).double(), torch.linspace(0.7, 0.2, 5).double()

    def velocity(x: torch.Tensor) -> torch.Tensor:
        time, span = (other, x) if by == "span" else (x, other)
        return flow.velocity(noise.double(), time, token, span)

    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        value, change = torch.func.jvp(velocity, (at,), (torch.ones_like(at),))  # type: ignore[misc]
        step = 1e-5
        expected = (velocity(at + step) - velocity(at - step)) / (2 * step)
    assert value.dtype == torch.float64
    assert expected.abs().max() > 1e-2
    torch.testing.assert_close(change, expected, atol=1e-7, rtol=1e-6)
