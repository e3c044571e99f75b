"""Streamed equals offline, alone equals beside others, a session costs a constant: encoder and decoder."""

from __future__ import annotations

import pytest
import torch
from laws import Subject, assert_batch_law, assert_memory_law, assert_streaming_law
from tiny_codec import KINDS, frames_of_codes, made, sound

from rillvox.codec.model import CodecDecoder

LONGEST = 3  # frames in a step
OPTIONS = {"max_frames": LONGEST}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def waves(kind: str, sessions: int) -> torch.Tensor:
    """Longer than three times what the encoder can remember."""
    frame = made(kind).config.frame
    return torch.stack([sound(66 * frame, seed) for seed in range(sessions)])


def latents(kind: str, sessions: int) -> torch.Tensor:
    codec = made(kind)
    codes = torch.stack([frames_of_codes(codec, 66, seed) for seed in range(sessions)])
    return codec.model.quantizer.decode(codes)


def late(decoder: CodecDecoder) -> Subject:
    """A decoder whose offline output is as late as the streamed one."""

    def forward(x: torch.Tensor) -> torch.Tensor:
        return decoder.late(x)[0][:, : x.shape[1] * decoder.config.frame]

    return Subject(decoder.initial_state, forward, decoder.step)


def test_the_encoder_streams(kind: str) -> None:
    encoder = made(kind).model.encoder
    assert encoder is not None
    frame = encoder.config.frame
    assert_streaming_law(
        encoder,
        waves(kind, 4),
        grain=frame,
        longest=LONGEST * frame,
        window=21 * frame,
        state_options=OPTIONS,
    )


def test_the_decoder_streams(kind: str) -> None:
    subject = late(made(kind).model.decoder)
    assert_streaming_law(subject, latents(kind, 4), longest=LONGEST, window=21, state_options=OPTIONS)


def test_a_session_does_not_feel_the_others(kind: str) -> None:
    model = made(kind).model
    assert model.encoder is not None
    frame = model.config.frame
    assert_batch_law(
        model.encoder, waves(kind, 6), grain=frame, longest=LONGEST * frame, state_options=OPTIONS
    )
    assert_batch_law(model.decoder, latents(kind, 6), longest=LONGEST, state_options=OPTIONS)


def test_a_session_costs_a_constant(kind: str) -> None:
    model = made(kind).model
    assert model.encoder is not None
    frame = model.config.frame
    assert_memory_law(model.encoder, waves(kind, 2), grain=frame, state_options=OPTIONS)
    assert_memory_law(model.decoder, latents(kind, 2), state_options=OPTIONS)
