"""Ministral 3 at 3B, 8B and 14B: two random layers agree with the `transformers` library.

Widths are an eighth of the released ones; head width, base, yarn and query scale are the real
numbers, and so is the ratio of model width to query width: 3072, 4096 and 5120 to 4096.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from rillvox.kernels.position import YarnScaling, phase
from rillvox.kernels.state import leaf
from rillvox.kernels.transformer import Transformer, TransformerConfig

WIDTHS = {"3B": (384, 1152), "8B": (512, 1792), "14B": (640, 2048)}
STARTS = [0, 16378, 131065]  # each run of 12 positions passes the named ones
TIME = 12
TOLERANCE = 1e-5


def config(size: str, **change: Any) -> TransformerConfig:
    dim, hidden = WIDTHS[size]
    released = TransformerConfig(
        dim=dim,
        n_layers=2,
        n_heads=4,
        n_kv_heads=1,
        head_dim=128,
        hidden_dim=hidden,
        rope_theta=1e6,
        rope_layout="half",
        rope_scaling=YarnScaling(),
        query_scale_beta=0.1,
        query_scale_length=16384,
    )
    return replace(released, **change)


@pytest.fixture(scope="module")
def library() -> ModuleType:
    return pytest.importorskip("transformers", "5.0", reason="needs the `transformers` library, extra `test`")


def reference(library: ModuleType, size: str, window: int | None = None) -> Any:
    """Their model with random weights; its rotary angles are made exact below."""
    dim, hidden = WIDTHS[size]
    torch.manual_seed(len(size))
    theirs = library.Ministral3Model(
        library.Ministral3Config(
            vocab_size=16,
            hidden_size=dim,
            intermediate_size=hidden,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=1,
            head_dim=128,
            sliding_window=window,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            attn_implementation="eager",
        )
    ).eval()
    for parameter in theirs.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, 0, 1.5 * parameter.shape[1] ** -0.5)
        else:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return theirs.requires_grad_(False)


NAMES = {
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
}


def ours(theirs: Any, shape: TransformerConfig) -> Transformer:
    weights: dict[str, Tensor] = {}
    for name, tensor in theirs.state_dict().items():
        if name == "embed_tokens.weight":
            continue
        for their_part, our_part in NAMES.items():
            name = name.replace(their_part, our_part)
        weights[name] = tensor
    made = Transformer(shape).eval().requires_grad_(False)
    made.load_state_dict(weights)
    return made


@contextmanager
def exact_angles(theirs: Any) -> Iterator[None]:
    """Let the library's rotary embedding compute in float64.

    Its own float32 angles are off by 0.004 rad at position 131071, which hides what is compared
    here: its frequencies and its formulas.
    """
    rotary = theirs.rotary_emb
    frequencies = rotary.inv_freq.double()

    def forward(x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        angle = phase(position_ids, frequencies)
        angle = torch.cat([angle, angle], dim=-1)
        return angle.cos() * rotary.attention_scaling, angle.sin() * rotary.attention_scaling

    kept = rotary.forward
    rotary.forward = forward
    try:
        yield
    finally:
        rotary.forward = kept


def hidden(theirs: Any, x: Tensor, start: int) -> Tensor:
    positions = torch.arange(start, start + x.shape[1])[None]
    with torch.no_grad():
        return theirs(inputs_embeds=x, position_ids=positions, use_cache=False).last_hidden_state


def error(got: Tensor, want: Tensor) -> float:
    return float((got - want).abs().max() / want.abs().max())


def signal(size: str, time: int = TIME) -> Tensor:
    return torch.randn(1, time, WIDTHS[size][0], generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("size", WIDTHS)
@pytest.mark.parametrize("start", STARTS)
def test_two_layers_agree(library: ModuleType, size: str, start: int) -> None:
    theirs, x = reference(library, size), signal(size)
    with exact_angles(theirs):
        want = hidden(theirs, x, start)
    assert error(ours(theirs, config(size))(x, start=start), want) < TOLERANCE


def test_the_library_as_it_is_agrees_as_far_as_its_angles_go(library: ModuleType) -> None:
    theirs, x = reference(library, "3B"), signal("3B")
    model = ours(theirs, config("3B"))
    for start, tolerance in zip(STARTS, (1e-5, 1e-3, 1e-2), strict=True):
        assert error(model(x, start=start), hidden(theirs, x, start)) < tolerance


@pytest.mark.parametrize("size", WIDTHS)
def test_steps_agree_after_the_ring_has_wrapped(library: ModuleType, size: str) -> None:
    """Around position 16384, with a window of 12 over 40 positions."""
    window, start, time = 12, 16384 - 25, 40
    theirs, x = reference(library, size, window), signal(size, time)
    with exact_angles(theirs):
        want = hidden(theirs, x, start)
    model = ours(theirs, config(size, window=window))
    state = model.initial_state(1, max_chunk=3)
    leaf(state, "position").fill_(start)
    on = torch.tensor([True])
    got = torch.cat([model.step(x[:, t : t + 2], state, on) for t in range(0, time, 2)], dim=1)
    # Two layers deep the first 24 positions still see the empty ring before the start.
    assert error(got[:, 24:], want[:, 24:]) < TOLERANCE
    assert error(model(x, start=start), want) < TOLERANCE
    wrong = ours(theirs, config(size, window=window + 1))
    assert error(wrong(x, start=start), want) > 1e-3


def test_without_the_query_scale_they_agree_below_16384_and_differ_above(library: ModuleType) -> None:
    theirs, x = reference(library, "3B"), signal("3B")
    model = ours(theirs, config("3B", query_scale_beta=0.0))
    with exact_angles(theirs):
        assert error(model(x, start=0), hidden(theirs, x, 0)) < TOLERANCE
        # Positions 16378 .. 16389: the first six are below.
        got, want = model(x, start=STARTS[1]), hidden(theirs, x, STARTS[1])
        assert error(got[:, :6], want[:, :6]) < TOLERANCE
        assert error(got[:, 6:], want[:, 6:]) > 1e-3
        assert error(model(x, start=STARTS[2]), hidden(theirs, x, STARTS[2])) > 1e-2


@pytest.mark.parametrize(
    ("change", "least"), [({"rope_layout": "interleaved"}, 1e-2), ({"rope_scaling": None}, 1e-3)]
)
def test_wrong_angles_fail_by_far(library: ModuleType, change: dict[str, Any], least: float) -> None:
    theirs, x = reference(library, "3B"), signal("3B")
    with exact_angles(theirs):
        want = hidden(theirs, x, STARTS[1])
    assert error(ours(theirs, config("3B", **change))(x, start=STARTS[1]), want) > least


def test_weights_of_one_layout_are_a_permutation_of_the_other(library: ModuleType) -> None:
    """Released native files pair even with odd channels: the same model after reordering q and k."""
    theirs, x = reference(library, "3B"), signal("3B")
    half = ours(theirs, config("3B"))
    interleaved = Transformer(config("3B", rope_layout="interleaved")).eval().requires_grad_(False)
    weights = half.state_dict()
    for name, tensor in weights.items():
        if name.endswith(("wq.weight", "wk.weight")):
            heads = tensor.unflatten(0, (-1, 2, 64))
            weights[name] = heads.transpose(1, 2).flatten(0, 2)
    interleaved.load_state_dict(weights)
    assert error(interleaved(x, start=16380), half(x, start=16380)) < TOLERANCE
