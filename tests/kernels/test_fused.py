"""The one-call decoder step against the stack with the same rounded weights, and its laws bit for bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from rillvox.kernels.fused import FusedStack, fits_one_call
from rillvox.kernels.int8 import round_weight
from rillvox.kernels.state import StateTree, flatten
from rillvox.kernels.transformer import Transformer, TransformerConfig

pytest.importorskip("numba")

SHAPES = {
    "equal heads": TransformerConfig(32, 3, 4, 8, 40, window=11, ada_dim=4),
    "shared keys, self not counted": TransformerConfig(
        48, 2, 6, 8, 72, n_kv_heads=2, window=7, window_includes_self=False, ada_dim=4, rope_theta=1e4
    ),
}


def stack(config: TransformerConfig) -> Transformer:
    torch.manual_seed(0)
    made = Transformer(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.3)
    return made


@torch.no_grad()
def pair(config: TransformerConfig) -> tuple[Transformer, FusedStack]:
    """A stack whose weights are rounded, and its fused twin."""
    made = stack(config)
    fused = FusedStack(made)
    for block in made.layers:
        for name, module in block.named_modules():
            if isinstance(module, nn.Linear) and not name.startswith("ada"):
                rounded, scale = round_weight(module.weight)
                module.weight.copy_(rounded * scale[:, None])
    return made, fused


def ticks(config: TransformerConfig, slots: int, count: int) -> list[tuple[Tensor, Tensor, list[Tensor]]]:
    """Inputs, who is active, and scales; what idle slots are given is NaN."""
    generator = torch.Generator().manual_seed(1)
    made: list[tuple[Tensor, Tensor, list[Tensor]]] = []
    for _ in range(count):
        active = torch.rand(slots, generator=generator) < 0.6
        x = torch.randn(slots, 1, config.dim, generator=generator)
        x[~active] = float("nan")
        ada = [0.2 * torch.randn(slots, 1, config.dim, generator=generator) for _ in range(config.n_layers)]
        made.append((x, active, ada))
    return made


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_it_gives_what_the_rounded_stack_gives(name: str) -> None:
    config = SHAPES[name]
    reference, fused = pair(config)
    states = reference.initial_state(4), reference.initial_state(4)
    for x, active, ada in ticks(config, 4, 60):  # several times round the ring
        want = reference.step(x, states[0], active, ada=ada)
        got = fused.step(x, states[1], active, ada)
        assert torch.allclose(got, want, atol=2e-5 * float(want.abs().max().clamp(min=1)))
    for (key, a), (_, b) in zip(flatten(states[0]), flatten(states[1]), strict=True):
        assert torch.allclose(a, b, atol=1e-4), key


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_a_slot_is_the_same_bits_alone_and_in_any_slot(name: str) -> None:
    config = SHAPES[name]
    made, fused = pair(config)
    crowd = made.initial_state(5)
    alone: list[StateTree] = [made.initial_state(1) for _ in range(5)]
    for x, active, ada in ticks(config, 5, 40):
        together = fused.step(x, crowd, active, ada)
        for slot in range(5):
            one = slice(slot, slot + 1)
            single = fused.step(x[one], alone[slot], active[one], [scale[one] for scale in ada])
            assert torch.equal(together[one], single)
    for key, leaf in flatten(crowd):
        kept = torch.cat([dict(flatten(state))[key] for state in alone])
        assert torch.equal(leaf, kept), key


@torch.no_grad()
def test_positions_far_out_are_exact() -> None:
    config = SHAPES["equal heads"]
    reference, fused = pair(config)
    states = reference.initial_state(1), reference.initial_state(1)
    far = 2**40 + 3
    for state in states:
        state["position"].fill_(far)  # type: ignore[union-attr]
    for x, _, ada in ticks(config, 1, 30):
        x = x.nan_to_num(0.3)
        want = reference.step(x, states[0], torch.tensor([True]), ada=ada)
        assert torch.allclose(fused.step(x, states[1], torch.tensor([True]), ada), want, atol=5e-5)


@torch.no_grad()
def test_nobody_active_is_nothing_done_and_two_positions_are_refused() -> None:
    config = SHAPES["equal heads"]
    made, fused = pair(config)
    state = made.initial_state(2)
    x, _, ada = ticks(config, 2, 1)[0]
    assert not fused.step(x.nan_to_num(1.0), state, torch.tensor([False, False]), ada).any()
    with pytest.raises(ValueError, match="takes 1 position, got 2"):
        fused.step(torch.zeros(2, 2, config.dim), state, torch.tensor([True, True]), ada)


@pytest.mark.parametrize(
    "habit",
    [
        {"norm": "layer"},
        {"mlp": "gelu"},
        {"position": "none"},
        {"rope_layout": "half"},
        {"biases": ("wo",)},
        {"final_norm": False},
        {"qk_norm_eps": 1e-6},
        {"layer_scale": 0.1},
        {"query_scale_beta": 0.1},
        {"head_dim": 6},
    ],
)
def test_other_habits_are_left_to_the_stack(habit: dict[str, object]) -> None:
    config = SHAPES["equal heads"]
    assert fits_one_call(Transformer(config))
    assert not fits_one_call(Transformer(replace(config, **habit)))  # type: ignore[arg-type]
