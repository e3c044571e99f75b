"""What README shows works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rillvox.cli import app

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [block for marked, block in found if marked == language]


@pytest.mark.slow
@pytest.mark.parametrize("source", blocks("python"))
def test_a_python_block_runs(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    monkeypatch.chdir(tmp_path)
    exec(compile(source, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.split()) > 5


def test_there_is_python_to_run() -> None:
    assert blocks("python")
    assert max(len([line for line in block.splitlines() if line.strip()]) for block in blocks("python")) <= 12


def test_commands_in_shell_blocks_exist() -> None:
    commands = re.findall(r"^rillvox (.+)$", "\n".join(blocks("")), re.MULTILINE)
    assert commands
    for command in commands:
        name = command.split()[0]
        options = [word for word in command.split() if word.startswith("--")]
        shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
        assert shown.exit_code == 0, command
        assert all(option in shown.output for option in options), command


def test_files_that_readme_names_exist() -> None:
    paths = re.findall(r"(?:bash |\]\(|`)((?:samples|tests|weights)/[\w./-]+|\w+\.md|LICENSE|NOTICE)", README)
    assert len(paths) >= 4
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_sections_come_in_order() -> None:
    order = ["Two commands", "Ten lines of Python", "Figures", "Limits", "How to contribute"]
    assert re.findall(r"^## (.+)$", README, re.MULTILINE) == order
