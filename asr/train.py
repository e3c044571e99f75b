"""Training of the listener in stages: `rillvox train asr`.

1. `encoder`: Whisper's encoder made block-causal, taught the phone of every 20 ms frame. The
   targets are dense, so it leaves the plateau at once that CTC sits on for hundreds of steps;
   blocks are drawn large at first and smaller later.
2. `search`: a model folder of the encoder, its phone head, and the words of transcripts and text, with how
   often they follow each other. Nothing is trained.

Or, for a listener that writes by itself, as Voxtral's do; it needs far more steps to be as good:

2. `features`: the encoder's frames for every clip, kept on disk.
3. `decoder`: adapter and decoder learn to write, from those frames and from sentences spliced
   out of them, for all delays at once.
4. `joint`: everything together, from sound.
5. `export`: the averaged weights as a model folder.

Every stage resumes from its folder, logs to `log.jsonl`, and keeps averaged weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError
from ..kernels.int8 import has_fast_int8
from ..kernels.pack import pack_int8
from ..training.lexicon import PHONE_IDS, Lexicon
from ..training.loop import CHECKPOINT, Figures, LoopConfig, make_fabric, train
from ..training.pool import Clip
from ..training.score import Edits, edits, total
from ..training.splice import PhoneBank, Spoken
from .checkpoint import save_native
from .config import small_english
from .model import AudioEncoder, RealtimeASR
from .phone_errors import runs
from .recipe import FAR, OTHERS_FROM, WIDE_BLOCKS, Recipe
from .rows import FeatureCache, FeatureRows
from .search import WordSearch
from .tasks import DecoderTask, EncoderTask, JointTask, hear_phones
from .teacher import WhisperTeacher
from .train_text import count_words, make_vocabulary, read_text
from .whisper import load_whisper_encoder

STAGES = ("encoder", "search", "features", "decoder", "joint", "export")
LEVEL_DBFS = -24.0  # of a clip whose frames are kept
MAIN_BLOCK = 16
SETTLING_ROWS = 64  # from which the scale of the teacher's frames is learned
FEATURE_BLOCKS = (4, 8, 16, 32, 64)
FEATURE_SHARES = (0.1, 0.08, 0.62, 0.1, 0.1)


@dataclass(frozen=True)
class Run:
    """Where everything of one training lies, and how long its stages are."""

    pool: Path
    out: Path
    whisper: Path | None = None
    noise: Path | None = None
    text: Path | None = None  # one sentence a line
    steps: int = 1000
    rows: int = 2
    seconds: float = 10.24
    devices: int = 1
    precision: str = "auto"
    seed: int = 0
    init: Path | None = None  # another run, whose averaged weights a stage starts from
    rate: float = 1.0  # factor on the peak learning rates
    whisper_share: float = (
        0.0  # of Whisper's own weights, mixed into those of `init`, or of the exported model
    )

    @property
    def tokenizer(self) -> Path:
        """The vocabulary of this run."""
        return self.out / "tekken.json"


def main_train_asr(stage: str, run: Run, say: Callable[[str], None] = print) -> None:
    """One stage of a run; the earlier ones must have been through.

    Raises:
        ConfigError: an unknown stage, or one whose input is missing.
    """
    if stage not in STAGES:
        raise ConfigError(f"stage must be one of {', '.join(STAGES)}, got {stage!r}")
    if run.whisper_share and run.whisper is None:
        raise ConfigError("--whisper-share: name the file of Whisper's weights with --whisper")
    make_vocabulary(run.tokenizer, run.pool, read_text(run.text), say)
    recipe = Recipe(run.pool, run.tokenizer, run.noise)
    say(f"{len(recipe.clips)} clips, {sum(clip.seconds for clip in recipe.clips) / 3600:.2f} hours")
    {
        "encoder": train_encoder,
        "search": export_search,
        "features": keep_features,
        "decoder": train_decoder,
        "joint": train_joint,
        "export": export,
    }[stage](run, recipe, say)


def train_encoder(run: Run, recipe: Recipe, say: Callable[[str], None]) -> None:
    """Stage 1; with Whisper's weights, Whisper teaches."""
    teacher = None if run.whisper is None else WhisperTeacher(run.whisper, recipe.config.encoder)
    task = EncoderTask(recipe.config, taught=teacher is not None)
    if run.whisper is not None:
        load_whisper_encoder(task.encoder, run.whisper)
    if run.init is not None:
        begin_from(task, averaged(run.init / "encoder"), 1.0 - run.whisper_share)
    if teacher is not None:
        rng = np.random.default_rng([run.seed, 1])
        drawn = (recipe.rows.draw(run.seconds, rng).clean for _ in range(SETTLING_ROWS))
        teacher.settle(torch.as_tensor(row) for row in drawn)
    begun = 0.0 if run.init is None else WIDE_BLOCKS  # the wide blocks of the start are behind it
    groups = [
        {"params": list(task.encoder.parameters()), "lr": 3e-4 * run.rate, "weight_decay": 0.01},
        {"params": list(task.head.parameters()), "lr": 2e-3 * run.rate, "weight_decay": 0.01},
    ]
    if task.echo is not None:
        groups.append({"params": list(task.echo.parameters()), "lr": 1e-3 * run.rate, "weight_decay": 0.0})
    train(
        make_fabric(run.devices, run.precision),
        LoopConfig(run.steps, seed=run.seed),
        run.out / "encoder",
        task,
        groups,
        lambda rng, done: recipe.audio_batch(
            run.rows, run.seconds, rng, max(done, begun), words=False, teacher=teacher
        ),
        lambda trained: phone_figures(trained, recipe),
        say,
    )


