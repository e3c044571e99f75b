"""What the listener learns, as modules whose `forward(batch)` gives a loss and figures.

The phone loss has a target at every 20 ms frame, the text loss one at every 80 ms step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from .aligner import CLASSES
from .config import FRAMES_PER_TOKEN, ASRConfig
from .model import Adapter, AudioEncoder, RealtimeASR, TextDecoder
from .targets import IGNORED

Z_LOSS = 1e-4  # keeps logits near log-probabilities, and text embeddings from outgrowing audio


@dataclass
class AudioBatch:
    """One batch of sound: what `EncoderTask` and `JointTask` eat."""

    mel: Tensor  # [batch, n_mels, frames]
    phones: Tensor  # int64 [batch, encoder frames]
    block: int
    start: Tensor  # int64 [batch]
    taught: Tensor | None = None  # [batch, encoder frames, dim], what the teacher hears
    token_in: Tensor | None = None  # int64 [batch, steps]
    token_out: Tensor | None = None
    delay: Tensor | None = None


class EncoderTask(nn.Module):
    """Encoder and a linear phone head over its frames.

    `taught`: the encoder is to hear what its teacher hears, too. Phones alone let it forget all that Whisper
    knew of voices and leave it with those of the pool.
    """

    def __init__(self, config: ASRConfig, *, taught: bool = False, phone_weight: float = 0.5) -> None:
        super().__init__()
        dim = config.encoder.stack.dim
        self.encoder = AudioEncoder(config.encoder)
        self.head = nn.Linear(dim, CLASSES)
        self.phone_weight = phone_weight if taught else 1.0
        self.echo = nn.Linear(dim, dim) if taught else None
        if self.echo is not None:
            nn.init.eye_(self.echo.weight)
            nn.init.zeros_(self.echo.bias)

    def forward(self, batch: AudioBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy of the phones and the share of spoken frames named right.

        With a teacher also the square error of its frames, as a share of their variance (`not_echoed`).
        """
        frames = self.encoder(batch.mel, block=batch.block, start=batch.start)
        loss, figures = phone_loss(self.head(frames), batch.phones)
        if self.echo is None or batch.taught is None:
            return loss, figures
        missed = F.mse_loss(self.echo(frames), batch.taught)
        return missed + self.phone_weight * loss, {**figures, "not_echoed": missed.detach()}


class DecoderTask(nn.Module):
    """Adapter and decoder over cached encoder frames."""

    def __init__(self, config: ASRConfig) -> None:
        super().__init__()
        self.adapter = Adapter(config.encoder.stack.dim, config.adapter_dim or config.dim, config.dim)
        self.decoder = TextDecoder(config)
        fresh_decoder(self.decoder)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """`frames` [batch, 4 steps, dim], `token_in`, `token_out` [batch, steps], `delay` [batch]."""
        logits = self.decoder(self.adapter(batch["frames"].float()), batch["token_in"], batch["delay"])
        return text_loss(logits, batch["token_out"], int(batch["pad"]))


class JointTask(nn.Module):
    """The whole listener and the phone head."""

    def __init__(self, config: ASRConfig, pad: int, phone_weight: float = 0.3) -> None:
        super().__init__()
        self.model = RealtimeASR(config)
        self.head = nn.Linear(config.encoder.stack.dim, CLASSES)
        self.pad, self.phone_weight = pad, phone_weight

    def forward(self, batch: AudioBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum of text and phone loss."""
        assert batch.token_in is not None
        assert batch.token_out is not None
        assert batch.delay is not None
        frames = self.model.encoder(batch.mel, block=batch.block, start=batch.start)
        logits = self.model.decoder(self.model.adapter(frames), batch.token_in, batch.delay)
        loss, figures = text_loss(logits, batch.token_out, self.pad)
        phones, more = phone_loss(self.head(frames), batch.phones)
        return loss + self.phone_weight * phones, {**figures, **more}


def fresh_decoder(decoder: TextDecoder) -> None:
    """Start values: audio and text equally loud in the sum, no influence of the delay yet.

    Embeddings of 0.04 beside audio of 0.7 drowned: after 260 steps 1.6 % of the text tokens were
    right, against 15 % with these. The small final norm keeps the tied head's logits near 1.
    """
    nn.init.normal_(decoder.tok_embeddings.weight, std=0.3)
    for name, weight in decoder.named_parameters():
        if name.endswith("ada_rms_norm_t_cond.2.weight"):
            nn.init.zeros_(weight)
        elif name == "transformer.norm.weight":
            nn.init.constant_(weight, 0.15)


@torch.no_grad()
def hear_phones(adapter: Adapter, head: Tensor, frames: Tensor, loudness: float = 0.4) -> None:
    """Give the adapter's first hidden units to the phones: what the encoder was taught to tell apart.

    Args:
        head: weight of the phone head, [40, encoder dim].
        frames: some encoder frames [batch, 4 n, encoder dim]; the output on them gets `loudness` rms.
    """
    first, last = adapter.get_submodule("0"), adapter.get_submodule("2")
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    classes, dim = head.shape
    if first.out_features < classes * FRAMES_PER_TOKEN:
        raise ConfigError(
            f"adapter_dim must be at least {classes * FRAMES_PER_TOKEN} to hear {classes} phones"
        )
    for frame in range(FRAMES_PER_TOKEN):
        rows = first.weight[classes * frame : classes * (frame + 1)]
        rows.zero_()
        rows[:, dim * frame : dim * (frame + 1)] = head - head.mean(0)
    last.weight[:, : classes * FRAMES_PER_TOKEN] *= 2
    last.weight *= loudness / adapter(frames).std()


def phone_loss(scores: Tensor, phones: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Scores [batch, frames, 40] against int64 [batch, frames]."""
    loss = F.cross_entropy(scores.flatten(0, 1).float(), phones.flatten(), label_smoothing=0.05)
    spoken = phones > 0
    right = (scores.argmax(-1) == phones)[spoken].float().mean()
    return loss, {"phones_right": right.detach()}


def text_loss(
    logits: Tensor, out: Tensor, pad: int, pad_weight: float = 0.8
) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits [batch, steps, vocab] against int64 [batch, steps] with `IGNORED` where nobody reads."""
    kept = out != IGNORED
    logits, out = logits[kept].float(), out[kept]
    each = F.cross_entropy(logits, out, reduction="none")
    weight = torch.where(out == pad, pad_weight, 1.0)
    loss = (each * weight).sum() / weight.sum() + Z_LOSS * logits.logsumexp(-1).square().mean()
    text = out != pad
    right = logits.argmax(-1) == out
    return loss, {
        "text_loss": each[text].mean().detach(),
        "text_right": right[text].float().mean().detach(),
        "pad_right": right[~text].float().mean().detach(),
    }
