"""Slots of tensors: what front end, encoder and decoder remember of every session of a batch.

Ears and lanes have separate slots, so that two lanes can read one ear. A bank knows no clock and no text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..kernels.state import StateTree, copy_into, flatten, nbytes, reset, select, unflatten
from .ears import Samples
from .frontend import LogMel, LogMelConfig
from .lanes import Lane
from .model import RealtimeASR
from .reading import Reading
from .search import PHONES, WordSearch


class Listener:
    """A model with its front end, on one device."""

    def __init__(self, model: RealtimeASR) -> None:
        config = model.config.encoder
        self.model = model.eval()
        weight = model.kind
        self.device, self.dtype = weight.device, weight.dtype
        # The front end stays in float32 whatever the model runs in: the log amplifies rounding.
        self.frontend = LogMel(LogMelConfig(n_mels=config.n_mels, floor_max=config.global_log_mel_max)).to(
            self.device
        )


class Bank:
    """State trees for `ears` ears and `lanes` lanes."""

    def __init__(self, listener: Listener, ears: int, lanes: int, max_tokens: int) -> None:
        model = listener.model
        self.listener = listener
        self.ears, self.lanes = ears, lanes
        # Made outside of inference mode: tensors made inside could not be written to elsewhere.
        with torch.inference_mode(False), torch.no_grad():
            self.mel: StateTree = listener.frontend.initial_state(ears)
            self.encoder = model.initial_encoder_state(ears, max_tokens=max_tokens)
            self.decoder = model.initial_decoder_state(lanes)

    @property
    def nbytes(self) -> int:
        """Bytes of all slots."""
        return nbytes(self.mel) + nbytes(self.encoder) + nbytes(self.decoder)

    def hear(self, chunks: Mapping[int, Samples], block: int) -> Tensor:
        """Run front end and encoder.

        Args:
            chunks: ear slot -> the next samples [1280 k], as `Ear.take` gives them; k the same for all.
            block: attention block of this step.

        Returns:
            Adapter vectors [ears, k, dim]; undefined for ears without a chunk.
        """
        listener = self.listener
        length = len(next(iter(chunks.values())))
        x = np.zeros((self.ears, length), np.float32)
        for slot, samples in chunks.items():
            x[slot] = samples
        active = self._mask(self.ears, chunks)
        mel = listener.frontend.step(torch.as_tensor(x).to(listener.device), self.mel, active)
        return listener.model.encode_step(mel.to(listener.dtype), self.encoder, active, block=block)

    def read(self, lanes: Sequence[Lane], audio: Tensor) -> list[Reading]:
        """Run the decoder for one step of every given lane.

        Args:
            lanes: lanes with a slot here, each at most once.
            audio: their adapter vectors [n, dim], in the same order.

        Returns:
            What came out, in the same order. Greedy.
        """
        listener = self.listener
        if isinstance(listener.model.decoder, WordSearch):
            return self._search(listener.model.decoder, lanes, audio)
        device = listener.device
        slots = torch.tensor([lane.slot for lane in lanes], device=device)
        x = audio.new_zeros(self.lanes, 1, audio.shape[-1])
        x[slots, 0] = audio
        numbers = np.zeros((2, self.lanes), np.int64)
        for lane in lanes:
            numbers[:, lane.slot] = lane.next_token(), lane.delay_tokens
        token_in, delay = torch.as_tensor(numbers).to(device)
        active = self._mask(self.lanes, [lane.slot for lane in lanes])
        logits = listener.model.decode_step(x, token_in.unsqueeze(-1), delay, self.decoder, active)
        return self._choose(lanes, logits[slots, 0].float())

    def _search(self, decoder: WordSearch, lanes: Sequence[Lane], audio: Tensor) -> list[Reading]:
        phones = audio.float().cpu()
        settles = [lane.at_block_end for lane in lanes]
        delays = [lane.delay_tokens for lane in lanes]
        found = decoder.step(phones, delays, settles, self.decoder, [lane.slot for lane in lanes])
        # How far no phone at all leads the likeliest one, over the four frames.
        frames = phones.reshape(len(lanes), -1, PHONES)
        leads: NDArray[np.float32] = (frames[..., 0] - frames[..., 1:].amax(-1)).mean(-1).numpy()
        return [
            Reading(
                lane.tokenizer.word if words else lane.tokenizer.pad,
                0.0,
                float(lead),
                0.0,
                tuple(words),
                settled,
            )
            for lane, words, settled, lead in zip(lanes, found, settles, leads, strict=True)
        ]

    def _choose(self, lanes: Sequence[Lane], logits: Tensor) -> list[Reading]:
        """Greedy tokens from logits [n, vocab_size]."""
        pad, word = lanes[0].tokenizer.pad, lanes[0].tokenizer.word
        best, tokens = logits.topk(2, dim=-1)
        pads = logits[:, pad]
        pad_margin = torch.where(tokens[:, 0] == pad, pads - best[:, 1], pads - best[:, 0])
        word_margin = logits[:, word] - pads
        log_sum = logits.logsumexp(dim=-1)
        penalties, banned = [lane.penalty() for lane in lanes], [lane.banned() for lane in lanes]
        if any(penalties) or any(banned):
            logits = logits.clone()
            logits[:, pad] -= torch.tensor(penalties, device=logits.device)
            for row, ids in enumerate(banned):
                if ids:
                    logits[row, list(ids)] = float("-inf")
            best, tokens = logits.topk(1, dim=-1)
        # One transfer; float64 holds token ids exactly.
        columns = [best[:, 0] - log_sum, pad_margin, word_margin, tokens[:, 0]]
        table = torch.stack([column.double() for column in columns], dim=-1)
        rows: NDArray[np.float64] = np.asarray(table.cpu())
        return [Reading(int(row[3]), float(row[0]), float(row[1]), float(row[2])) for row in rows]

    def copy_ear(self, slot: int, source: Bank, source_slot: int) -> None:
        """Overwrite an ear's slot with another one."""
        copy_into(self.mel, [slot], source.mel, [source_slot])
        copy_into(self.encoder, [slot], source.encoder, [source_slot])

    def copy_lane(self, slot: int, source: Bank, source_slot: int) -> None:
        """Overwrite a lane's slot with another one."""
        copy_into(self.decoder, [slot], source.decoder, [source_slot])

    def reset_lane(self, slot: int) -> None:
        """Make a lane's slot fresh."""
        reset(self.decoder, [slot])

    def ear_tensors(self, slot: int) -> dict[str, Tensor]:
        """Copies of an ear's state, by dotted name, [1, ...] each."""
        tree: StateTree = {"mel": select(self.mel, [slot]), "encoder": select(self.encoder, [slot])}
        return dict(flatten(tree))

    def lane_tensors(self, slot: int) -> dict[str, Tensor]:
        """Copies of a lane's state, by dotted name, [1, ...] each."""
        return dict(flatten(select(self.decoder, [slot])))

    def restore_ear(self, slot: int, tensors: dict[str, Tensor]) -> None:
        """Overwrite an ear's slot with what `ear_tensors` gave.

        Raises:
            ValueError: the tensors do not fit this model.
        """
        tree = unflatten(tensors)
        for name, state in (("mel", self.mel), ("encoder", self.encoder)):
            node = tree.get(name, {})
            copy_into(state, [slot], {} if isinstance(node, Tensor) else node, [0])

    def restore_lane(self, slot: int, tensors: dict[str, Tensor]) -> None:
        """Overwrite a lane's slot with what `lane_tensors` gave; errors as in `restore_ear`."""
        copy_into(self.decoder, [slot], unflatten(tensors), [0])

    def _mask(self, slots: int, active: Mapping[int, Samples] | Sequence[int]) -> Tensor:
        mask = np.zeros(slots, np.bool_)
        mask[list(active)] = True
        return torch.as_tensor(mask).to(self.listener.device)
