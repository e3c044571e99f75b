"""The stacks of all users: against plain loops, and streamed against whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import laws.play
import pytest
import torch
from laws import Subject, assert_batch_law, assert_memory_law, assert_streaming_law
from oracles import transformer as by_hand
from oracles.stacks import CONFIGS, FLOW_HEAD, signals, stack
from torch import Tensor

from rillvox.errors import ConfigError
from rillvox.kernels import transformer as module
from rillvox.kernels.dispatch import references_only
from rillvox.kernels.state import StateTree, leaf
from rillvox.kernels.transformer import Transformer, TransformerConfig

MAX_CHUNK = 16


def subject(model: Transformer, block: int | None = None) -> Subject:
    """The stack with its scales where it is conditioned; time is axis 1 of the only input."""
    ada = None
    if model.config.ada_dim:
        condition = torch.randn(model.config.dim, generator=torch.Generator().manual_seed(3))
        ada = [scale[None, None] for scale in model.ada_scales(condition)]

    def step(x: Tensor, state: StateTree, active: Tensor) -> Tensor:
        scales = None if ada is None else [scale.expand(len(x), 1, -1) for scale in ada]
        return model.step(x, state, active, ada=scales, block=block)

    return Subject(
        lambda slots: model.initial_state(slots, max_chunk=MAX_CHUNK),
        lambda x: model(x, ada=ada, block=block),
        step,
    )


def assert_streams(model: Transformer, block: int | None = None) -> None:
    config = model.config
    grain = block or config.block
    assert_streaming_law(
        subject(model, block),
        signals(config, 5, 5 * MAX_CHUNK),
        grain=grain,
        longest=MAX_CHUNK,
        window=config.window or 0,
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_the_whole_signal_equals_plain_loops(name: str) -> None:
    config = CONFIGS[name]
    model = stack(config)
    x = signals(config, 1, 24)
    ada = model.ada_scales(torch.randn(config.dim)) if config.ada_dim else None
    want = by_hand.run(model.state_dict(), config, x[0], ada)
    got = model(x, ada=None if ada is None else [scale[None, None] for scale in ada])
    assert torch.allclose(got[0].double(), want, atol=2e-5 * float(want.abs().max()))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("realtime encoder", {"rope_layout": "half"}),
        ("realtime encoder", {"window": 11}),
        ("realtime encoder", {"rope_theta": 1e4}),
        ("realtime decoder", {"norm_eps": 1e-2}),
        ("ministral 3", {"query_scale_beta": 0.0}),
        ("ministral 3", {"rope_scaling": None}),
        ("codec stage", {"window_includes_self": True}),
        ("codec stage", {"norm_eps": 1e-5}),
        ("codec stage", {"qk_norm_eps": 1e-1}),
        ("whisper, block-causal", {"block": 1}),
        ("whisper, block-causal", {"block": 8}),
    ],
)
def test_every_habit_shows_in_the_numbers(name: str, change: dict[str, object]) -> None:
    """The comparison above would see each of these mistakes."""
    config = CONFIGS[name]
    weights, x = stack(config).state_dict(), signals(config, 1, 24)
    other = Transformer(replace(config, **change)).eval()
    other.load_state_dict(weights)
    want = by_hand.run(weights, config, x[0])
    assert (other(x)[0].double() - want).abs().max() > 1e-3 * want.abs().max()


def test_alibi_slopes_from_one_half_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    config = CONFIGS["codec stage"]
    model, x = stack(config), signals(config, 1, 24)
    right = module.alibi_slopes
    monkeypatch.setattr(module, "alibi_slopes", lambda n_heads: right(n_heads) / 2)
    want = by_hand.run(model.state_dict(), config, x[0])
    assert (model(x)[0].double() - want).abs().max() > 1e-2 * want.abs().max()


def test_a_flow_head_sees_everything_and_has_no_order() -> None:
    model, x = stack(FLOW_HEAD), signals(FLOW_HEAD, 1, 3)
    want = by_hand.run(model.state_dict(), FLOW_HEAD, x[0])
    assert torch.allclose(model(x)[0].double(), want, atol=2e-5)
    assert torch.allclose(model(x.flip(1)), model(x).flip(1), atol=1e-5)
    with pytest.raises(ConfigError, match="window"):
        model.initial_state(1)


@pytest.mark.parametrize("name", CONFIGS)
def test_streamed_equals_whole(name: str) -> None:
    assert_streams(stack(CONFIGS[name]))


@pytest.mark.parametrize("block", [1, 4, 8, 16])
def test_streamed_equals_whole_for_every_block(block: int) -> None:
    assert_streams(stack(CONFIGS["whisper, block-causal"]), block)


def test_the_references_stream_too() -> None:
    with references_only():
        assert_streams(stack(CONFIGS["realtime decoder"]))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_session_is_alone(name: str) -> None:
    model = stack(CONFIGS[name])
    grain = model.config.block
    assert_batch_law(subject(model), signals(model.config, 6, 64), grain=grain, longest=MAX_CHUNK)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_session_costs_its_rings_and_a_position(name: str) -> None:
    model = stack(CONFIGS[name])
    config = model.config
    assert config.span is not None
    rings = 2 * config.n_layers * config.kv_heads * config.head_dim * (config.span + MAX_CHUNK - 1) * 4
    got = assert_memory_law(subject(model), signals(config, 1, 64), grain=config.block)
    assert got == rings + 8


def later(last: Tensor, capacity: int) -> Tensor:
    """A mask one step late."""
    return ring_positions(last - 1, capacity)


def filled(last: Tensor, capacity: int) -> Tensor:
    """A mask from fill counts: right until the ring wraps."""
    entry = torch.arange(capacity).expand(len(last), -1)
    return torch.where(
        entry <= last.unsqueeze(-1), entry + (last.unsqueeze(-1) - capacity + 1).clamp(min=0), -1
    )


ring_positions = module.ring_positions


@pytest.mark.parametrize("wrong", [later, filled])
def test_the_law_catches_a_wrong_mask(
    wrong: Callable[[Tensor, int], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ring_positions", wrong)
    with pytest.raises(AssertionError):
        assert_streams(stack(CONFIGS["realtime encoder"]))


def test_a_mask_from_fill_counts_is_right_until_the_ring_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a law that does not reach past the ring would miss it."""
    config = CONFIGS["realtime encoder"]
    model, x = stack(config), signals(config, 1, 50)
    monkeypatch.setattr(module, "ring_positions", filled)
    state = model.initial_state(1, max_chunk=MAX_CHUNK)
    got = torch.cat([model.step(x[:, [t]], state, torch.tensor([True])) for t in range(50)], dim=1)
    error = (got - model(x)).abs().amax(-1)[0]
    capacity = 12 + MAX_CHUNK - 1
    assert error[:capacity].max() < 1e-4
    assert error[capacity:].max() > 1e-2


