"""The arrows between the rooms, and what a room may know of the world outside."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ["kernels", "codec", "asr", "tts", "training", "streaming", "commands", "weights"]

# Whoever trains or scores a model, or seeks codes by descent, stands above the shared training code, and that
# above the model itself.
RECIPES = {
    "train",
    "tasks",
    "recipe",
    "rows",
    "prepare",
    "speech",
    "pairs",
    "preference",
    "evaluate",
    "emission",
    "hearing",
    "lessons",
    "peers",
    "phone",
    "measures",
    "probes",
    "dumps",
    "semantics",
    "textual",
    "balance",
    "scoreboard",
    "scoring",
    "timing",
    "conditions",
    "calibrate",
    "enrol",
}

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "audio": {"errors"},
    "tekken": {"errors"},
    "weights": set(),
    "kernels": {"errors", "audio"},
    "codec": {"errors", "audio", "kernels", "weights"},
    "asr": {"tekken", "errors", "audio", "kernels", "weights"},
    "tts": {"tekken", "errors", "audio", "kernels", "codec", "weights"},
    "training": {"tekken", "errors", "audio", "kernels", "codec", "asr", "tts"},
    "recipes of asr": {"tekken", "version", "errors", "audio", "kernels", "asr", "training", "weights"},
    "recipes of codec": {"version", "errors", "audio", "kernels", "codec", "training", "weights"},
    "recipes of tts": {
        "tekken",
        "version",
        "errors",
        "audio",
        "kernels",
        "codec",
        "tts",
        "training",
        "weights",
    },
    "streaming": {"tekken", "version", "errors", "audio", "kernels", "codec", "asr", "tts", "weights"},
}
TOP = {"cli", "cli_measuring", "cli_options", "cli_training", "commands", "__init__"}  # may import anything

OUTSIDE = {  # modules of threads, sockets and clocks
    *("threading", "queue", "concurrent", "multiprocessing", "asyncio", "selectors", "signal"),
    *("socket", "socketserver", "ssl", "http", "urllib", "time", "datetime", "sched"),
}
TIMELESS = {"errors", "audio", "tekken", "weights", "kernels", "codec", "asr", "tts"}

# What `pip install rillvox` brings; the rest belongs to extras and is imported where it is used.
BASE = {
    "torch",
    "numpy",
    "soundfile",
    "soxr",
    "miniaudio",
    "safetensors",
    "tiktoken",
    "num2words",
    "typer",
    "click",
    "numba",
    "llvmlite",  # a part of numba
    "rillvox",
}
# Half a second to import: the rest of the library imports them where they are used.
WHEN_USED = {
    "kernels.numba_conv",
    "kernels.numba_decoder",
    "kernels.numba_dense",
    "kernels.numba_search",
    "kernels.numba_source",
    "kernels.numba_stage",
    "kernels.numba_tokens",
}
LIBRARY = {
    "errors",
    "audio",
    "tekken",
    "kernels",
    "codec",
    "asr",
    "tts",
    "cli",
    "cli_measuring",
    "cli_options",
    "cli_training",
    "commands",
    "__init__",
}


class Import(NamedTuple):
    """One imported module: absolute name, and how it is imported."""

    name: str
    line: int
    relative: bool
    for_types: bool  # under `if TYPE_CHECKING`
    lazy: bool  # inside a function


def layer(module: str) -> str:
    """The layer of a module of the package, named without the leading `rillvox.`."""
    parts = module.split(".")
    room = parts[0]
    if room in ("audio", "audio_files"):
        return "audio"
    if room == "__version__":
        return "version"
    if room in ("asr", "codec", "tts") and len(parts) > 1 and parts[1].split("_")[0] in RECIPES:
        return f"recipes of {room}"
    return room


def imports(source: str, module: str) -> Iterator[Import]:
    """Every import of a module's source, relative ones resolved."""
    package = module.split(".")[:-1]

    def walk(node: ast.AST, for_types: bool, lazy: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, False, for_types, lazy)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - (node.level - 1)]
                stem = ".".join([*base, *([node.module] if node.module else [])])
                for alias in node.names:  # `from . import x` may name a module
                    name = f"{stem}.{alias.name}" if stem else alias.name
                    yield Import(name, node.lineno, True, for_types, lazy)
            else:
                yield Import(node.module or "", node.lineno, False, for_types, lazy)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                yield from walk(child, True, lazy)
            for child in node.orelse:
                yield from walk(child, for_types, lazy)
        else:
            inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from walk(child, for_types, inside)

    yield from walk(ast.parse(source), False, False)


def modules() -> dict[str, str]:
    """Source of every module of the package by its name, `kernels.conv` and the like."""
    paths = [*ROOT.glob("*.py"), *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))]
    names = {}
    for path in paths:
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts)] = path.read_text(encoding="utf-8")
    return names


