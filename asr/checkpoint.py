"""Model folders: the released Voxtral Realtime in both its formats, and the default models.

- native: `params.json`, `consolidated.safetensors`, `tekken.json`, and `words.safetensors` of a model that
  searches for words; read and written;
- Hugging Face: `config.json`, `model.safetensors` (or its shards and an index), `tekken.json`; read.

A model is built without memory and then filled tensor by tensor, straight to the wanted device
and type, so nothing is held twice. Names and shapes are strict both ways: the first tensor that
is missing, misshapen or left over is named, and nothing is guessed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError
from ..kernels.int8 import Int8Linear
from ..kernels.section import read_json
from ..kernels.tensors import TensorFiles, shards
from ..tekken import STREAMING_SPECIALS, Tekken
from .config import ASRConfig
from .model import RealtimeASR
from .names import HEADS, RopeLayout, has_rope_rows, hugging_face_name, native_name, reorder_rope_rows
from .params import config_from_hf, load_config, params_from_config
from .search import SearchConfig, WordSearch
from .vocabulary import WORDS, Vocabulary

PARAMS, WEIGHTS, TEKKEN = "params.json", "consolidated.safetensors", "tekken.json"
HF_CONFIG, HF_WEIGHTS, HF_INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")

# What `save_native` puts into tekken.json where the tokenizer does not say it, as the released file has it.
TEKKEN_AUDIO: dict[str, object] = {
    "sampling_rate": 16000,
    "frame_rate": 12.5,
    "transcription_format": "streaming",
    "transcription_delay_ms": 480,
    "streaming_look_ahead_ms": 2.5,
    "streaming_look_back_ms": 52.5,
}


@dataclass(frozen=True)
class Source:
    """Where one model folder keeps what, and how it spells tensors."""

    config: Path
    weights: list[Path]
    spell: Callable[[str], str]
    layout: RopeLayout

    def read_config(self, left_pad_tokens: int) -> ASRConfig:
        """The config, with the file named in what it raises."""
        document = read_json(self.config)
        read = load_config if self.spell is native_name else config_from_hf
        try:
            return read(document, left_pad_tokens=left_pad_tokens, name=self.config.absolute().parent.name)
        except CheckpointError as error:
            raise CheckpointError(f"{self.config}: {error}") from error


def load_model(
    folder: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    time_embedding_dtype: Literal["float32", "bfloat16"] | None = None,
) -> RealtimeASR:
    """Read a model folder of either format; `.config` of the model has its numbers.

    Args:
        folder: the folder; it may lack tekken.json, the left padding is then the released 32.
        dtype: type of the weights; None: float32 on a CPU, elsewhere bfloat16 if it is stored so.
        device: where the weights go; "meta" compares names and shapes and reads no weights.
        time_embedding_dtype: overrides the config's, for comparison with bfloat16 references.

    Returns:
        The model in eval mode.

    Raises:
        CheckpointError: the first file, key or tensor that is missing, surplus or wrong.
        ConfigError: there is no such device.
    """
    folder = Path(folder)
    source = find_source(folder)
    tokenizer = Tekken.load(folder / TEKKEN, require=()) if (folder / TEKKEN).is_file() else None
    return _load(source, tokenizer, dtype, device, time_embedding_dtype)


def load_listener(
    folder: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    time_embedding_dtype: Literal["float32", "bfloat16"] | None = None,
) -> tuple[RealtimeASR, Tekken]:
    """Model and tokenizer of a folder, see `load_model`; here tekken.json has to be there and fit."""
    folder = Path(folder)
    source = find_source(folder)
    tokenizer = Tekken.load(folder / TEKKEN, require=STREAMING_SPECIALS)
    model = _load(source, tokenizer, dtype, device, time_embedding_dtype)
    if isinstance(model.decoder, WordSearch):
        model.decoder.learn(Vocabulary.load(folder / WORDS))
    return model, tokenizer


def find_source(folder: Path) -> Source:
    """Which format a folder has; native where it has both.

    Raises:
        CheckpointError: neither; the message says what is missing, or that pickles are not read.
    """
    if folder.suffix in PICKLES and folder.is_file():
        raise CheckpointError(f"{folder}: a pickle can run code; give a folder with safetensors")
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: is no folder; a model is a folder with {PARAMS} and {WEIGHTS}")
    hf_weights = next((folder / name for name in (HF_WEIGHTS, HF_INDEX) if (folder / name).is_file()), None)
    if (folder / PARAMS).is_file() and (folder / WEIGHTS).is_file():
        return Source(folder / PARAMS, [folder / WEIGHTS], native_name, "interleaved")
    if (folder / HF_CONFIG).is_file() and hf_weights is not None:
        files = shards(hf_weights) if hf_weights.name == HF_INDEX else [hf_weights]
        return Source(folder / HF_CONFIG, files, hugging_face_name, "half")
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles:
        raise CheckpointError(f"{folder / pickles[0]}: a pickle can run code; only safetensors are read")
    for needed, partner in ((PARAMS, WEIGHTS), (WEIGHTS, PARAMS), (HF_CONFIG, HF_WEIGHTS)):
        if (folder / needed).is_file():
            raise CheckpointError(f"{folder / partner}: is missing beside {needed}")
    if hf_weights is not None:
        raise CheckpointError(f"{folder / HF_CONFIG}: is missing beside {hf_weights.name}")
    raise CheckpointError(
        f"{folder}: is no model folder; expected {PARAMS} and {WEIGHTS}, or {HF_CONFIG} and {HF_WEIGHTS}"
    )


def save_native(
    model: RealtimeASR, tokenizer: Tekken, folder: str | Path, *, dtype: torch.dtype | None = None
) -> None:
    """Write a model folder in the native format; other files in the folder stay.

    All files are written beside the folder first and moved when they are whole: a failure leaves
    what was there. `dtype` is what the weights are stored in (None: as they are).

    Raises:
        CheckpointError: the tokenizer does not fit the model, or a weight is not finite in `dtype`.
        ConfigError: the config has a habit that params.json cannot say, or the weights are int8.
    """
    folder = Path(folder)
    config = model.config
    if any(isinstance(module, Int8Linear) for module in model.modules()):
        raise ConfigError("int8 weights cannot be saved: load the model with weights='float32'")
    tokenizer = _with_audio(tokenizer, config)
    _check_tokenizer(tokenizer, config)
    params = params_from_config(config)
    tensors: dict[str, Tensor] = {}
    for name, weight in model.named_parameters():
        tensor = weight.detach().to("cpu", dtype or weight.dtype).contiguous()
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{name}: holds a number that is not finite as {tensor.dtype}")
        tensors[native_name(name)] = tensor
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    draft.mkdir()
    try:
        (draft / PARAMS).write_text(json.dumps(params, indent=1) + "\n", "utf-8")
        save_file(tensors, draft / WEIGHTS, metadata={"format": "pt"})
        # save_file makes its file readable to its owner alone, whatever the umask says.
        (draft / WEIGHTS).chmod((draft / PARAMS).stat().st_mode & 0o777)
        tokenizer.save(draft / TEKKEN)
        names = [PARAMS, WEIGHTS, TEKKEN]
        if isinstance(model.decoder, WordSearch):
            model.decoder.vocabulary.save(draft / WORDS)
            (draft / WORDS).chmod((draft / PARAMS).stat().st_mode & 0o777)
            names.append(WORDS)
        for name in names:
            _flush(draft / name)
        _move_in(draft, folder, names)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _load(
    source: Source,
    tokenizer: Tekken | None,
    dtype: torch.dtype | None,
    device: torch.device | str,
    time_embedding_dtype: Literal["float32", "bfloat16"] | None,
) -> RealtimeASR:
    where = _device(device)
    left_pad = 32
    if tokenizer is not None and "streaming_n_left_pad_tokens" in tokenizer.audio:
        left_pad = tokenizer.left_pad_tokens
    config = source.read_config(left_pad)
    if time_embedding_dtype is not None:
        config = replace(config, time_embedding_dtype=time_embedding_dtype)
    if tokenizer is not None:
        _check_tokenizer(tokenizer, config)
    meta = where.type == "meta"
    with TensorFiles(source.weights, torch.device("cpu") if meta else where) as files:
        model = build_empty(config, files, source)
        check_names(model, files, source)
        if not meta:
            _fill(model, files, source, dtype, where)
    return model.eval()


def _fill(
    model: RealtimeASR, files: TensorFiles, source: Source, dtype: torch.dtype | None, where: torch.device
) -> None:
    for name, empty in list(model.named_parameters()):
        stored = source.spell(name)
        kind = dtype
        if kind is None:
            as_stored = where.type != "cpu" and files.dtype(stored) == torch.bfloat16
            kind = torch.bfloat16 if as_stored else torch.float32
        tensor = files.read(stored)
        if has_rope_rows(name) and source.layout != "interleaved":
            tensor = reorder_rope_rows(tensor, _head_dim(name, model.config), "interleaved")
        parent, _, leaf = name.rpartition(".")
        filled = nn.Parameter(tensor.to(where, kind), requires_grad=empty.requires_grad)
        setattr(model.get_submodule(parent), leaf, filled)
    _check_head(files, source)


def build_empty(config: ASRConfig, files: TensorFiles, source: Source) -> RealtimeASR:
    """The model on the meta device: modules and shapes, no memory.

    Raises:
        CheckpointError: the config asks for layers that the file lacks, or for impossible sizes.
    """
    # Before anything is built: a config may ask for a billion layers.
    stacks = [("encoder", config.encoder.stack)]
    if not isinstance(config.decoder, SearchConfig):
        stacks.append(("decoder", config.decoder))
    for part, stack in stacks:
        last = source.spell(f"{part}.transformer.layers.{stack.n_layers - 1}.attention_norm.weight")
        if last not in files:
            raise CheckpointError(
                f"{source.weights[0]}: {last} is missing; "
                f"{source.config.name} asks for {stack.n_layers} layers"
            )
    try:
        with torch.device("meta"):
            return RealtimeASR(config)
    except (RuntimeError, OverflowError) as error:
        raise CheckpointError(f"{source.config}: sizes that no tensor can have ({error})") from error


def check_names(model: RealtimeASR, files: TensorFiles, source: Source) -> None:
    """Compare names and shapes both ways, from the headers alone.

    Raises:
        CheckpointError: the first tensor that is missing, misshapen, no float, or left over.
    """
    expected: set[str] = set()
    for name, weight in model.named_parameters():
        stored = source.spell(name)
        expected.add(stored)
        wanted = list(weight.shape)
        if stored not in files:
            raise CheckpointError(f"{source.weights[0]}: {stored} is missing; expected {wanted}")
        found = files.shape(stored)
        if found != wanted:
            hint = "; was it transposed?" if found == wanted[::-1] else ""
            raise CheckpointError(f"{files.path(stored)}: {stored}: expected {wanted}, found {found}{hint}")
        files.dtype(stored)
    for name in files.names():
        if name not in expected and name not in HEADS:
            raise CheckpointError(
                f"{files.path(name)}: {name} {files.shape(name)} is surplus; "
                f"{source.config.name} has no place for it"
            )


def _check_head(files: TensorFiles, source: Source) -> None:
    embedding = source.spell("decoder.tok_embeddings.weight")
    for name in HEADS:
        if name not in files:
            continue
        wanted, found = files.shape(embedding), files.shape(name)
        if found != wanted:
            raise CheckpointError(f"{files.path(name)}: {name}: expected {wanted}, found {found}")
        if not torch.equal(files.read(name), files.read(embedding)):
            raise CheckpointError(
                f"{files.path(name)}: {name} differs from {embedding}; only tied output heads are read"
            )


def _head_dim(name: str, config: ASRConfig) -> int:
    return (config.encoder.stack if name.startswith("encoder.") else config.text_decoder).head_dim


def _device(device: torch.device | str) -> torch.device:
    try:
        where = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device: {device!r} is none that torch knows") from error
    if where.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device: {device} was asked for, but torch sees no CUDA device")
    return where


def _check_tokenizer(tokenizer: Tekken, config: ASRConfig) -> None:
    if tokenizer.vocab_size != config.vocab_size:
        raise CheckpointError(
            f"{TEKKEN}: has {tokenizer.vocab_size} tokens, but the model has {config.vocab_size}"
        )


def _with_audio(tokenizer: Tekken, config: ASRConfig) -> Tekken:
    """The tokenizer with all that a reader of the folder has to know about the stream."""
    encoding = {"num_mel_bins": config.encoder.n_mels, "hop_length": 160, "window_size": 400}
    known: dict[str, object] = {"streaming_n_left_pad_tokens": config.left_pad_tokens}
    audio = {**TEKKEN_AUDIO, "audio_encoding_config": encoding, **known, **tokenizer.audio}
    tokenizer = replace(tokenizer, audio=audio)
    if tokenizer.left_pad_tokens != config.left_pad_tokens:
        raise CheckpointError(
            f"{TEKKEN}: audio.streaming_n_left_pad_tokens is {tokenizer.left_pad_tokens}, "
            f"but the model has {config.left_pad_tokens}"
        )
    return tokenizer


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _move_in(draft: Path, folder: Path, names: Sequence[str]) -> None:
    """Move whole files into place; on failure what was there before comes back."""
    if not folder.exists():
        draft.replace(folder)
        return
    kept = draft / "before"
    kept.mkdir()
    for name in names:
        if (folder / name).exists():
            # A second name for the old file costs nothing and survives its replacement.
            os.link(folder / name, kept / name)
    moved: list[str] = []
    try:
        for name in names:
            (draft / name).replace(folder / name)
            moved.append(name)
    except OSError:
        for name in moved:
            if (kept / name).exists():
                (kept / name).replace(folder / name)
            else:
                (folder / name).unlink()
        raise
