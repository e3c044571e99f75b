"""requirements.lock: usable by plain pip, on any machine, without a CUDA package."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ELSEWHERE = re.compile(r"://|\+cpu|\+cu|nvidia|^cuda|^triton|^-|^/|@", re.MULTILINE)


def pins(text: str = TEXT) -> dict[str, list[Requirement]]:
    found: dict[str, list[Requirement]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def test_no_line_names_a_host_a_build_or_cuda() -> None:
    assert not ELSEWHERE.search(TEXT)


def test_such_lines_would_be_seen() -> None:
    bad = ["torch @ https://somewhere/x.whl", "torch==2.13.0+cpu", "nvidia-cublas==13.0", "triton==3.5"]
    assert all(ELSEWHERE.search(f"numpy==2.4.6\n{line}\n") for line in bad)


def test_every_line_pins_one_version() -> None:
    for requirements in pins().values():
        for requirement in requirements:
            assert [s.operator for s in requirement.specifier] == ["=="], requirement
        if len(requirements) > 1:
            assert all(requirement.marker for requirement in requirements), requirements


def test_torch_is_pinned() -> None:
    assert [str(r) for r in pins()["torch"]] == ["torch==2.13.0"]


def test_every_dependency_but_gpus_is_pinned_within_its_range() -> None:
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *(r for name, rs in extras.items() if name != "gpu" for r in rs)]
    locked = pins()
    for requirement in map(Requirement, wanted):
        fits = [
            str(specifier)
            for pin in locked.get(canonicalize_name(requirement.name), [])
            for specifier in pin.specifier
            if requirement.specifier.contains(specifier.version)
        ]
        assert fits, f"{requirement} is not in requirements.lock"


def test_for_every_python_there_is_at_most_one_version() -> None:
    for python in ("3.11", "3.12", "3.13"):
        for name, requirements in pins().items():
            markers = [r.marker or Marker("python_version > '3'") for r in requirements]
            assert sum(marker.evaluate({"python_version": python}) for marker in markers) <= 1, name
