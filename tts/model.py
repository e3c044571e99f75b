"""Voxtral TTS: a decoder over text, a voice and the frames that it speaks, and a flow head.

Voxtral TTS (arXiv 2603.25551) section 2. Unusual:
- a frame goes in as the plain sum of the embeddings of its 37 codes, with no token beside it;
- the first frame comes from the last position of the prompt itself;
- text tokens are never predicted, so there is no head for them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..kernels.state import StateTree
from ..kernels.transformer import Transformer
from .aligned import AlignedText
from .config import TTSConfig
from .flow import FlowHead


class FrameEmbedding(nn.Module):
    """Codes with their special ids [..., 37] to the sum of their rows [..., dim]."""

    def __init__(self, config: TTSConfig) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(config.table_rows, config.backbone.dim)
        self.starts = tuple(sum(config.alphabets[:index]) for index in range(len(config.alphabets)))
        # Not sent to the device with every call, and no buffer: see `Transformer`.
        self._tables: dict[torch.device, Tensor] = {}

    def forward(self, codes: Tensor) -> Tensor:
        """int64 [..., codes] -> [..., dim]."""
        device = codes.device
        if device not in self._tables:
            self._tables[device] = torch.tensor(self.starts, device=device)
        return self.embeddings(codes + self._tables[device]).sum(-2)


class SpeakerModel(nn.Module):
    """Everything but the codec."""

    def __init__(self, config: TTSConfig) -> None:
        super().__init__()
        self.config = config
        if config.text is None:
            self.tok_embeddings = nn.Embedding(config.vocab_size, config.backbone.dim)
        else:
            self.text = AlignedText(config.text, config.backbone.dim)
        self.frame_embedding = FrameEmbedding(config)
        self.backbone = Transformer(config.backbone)
        self.flow = FlowHead(config)

    @property
    def kind(self) -> Tensor:
        """A weight: its type and device are the model's."""
        return self.frame_embedding.embeddings.weight

    def initial_state(
        self,
        slots: int,
        *,
        max_chunk: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> StateTree:
        """Fresh slots for steps of at most `max_chunk` positions."""
        return self.backbone.initial_state(slots, max_chunk=max_chunk, dtype=dtype, device=device)

    def prompt(self, ids: Tensor, voice: Tensor, audio_id: int) -> Tensor:
        """Embeddings [positions, dim] of ids [positions], a voice's rows [rows, dim] at those of `audio_id`.

        Raises:
            ValueError: another number of places than rows.
        """
        places = ids == audio_id
        if int(places.sum()) != len(voice):
            raise ValueError(f"the prompt has {int(places.sum())} places for a voice of {len(voice)} rows")
        x = self.tok_embeddings(ids)
        return x.masked_scatter(places[:, None], voice.to(x.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings [batch, positions, dim] -> hidden states after the final norm."""
        return self.backbone(x)

    def step(self, x: Tensor, state: StateTree, active: Tensor) -> Tensor:
        """The next positions [slots, time, dim] of every active slot; see `Transformer.step`."""
        return self.backbone.step(x, state, active)
