"""Makes the file that `pronounce.py` reads: a dictionary, and the network for words that are not in it.

Words come from lists and texts, their phones from the program flite (`training/lexicon.py`). One word in ten
is kept from the network, by a hash of its letters, and says how well the network reads what it never saw;
the dictionary has all of them.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ConfigError
from ..training.lexicon import PHONE_IDS, WORD, Lexicon
from ..training.normalize import normalize
from ..training.score import levenshtein
from .pronounce import Pronouncer, save
from .pronounce_letters import VOWELS, phones, spelled
from .pronounce_net import PER_LETTER, LettersToPhones, numbers, packed, unpacked

VOICE = "slt"  # of flite's: its default one says the vowel of "cut" as that of "cot"
HELD_OUT = 10  # one word in so many
ROWS = 1024
PEAK_RATE = 2e-3
ANEW = 0.1  # of it for a network that has learned before
WARM_UP = 500  # steps
DROPOUT = 0.1
EARLY = 0.3  # weight of the guesses of earlier blocks
REPORT = 1000  # steps

# flite spells what looks hard to say. Short words are mostly abbreviations (`fbi`); of the others these are
# said by hand, beside some that it or the network gets wrong.
SPELLED = 4  # letters of the longest word that may be spelled
NOT_SPELLED = frozenset(
    ["ahh", "ahhh", "aht", "csar", "didn", "esq", "exp", "hnat", "illg", "imm", "jha", "ndau"]
)
BY_HAND = {
    **{
        "ahh": "aa",
        "ankh": "ae ng k",
        "baht": "b aa t",
        "blockchain": "b l aa k ch ey n",
        "cap'n": "k ae p n",
    },
    **{"chatbot": "ch ae t b aa t", "flickr": "f l ih k er", "gamepad": "g ey m p ae d", "hajj": "hh ae jh"},
    **{"heav'n": "hh eh v n", "hogwarts": "hh aa g w ao r t s", "homepage": "hh ow m p ey jh"},
    **{"kubernetes": "k uw b er n eh t iy z", "latte": "l aa t ey", "livestream": "l ay v s t r iy m"},
    **{"mbeki": "ah m b eh k iy", "mcfly": "m ah k f l ay", "mcknight": "m ah k n ay t"},
    **{"mcshane": "m ah k sh ey n", "mightn't": "m ay t ah n t", "mnemonic": "n ih m aa n ih k"},
    **{"ngo": "eh n jh iy ow", "ngos": "eh n jh iy ow z", "nvidia": "eh n v ih d iy ah", "ohh": "ow"},
    **{"oughtn't": "ao t ah n t", "phnom": "p ah n aa m", "pytorch": "p ay t ao r ch"},
    **{"quinoa": "k iy n w aa", "schadenfreude": "sh aa d ah n f r oy d ah", "schtick": "sh t ih k"},
    **{
        "shmooze": "sh m uw z",
        "shouldst": "sh uh d s t",
        "tcha": "ch ah",
        "tchaikovsky": "ch ay k ao f s k iy",
    },
    **{"thousandth": "th aw z ah n th", "tiktok": "t ih k t aa k", "tumblr": "t ah m b l er", "uhh": "ah"},
    **{"xbox": "eh k s b aa k s", "xhosa": "k ow s ah", "xiaomi": "sh aw m iy", "xray": "eh k s r ey"},
    "zsa": "zh aa",
}

# The baseline: a child's first reading, each letter or pair of letters by itself.
_PAIRS = {"ch": "ch", "sh": "sh", "th": "th", "ph": "f", "ck": "k", "ng": "ng", "ee": "iy", "oo": "uw"}
_SINGLE = {
    **{
        "a": "ae",
        "b": "b",
        "c": "k",
        "d": "d",
        "e": "eh",
        "f": "f",
        "g": "g",
        "h": "hh",
        "i": "ih",
        "j": "jh",
    },
    **{"k": "k", "l": "l", "m": "m", "n": "n", "o": "aa", "p": "p", "q": "k", "r": "r", "s": "s", "t": "t"},
    **{"u": "ah", "v": "v", "w": "w", "x": "k-s", "y": "iy", "z": "z"},
}


def main_train_pronounce(
    words: Sequence[Path],
    out: Path,
    lexicon: Path,
    *,
    steps: int = 20000,
    device: str = "cpu",
    seed: int = 0,
    voice: str | None = VOICE,
    init: Path | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Write a file for `Pronouncer.load`.

    Args:
        words: texts and lists of words; any line of text will do. A `.json` is a lexicon of `Lexicon`.
        out: the file to write.
        lexicon: JSON file of what flite said, begun or continued; flite runs for words not in it.
        steps: of training the network, each on 1024 words; 20000 take some minutes on a GPU.
        device: where to train, as torch names it.
        seed: of everything drawn.
        voice: flite's, for words not in the lexicon; None: its default one.
        init: another file of this kind, whose network goes on learning, at a tenth of the rate.
        say: gets lines of progress and the figures.

    Raises:
        ConfigError: a file of words cannot be read, the lexicon is none, or flite or its voice is missing.
        CheckpointError: `init` is no such file.
        TextError: flite finds no sound in a word.
    """
    wanted = sorted({word for path in words for word in read_words(path)})
    if not wanted:
        raise ConfigError(f"no words in {', '.join(map(str, words))}")
    begun = None if init is None else Pronouncer.load(init).net
    said = Lexicon(lexicon, jobs=2, voice=voice).lookup(wanted)
    entries = {word: bytes(PHONE_IDS[phone] for phone in said[word]) for word in wanted}
    entries = {word: sounds for word, sounds in entries.items() if is_said(word, sounds)}
    seen = {word: sounds for word, sounds in entries.items() if not held_out(word)}
    say(f"{len(entries)} words, {len(seen)} of them for the network")
    net = train_letters(seen, steps, torch.device(device), seed, say, begun)
    kept = packed(net.state_dict())
    out.parent.mkdir(parents=True, exist_ok=True)
    save(out, entries | {word: bytes(phones(said)) for word, said in BY_HAND.items()}, kept)
    unseen = {word: list(sounds) for word, sounds in entries.items() if held_out(word)}
    net = unpacked(kept)
    for name, read in {
        "letter by letter": by_letter,
        "network": net.say,
        "with stems": Pronouncer(seen, net).phones,
    }.items():
        wrong, whole = errors(unseen, read)
        say(f"{name}: {wrong:.2%} of phones wrong, {whole:.2%} of {len(unseen)} words right")


