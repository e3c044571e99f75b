"""State trees: what a streaming module remembers, as a value.

A state tree is a nested dict of tensors whose first axis is the slot. All zeros means
"nothing heard yet", so resetting a slot is zeroing its rows. Modules receive the tree as an
argument and update it in place; nothing is hidden inside a module.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

StateTree: TypeAlias = "dict[str, Tensor | StateTree]"
Slots: TypeAlias = Sequence[int] | Tensor


def flatten(state: StateTree, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield (dotted name, tensor) of every leaf, in a fixed order."""
    for name in sorted(state):
        node = state[name]
        if isinstance(node, Tensor):
            yield prefix + name, node
        else:
            yield from flatten(node, f"{prefix}{name}.")


def unflatten(leaves: dict[str, Tensor]) -> StateTree:
    """Rebuild the tree that `flatten` walked."""
    root: StateTree = {}
    for path, leaf in leaves.items():
        *parents, name = path.split(".")
        node = root
        for parent in parents:
            child = node.setdefault(parent, {})
            if isinstance(child, Tensor):
                raise ValueError(f"state name {path!r} runs through the tensor {parent!r}")
            node = child
        node[name] = leaf
    return root


def reset(state: StateTree, slots: Slots) -> None:
    """Make the given slots fresh; every other slot keeps its state bit for bit."""
    for _, leaf in flatten(state):
        leaf[_index(slots, leaf)] = 0


def select(state: StateTree, slots: Slots) -> StateTree:
    """Copy the given slots into a tree of their own, in that order."""
    return unflatten({name: leaf[_index(slots, leaf)] for name, leaf in flatten(state)})


def copy_into(target: StateTree, slots: Slots, source: StateTree, source_slots: Slots) -> None:
    """Overwrite `slots` of `target` with `source_slots` of `source`, cast to the target's dtypes.

    Raises:
        ValueError: the trees differ in names or in the shape of a slot.
    """
    leaves = dict(flatten(source))
    names = [name for name, _ in flatten(target)]
    if sorted(leaves) != sorted(names):
        odd = sorted(set(leaves) ^ set(names))
        raise ValueError(f"the two states differ in {odd[0]!r}; were they made by the same model?")
    for name, leaf in flatten(target):
        rows = leaves[name]
        if rows.shape[1:] != leaf.shape[1:]:
            raise ValueError(
                f"state {name}: a slot has shape {tuple(rows.shape[1:])}, expected {tuple(leaf.shape[1:])}"
            )
        leaf[_index(slots, leaf)] = rows[_index(source_slots, rows)].to(leaf)


def nbytes(state: StateTree) -> int:
    """Bytes of all leaves together."""
    return sum(leaf.numel() * leaf.element_size() for _, leaf in flatten(state))


def subtree(state: StateTree, name: str) -> StateTree:
    """The child tree called `name`."""
    node = state[name]
    if isinstance(node, Tensor):
        raise TypeError(f"state {name!r} is a tensor, not a tree")
    return node


def leaf(state: StateTree, name: str) -> Tensor:
    """The tensor called `name`."""
    node = state[name]
    if not isinstance(node, Tensor):
        raise TypeError(f"state {name!r} is a tree, not a tensor")
    return node


def active_rows(active: Tensor) -> Tensor | None:
    """Indices of the active slots, or None when all of them are (no gather needed then)."""
    if bool(active.all()):
        return None
    return active.nonzero().squeeze(1)


def take(tensor: Tensor, rows: Tensor | None) -> Tensor:
    """The given rows; the tensor itself (a view, no copy) when `rows` is None."""
    return tensor if rows is None else tensor.index_select(0, rows)


def put(tensor: Tensor, rows: Tensor | None, values: Tensor) -> None:
    """Write `values` into the given rows in place."""
    if rows is None:
        tensor.copy_(values)
    else:
        tensor.index_copy_(0, rows, values.to(tensor.dtype))


def spread(values: Tensor, rows: Tensor | None, slots: int) -> Tensor:
    """Bring rows back to slot order; slots that were not active read zero."""
    if rows is None:
        return values
    full = values.new_zeros((slots, *values.shape[1:]))
    full.index_copy_(0, rows, values)
    return full


def _index(slots: Slots, like: Tensor) -> Tensor:
    return torch.as_tensor(slots, dtype=torch.int64, device=like.device).reshape(-1)
