"""Voxtral TTS against the reference's own numbers: backbone, flow, embeddings, whole utterances."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import load_file
from tiny_speaker import GOLDEN, golden

from rillvox.codec.model import CodecModel
from rillvox.tts.config import END
from rillvox.tts.model import SpeakerModel
from rillvox.tts.speaking import Manner, Speaking

BODY, FLOW, EMBED, E2E = (
    load_file(GOLDEN / f"{name}.safetensors") for name in ("backbone", "flow", "embed", "e2e")
)
AUDIO = 24
EVERYONE = torch.ones(1, dtype=torch.bool)


@pytest.fixture
def model() -> SpeakerModel:
    return golden()[0]


def test_the_backbone(model: SpeakerModel) -> None:
    with torch.inference_mode():
        hidden = model(model.tok_embeddings(BODY["input_ids"])[None])[0]
        torch.testing.assert_close(hidden, BODY["final_hidden"], atol=1e-4, rtol=0)
        torch.testing.assert_close(hidden @ model.tok_embeddings.weight.T, BODY["logits"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("count", [7, 8, 2])
@torch.inference_mode()
def test_the_flow_step_by_step(model: SpeakerModel, count: int) -> None:
    flow, kept = model.flow, {k.split(".")[1]: v for k, v in FLOW.items() if k.startswith(f"nfe{count}.")}
    times = kept["timesteps"]
    torch.testing.assert_close(
        flow.time_projection(flow.time_embedding(times[:-1])), kept["t_proj"], atol=1e-5, rtol=0
    )
    tokens = flow.llm_projection(torch.cat([FLOW["llm_hidden"], torch.zeros_like(FLOW["llm_hidden"])]))
    for step in range(count):
        x, time = kept["x_t"][step], times[step].expand(6)
        both = flow.velocity(torch.cat([x, x]), torch.cat([time, time]), tokens)
        torch.testing.assert_close(both[:6], kept["v_cond"][step], atol=2e-4, rtol=0)
        torch.testing.assert_close(both[6:], kept["v_uncond"][step], atol=2e-4, rtol=0)
    x = flow.solve(FLOW["llm_hidden"], FLOW["noise"], steps=count, guidance=kept["cfg_alpha"])
    torch.testing.assert_close(x, kept["x_final"], atol=2e-4, rtol=0)
    semantic = flow.semantic_logits(FLOW["llm_hidden"]).argmax(-1)
    assert torch.equal(flow.round(x, semantic), kept["codes"])


@torch.inference_mode()
def test_rows_with_steps_and_guidance_of_their_own(model: SpeakerModel) -> None:
    # Rows 0 and 1 by 7 steps, 2 and 3 by 8, 4 and 5 by 2, all in the same calls.
    steps = torch.tensor([7, 7, 8, 8, 2, 2])
    alphas = torch.stack([FLOW[f"nfe{int(n)}.cfg_alpha"][row] for row, n in enumerate(steps)])
    x = model.flow.solve(FLOW["llm_hidden"], FLOW["noise"], steps=steps, guidance=alphas)
    for row, count in enumerate(steps.tolist()):
        torch.testing.assert_close(x[row], FLOW[f"nfe{count}.x_final"][row], atol=2e-4, rtol=0)


@torch.inference_mode()
def test_what_is_no_code_is_never_said(model: SpeakerModel) -> None:
    hidden = FLOW["llm_hidden"]
    raw = model.flow.semantic_codebook_output(hidden)
    torch.testing.assert_close(raw, FLOW["semantic_logits_raw"], atol=1e-4, rtol=0)
    assert raw.argmax(-1)[3:].tolist() == [1, 0, 100]
    said = model.flow.semantic_logits(hidden).argmax(-1)
    assert said[3] == END
    assert ((said > 0) & (said < 66)).all()


@torch.inference_mode()
def test_frames_are_embedded_as_sums(model: SpeakerModel) -> None:
    embedding = model.frame_embedding
    assert list(embedding.starts) == EMBED["offsets"].tolist()
    assert embedding.embeddings.num_embeddings == 896
    torch.testing.assert_close(embedding(EMBED["codes"]), EMBED["embedding"], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        embedding(EMBED["reference_eoa_codes"]), EMBED["reference_eoa_embedding"], atol=1e-5, rtol=0
    )


def speak(model: SpeakerModel, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames and hidden states of the golden utterance."""
    speaking = Speaking(model, chunk=7)
    prompt = model.prompt(E2E["prompt_ids"], E2E["voice_embedding"], AUDIO)
    torch.testing.assert_close(prompt, E2E["prompt_embeds"], atol=1e-5, rtol=0)
    speaking.open(0, prompt, Manner())
    frames: list[torch.Tensor] = []
    hidden: list[torch.Tensor] = []
    for number in range(most):
        hidden.append(speaking.hidden[0].clone())
        frames.append(speaking.tick(EVERYONE, E2E["noise"][number : number + 1])[0])
        if frames[-1][0] == END:
            break
    return torch.stack(frames), torch.stack(hidden)


@torch.inference_mode()
def decode(codec: CodecModel, frames: torch.Tensor) -> torch.Tensor:
    return codec.decoder(codec.quantizer.decode(frames - 2)[None])[0]


@torch.inference_mode()
def test_a_whole_utterance(model: SpeakerModel) -> None:
    frames, hidden = speak(model, 9)
    assert torch.equal(frames, E2E["frames"])
    torch.testing.assert_close(hidden, E2E["hidden_per_frame"], atol=2e-4, rtol=0)
    torch.testing.assert_close(decode(golden()[1], frames), E2E["waveform"], atol=1e-4, rtol=0)


@torch.no_grad()
def test_an_utterance_that_ends() -> None:
    model = copy.deepcopy(golden()[0])
    model.flow.semantic_codebook_output.weight[1] = E2E["stop_semantic_row1_override"]
    frames, _ = speak(model, 9)
    assert torch.equal(frames, E2E["stop_frames"])
    torch.testing.assert_close(decode(golden()[1], frames[:-1]), E2E["stop_waveform"], atol=1e-4, rtol=0)
