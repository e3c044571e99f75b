"""A transformer in plain float64 loops over heads and positions, written apart from the product."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rillvox.kernels.transformer import TransformerConfig

Weights = dict[str, Tensor]


def run(weights: Weights, config: TransformerConfig, x: Tensor, ada: list[Tensor] | None = None) -> Tensor:
    """x [time, dim] -> [time, dim]; `ada` [dim] of each layer."""
    w = {name: tensor.double() for name, tensor in weights.items()}
    x = x.double()
    for i in range(config.n_layers):
        at = f"layers.{i}."
        y = _attention(w, at + "attention.", config, _norm(w, at + "attention_norm", config, x))
        x = x + y * w.get(at + "attention_scale", torch.tensor(1.0))
        y = _norm(w, at + "ffn_norm", config, x)
        if ada is not None:
            y = y * (1 + ada[i].double())
        y = _mlp(w, at + "feed_forward.", config, y)
        x = x + y * w.get(at + "ffn_scale", torch.tensor(1.0))
    return _norm(w, "norm", config, x) if config.final_norm else x


def _linear(w: Weights, name: str, x: Tensor) -> Tensor:
    y = x @ w[name + ".weight"].T
    return y + w[name + ".bias"] if name + ".bias" in w else y


def _norm(w: Weights, name: str, config: TransformerConfig, x: Tensor) -> Tensor:
    if config.norm == "layer":
        x = x - x.mean(-1, keepdim=True)
    y = x / (x.square().mean(-1, keepdim=True) + config.norm_eps).sqrt() * w[name + ".weight"]
    return y + w[name + ".bias"] if config.norm == "layer" else y


def _mlp(w: Weights, at: str, config: TransformerConfig, x: Tensor) -> Tensor:
    if config.mlp == "gelu":
        return _linear(w, at + "w2", F.gelu(_linear(w, at + "w1", x)))
    return _linear(w, at + "w2", F.silu(_linear(w, at + "w1", x)) * _linear(w, at + "w3", x))


def _turn(x: Tensor, position: int, config: TransformerConfig) -> Tensor:
    """Rotate one head's vector [head_dim]."""
    y = x.clone()
    half = config.head_dim // 2
    for pair in range(half):
        frequency = config.rope_theta ** (-2 * pair / config.head_dim)
        scaling = config.rope_scaling
        if scaling is not None:
            edge = [
                config.head_dim
                * math.log(scaling.original_length / (turns * 2 * math.pi))
                / (2 * math.log(config.rope_theta))
                for turns in (scaling.beta_fast, scaling.beta_slow)
            ]
            low, high = max(math.floor(edge[0]), 0), min(math.ceil(edge[1]), config.head_dim - 1)
            share = min(max((pair - low) / max(high - low, 1e-3), 0), 1)
            frequency = frequency * (1 - share) + frequency / scaling.factor * share
        a, b = (pair, pair + half) if config.rope_layout == "half" else (2 * pair, 2 * pair + 1)
        cos, sin = math.cos(position * frequency), math.sin(position * frequency)
        y[a], y[b] = x[a] * cos - x[b] * sin, x[b] * cos + x[a] * sin
    return y


def _attention(w: Weights, at: str, config: TransformerConfig, x: Tensor) -> Tensor:
    time, heads, width = len(x), config.n_heads, config.head_dim
    q, k, v = (_linear(w, at + name, x) for name in ("wq", "wk", "wv"))
    if config.qk_norm_eps:
        q = q / (q.square().mean(-1, keepdim=True) + config.qk_norm_eps).sqrt() * w[at + "q_norm.weight"]
        k = k / (k.square().mean(-1, keepdim=True) + config.qk_norm_eps).sqrt() * w[at + "k_norm.weight"]
    q, k, v = q.view(time, heads, width), k.view(time, -1, width), v.view(time, -1, width)
    if config.position == "rope":
        q = torch.stack([torch.stack([_turn(head, t, config) for head in q[t]]) for t in range(time)])
        k = torch.stack([torch.stack([_turn(head, t, config) for head in k[t]]) for t in range(time)])
    out = torch.zeros(time, heads, width, dtype=torch.float64)
    for t in range(time):
        grow = 1 + config.query_scale_beta * math.log(1 + t // config.query_scale_length)
        if not config.causal:
            seen = list(range(time))
        else:
            reach = config.window if config.window is not None else time
            first = max(t - reach + (1 if config.window_includes_self else 0), 0)
            last = min((t // config.block + 1) * config.block, time) - 1
            seen = list(range(first, last + 1))
        for h in range(heads):
            keys = k[seen, h // (heads // k.shape[1])]
            scores = keys @ (q[t, h] * grow) / width**0.5
            if config.position == "alibi":
                scores = scores + _slope(h, heads) * torch.tensor([j - t for j in seen], dtype=torch.float64)
            out[t, h] = scores.softmax(-1) @ v[seen, h // (heads // k.shape[1])]
    return _linear(w, at + "wo", out.flatten(1))


def _slope(head: int, heads: int) -> float:
    power = 1
    while power * 2 <= heads:
        power *= 2
    if head < power:
        return 2.0 ** (-8 * head / power)
    return 2.0 ** (-8 * 2 * (head - power) / (2 * power))
