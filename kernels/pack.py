"""A loaded model made smaller and faster for a CPU: int8 weights, joined projections.

What is packed runs, it is not trained or saved any more.
"""

from __future__ import annotations

from torch import nn

from .attention import Attention
from .conv import CausalConv1d
from .int8 import Int8Linear
from .mlp import SwiGLU
from .norm import AdaScale


def pack_int8(model: nn.Module) -> None:
    """Turn every linear layer and causal convolution inside `model` into int8, in place.

    Embeddings, norms and the scales of Ada RMS-Norm stay as they are: the first two are cheap and
    decide near-ties, the last are computed once.
    """
    for module in list(model.modules()):
        if isinstance(module, AdaScale | Int8Linear):
            continue
        if isinstance(module, Attention):
            module.joined = Int8Linear.beside([module.wq, module.wk, module.wv])
            del module.wq, module.wk, module.wv
        elif isinstance(module, SwiGLU):
            module.joined = Int8Linear.beside([module.w1, module.w3])
            del module.w1, module.w3
        elif isinstance(module, CausalConv1d):
            module.matrix = Int8Linear(module.weight.flatten(1), module.bias)
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, Int8Linear(child.weight, child.bias))