def test_the_law_catches_a_counter_that_outlives_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    right = laws.play.reset

    def forgetful(state: StateTree, slots: list[int]) -> None:
        kept = leaf(state, "position")[slots]
        right(state, slots)
        leaf(state, "position")[slots] = kept

    monkeypatch.setattr(laws.play, "reset", forgetful)
    with pytest.raises(AssertionError, match="a crowd"):
        assert_streams(stack(CONFIGS["realtime encoder"]))


def test_old_keys_are_invisible_even_when_they_are_not_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        laws.play,
        "reset",
        lambda state, slots: leaf(state, "position").index_fill_(0, torch.tensor(slots), 0),
    )
    assert_streams(stack(CONFIGS["realtime encoder"]))


def test_the_batch_law_catches_a_neighbour_that_is_read() -> None:
    model = stack(CONFIGS["realtime encoder"])
    sound = subject(model)

    def step(x: Tensor, state: StateTree, active: Tensor) -> Tensor:
        y = sound.step(x, state, active)
        return y + 1e-3 * y.sum(0, keepdim=True)

    with pytest.raises(AssertionError):
        assert_batch_law(replace(sound, step=step), signals(model.config, 6, 64), longest=MAX_CHUNK)


FAR = [2**24 + 5, 10**7, 2**40]


