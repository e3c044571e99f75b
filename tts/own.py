"""A speaker of our own in one folder: params.json, consolidated.safetensors, and its codec by name.

Matrices are stored as int8 with a float16 scale for each output (`kernels/int8.py` rounds them), a quarter of
float32; everything else as float16.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..codec.checkpoint import PARAMS, WEIGHTS, write_folder
from ..codec.stream import Codec
from ..errors import CheckpointError, ConfigError
from ..kernels.int8 import round_weight
from ..kernels.section import Section, read_json
from .config import AlignedTextConfig, FlowConfig, TTSConfig, backbone
from .model import SpeakerModel
from .tokens import TOKENS

MODEL_TYPE = "rillvox_tts"
SCALE = ".scale"
LEAST = 4096  # numbers of a matrix that is worth a scale


def params_of(config: TTSConfig, codec: str, fingerprint: str) -> dict[str, Any]:
    """The document of a speaker whose codec is called so."""
    body, flow, text = config.backbone, config.flow, config.text
    assert text is not None
    return {
        "model_type": MODEL_TYPE,
        "codec": {"model": codec, "fingerprint": fingerprint},
        "backbone": {
            "dim": body.dim,
            "n_layers": body.n_layers,
            "n_heads": body.n_heads,
            "n_kv_heads": body.kv_heads,
            "head_dim": body.head_dim,
            "hidden_dim": body.hidden_dim,
            "rope_theta": body.rope_theta,
            "norm_eps": body.norm_eps,
            "window": body.window,
        },
        "flow": {
            "dim": flow.dim,
            "n_layers": flow.n_layers,
            "n_heads": flow.n_heads,
            "n_kv_heads": flow.n_kv_heads,
            "head_dim": flow.head_dim,
            "hidden_dim": flow.hidden_dim,
            "norm_eps": flow.norm_eps,
            "steps": flow.steps,
            "guidance": flow.guidance,
            "named": flow.named,
            "spans": flow.spans,
        },
        "text": {
            "tokens": text.tokens,
            "width": text.width,
            "behind": text.behind,
            "ahead": text.ahead,
            "most": text.most,
            "longest": text.longest,
        },
    }


def is_own(document: Mapping[str, object]) -> bool:
    """Whether a params.json is of this kind."""
    return document.get("model_type") == MODEL_TYPE


def folder_of(model: str | Path) -> Path:
    """Where a speaker is that comes along by name, or the folder itself.

    Raises:
        CheckpointError: there is no such speaker.
    """
    if isinstance(model, str) and "/" not in model:
        # Whatever lies in the working directory: a folder of that name is meant by `./NAME`.
        shipped = resources.files("rillvox") / "weights" / model
        if model.strip(".") and shipped.is_dir():
            return Path(str(shipped))
    folder = Path(model)
    if isinstance(model, str) and not folder.exists():
        raise CheckpointError(f"{model}: no such speaker comes along, and there is no such folder")
    return folder


def load_own(folder: Path, *, weights: str | None = None) -> tuple[SpeakerModel, Codec]:
    """Read a speaker and its codec, the one that comes along or a folder beside the speaker's.

    Args:
        weights: of the codec, as `Codec.load` takes it.

    Raises:
        CheckpointError: the first file, key or tensor that is missing, surplus or wrong; a codec that is not
            the one that the speaker learned with.
    """
    document = read_json(folder / PARAMS)
    try:
        top = Section(document)
        top.expect("model_type", MODEL_TYPE)
        named = top.section("codec")
        name = named.text("model")
        beside = folder / name
        codec = Codec.load(beside if beside.is_dir() else name, weights=weights)  # pyright: ignore
        if codec.fingerprint != named.text("fingerprint"):
            raise CheckpointError(f"codec: {name} is not the one that this speaker learned with")
        config = _config(top, codec, folder.absolute().name)
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{folder / PARAMS}: {error}") from error
    return load_weights(config, folder), codec


def load_weights(config: TTSConfig, folder: Path) -> SpeakerModel:
    """Read a speaker of this config in float32.

    Raises:
        CheckpointError: see `load_own`.
    """
    with torch.device("meta"):
        model = SpeakerModel(config)
    _fill(model, folder / WEIGHTS)
    return model.eval()


def _config(top: Section, codec: Codec, name: str) -> TTSConfig:
    body, flow, text = top.section("backbone"), top.section("flow"), top.section("text")
    if text.integer("tokens") != TOKENS:
        raise text.error("tokens", f"must be {TOKENS}, got {text.integer('tokens')}")
    sizes = ("dim", "n_layers", "n_heads", "n_kv_heads", "head_dim", "hidden_dim")
    return TTSConfig(
        backbone(
            *(body.integer(key) for key in sizes),  # pyright: ignore[reportArgumentType]
            rope_theta=body.positive("rope_theta"),
            norm_eps=body.positive("norm_eps"),
            context=body.integer("window"),
        ),
        FlowConfig(
            *(flow.integer(key) for key in sizes),
            norm_eps=flow.positive("norm_eps"),
            steps=flow.integer("steps"),
            guidance=flow.number("guidance"),
            named=flow.flag("named"),
            spans=flow.flag("spans"),
        ),
        codec.config,
        0,
        name,
        AlignedTextConfig(
            tokens=text.integer("tokens"),
            width=text.integer("width"),
            behind=text.integer("behind", minimum=0),
            ahead=text.integer("ahead", minimum=0),
            most=text.integer("most"),
            longest=text.integer("longest"),
        ),
    )


def _fill(model: SpeakerModel, path: Path) -> None:
    expected = model.state_dict(keep_vars=True)
    try:
        with safe_open(str(path), "pt") as file:  # pyright: ignore[reportUnknownVariableType]
            stored: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # pyright: ignore # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: is no safetensors file, or damaged ({error})") from error
    for name, wanted in expected.items():
        if name not in stored:
            raise CheckpointError(f"{path}: {name} is missing; expected {list(wanted.shape)}")
        value = stored.pop(name)
        if value.shape != wanted.shape:
            raise CheckpointError(f"{path}: {name}: expected {list(wanted.shape)}, found {list(value.shape)}")
        if value.dtype == torch.int8:
            scale = stored.pop(name + SCALE, None)
            if scale is None or scale.shape != value.shape[:1]:
                raise CheckpointError(f"{path}: {name}{SCALE} is missing or of another shape")
            value = value.float() * scale.float()[:, None]
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, nn.Parameter(value.float(), requires_grad=False))
    if stored:
        raise CheckpointError(f"{path}: {next(iter(stored))} is surplus; {PARAMS} has no place for it")


def save_own(model: SpeakerModel, folder: Path, codec: str, fingerprint: str) -> None:
    """Write a speaker's folder; both files are moved there when they are whole.

    Raises:
        CheckpointError: a weight that is not finite.
    """
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        value = value.detach().float().cpu()
        if not bool(torch.isfinite(value.half()).all()):
            raise CheckpointError(f"{name}: holds a number that is not finite as float16")
        if value.dim() == 2 and value.numel() >= LEAST:
            rounded, scale = round_weight(value)
            tensors[name], tensors[name + SCALE] = rounded.contiguous(), scale.half()
        else:
            tensors[name] = value.half().contiguous()
    write_folder(folder, params_of(model.config, codec, fingerprint), tensors)
