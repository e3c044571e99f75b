"""The wheel: what is in it, and that it works where nothing else of the repository is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RECORDING = ROOT / "samples" / "recordings" / "printing.flac"
CODE = ["kernels", "codec", "asr", "tts", "training", "streaming", "commands"]
MODEL = "rillvox/weights/asr-en/consolidated.safetensors"

pytestmark = pytest.mark.slow


def run(*words: object, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the tracked files: nothing untracked slips in, no build/ is left behind."""
    copy = tmp_path_factory.mktemp("source") / "rillvox"
    for name in tracked():
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    out = tmp_path_factory.mktemp("wheel")
    # setuptools of this environment: building must not need a registry.
    run(
        *(sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-q", "-w", out),
        cwd=copy,
    )
    return next(out.glob("rillvox-*.whl"))


def tracked() -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: which files belong to the project is unknown")
    return [name for name in run("git", "ls-files", cwd=ROOT).splitlines() if (ROOT / name).is_file()]


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_every_module_is_in_the_wheel(wheel: Path) -> None:
    wanted = {
        f"rillvox/{name}"
        for name in tracked()
        if name.endswith(".py") and ("/" not in name or name.split("/")[0] in [*CODE, "weights"])
    }
    assert wanted <= contents(wheel)


def test_tests_samples_and_runs_stay_out(wheel: Path) -> None:
    rooms = {name.split("/")[1] for name in contents(wheel) if name.count("/") > 1}
    assert rooms <= {*CODE, "weights"}
    top = {name for name in contents(wheel) if name.count("/") == 1}
    assert {"rillvox/__init__.py", "rillvox/py.typed", "rillvox/cli.py"} <= top
    assert all(name.endswith((".py", "py.typed")) for name in top)


def test_the_weights_and_the_rights_are_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("licenses/NOTICE") for name in names)
    for name in tracked():
        if name.startswith("weights/"):
            assert f"rillvox/{name}" in names, name


def test_the_wheel_is_small_enough_for_a_registry(wheel: Path) -> None:
    assert wheel.stat().st_size < 95_000_000


def test_installed_in_an_empty_environment_it_transcribes(wheel: Path, tmp_path: Path) -> None:
    """Only the wheel is installed; what it depends on is lent from the environment of the tests."""
    if MODEL not in contents(wheel):
        pytest.skip("weights/asr-en is not in this checkout")
    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=tmp_path)
    site = Path(
        run(
            venv / "bin" / "python", "-c", "import site; print(site.getsitepackages()[0])", cwd=tmp_path
        ).strip()
    )
    run(
        *(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", site, wheel),
        cwd=tmp_path,
    )
    # A .pth would also run the editable install's finder; a plain path does not.
    lent = sysconfig.get_paths()["purelib"]
    env = {**os.environ, "PYTHONPATH": lent, "OMP_NUM_THREADS": "1"}
    code = "import rillvox.cli, rillvox; print(rillvox.__file__); rillvox.cli.main()"
    out = run(venv / "bin" / "python", "-c", code, "transcribe", RECORDING, cwd=tmp_path, env=env)
    place, text = out.split("\n", 1)
    assert Path(place).is_relative_to(site)
    assert len(text.split()) > 10
