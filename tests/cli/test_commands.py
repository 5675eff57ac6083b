"""Commands as a user types them: exit codes, streams, and what is never loaded."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from puzzledsl.cli.main import run

ROOT = Path(__file__).parents[2]
EXAMPLES = {
    "nemotron51b": ROOT / "examples" / "nemotron51b.pzl",
    "smollm2": ROOT / "examples" / "smollm2" / "smollm2.pzl",
}
PROBE = """
import sys
from puzzledsl.cli.main import run
code = run(sys.argv[1:])
heavy = sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'transformers'})
print('HEAVY', heavy, file=sys.stderr)
sys.exit(code)
"""


def pzl(*arguments: str | Path, timeout: int = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROBE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.mark.parametrize("name", EXAMPLES)
def test_check_is_light_and_warns_of_missing_texts_alone(name: str) -> None:
    result = pzl("check", EXAMPLES[name])
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("no errors\n")
    assert result.stderr.endswith("HEAVY []\n")
    assert set(re.findall(r"^\w+\[(.*)\]", result.stderr, re.MULTILINE)) <= {"W1209"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_compile_is_light_and_repeatable(name: str, tmp_path: Path) -> None:
    for build in ("one", "two"):
        result = pzl("compile", EXAMPLES[name], "-o", tmp_path / build)
        assert result.returncode == 0, result.stderr
        assert "HEAVY []" in result.stderr
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file())
    assert Path("ir.json") in files
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes(), path


def test_solve_without_scores_names_the_command(tmp_path: Path) -> None:
    result = pzl("solve", EXAMPLES["nemotron51b"], "nemotron51b", "-o", tmp_path)
    assert result.returncode == 1
    assert "E0610" in result.stderr and "pzl score" in result.stderr
    assert "HEAVY []" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["check"], 2),
        (["chek", "x.pzl"], 2),
        (["check", "nowhere.pzl"], 1),
        (["--version"], 0),
    ],
)
def test_exit_codes(arguments: list[str], code: int) -> None:
    assert pzl(*arguments).returncode == code


def test_a_wrong_setting_is_a_usage_error() -> None:
    assert pzl("check", EXAMPLES["nemotron51b"], "--set", "headroom").returncode == 2
    result = pzl("check", EXAMPLES["nemotron51b"], "--set", "hedroom=90%")
    assert result.returncode == 1 and "headroom" in result.stderr


@pytest.mark.parametrize(
    ("command", "place"),
    [("compile", "/proc/x"), ("compile", "/dev/null/x"), ("run", "/proc/x"), ("run", "file")],
)
def test_a_place_that_takes_no_build_is_told(command: str, place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here already")
    result = pzl(command, EXAMPLES["smollm2"], "-o", tmp_path / place)
    assert result.returncode == 1, result.stderr
    assert f"error[E0608]: cannot write `{tmp_path / place}" in result.stderr
    assert (tmp_path / "file").read_text() == "here already"


def test_fmt_leaves_the_examples_alone() -> None:
    result = pzl("fmt", "--check", *EXAMPLES.values())
    assert result.returncode == 0, result.stdout


class _Stdin:
    def __init__(self, text: str) -> None:
        self.buffer = io.BytesIO(text.encode())


@pytest.mark.parametrize(
    ("text", "arguments", "code", "out"),
    [
        ("let   a=3\r\n", (), 0, "let a = 3\r\n"),
        ("let a = 3\n", ("--check",), 0, ""),
        ("let   a=3\n", ("--check",), 1, "would reformat -\n"),
        ("let a =\n", (), 1, ""),
    ],
)
def test_fmt_reads_stdin(
    text: str,
    arguments: tuple[str, ...],
    code: int,
    out: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", _Stdin(text))
    assert run(["fmt", "-", *arguments]) == code
    said = capsys.readouterr()
    assert said.out == out
    assert ("error[E0001]: unexpected end of line\n --> -:1:8" in said.err) == text.endswith("=\n")
