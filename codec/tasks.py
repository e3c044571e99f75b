"""What the codec learns, as a module whose `forward(batch)` gives a loss and figures.

First the reconstruction, then (with discriminators) what makes it sound real, or both at once as published
(Voxtral Codec, arXiv 2603.25551 section 3). `Recipe` says which terms count how much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call  # pyright: ignore[reportUnknownVariableType]

from ..errors import ConfigError
from .balance import Balancer
from .config import CodecConfig
from .discriminator import PUBLISHED_SIZES, SLIM_SIZES, Discriminators, deceive, feature_distance, hinge
from .losses import power_distance, spectral_distances, wave_distance
from .model import CodecModel
from .semantics import FixedCodes, LearnedCodes, Named, TeacherCodes, grid
from .source import LOWEST
from .textual import TextTeacher

FLAT = 1.5  # before tanh: the last level but one begins there
WIDE = 12000  # Hz: what is known up to there is judged
TERMS = ("mel", "stft", "wave", "features", "deceit")
Semantic = Literal["teacher", "learned", "fsq", "fixed"]


@dataclass(frozen=True)
class Recipe:
    """Weights of the terms of the loss, and what learns."""

    mel: float = 15.0
    stft: float = 1.0
    wave: float = 0.0  # of no account where the source keeps its own time
    finest: int = 512  # samples in the shortest window of spectra: shorter ones tell one pulse from the next
    pitch: float = 10.0  # of the source, in natural logarithms
    power: float = 15.0  # of the power that the source's gains lead one to expect
    forced: bool = True  # in this stage the source takes the pitch of the recording
    fade: float = 1.0  # factor on `stft` and `wave` with every step
    semantic: Semantic = "teacher"
    revive: bool = True  # of a learned codebook: k-means to begin with, and no entry stays unused
    naming: float = 2.0
    entry: float = 1.0  # square distance to the teacher's entry
    commitment: float = 0.1
    usage: float = 1.0  # of a codebook that is frozen: that its entries are used alike, in nats
    asr: float = 1.0  # distillation from the teacher's frames, where the codes are not the teacher's own
    along: float = 0.0  # a language model's vectors of the words, see `textual.py`
    contrast: float = 0.0  # own word against other words
    text_control: bool = False  # the negative control of both: words of another recording
    saturation: float = 0.5  # of acoustic numbers beyond what tanh tells apart
    features: float = 2.0
    deceit: float = 0.5
    critics: tuple[int, ...] = ()  # sizes of the discriminators' spectra; none: no discriminators
    channels: int = 16
    balance: bool = False  # gradients of all terms on the waveform are brought to their weights
    freeze_encoder: bool = False
    freeze_decoder: bool = False


RECIPES: Mapping[str, Recipe] = {
    "reconstruct": Recipe(),
    # The encoder stays as it is, so that codes made before stay valid.
    "adversarial": Recipe(critics=SLIM_SIZES, freeze_encoder=True, forced=False),
    "published": Recipe(
        mel=0.0,
        stft=1.0,
        wave=1.0,
        finest=128,
        fade=0.9999,
        semantic="learned",
        features=1.0,
        deceit=0.0,
        critics=PUBLISHED_SIZES,
        channels=256,
    ),
    "encoder": Recipe(semantic="fixed", freeze_decoder=True),
}


@dataclass
class WaveBatch:
    """Sound: `heard` goes in, `wanted` should come out."""

    heard: Tensor  # [batch, samples], whole frames
    wanted: Tensor  # the same, with what a narrow line took from `heard`
    ids: Tensor  # int64 [batch, frames], the teacher's codes, -1 where there are none
    known: Tensor  # [batch] Hz up to which `wanted` has something to say
    draw: Tensor  # [batch, 2] uniform: how the item is quantised
    noise: Tensor  # [batch, frames, acoustic_dim] uniform in [-1, 1]
    deceit: Tensor  # [] share of the adversarial terms
    fade: Tensor  # [] factor on the terms that fade
    wide: int  # items known up to `WIDE`, which come first
    pitch: Tensor  # [batch, frames x 8] Hz at the end of every position of `wanted`, 0 where no voice is
    begin: Tensor  # int64 [batch], where the source's noise begins
    vectors: Tensor | None = None  # [batch, frames, width] of the word that is said, for a text teacher
    words: Tensor | None = None  # int64 [batch, frames], which word that is; -1 in silence
    hidden: Tensor | None = None  # [batch, most tokens, width], states of a Whisper that wrote the sound down
    alignment: Tensor | None = None  # [batch, most tokens, frames], where it looked; zeros: no token


class CodecTask(nn.Module):
    """The codec and what trains it.

    Args:
        teacher: [codes, dim] entries of the sounds' codebook: what `WaveBatch.ids` stand for.
        model: start from this codec; None: a fresh one, whose codebook is the recipe's.
        text_width: numbers in the vectors of a text teacher, if the recipe has one.
        words_width: numbers in a Whisper's states, which the codes then learn from in place of the teacher's
            frames; None: they do not.

    Raises:
        ConfigError: a text teacher without vectors, or a Whisper's states for codes that are the teacher's.
    """

    teacher: Tensor

    def __init__(
        self,
        config: CodecConfig,
        teacher: Tensor,
        recipe: Recipe | None = None,
        *,
        model: CodecModel | None = None,
        text_width: int | None = None,
        words_width: int | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.recipe = recipe = recipe or Recipe()
        self.model = model or CodecModel(config)
        encoder = self.model.encoder
        assert encoder is not None
        encoder.requires_grad_(not recipe.freeze_encoder)
        self.model.decoder.requires_grad_(not recipe.freeze_decoder)
        book = self.model.quantizer.semantic_codebook
        self.naming: TeacherCodes | FixedCodes | LearnedCodes
        self.distil: nn.Linear | None = None
        self.words_width = words_width
        if recipe.semantic == "teacher":
            if words_width is not None:
                raise ConfigError("codes that are the teacher's own cannot learn from a Whisper's words")
            self.naming = TeacherCodes(book, teacher, recipe.naming, recipe.entry)
        else:
            self.register_buffer("teacher", teacher, persistent=False)
            self.distil = nn.Linear(config.semantic_dim, words_width or teacher.shape[1])
            if recipe.semantic == "learned":
                size, dim = config.semantic_codes, config.semantic_dim
                self.naming = LearnedCodes(size, dim, recipe.commitment, revive=recipe.revive)
            else:
                if recipe.semantic == "fsq" and model is None:
                    book.embedding_sum.copy_(grid(config.semantic_dim, torch.Generator().manual_seed(0)))
                frozen = recipe.semantic == "fixed"
                self.naming = FixedCodes(recipe.commitment, recipe.usage if frozen else 0.0)
        self.text: TextTeacher | None = None
        if recipe.along or recipe.contrast:
            if text_width is None:
                raise ConfigError("the words' vectors are missing; make them with `rillvox train text`")
            self.text = TextTeacher(
                config.semantic_dim, text_width, recipe.along, recipe.contrast, control=recipe.text_control
            )
        self.critics = Discriminators(recipe.critics, recipe.channels) if recipe.critics else None
        self.balancer = Balancer(TERMS) if recipe.balance else None

    def forward(self, batch: WaveBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of all terms, and each by itself."""
        recipe = self.recipe
        latents, figures, loss = self.encode(batch)
        hertz = batch.pitch if recipe.forced else None
        found, said = self.model.decoder.speak(latents, batch.begin, hertz)
        if said is not None:
            pitch, power = said
            voiced = batch.pitch > 0
            missed = (pitch - batch.pitch.clamp(min=LOWEST).log()).abs() * voiced
            missed = missed.sum() / voiced.sum().clamp(min=1)
            envelope = power_distance(power, batch.wanted, batch.known)
            figures |= {"pitch": missed.detach(), "power": envelope.detach()}
            loss = loss + recipe.pitch * missed + recipe.power * envelope
        delay = self.config.output_delay
        # What a flush gives is made up by the last position, and of no account.
        found, wanted = found[:, : found.shape[1] - delay], batch.wanted[:, : found.shape[1] - delay]
        mel, stft = spectral_distances(found, wanted, batch.known, recipe.finest)
        figures |= {"mel": mel.detach(), "stft": stft.detach()}
        terms = {"mel": mel, "stft": stft, "wave": wave_distance(found, wanted, batch.known)}
        weights = {"mel": recipe.mel, "stft": recipe.stft * batch.fade, "wave": recipe.wave * batch.fade}
        if self.critics is not None:
            learned, terms["features"], terms["deceit"] = self.criticise(found, wanted, batch)
            weights |= {"features": batch.deceit * recipe.features, "deceit": batch.deceit * recipe.deceit}
            loss = loss + learned
            for name, value in (("hinge", learned), ("features", terms["features"])):
                # Without wide items there is nothing to tell of.
                figures[name] = value.detach() if batch.wide else value.new_tensor(float("nan"))
        if self.balancer is not None and torch.is_grad_enabled():
            return loss + self.balancer(found, terms, weights), figures
        return loss + torch.stack([weights[name] * term for name, term in terms.items()]).sum(), figures

    def encode(self, batch: WaveBatch) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """What the decoder is given, figures, and the loss of the encoder."""
        config, recipe = self.config, self.recipe
        encoder = self.model.encoder
        assert encoder is not None
        z = encoder(batch.heard)
        semantic, acoustic = z[..., : config.semantic_dim], z[..., config.semantic_dim :]
        book = self.model.quantizer.semantic_codebook
        named: Named = self.naming(semantic, book, batch.ids, batch.draw[:, 0])
        loss, figures = named.loss, named.figures
        if self.distil is not None:
            asr = self.distillation(named.entry, batch)
            loss, figures = loss + recipe.asr * asr, figures | {"asr": asr.detach()}
        if self.text is not None and batch.vectors is not None and batch.words is not None:
            taught, said = self.text(named.entry, batch.vectors, batch.words)
            loss, figures = loss + taught, figures | said
        bounded = torch.tanh(acoustic)
        levels = config.acoustic_levels - 1
        rounded = torch.round((bounded + 1) / 2 * levels) * 2 / levels - 1
        kind = batch.draw[:, 1, None, None]
        dithered = bounded + batch.noise / config.acoustic_levels
        straight = bounded + (rounded - bounded).detach()
        given = torch.where(kind < 0.5, straight, torch.where(kind < 0.75, dithered, bounded))
        loss = loss + recipe.saturation * F.relu(acoustic.abs() - FLAT).square().mean()
        figures["end_levels"] = (rounded.detach().abs() > 1 - 1 / levels).float().mean()
        return torch.cat([named.given, given], -1), figures, loss

    def distillation(self, entry: Tensor, batch: WaveBatch) -> Tensor:
        """One minus the cosine between what the codes say of the teacher's frames and those frames.

        Or, as published (Voxtral Codec, arXiv 2603.25551 section 3), between what they say where a Whisper
        looked for a token and its state at that token; zero where there is no token.
        """
        assert self.distil is not None
        if self.words_width is None:
            ids = batch.ids
            known = ids >= 0
            cosine = F.cosine_similarity(self.distil(entry), self.teacher[ids.clamp(min=0)], dim=-1)
            return ((1 - cosine) * known).sum() / (known.sum() + 1)
        assert batch.hidden is not None
        assert batch.alignment is not None
        spoken = batch.alignment.abs().sum(-1) > 0
        said = (batch.alignment @ self.distil(entry))[spoken]
        cosine = F.cosine_similarity(said, batch.hidden[spoken], dim=-1)
        return (1 - cosine).sum() / spoken.sum().clamp(min=1)

    def criticise(self, found: Tensor, wanted: Tensor, batch: WaveBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Both sides at once: critics learn from a copy of the sound, the codec from a copy of critics.

        Only of recordings that are known up to the top; without any, nothing is lost.
        """
        assert self.critics is not None
        if not batch.wide:
            # All weights must be touched: processes that share a batch wait for each other's gradients.
            none = found.sum() * 0.0 + sum(p.sum() * 0.0 for p in self.critics.parameters())
            return none, none, none
        found, wanted = found[: batch.wide], wanted[: batch.wide]
        real, made = self.critics(wanted), self.critics(found.detach())
        learned = hinge(real, made)
        fixed = {name: value.detach() for name, value in self.critics.named_parameters()}
        seen: list[list[Tensor]] = functional_call(self.critics, fixed, (found,))
        return learned, feature_distance(real, seen), deceive(seen)