def begin_from(task: EncoderTask, weights: Mapping[str, Tensor], share: float) -> None:
    """Weights of an earlier run; of the encoder's they make up `share`, the rest is what it has now."""
    blend(task.encoder, strip(weights, "encoder."), share)
    others = {name: value for name, value in weights.items() if not name.startswith("encoder.")}
    task.load_state_dict(others, strict=False)


@torch.no_grad()
def blend(encoder: AudioEncoder, weights: Mapping[str, Tensor], share: float) -> None:
    """Move an encoder's weights towards others, by `share` of the way.

    What lies between the weights that fine-tuning made and those it began from hears strangers better than
    either (Wortsman et al., arXiv 2109.01903).
    """
    for name, value in encoder.state_dict(keep_vars=True).items():
        value.lerp_(weights[name], share)


def phone_figures(task: nn.Module, recipe: Recipe) -> Figures:
    """Share of spoken frames named right on the development clips, for three blocks."""
    assert isinstance(task, EncoderTask)
    device = task.head.weight.device
    figures: dict[str, float] = {}
    for block in (recipe.config.encoder.blocks[0], MAIN_BLOCK, recipe.config.encoder.blocks[-1]):
        right = spoken = 0
        errors: list[Edits] = []
        for clip in recipe.dev[::3]:
            lead, count = 20, clip.samples // 320
            wave = np.concatenate([np.zeros(lead * 320, np.float32), recipe.pool.samples(clip)])
            wave = np.pad(wave, (0, -len(wave) % 20480))
            mel = recipe.mel(torch.as_tensor(wave)[None]).to(device)
            said = task.head(task.encoder(mel, block=block))[0, lead : lead + count].argmax(-1).cpu().numpy()
            phones = np.zeros(count, np.int64)
            for phone, (start, end) in zip(clip.phones, clip.spans, strict=True):
                phones[start:end] = phone
            right += int(((said == phones) & (phones > 0)).sum())
            spoken += int((phones > 0).sum())
            errors.append(edits([str(phone) for phone in clip.phones], runs(said.tolist())))
        figures[f"dev_phones_right_block{block}"] = round(right / max(1, spoken), 4)
        figures[f"dev_phone_errors_block{block}"] = round(total(errors).rate, 4)
    return figures