def wrong_arrows(module: str, source: str) -> list[str]:
    own = layer(module)
    if own in TOP:
        return []
    found = []
    for imported in imports(source, module):
        where = f"{module}:{imported.line} imports {imported.name}"
        if imported.name.split(".")[0] == "rillvox":
            found.append(f"{where}: inside the package imports are relative")
        if imported.relative and imported.name != "__init__":
            target = layer(imported.name)
            if target != own and target not in ALLOWED.get(own, set()) and not _own_room(own, target):
                found.append(f"{where}: {own} must not know {target}")
    return found


def _own_room(own: str, target: str) -> bool:
    return own == f"recipes of {target}"


def worldly(module: str, source: str) -> list[str]:
    own = layer(module)
    if own not in TIMELESS and not module.startswith("streaming.dialects"):
        return []
    return [
        f"{module}:{i.line} imports {i.name}: no threads, sockets or clocks here"
        for i in imports(source, module)
        if not i.relative and i.name.split(".")[0] in OUTSIDE
    ]


def not_in_base(module: str, source: str) -> list[str]:
    if layer(module) not in LIBRARY or module in WHEN_USED:
        return []
    return [
        f"{module}:{i.line} imports {i.name}, which the base install lacks: import it where it is used"
        for i in imports(source, module)
        if not (i.for_types or i.lazy)
        and (
            i.name.rpartition(".")[0] in WHEN_USED
            if i.relative
            else i.name.split(".")[0] not in BASE | set(sys.stdlib_module_names)
        )
    ]


def test_every_import_follows_an_arrow() -> None:
    assert [line for name, source in modules().items() for line in wrong_arrows(name, source)] == []


def test_nothing_below_streaming_knows_threads_sockets_or_clocks() -> None:
    assert [line for name, source in modules().items() for line in worldly(name, source)] == []


def test_the_library_starts_with_the_base_install() -> None:
    assert [line for name, source in modules().items() for line in not_in_base(name, source)] == []


def test_the_walk_sees_the_rooms() -> None:
    names = modules()
    assert {"errors", "audio", "kernels.state", "asr.model", "streaming.events"} <= set(names)
    assert any(i.name == "errors.AudioError" and i.relative for i in imports(names["audio"], "audio"))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("kernels.conv", "from ..asr.model import RealtimeASR"),
        ("kernels.conv", "def f():\n    from ..streaming import engine"),
        ("asr.model", "from .. import tts"),
        ("asr.stream", "from ..streaming.events import Partial"),
        ("asr.model", "from ..training.loop import train"),
        ("asr.model", "from .train import run"),
        ("asr.train", "from ..tts.model import Voice"),
        ("tts.stream", "if TYPE_CHECKING:\n    from ..asr.model import RealtimeASR"),
        ("codec.model", "from ..tts.model import TTS"),
        ("streaming.engine", "from ..training.score import edits"),
        ("streaming.gateway", "from ..cli import app"),
        ("errors", "from .audio import Audio"),
        ("asr.model", "import rillvox.kernels.conv"),
        ("asr.model", "from rillvox.errors import ConfigError"),
    ],
)
def test_a_wrong_arrow_is_seen(module: str, source: str) -> None:
    assert wrong_arrows(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("asr.train", "from ..training.loop import train\nfrom .model import RealtimeASR"),
        ("training.bpe", "from ..tekken import Tekken"),
        ("asr.model", "from ..kernels.conv import CausalConv1d\nfrom .config import ASRConfig"),
        ("streaming.dialects.openai", "from ..events import Partial\nfrom ...errors import ProtocolError"),
        ("cli", "from .streaming.gateway import serve"),
    ],
)
def test_a_right_arrow_is_let_through(module: str, source: str) -> None:
    assert wrong_arrows(module, source) == []


def test_a_clock_below_streaming_is_seen() -> None:
    assert worldly("asr.stream", "import time")
    assert worldly("kernels.state", "from threading import Lock")
    assert worldly("streaming.dialects.vllm", "def f():\n    import asyncio")
    assert not worldly("streaming.engine", "import threading")


def test_an_extra_in_the_library_is_seen() -> None:
    assert not_in_base("asr.model", "import transformers")
    assert not_in_base("kernels.fused", "from .numba_decoder import decode")
    assert not not_in_base("kernels.fused", "def f():\n    from .numba_decoder import decode")
    assert not not_in_base("asr.model", "def f():\n    import transformers")
    assert not not_in_base("asr.model", "import torch.nn.functional as F\nimport math")


def test_a_file_is_read_in_one_sitting() -> None:
    assert {name: source.count("\n") for name, source in modules().items() if source.count("\n") > 400} == {}
