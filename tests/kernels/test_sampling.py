from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from laws import Subject, assert_batch_law, assert_memory_law, assert_seed_law
from torch import Tensor

from rillvox.kernels.sampling import draw, greedy, initial_state, normal, philox, sample, uniform
from rillvox.kernels.state import StateTree, copy_into, leaf, select


def words(*values: int) -> tuple[Tensor, ...]:
    return tuple(torch.tensor(value, dtype=torch.int64) for value in values)


# Known answers of philox4x32-10 from the authors' Random123 distribution.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_philox_gives_the_published_words(
    counter: tuple[int, ...], key: tuple[int, ...], answer: str
) -> None:
    a, b, c, d = words(*counter)
    k0, k1 = words(*key)
    assert " ".join(f"{int(word):08x}" for word in philox((a, b, c, d), (k0, k1))) == answer


def test_every_word_of_counter_and_key_counts() -> None:
    base = [int(w) for w in philox(words(0, 0, 0, 0), words(0, 0))]  # type: ignore[arg-type]
    for place in range(6):
        value = [0] * 6
        value[place] = 1
        other = [int(w) for w in philox(words(*value[:4]), words(*value[4:]))]  # type: ignore[arg-type]
        assert sum(a == b for a, b in zip(base, other, strict=True)) == 0


def test_uniform_numbers_fill_the_unit_interval_evenly() -> None:
    u = uniform(torch.tensor([7, 8]), torch.tensor([0, 0]), 50_001)
    assert u.shape == (2, 50_001)
    assert u.min() >= 0
    assert u.max() < 1
    for row in u:
        counts = torch.histc(row.float(), 20, 0, 1)
        chi_square = float(((counts - 2500) ** 2 / 2500).sum())
        assert chi_square < 50  # 19 degrees of freedom; 1 in 10000 would be 51
    assert abs(float(torch.corrcoef(u)[0, 1])) < 0.02


def test_numbers_differ_by_stream_and_do_not_depend_on_how_many_follow() -> None:
    seed, step = torch.tensor([1]), torch.tensor([2])
    assert torch.equal(uniform(seed, step, 3), uniform(seed, step, 8)[:, :3])
    assert not torch.equal(uniform(seed, step, 3), uniform(seed, step, 3, stream=1))


def test_seeds_and_steps_use_all_their_bits() -> None:
    far = torch.tensor([0, 1, 2**33, -1])
    zero = torch.zeros_like(far)
    assert len(uniform(far, zero).unique()) == 4
    assert len(uniform(zero, far).unique()) == 4


def test_normal_numbers_have_mean_0_and_variance_1() -> None:
    x = normal(torch.tensor([3]), torch.tensor([9]), 100_000)[0].double()
    assert abs(float(x.mean())) < 0.02
    assert abs(float(x.var()) - 1) < 0.02
    assert abs(float((x**4).mean()) - 3) < 0.15


@pytest.mark.parametrize("kind", [uniform, normal])
def test_numbers_keep_the_seed_law(kind: Callable[[Tensor, Tensor, int], Tensor]) -> None:
    assert_seed_law(lambda seed, step: kind(seed, step, 5))


def test_greedy_takes_the_lowest_of_equal_ids() -> None:
    logits = torch.zeros(3, 5000)
    logits[0, [40, 7, 4999]] = 1.0
    logits[1, 4999] = 1.0
    assert greedy(logits).tolist() == [7, 4999, 0]


LOGITS = torch.tensor([2.0, 1.0, 0.0, 1.0, -1.0])


def shares(temperature: float = 1.0, top_p: float = 1.0) -> Tensor:
    """How often each token is drawn."""
    count = 20_000
    seed = torch.full((count,), 5)
    ids = sample(LOGITS.expand(count, -1), seed, torch.arange(count), temperature=temperature, top_p=top_p)
    return torch.bincount(ids, minlength=5) / count


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_tokens_come_as_often_as_the_softmax_says(temperature: float) -> None:
    want = (LOGITS / temperature).softmax(-1)
    assert (shares(temperature=temperature) - want).abs().max() < 0.012


