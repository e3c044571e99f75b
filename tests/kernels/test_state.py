from __future__ import annotations

import pytest
import torch

from rillvox.kernels.state import (
    StateTree,
    active_rows,
    copy_into,
    flatten,
    leaf,
    nbytes,
    put,
    reset,
    select,
    spread,
    subtree,
    take,
    unflatten,
)


def tree(slots: int = 4) -> StateTree:
    count = torch.arange(slots, dtype=torch.int64) + 1
    return {"position": count.clone(), "deep": {"ring": torch.randn(slots, 2, 3), "flag": count > 0}}


def test_flat_names_are_sorted_and_dotted() -> None:
    assert [name for name, _ in flatten(tree())] == ["deep.flag", "deep.ring", "position"]


def test_unflatten_undoes_flatten() -> None:
    state = tree()
    again = unflatten(dict(flatten(state)))
    assert again.keys() == state.keys()
    assert leaf(subtree(again, "deep"), "ring") is leaf(subtree(state, "deep"), "ring")


def test_a_name_that_runs_through_a_tensor_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'a\.b'"):
        unflatten({"a": torch.zeros(1), "a.b": torch.zeros(1)})


def test_reset_zeroes_the_given_slots_only() -> None:
    state = tree()
    ring = leaf(subtree(state, "deep"), "ring").clone()
    reset(state, [1, 3])
    assert leaf(state, "position").tolist() == [1, 0, 3, 0]
    assert leaf(subtree(state, "deep"), "flag").tolist() == [True, False, True, False]
    assert torch.equal(leaf(subtree(state, "deep"), "ring")[[0, 2]], ring[[0, 2]])
    assert not leaf(subtree(state, "deep"), "ring")[[1, 3]].any()


def test_select_copies() -> None:
    state = tree()
    some = select(state, [2, 0])
    assert leaf(some, "position").tolist() == [3, 1]
    leaf(some, "position").zero_()
    assert leaf(state, "position").tolist() == [1, 2, 3, 4]


def test_copy_into_moves_slots_and_casts() -> None:
    target, source = tree(), tree(2)
    leaf(source, "position").mul_(10)
    subtree(source, "deep")["ring"] = leaf(subtree(source, "deep"), "ring").double()
    copy_into(target, [3, 1], source, [0, 1])
    assert leaf(target, "position").tolist() == [1, 20, 3, 10]
    ring = leaf(subtree(target, "deep"), "ring")
    assert ring.dtype == torch.float32
    assert torch.equal(ring[3], leaf(subtree(source, "deep"), "ring")[0].float())


def test_copy_into_names_what_does_not_fit() -> None:
    other = tree()
    del other["position"]
    with pytest.raises(ValueError, match="'position'"):
        copy_into(tree(), [0], other, [0])
    other = tree()
    subtree(other, "deep")["ring"] = torch.zeros(4, 2, 5)
    with pytest.raises(ValueError, match=r"deep\.ring: a slot has shape \(2, 5\), expected \(2, 3\)"):
        copy_into(tree(), [0], other, [0])


def test_nbytes_counts_every_leaf() -> None:
    assert nbytes(tree()) == 4 * (8 + 6 * 4 + 1)


def test_tree_and_tensor_are_told_apart() -> None:
    with pytest.raises(TypeError, match="'deep' is a tree"):
        leaf(tree(), "deep")
    with pytest.raises(TypeError, match="'position' is a tensor"):
        subtree(tree(), "position")


def test_rows_are_taken_and_brought_back() -> None:
    x = torch.arange(8.0).view(4, 2)
    rows = active_rows(torch.tensor([False, True, False, True]))
    assert rows is not None
    some = take(x, rows)
    assert torch.equal(some, x[[1, 3]])
    assert torch.equal(spread(some, rows, 4), torch.tensor([[0.0, 0], [2, 3], [0, 0], [6, 7]]))
    put(x, rows, -some)
    assert torch.equal(x, torch.tensor([[0.0, 1], [-2, -3], [4, 5], [-6, -7]]))


def test_all_slots_need_no_gather() -> None:
    x = torch.arange(4.0)
    assert active_rows(torch.ones(4, dtype=torch.bool)) is None
    assert take(x, None) is x
    assert spread(x, None, 4) is x
    put(x, None, torch.zeros(4))
    assert not x.any()