def read_words(path: Path) -> set[str]:
    """Words of a text, or of a lexicon's JSON, that flite can be asked for.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found: Iterable[str] = json.loads(text) if path.suffix == ".json" else normalize(text).split()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: no readable words ({error})") from error
    return {word for word in found if WORD.fullmatch(word)}


def is_said(word: str, sounds: bytes) -> bool:
    """Whether flite said a word, and did not spell it because it looks hard; letters and `fbi` are meant so.

    Without a vowel a word is a noise or is spelled, and `pronounce.py` needs no dictionary for it.
    """
    if len(word) == 1:
        return True
    if not VOWELS & set(word) or word in BY_HAND:
        return False
    return list(sounds) != spelled(word) or (len(word) <= SPELLED and word not in NOT_SPELLED)


def held_out(word: str) -> bool:
    """Whether the network never sees the word."""
    return zlib.crc32(word.encode()) % HELD_OUT == 0


def train_letters(
    entries: Mapping[str, bytes],
    steps: int,
    device: torch.device,
    seed: int,
    say: Callable[[str], None],
    begun: LettersToPhones | None = None,
) -> LettersToPhones:
    """A network that has learned to say `entries`, words to phones 1..39; `begun`: one to go on with."""
    torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType]
    net = LettersToPhones(DROPOUT).to(device)
    peak = PEAK_RATE
    if begun is not None:
        net.load_state_dict(begun.state_dict())
        peak *= ANEW
    # A letter has room for so many phones; `w` alone, said "double u", has more.
    fitting = [(word, said) for word, said in entries.items() if _frames(said) <= PER_LETTER * len(word)]
    optimizer = torch.optim.AdamW(net.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, peak, total_steps=steps, pct_start=min(0.3, WARM_UP / steps)
    )
    mean = torch.zeros((), device=device)
    for step, batch in zip(range(1, steps + 1), _batches(fitting, random.Random(seed)), strict=False):
        losses = _losses(net, batch, device)
        loss = losses[-1] + EARLY * sum(losses[:-1], torch.zeros((), device=device))
        optimizer.zero_grad()
        loss.backward()  # pyright: ignore[reportUnknownMemberType]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()  # pyright: ignore[reportUnknownMemberType]
        schedule.step()
        mean += losses[-1].detach()
        if step % REPORT == 0:
            say(f"step {step}: loss {mean.item() / REPORT:.4f} a phone")
            mean.zero_()
    return net.cpu().eval()


def errors(truth: Mapping[str, Sequence[int]], read: Callable[[str], list[int]]) -> tuple[float, float]:
    """Phone error rate, and the share of words without one."""
    wrong = total = whole = 0
    for word, sounds in truth.items():
        found = levenshtein([str(p) for p in sounds], [str(p) for p in read(word)]).errors
        wrong, total, whole = wrong + found, total + len(sounds), whole + (found == 0)
    return wrong / total, whole / len(truth)


def by_letter(word: str) -> list[int]:
    """The baseline: each letter, or pair of letters, as it is said most often."""
    said: list[str] = []
    at = 0
    while at < len(word):
        pair = _PAIRS.get(word[at : at + 2])
        said += [pair] if pair else _SINGLE.get(word[at], "").split("-")
        at += 2 if pair else 1
    return [PHONE_IDS[phone] for phone in said if phone]


def _frames(said: bytes) -> int:
    """Frames that CTC needs: a blank between equal neighbours."""
    return len(said) + sum(a == b for a, b in pairwise(said))


def _batches(words: list[tuple[str, bytes]], draw: random.Random) -> Iterator[list[tuple[str, bytes]]]:
    """Words for ever, those of about one length together."""
    while True:
        order = sorted(words, key=lambda entry: len(entry[0]) + draw.random() * 3)
        batches = [order[at : at + ROWS] for at in range(0, len(order), ROWS)]
        draw.shuffle(batches)
        yield from batches


def _losses(net: LettersToPhones, batch: list[tuple[str, bytes]], device: torch.device) -> list[Tensor]:
    """CTC after every block, a phone."""
    phones = torch.tensor([phone for _, said in batch for phone in said])
    counts = torch.tensor([len(said) for _, said in batch])
    frames = torch.tensor([PER_LETTER * len(word) for word, _ in batch])
    heard = net(numbers([word for word, _ in batch]).to(device))
    phones = phones.to(device)
    return [
        F.ctc_loss(one.transpose(0, 1), phones, frames, counts, reduction="sum") / len(phones)
        for one in heard
    ]
