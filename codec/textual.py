"""Teachers that know the text: a language model's vectors beside the semantic codes, a contrast of words.

- `along_time` is DM-Codec's loss (arXiv 2410.15017): every feature of the student, seen as a signal in time,
  should go along with the teacher's. There the tokens of a text are laid beside the frames whenever they are
  said; here each word's vector stands where the word is spoken, and silence does not count.
- `contrast` is the frame-level contrast of SecoustiCodec (arXiv 2508.02849): a frame should be nearer to the
  vector of its own word than to those of other words, whoever speaks them.

Both are off by default. Their negative control are the vectors of another recording of the batch: what a
teacher gives must vanish with them, or it was no more than noise that regularises.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TEMPERATURE = 0.1
FEWEST = 4  # frames of speech in an item, below which a signal in time says nothing


class TextTeacher(nn.Module):
    """What the semantic entries lose to the words; its heads are dropped at export.

    Args:
        dim: of the semantic entries. width: of the words' vectors.
        along, contrast: weights of the two losses.
        control: take the vectors of another item of the batch.
    """

    def __init__(self, dim: int, width: int, along: float, contrast: float, *, control: bool = False) -> None:
        super().__init__()
        self.along, self.contrast, self.control = along, contrast, control
        self.student = nn.Linear(dim, width)

    def forward(self, entry: Tensor, vectors: Tensor, words: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and figures.

        Args:
            entry: [batch, frames, dim], with a gradient to the latents.
            vectors: [batch, frames, width] of the word that is said; anything in silence.
            words: int64 [batch, frames], equal within one word and different between words, -1 in silence.
        """
        if self.control:
            vectors, words = vectors.roll(1, 0), words.roll(1, 0)
        student = self.student(entry)
        said = words >= 0
        loss = entry.sum() * 0.0
        figures: dict[str, Tensor] = {}
        if self.along:
            figures["along"] = along_time(student, vectors, said)
            loss = loss + self.along * figures["along"]
        if self.contrast:
            figures["contrast"] = contrast(student, vectors, words)
            loss = loss + self.contrast * figures["contrast"]
        return loss, {name: value.detach() for name, value in figures.items()}


def along_time(student: Tensor, teacher: Tensor, said: Tensor) -> Tensor:
    """Mean over features of -log sigmoid(cosine along time), over what is `said`; 0 where too little is."""
    weight = said.to(student.dtype)[..., None]
    one, other = student * weight, teacher * weight
    norm = one.square().sum(1).sqrt() * other.square().sum(1).sqrt()
    cosine = (one * other).sum(1) / (norm + 1e-6)
    enough = (said.sum(1) >= FEWEST).to(student.dtype)
    return -(F.logsigmoid(cosine).mean(-1) * enough).sum() / enough.sum().clamp(min=1)


def contrast(student: Tensor, teacher: Tensor, words: Tensor) -> Tensor:
    """Cross-entropy of each frame's own word against the others of the batch; 0 where nothing is said."""
    said = words.flatten() >= 0
    if int(said.sum()) < 2:
        return student.sum() * 0.0
    # A word of one item is not that of another, whatever their numbers.
    items = torch.arange(len(words), device=words.device)[:, None]
    own = (words + items * (int(words.max()) + 1)).flatten()[said]
    a = F.normalize(student.flatten(0, 1)[said], dim=-1)
    b = F.normalize(teacher.flatten(0, 1)[said], dim=-1)
    scores = a @ b.T / TEMPERATURE
    same = own[:, None] == own
    same.fill_diagonal_(False)
    at = torch.arange(len(own), device=own.device)
    return F.cross_entropy(scores.masked_fill(same, float("-inf")), at)
