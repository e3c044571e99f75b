"""Model folders with a codec in them: the released Voxtral TTS, and codecs by themselves.

`params.json` and `consolidated.safetensors`; those under `audio_tokenizer.` are the codec's, strict both
ways. The release lacks the encoder: such a codec decodes only. Convolutions are stored with weight norm, as a
length and a direction; they are folded once, in float32, when they are read.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError
from ..kernels.section import read_json
from ..kernels.tensors import TensorFiles
from .config import CodecConfig
from .model import CodecModel
from .params import config_from_params, params_from_config

PARAMS, WEIGHTS = "params.json", "consolidated.safetensors"
PREFIX = "audio_tokenizer."
LENGTH, DIRECTION = "parametrizations.weight.original0", "parametrizations.weight.original1"
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")


def stored_names(name: str, config: CodecConfig) -> tuple[str, ...]:
    """Names in a file of one of our tensors: one, or length and direction of a convolution."""
    side, _, rest = name.partition(".")
    if side == "quantizer":
        return (f"{PREFIX}{name}",)
    block = re.fullmatch(r"stages\.blocks\.(\d+)\.(.*)", rest)
    if block is not None:
        place, part = f"{side}_blocks.{block[1]}", block[2]
    else:
        place, part = ("input_proj" if side == "encoder" else "output_proj"), rest.partition(".")[2]
    if part != "weight":
        return (f"{PREFIX}{place}.{part}",)
    if not config.conv_weight_norm:
        return (f"{PREFIX}{place}.conv.weight",)
    return f"{PREFIX}{place}.conv.{LENGTH}", f"{PREFIX}{place}.conv.{DIRECTION}"


def load_model(
    folder: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> CodecModel:
    """Read the codec of a model folder.

    Args:
        folder: with params.json and consolidated.safetensors; tensors of other models in it are not touched.
        dtype: of the weights; None: float32. The codebook is float32 in any case.
        device: where they go; "meta" compares names and shapes and reads nothing.

    Returns:
        The model in eval mode; `encoder` is None where the file has none.

    Raises:
        CheckpointError: the first file, key or tensor that is missing, surplus or wrong.
    """
    folder = Path(folder)
    if folder.suffix in PICKLES and folder.is_file():
        raise CheckpointError(f"{folder}: a pickle can run code; give a folder with safetensors")
    for name in (PARAMS, WEIGHTS):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder / name}: is missing; a codec is a folder with {PARAMS} and {WEIGHTS}"
            )
    try:
        config = config_from_params(read_json(folder / PARAMS), folder.absolute().name)
    except CheckpointError as error:
        raise CheckpointError(f"{folder / PARAMS}: {error}") from error
    where = torch.device(device)
    if where.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device: {device} was asked for, but torch sees no CUDA device")
    meta = where.type == "meta"
    with TensorFiles([folder / WEIGHTS], torch.device("cpu") if meta else where) as files:
        with_encoder = any(name.startswith((f"{PREFIX}encoder", f"{PREFIX}input")) for name in files.names())
        _check_depth(config, files, folder, with_encoder)
        try:
            with torch.device("meta"):
                model = CodecModel(config, with_encoder=with_encoder)
        except (RuntimeError, OverflowError) as error:
            raise CheckpointError(f"{folder / PARAMS}: sizes that no tensor can have ({error})") from error
        _check_names(model, files, folder / WEIGHTS)
        if not meta:
            _fill(model, files, dtype or torch.float32, where)
    return model.eval()


def save_model(model: CodecModel, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Write a codec's folder; convolutions are stored plainly, whatever they were read from.

    Both files are written whole beside the folder and moved: a failure leaves what was there.

    Raises:
        CheckpointError: a weight is not finite in `dtype`.
    """
    folder = Path(folder)
    config = replace(model.config, conv_weight_norm=False)
    tensors: dict[str, Tensor] = {}
    # Statistics of a codebook reach counts that half precision can't hold; entries by themselves do not.
    counted = bool((model.quantizer.semantic_codebook.cluster_usage != 1).any())
    for name, value in model.state_dict().items():
        kind = value.dtype if dtype is None or (name.startswith("quantizer.") and counted) else dtype
        tensor = value.detach().to("cpu", kind).contiguous()
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{name}: holds a number that is not finite as {tensor.dtype}")
        (stored,) = stored_names(name, config)
        tensors[stored] = tensor
    write_folder(folder, params_from_config(config), tensors)


