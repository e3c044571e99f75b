"""Attention against plain loops in float64, and what it can see."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rillvox.kernels.attention import (
    RING_ATTENTION,
    Ring,
    attend,
    grouped,
    ring_positions,
    visible,
    write_and_attend_in_place,
    write_and_gather,
)

INF = float("-inf")


def by_loops(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """As `attend`, but with a bias per query head, [batch, n_heads, time, keys]."""
    batch, time, n_heads, head_dim = q.shape
    out = torch.zeros(batch, time, n_heads, head_dim, dtype=torch.float64)
    for b in range(batch):
        for h in range(n_heads):
            keys, values = (x[b, h // (n_heads // k.shape[1])].double() for x in (k, v))
            for t in range(time):
                scores = keys @ q[b, t, h].double() / head_dim**0.5 + bias[b, h, t].double()
                out[b, t, h] = scores.softmax(-1) @ values
    return out.flatten(2)


def sees(position: int, key: int, span: int, block: int) -> bool:
    """The rule in words: own block whole, and backwards `span` keys with one's own."""
    same_block = key // block == position // block
    return (same_block or key <= position) and key > position - span


@pytest.mark.parametrize("block", [1, 4, 8, 16])
@pytest.mark.parametrize("span", [1, 5, 20])
def test_visible_follows_the_rule(block: int, span: int) -> None:
    positions = torch.arange(48)
    mask = visible(positions, positions, span, block)
    want = [[sees(q, k, span, block) for k in range(48)] for q in range(48)]
    assert mask.tolist() == want


def test_the_first_position_of_a_block_sees_its_whole_block_and_nothing_after_it() -> None:
    mask = visible(torch.arange(16), torch.arange(16), 6, 4)
    assert mask[8].nonzero().flatten().tolist() == [3, 4, 5, 6, 7, 8, 9, 10, 11]


def test_a_window_of_one_sees_itself_only() -> None:
    assert torch.equal(visible(torch.arange(5), torch.arange(5), 1, 1), torch.eye(5, dtype=torch.bool))


def test_entries_that_were_never_written_are_invisible() -> None:
    held = ring_positions(torch.tensor([2]), 8)
    assert held.tolist() == [[0, 1, 2, -5, -4, -3, -2, -1]]
    assert visible(torch.tensor([[2]]), held, 8, 1)[0, 0].tolist() == [True, True, True] + [False] * 5


def test_ring_positions_are_what_a_simulated_ring_holds() -> None:
    capacity, ring = 5, [-1] * 5
    for position in range(23):
        ring[position % capacity] = position
        held = ring_positions(torch.tensor([position]), capacity)[0].tolist()
        assert [max(h, -1) for h in held] == ring


@pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
@pytest.mark.parametrize("per_head", [False, True])
def test_attention_equals_loops(n_kv_heads: int, per_head: bool) -> None:
    q, k = torch.randn(2, 5, 4, 8), torch.randn(2, n_kv_heads, 7, 8)
    v = torch.randn(2, n_kv_heads, 7, 8)
    mask = torch.rand(2, 1, 5, 7) < 0.7
    mask[..., 0] = True
    bias = torch.where(mask, torch.randn(2, 4 if per_head else 1, 5, 7) if per_head else torch.zeros(()), INF)
    got = attend(q, k, v, grouped(bias, n_kv_heads, 4 // n_kv_heads))
    assert torch.allclose(got.double(), by_loops(q, k, v, bias.expand(2, 4, 5, 7)), atol=1e-6)


def test_query_heads_share_keys_in_groups_and_not_in_turns() -> None:
    q, k, v = torch.randn(1, 3, 4, 8), torch.randn(1, 2, 3, 8), torch.randn(1, 2, 3, 8)
    bias = torch.zeros(1, 1, 3, 3)
    got = attend(q, k, v, grouped(bias, 2, 2))
    turns = [2, 0, 3, 1]
    swapped = attend(q[:, :, turns], k, v, grouped(bias, 2, 2)).view(1, 3, 4, 8)[
        :, :, torch.tensor(turns).argsort()
    ]
    assert not torch.allclose(got, swapped.flatten(2), atol=1e-3)


@pytest.mark.parametrize("slots", [[0], [2], [0, 1, 2, 3, 4], [1, 2], [0, 2, 4], [0, 1, 3, 4], [4, 1]])
@pytest.mark.parametrize("time", [1, 3])
@pytest.mark.parametrize("group", [1, 2])
def test_the_ring_in_place_equals_the_reference(slots: list[int], time: int, group: int) -> None:
    """Over a wrap and for neighbours, gaps and any order; other slots keep their bits."""
    capacity, n_kv_heads = 7, 2
    rows = None if slots == [0, 1, 2, 3, 4] else torch.tensor(slots)
    rings = [torch.randn(5, n_kv_heads, capacity, 8) for _ in range(2)]
    for start in range(9):
        positions = torch.tensor(slots)[:, None] * 5 + start + torch.arange(time)
        q = torch.randn(len(slots), time, n_kv_heads * group, 8)
        k, v = (torch.randn(len(slots), time, n_kv_heads, 8) for _ in range(2))
        mask = visible(positions, ring_positions(positions[:, -1], capacity), 5, 1).unsqueeze(1)
        bias = grouped(torch.where(mask, 0.0, INF), n_kv_heads, group)
        ring = Ring.of(positions, capacity, rows)
        ours, theirs = [[r.clone() for r in rings] for _ in range(2)]
        got = write_and_attend_in_place(q, k, v, ours[0], ours[1], bias, ring)
        want = write_and_gather(q, k, v, theirs[0], theirs[1], bias, ring)
        assert torch.allclose(got, want, atol=1e-6)
        for a, b, before in zip(ours, theirs, rings, strict=True):
            assert torch.equal(a, b)
            idle = [slot for slot in range(5) if slot not in slots]
            assert torch.equal(a[idle], before[idle])
        rings = ours


def test_a_cpu_reads_the_ring_in_place() -> None:
    assert RING_ATTENTION.on(torch.device("cpu")) is write_and_attend_in_place
    assert RING_ATTENTION.on(torch.device("meta")) is write_and_gather


def test_a_ring_in_half_precision_serves_float32_queries() -> None:
    q, k, v = torch.randn(1, 1, 2, 8), torch.randn(1, 1, 2, 8), torch.randn(1, 1, 2, 8)
    ring = Ring.of(torch.zeros(1, 1, dtype=torch.int64), 4, None)
    bias = torch.tensor([0.0, INF, INF, INF]).view(1, 1, 1, 4)
    for write in (write_and_gather, write_and_attend_in_place):
        rings = [torch.zeros(1, 2, 4, 8, dtype=torch.bfloat16) for _ in range(2)]
        got = write(q, k, v, rings[0], rings[1], bias, ring)
        assert torch.allclose(got, v.bfloat16().float().flatten(2), atol=1e-6)
