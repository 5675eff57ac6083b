"""What the README shows is what the files hold and what pzl says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from puzzledsl.cli.main import run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_the_first_program_is_the_example() -> None:
    example = (ROOT / "examples" / "readme" / "first.pzl").read_text()
    assert BLOCKS[0] == example
    assert len(example.splitlines()) == 12


def test_the_first_program_checks(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(ROOT / "examples" / "readme" / "first.pzl")]) == 0
    assert capsys.readouterr().err == ""


def test_what_compile_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "$ pzl compile examples/nemotron51b.pzl -o build\n"
    (shown,) = (block.removeprefix(command) for block in BLOCKS if block.startswith(command))
    assert run(["compile", str(ROOT / "examples" / "nemotron51b.pzl"), "-o", str(tmp_path)]) == 0
    assert capsys.readouterr().out.replace(str(tmp_path), "build") == shown


def test_the_mistake_is_the_golden_one() -> None:
    command = "$ pzl check wrong_unit.pzl\n"
    (shown,) = (block.removeprefix(command) for block in BLOCKS if block.startswith(command))
    assert shown.strip() == (ROOT / "tests" / "cli" / "broken" / "wrong_unit.err").read_text().strip()
