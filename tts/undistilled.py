"""A distilled flow head as one that is not: for a speaker whose weights before distilling are gone.

A head that knows how far its steps go (`FlowConfig.spans`) still is a velocity where they go nowhere. Its
token of time is `W t + S e`, with the embeddings `t` of the time and `e` of no span; the slowest cosine in
`t` is 1 within 1e-8 for every time in 0..1, so `S e` goes into that column of `W`.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from .model import SpeakerModel

STEPS = 8  # of the ordinary head, where nobody asks for another number


@torch.no_grad()
def undistilled(model: SpeakerModel) -> SpeakerModel:
    """The same speaker, its flow an ordinary head with the distilled one's velocity: float32, not packed.

    Guidance stays in its weights, so that of its config is 1. A head that isn't distilled stays as it is.
    """
    flow = model.flow
    if flow.span_projection is None:
        return model
    config = replace(model.config, flow=replace(model.config.flow, spans=False, steps=STEPS, guidance=1.0))
    nowhere = flow.span_projection(flow.time_embedding(torch.zeros(())))
    weights = model.state_dict()
    weights.pop("flow.span_projection.weight")
    time = weights["flow.time_projection.weight"].clone()
    time[:, config.flow.dim // 2 - 1] += nowhere
    plain = SpeakerModel(config)
    plain.load_state_dict({**weights, "flow.time_projection.weight": time})
    return plain.eval()