@pytest.mark.parametrize("start", FAR)
@pytest.mark.parametrize("name", ["realtime encoder", "realtime decoder", "codec stage"])
def test_positions_far_out_are_exact(name: str, start: int) -> None:
    """With relative positions the same signal gives the same anywhere, whole and streamed."""
    config = replace(CONFIGS[name], ada_dim=0)
    model, x = stack(config), signals(config, 1, 60)
    near = model(x)
    scale = near.abs().max()
    assert (model(x, start=start) - near).abs().max() < 1e-4 * scale
    state = model.initial_state(1, max_chunk=MAX_CHUNK)
    leaf(state, "position").fill_(start)
    far = torch.cat([model.step(x[:, [t]], state, torch.tensor([True])) for t in range(60)], dim=1)
    # Until every layer's window is full, the empty ring stands for keys before the start.
    full = config.n_layers * (config.span or 0)
    assert (far - near)[:, full:].abs().max() < 1e-4 * scale
    assert leaf(state, "position").item() == start + 60


def test_float32_angles_would_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def angles(positions: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
        angle = positions.float().unsqueeze(-1) * frequencies.float()
        return angle.cos(), angle.sin()

    config = CONFIGS["realtime encoder"]
    model, x = stack(config), signals(config, 1, 60)
    near = model(x)
    monkeypatch.setattr(module, "rope_angles", angles)
    assert (model(x) - near).abs().max() < 1e-4 * near.abs().max()
    assert (model(x, start=FAR[0]) - near).abs().max() > 1e-2 * near.abs().max()


def test_sessions_may_be_at_different_times_and_blocks_may_change() -> None:
    """A block override holds for its call: a step in blocks of 8 after steps in blocks of 4."""
    config = CONFIGS["whisper, block-causal"]
    model, x = stack(config), signals(config, 1, 48)
    state = model.initial_state(1, max_chunk=MAX_CHUNK)
    on = torch.tensor([True])
    parts = [model.step(x[:, t : t + 4], state, on) for t in range(0, 16, 4)]
    assert torch.allclose(torch.cat(parts, dim=1), model(x[:, :16]), atol=1e-5)
    y = model.step(x[:, 16:24], state, on, block=8)
    assert not torch.allclose(y, model(x)[:, 16:24], atol=1e-3)


def test_a_step_refuses_what_it_cannot_do() -> None:
    model = stack(CONFIGS["whisper, block-causal"])
    state = model.initial_state(1, max_chunk=MAX_CHUNK)
    with pytest.raises(ValueError, match="multiple of 4 positions, at most 16, got 6"):
        model.step(signals(model.config, 1, 6), state, torch.tensor([True]))
    with pytest.raises(ValueError, match="at most 16, got 20"):
        model.step(signals(model.config, 1, 20), state, torch.tensor([True]))
    with pytest.raises(ConfigError, match="ada_dim is 0"):
        model.ada_scales(torch.zeros(model.config.dim))


def test_a_step_without_active_slots_does_nothing() -> None:
    model = stack(CONFIGS["realtime encoder"])
    state = model.initial_state(2)
    y = model.step(torch.full((2, 1, 24), float("nan")), state, torch.tensor([False, False]))
    assert not y.any()
    assert not leaf(state, "position").any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"n_kv_heads": 3}, "n_kv_heads must divide n_heads, got 3 and 4"),
        ({"window": 0}, "window must be at least 1"),
        ({"head_dim": 7}, "head_dim must be even"),
        ({"biases": ("wz",)}, "'wz'"),
    ],
)
def test_a_bad_config_names_its_field(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(TransformerConfig(dim=8, n_layers=1, n_heads=4, head_dim=8, hidden_dim=8), **change)


def test_weights_have_the_released_names() -> None:
    names = set(stack(replace(CONFIGS["realtime decoder"], n_layers=1)).state_dict())
    assert names == {
        "layers.0.attention_norm.weight",
        "layers.0.attention.wq.weight",
        "layers.0.attention.wk.weight",
        "layers.0.attention.wv.weight",
        "layers.0.attention.wo.weight",
        "layers.0.ffn_norm.weight",
        "layers.0.feed_forward.w1.weight",
        "layers.0.feed_forward.w2.weight",
        "layers.0.feed_forward.w3.weight",
        "layers.0.ada_rms_norm_t_cond.0.weight",
        "layers.0.ada_rms_norm_t_cond.2.weight",
        "norm.weight",
    }
    codec = set(stack(replace(CONFIGS["codec stage"], n_layers=1)).state_dict())
    assert codec - names == {
        "layers.0.attention.q_norm.weight",
        "layers.0.attention.k_norm.weight",
        "layers.0.attention_scale",
        "layers.0.ffn_scale",
    }