def test_top_p_keeps_the_smallest_likely_set() -> None:
    # Chances in order: 0.50, 0.18 (id 1), 0.18 (id 3), 0.07, 0.02.
    chances = LOGITS.softmax(-1)
    assert shares(top_p=0.4)[0] == 1
    two = shares(top_p=0.55)
    assert two[[2, 3, 4]].sum() == 0  # of the equal tokens 1 and 3 the lower id is kept
    assert abs(float(two[0] - chances[0] / (chances[0] + chances[1]))) < 0.012
    assert shares(top_p=0.85)[[2, 4]].sum() == 0
    assert bool((shares(top_p=1.0) > 0).all())


def test_temperature_zero_is_greedy_and_each_slot_has_its_own() -> None:
    count = 4000
    heat = torch.tensor([0.0, 1.0]).repeat(count // 2)
    ids = sample(
        LOGITS.expand(count, -1), torch.arange(count), torch.zeros(count, dtype=torch.int64), temperature=heat
    )
    assert not ids[::2].any()
    assert ids[1::2].any()


def test_the_tail_is_never_drawn_by_rounding() -> None:
    """Tokens at minus infinity have no chance, however close to 1 the random number is."""
    logits = torch.full((2000, 50), -math.inf)
    logits[:, 10] = 0.0
    ids = sample(logits, torch.arange(2000), torch.zeros(2000, dtype=torch.int64))
    assert bool((ids == 10).all())


def sampler() -> Subject:
    """Logits and a seed in, tokens out; the seed is given at the first step."""

    def step(logits: Tensor, seed: Tensor, state: StateTree, active: Tensor) -> Tensor:
        kept = leaf(state, "seed")
        kept.copy_(torch.where(active, seed, kept))
        return draw(logits[:, 0].nan_to_num(), state, active, top_p=0.9)[:, None]

    return Subject(lambda slots: initial_state(slots), lambda x: x, step)


def sessions(count: int) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 60, 30), torch.arange(count) + 100


def test_sampled_tokens_keep_the_batch_law() -> None:
    assert_batch_law(sampler(), sessions(6), time_axis=(1, None), longest=1)


def test_the_batch_law_catches_a_shared_generator() -> None:
    sound = sampler()
    generator = torch.Generator().manual_seed(0)

    def step(logits: Tensor, seed: Tensor, state: StateTree, active: Tensor) -> Tensor:
        return logits[:, 0].nan_to_num().softmax(-1).multinomial(1, generator=generator)

    with pytest.raises(AssertionError):
        assert_batch_law(
            Subject(sound.initial_state, sound.forward, step), sessions(6), time_axis=(1, None), longest=1
        )


def test_sampled_tokens_keep_the_seed_law() -> None:
    logits = torch.randn(30)
    assert_seed_law(lambda seed, step: sample(logits.expand(len(seed), -1), seed, step, temperature=0.8))


def test_a_sampler_costs_sixteen_bytes_a_session() -> None:
    assert assert_memory_law(sampler(), sessions(1), time_axis=(1, None)) == 16


def test_a_resumed_session_draws_on() -> None:
    logits, active = torch.randn(40, 1, 30), torch.tensor([True])
    state = initial_state(1)
    leaf(state, "seed").fill_(77)
    before = [int(draw(logits[t], state, active)) for t in range(20)]
    saved = select(state, [0])
    rest = [int(draw(logits[t], state, active)) for t in range(20, 40)]
    other = initial_state(3)
    copy_into(other, [2], saved, [0])
    on = torch.tensor([False, False, True])
    again = [int(draw(logits[t].expand(3, -1), other, on)[2]) for t in range(20, 40)]
    assert again == rest
    assert len(set(before)) > 5
