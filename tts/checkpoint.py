"""A speaker and its codec in one folder: params.json and consolidated.safetensors, as in the release."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ..codec.checkpoint import PARAMS, PREFIX, WEIGHTS
from ..codec.checkpoint import load_model as load_codec
from ..codec.model import CodecModel
from ..errors import CheckpointError, ConfigError
from ..kernels.section import read_json
from ..kernels.tensors import TensorFiles
from .config import TTSConfig
from .model import SpeakerModel
from .params import config_from_params

RENAMED = (  # ours, the file's
    ("tok_embeddings.", "mm_audio_embeddings.tok_embeddings."),
    ("frame_embedding.", "mm_audio_embeddings.audio_codebook_embeddings."),
    ("backbone.", ""),
    ("flow.stack.", "acoustic_transformer."),
    ("flow.", "acoustic_transformer."),
)
FORMULAS = ("acoustic_transformer.time_embedding.inv_freq",)  # stored by some, made anew here


def stored_name(name: str) -> str:
    """The file's name of one of our tensors."""
    for ours, theirs in RENAMED:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise KeyError(name)


def load_model(
    folder: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> tuple[SpeakerModel, CodecModel]:
    """Read a model folder.

    Args:
        dtype: of the weights; None: as they are stored on a GPU, float32 on a CPU.
        device: where they go; "meta" compares names and shapes and reads nothing.

    Returns:
        Both models in eval mode; the codec has an encoder if the file has one.

    Raises:
        CheckpointError: the first file, key or tensor that is missing, surplus or wrong.
    """
    folder = Path(folder)
    where = torch.device(device)
    if where.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device: {device} was asked for, but torch sees no CUDA device")
    codec = load_codec(folder, dtype=dtype, device=where)
    try:
        config = config_from_params(read_json(folder / PARAMS), folder.absolute().name)
    except CheckpointError as error:
        raise CheckpointError(f"{folder / PARAMS}: {error}") from error
    meta = where.type == "meta"
    with TensorFiles([folder / WEIGHTS], torch.device("cpu") if meta else where) as files:
        _check_depth(config, files, folder / WEIGHTS)
        with torch.device("meta"):
            model = SpeakerModel(config)
        _check_names(model, files, folder / WEIGHTS)
        if not meta:
            _fill(model, files, dtype or (torch.float32 if where.type == "cpu" else None))
    return model.eval(), codec


def _check_depth(config: TTSConfig, files: TensorFiles, path: Path) -> None:
    """Before anything is built: a config may ask for a billion layers."""
    for prefix, count in (("", config.backbone.n_layers), ("acoustic_transformer.", config.flow.n_layers)):
        last = f"{prefix}layers.{count - 1}.attention_norm.weight"
        if last not in files:
            raise CheckpointError(f"{path}: {last} is missing; {PARAMS} asks for {count} layers")


def _check_names(model: SpeakerModel, files: TensorFiles, path: Path) -> None:
    expected: set[str] = set()
    for name, value in model.state_dict(keep_vars=True).items():
        stored, wanted = stored_name(name), list(value.shape)
        expected.add(stored)
        if stored not in files:
            raise CheckpointError(f"{path}: {stored} is missing; expected {wanted}")
        if files.shape(stored) != wanted:
            raise CheckpointError(f"{path}: {stored}: expected {wanted}, found {files.shape(stored)}")
        files.dtype(stored)
    for name in files.names():
        if name not in expected and not name.startswith(PREFIX) and name not in FORMULAS:
            raise CheckpointError(
                f"{path}: {name} {files.shape(name)} is surplus; {PARAMS} has no place for it"
            )


def _fill(model: SpeakerModel, files: TensorFiles, dtype: torch.dtype | None) -> None:
    for name in list(model.state_dict(keep_vars=True)):
        value: Tensor = files.read(stored_name(name))
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, nn.Parameter(value if dtype is None else value.to(dtype)))
