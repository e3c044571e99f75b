"""The laws, for utterances: alone or in a crowd, in any slot, after a pause, with a seed."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_speaker import golden

from rillvox.errors import ConfigError
from rillvox.tts.model import SpeakerModel
from rillvox.tts.speaking import Manner, Speaking


@pytest.fixture
def model() -> SpeakerModel:
    return golden()[0]


def prompt(model: SpeakerModel, number: int) -> torch.Tensor:
    ids = torch.randint(40, 150, (9 + 3 * number,), generator=torch.Generator().manual_seed(number))
    with torch.no_grad():
        return model.tok_embeddings(ids)


MANNERS = [
    Manner(seed=5, min_frames=99),
    Manner(seed=6, min_frames=99, temperature=0.9, steps=3),
    Manner(seed=7, min_frames=99, guidance=2.0, noise=0.5, temperature=1.2, top_p=0.9),
]
FRAMES = 12


def alone(model: SpeakerModel, number: int, chunk: int = 64) -> torch.Tensor:
    speaking = Speaking(model, chunk=chunk)
    speaking.open(0, prompt(model, number), MANNERS[number])
    everyone = torch.ones(1, dtype=torch.bool)
    return torch.stack([speaking.tick(everyone)[0] for _ in range(FRAMES)])


def test_an_utterance_does_not_feel_the_others(model: SpeakerModel) -> None:
    # Three utterances that begin at different ticks, in slots in any order, one of which was used before.
    speaking = Speaking(model, 4, chunk=64)
    slots, begins = [2, 0, 3], [0, 4, 7]
    speaking.open(3, prompt(model, 1), Manner(seed=99))
    found: list[list[torch.Tensor]] = [[], [], []]
    for tick in range(30):
        active = torch.zeros(4, dtype=torch.bool)
        active[3] = tick < 5  # the earlier tenant of slot 3
        for number, (slot, begin) in enumerate(zip(slots, begins, strict=True)):
            if tick == begin:
                speaking.open(slot, prompt(model, number), MANNERS[number])
            if tick >= begin and (tick + number) % 3 and len(found[number]) < FRAMES:  # with pauses
                active[slot] = True
        codes = speaking.tick(active)
        for number, slot in enumerate(slots):
            if active[slot] and tick >= begins[number]:
                found[number].append(codes[slot])
    for number in range(3):
        assert torch.equal(torch.stack(found[number]), alone(model, number))


@pytest.mark.parametrize("chunk", [1, 5, 64])
def test_a_prompt_may_be_read_in_any_pieces(chunk: int, model: SpeakerModel) -> None:
    assert torch.equal(alone(model, 1, chunk), alone(model, 1))


def test_a_seed_is_the_same_every_time_and_another_one_is_not(model: SpeakerModel) -> None:
    speaking = Speaking(model, 3, chunk=64)
    for slot, seed in enumerate((1, 1, 2)):
        speaking.open(slot, prompt(model, 0), Manner(seed=seed, min_frames=99))
    everyone = torch.ones(3, dtype=torch.bool)
    codes = torch.stack([speaking.tick(everyone) for _ in range(FRAMES)])
    assert torch.equal(codes[:, 0], codes[:, 1])
    assert not torch.equal(codes[:, 0], codes[:, 2])


def test_an_utterance_costs_a_constant(model: SpeakerModel) -> None:
    speaking = Speaking(model, 1, chunk=16)
    speaking.open(0, prompt(model, 0), MANNERS[0])
    sizes = {name: leaf.shape for name, leaf in speaking.state["layers_0"].items()}  # type: ignore[union-attr]
    everyone = torch.ones(1, dtype=torch.bool)
    for _ in range(5):
        speaking.tick(everyone)
    assert {name: leaf.shape for name, leaf in speaking.state["layers_0"].items()} == sizes  # type: ignore[union-attr]
    window = model.config.backbone.window
    assert window is not None
    assert sizes["k"][2] == window + 16 - 1


@torch.no_grad()
def test_audio_does_not_end_before_it_may() -> None:
    model = copy.deepcopy(golden()[0])
    weight = model.flow.semantic_codebook_output.weight
    weight[1] = 10 * weight.abs().mean()
    for least in (0, 4):
        speaking = Speaking(model, chunk=64)
        speaking.open(0, prompt(model, 2), Manner(min_frames=least))
        speaking.hidden.fill_(1.0)  # where the end is the likeliest by far
        assert (int(speaking.tick(torch.ones(1, dtype=torch.bool))[0, 0]) == 1) == (least == 0)


@pytest.mark.parametrize("after", [0, 5])
def test_an_utterance_that_is_resumed_elsewhere_is_the_same(after: int, model: SpeakerModel) -> None:
    first = Speaking(model, 2, chunk=64)
    first.open(1, prompt(model, 1), MANNERS[1])
    frames = [first.tick(torch.tensor([False, True]))[1] for _ in range(after)]
    kept = first.snapshot(1)
    first.close(1)
    assert not first.hidden[1].any()
    second = Speaking(model, 3, chunk=64)
    second.open(2, prompt(model, 0), MANNERS[0])
    second.tick(torch.tensor([False, False, True]))
    second.restore(2, kept)
    while len(frames) < FRAMES:
        frames.append(second.tick(torch.tensor([False, False, True]))[2])
    assert torch.equal(torch.stack(frames), alone(model, 1))
    with pytest.raises(ConfigError, match="snapshot"):
        Speaking(model, chunk=32).restore(0, kept)
