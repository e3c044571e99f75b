"""A loaded model made smaller and faster for a CPU: int8 weights, joined projections.

What is packed runs, it is not trained or saved any more.
"""

from __future__ import annotations

from torch import nn

from .attention import Attention
from .conv import CausalConv1d, CausalConvTranspose1d
from .fused_conv import FusedConv, FusedConvTranspose
from .fused_stage import FusedStage, WeightInt8Linear, fits_one_stage
from .int8 import Int8Linear
from .mlp import SwiGLU
from .norm import AdaScale
from .transformer import Transformer


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


def pack_linears(model: nn.Module) -> None:
    """Give every linear layer inside `model` int8 weights with float inputs, in place.

    An output's bits don't depend on how many rows are computed.
    """
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, WeightInt8Linear(child.weight, child.bias))


def pack_weights(model: nn.Module) -> None:
    """Give stages, linear layers and convolutions inside `model` int8 weights with float inputs, in place.

    `pack_int8` rounds what flows, too; a waveform would hear that. Only steps run afterwards; `forward` of a
    stage is gone.
    """
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Transformer) and fits_one_stage(child):
                setattr(module, name, FusedStage(child))
    for module in list(model.modules()):
        if isinstance(module, CausalConvTranspose1d):
            module.fused = FusedConvTranspose(module)
        elif isinstance(module, CausalConv1d) and module.past_mode != "reflect":
            module.fused = FusedConv(module)
        elif isinstance(module, CausalConv1d):
            module.matrix = WeightInt8Linear(module.weight.flatten(1), module.bias)
    pack_linears(model)