def write_folder(folder: Path, document: Mapping[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write params.json and the weights of a model; both are moved there when they are whole."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{os.getpid()}.tmp"
    draft.mkdir()
    try:
        (draft / PARAMS).write_text(json.dumps(document, indent=1) + "\n", "utf-8")
        save_file(tensors, draft / WEIGHTS, metadata={"format": "pt"})
        # save_file makes its file readable to its owner alone, whatever the umask says.
        (draft / WEIGHTS).chmod((draft / PARAMS).stat().st_mode & 0o777)
        for name in (WEIGHTS, PARAMS):
            (draft / name).replace(folder / name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def fold(length: Tensor, direction: Tensor) -> Tensor:
    """Weight norm: the length times the direction of each slice along the first axis, in float32.

    For a transposed convolution that is one length an input channel.
    """
    direction = direction.float()
    norm = direction.square().flatten(1).sum(1).sqrt()
    return length.float() * direction / norm.reshape(-1, *[1] * (direction.dim() - 1))


def _tensors(model: CodecModel) -> dict[str, Tensor]:
    return dict(model.state_dict(keep_vars=True))


def _check_depth(config: CodecConfig, files: TensorFiles, folder: Path, with_encoder: bool) -> None:
    """Before anything is built: a config may ask for a billion layers."""
    for side, layers, first in (("encoder", config.encoder_layers, 0), ("decoder", config.decoder_layers, 1)):
        if side == "encoder" and not with_encoder:
            continue
        for index, count in enumerate(layers):
            last = f"{PREFIX}{side}_blocks.{2 * index + first}.layers.{count - 1}.attention_norm.weight"
            if last not in files:
                raise CheckpointError(
                    f"{folder / WEIGHTS}: {last} is missing; {PARAMS} asks for {count} layers"
                )


def _check_names(model: CodecModel, files: TensorFiles, path: Path) -> None:
    expected: set[str] = set()
    for name, value in _tensors(model).items():
        stored = stored_names(name, model.config)
        shapes = [list(value.shape)]
        if len(stored) == 2:
            shapes.insert(0, [value.shape[0], *[1] * (value.dim() - 1)])
        for each, wanted in zip(stored, shapes, strict=True):
            expected.add(each)
            if each not in files:
                raise CheckpointError(f"{path}: {each} is missing; expected {wanted}")
            if files.shape(each) != wanted:
                raise CheckpointError(f"{path}: {each}: expected {wanted}, found {files.shape(each)}")
            files.dtype(each)
    for name in files.names():
        if name.startswith(PREFIX) and name not in expected:
            raise CheckpointError(
                f"{path}: {name} {files.shape(name)} is surplus; {PARAMS} has no place for it"
            )


def _fill(model: CodecModel, files: TensorFiles, dtype: torch.dtype, where: torch.device) -> None:
    for name, empty in _tensors(model).items():
        parts = [files.read(each) for each in stored_names(name, model.config)]
        value = parts[0] if len(parts) == 1 else fold(parts[0], parts[1])
        value = value.to(where, torch.float32 if name.startswith("quantizer.") else dtype)
        parent, _, leaf = name.rpartition(".")
        owner = model.get_submodule(parent)
        if isinstance(empty, nn.Parameter):
            setattr(owner, leaf, nn.Parameter(value))
        else:
            setattr(owner, leaf, value.clone())