def keep_features(run: Run, recipe: Recipe, say: Callable[[str], None]) -> None:
    """Stage 2: float16 frames of every training clip, as a stream would compute them."""
    encoder = AudioEncoder(recipe.config.encoder).eval()
    encoder.load_state_dict(averaged(run.out / "encoder", "encoder."))
    if recipe.config.cpu_weights == "int8" and has_fast_int8() and not torch.cuda.is_available():
        pack_int8(encoder)  # as sessions will hear, and in half the time
    folder = run.out / "features"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(run.seed)
    lead = recipe.config.left_pad_tokens * 1280
    total = sum(clip.samples // 320 for clip in recipe.clips)
    draft = folder / "frames.tmp.npy"
    frames = np.lib.format.open_memmap(draft, "w+", np.float16, (total, recipe.config.encoder.stack.dim))
    places: dict[str, tuple[int, int]] = {}
    filled = 0
    by_length = sorted(recipe.clips, key=lambda clip: clip.samples)
    with torch.inference_mode():
        for begin in range(0, len(by_length), 4):
            clips = by_length[begin : begin + 4]
            longest = -(-max(clip.samples for clip in clips) // 20480) * 20480
            waves = np.zeros((len(clips), lead + longest), np.float32)
            for row, clip in zip(waves, clips, strict=True):
                x = recipe.pool.samples(clip)
                gain = 10 ** (LEVEL_DBFS / 20) / max(1e-4, float(x.std()))
                row[lead : lead + len(x)] = np.clip(x * gain, -1, 1)
                row[lead:] += rng.standard_normal(longest, dtype=np.float32) * np.float32(10**-3.5)
            start = int(rng.integers(0, FAR)) // 64 * 64
            block = int(rng.choice(FEATURE_BLOCKS, p=FEATURE_SHARES))  # the decoder should know them all
            kept = encoder(recipe.mel(torch.as_tensor(waves)), block=block, start=start)[:, lead // 320 :]
            for row, clip in zip(kept, clips, strict=True):
                count = clip.samples // 320
                frames[filled : filled + count] = row[:count].numpy()
                places[clip.id] = (filled, count)
                filled += count
            if begin % 400 == 0:
                say(f"{begin} of {len(by_length)} clips")
        quiet = [np.zeros(lead + 102400, np.float32) for _ in range(3)]
        for row, level in zip(quiet, (-200, -75, -60), strict=True):
            row[lead:] = rng.standard_normal(102400, dtype=np.float32) * 10 ** (level / 20)
        silence = encoder(recipe.mel(torch.as_tensor(np.stack(quiet))), block=MAIN_BLOCK)[:, lead // 320 :]
        np.save(folder / "silence.npy", silence.flatten(0, 1).numpy().astype(np.float16))
    frames.flush()
    draft.replace(folder / "frames.npy")
    (folder / "places.json").write_text(json.dumps(places))


def train_decoder(run: Run, recipe: Recipe, say: Callable[[str], None]) -> None:
    """Stage 3."""
    rows = feature_rows(run, recipe)
    task = DecoderTask(recipe.config)
    steps, lead = round(run.seconds * 12.5), recipe.config.left_pad_tokens
    some, _ = rows.draw(steps, lead, np.random.default_rng(run.seed))
    if run.init is not None:
        task.load_state_dict(averaged(run.init / "decoder"))
    else:
        head = averaged(run.out / "encoder", "head.")["weight"]
        hear_phones(task.adapter, head, torch.as_tensor(some)[None].float())
    begun = 0.0 if run.init is None else OTHERS_FROM
    pad = torch.tensor(recipe.tokenizer.pad)

    def draw(rng: np.random.Generator, done: float) -> dict[str, Tensor]:
        drawn = [rows.draw(steps, lead, rng) for _ in range(run.rows)]
        delays = [recipe.draw_delay(rng, max(done, begun)) for _ in drawn]
        pairs = [
            recipe.tokens(words, delay, lead + steps, rng)
            for (_, words), delay in zip(drawn, delays, strict=True)
        ]
        return {
            "frames": torch.as_tensor(np.stack([frames for frames, _ in drawn])),
            "token_in": torch.as_tensor(np.stack([pair[0] for pair in pairs])),
            "token_out": torch.as_tensor(np.stack([pair[1] for pair in pairs])),
            "delay": torch.tensor(delays),
            "pad": pad,
        }

    config = LoopConfig(run.steps, seed=run.seed)
    groups = split_decay(task, 2e-3 * run.rate)
    train(make_fabric(run.devices, run.precision), config, run.out / "decoder", task, groups, draw, None, say)


def feature_rows(run: Run, recipe: Recipe) -> FeatureRows:
    """The kept frames, and the bank to splice from."""
    folder = run.out / "features"
    try:
        frames = np.load(folder / "frames.npy", mmap_mode="r")
        places = {
            key: (int(a), int(b)) for key, (a, b) in json.loads((folder / "places.json").read_text()).items()
        }
        silence = np.load(folder / "silence.npy")
    except OSError as error:
        raise ConfigError(f"{folder}: no kept frames; run the stage `features` first") from error
    clips = [clip for clip in recipe.clips if clip.id in places]
    bank = PhoneBank([spoken(clip, places[clip.id][0]) for clip in clips], frames)
    texts = read_text(run.text)
    words = {word for text in texts for word in text}
    said = Lexicon(run.pool / "lexicon.json", jobs=2).lookup(sorted(words))
    lexicon = {word: [PHONE_IDS[phone] for phone in phones] for word, phones in said.items()}
    return FeatureRows(FeatureCache(frames, places, silence), clips, bank, texts, lexicon)


def spoken(clip: Clip, offset: int) -> Spoken:
    """A clip as the phone bank wants it."""
    begins = {0, *np.cumsum(clip.phones_per_word)[:-1].tolist()}
    symbols = tuple(2 * phone + (i in begins) for i, phone in enumerate(clip.phones))
    starts, ends = zip(*clip.spans, strict=True)
    return Spoken(symbols, starts, ends, offset)


def train_joint(run: Run, recipe: Recipe, say: Callable[[str], None]) -> None:
    """Stage 4: from the averaged weights of the first and the third, at gentler rates."""
    task = JointTask(recipe.config, recipe.tokenizer.pad)
    encoder = averaged(run.out / "encoder")
    task.model.encoder.load_state_dict(strip(encoder, "encoder."))
    task.head.load_state_dict(strip(encoder, "head."))
    decoder = averaged(run.out / "decoder")
    task.model.adapter.load_state_dict(strip(decoder, "adapter."))
    task.model.decoder.load_state_dict(strip(decoder, "decoder."))
    groups = [
        {"params": list(task.model.encoder.parameters()), "lr": 1e-4 * run.rate, "weight_decay": 0.01},
        {"params": list(task.head.parameters()), "lr": 5e-4 * run.rate, "weight_decay": 0.01},
        *split_decay(nn.ModuleList([task.model.adapter, task.model.decoder]), 5e-4 * run.rate),
    ]
    train(
        make_fabric(run.devices, run.precision),
        LoopConfig(run.steps, seed=run.seed),
        run.out / "joint",
        task,
        groups,
        lambda rng, done: recipe.audio_batch(run.rows, run.seconds, rng, max(done, 0.2), words=True),
        None,
        say,
    )


def export(run: Run, recipe: Recipe, say: Callable[[str], None]) -> None:
    """Stage 5: `model/` in the run's folder, of the joint stage if it has run."""
    model = RealtimeASR(recipe.config)
    if (run.out / "joint" / CHECKPOINT).exists():
        model.load_state_dict(averaged(run.out / "joint", "model."))
    else:
        model.encoder.load_state_dict(averaged(run.out / "encoder", "encoder."))
        decoder = averaged(run.out / "decoder")
        model.adapter.load_state_dict(strip(decoder, "adapter."))
        model.decoder.load_state_dict(strip(decoder, "decoder."))
    save_native(model, recipe.tokenizer, run.out / "model", dtype=torch.float16)
    say(f"wrote {run.out / 'model'}")


def export_search(run: Run, recipe: Recipe, say: Callable[[str], None]) -> None:
    """`model/` in the run's folder: a listener that searches for words."""
    config = small_english(recipe.tokenizer.vocab_size)
    model = RealtimeASR(config)
    weights = averaged(run.out / "encoder")
    if run.whisper is not None:
        load_whisper_encoder(model.encoder, run.whisper)
    blend(model.encoder, strip(weights, "encoder."), 1.0 if run.whisper is None else 1.0 - run.whisper_share)
    model.adapter.load_state_dict({f"head.{name}": value for name, value in strip(weights, "head.").items()})
    assert isinstance(model.decoder, WordSearch)
    words = count_words(recipe.clips, read_text(run.text), run.pool / "lexicon.json")
    model.decoder.learn(words)
    save_native(model, recipe.tokenizer, run.out / "model", dtype=torch.float16)
    say(f"{len(words.words)} words, {len(words.language.pair_word)} pairs; wrote {run.out / 'model'}")


def averaged(folder: Path, prefix: str = "") -> dict[str, Tensor]:
    """The averaged weights of a stage, those under `prefix`."""
    try:
        kept = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{folder}: no checkpoint; run the stage `{folder.name}` first") from error
    return strip(kept["average"], prefix)


def strip(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights under a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def split_decay(module: nn.Module, rate: float) -> list[dict[str, Any]]:
    """Weight decay on matrices only."""
    matrices = [p for p in module.parameters() if p.dim() > 1]
    vectors = [p for p in module.parameters() if p.dim() <= 1]
    return [
        {"params": matrices, "lr": rate, "weight_decay": 0.05},
        {"params": vectors, "lr": rate, "weight_decay": 0.0},
    ]
