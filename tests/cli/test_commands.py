"""Commands as a user types them: exit codes, streams, growth of their work, and what is never loaded."""

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checker.programs import NEMOTRON, ROOT
from tests.cli.conftest import Pzl

SMOLLM2 = ROOT / "examples" / "smollm2" / "smollm2.pzl"
PROBE = """
import sys
from puzzledsl.cli.main import run
code = run(sys.argv[1:])
print("LOADED", *sys.modules, file=sys.stderr)
sys.exit(code)
"""
HEAVY = {"torch", "transformers", "safetensors", "pandas", "jinja2", "pygls", "ray"}
FOR_LATER_STAGES = HEAVY | {"ortools", "numpy", "pydantic", "pydantic_core", "lark"}
PRETTY = {"rich", "pygments", "markdown_it"}


def process(*arguments: str | Path) -> tuple[int, str, str, set[str]]:
    """The exit code, the output, the errors, and the modules that are loaded when the command ends."""
    command = [sys.executable, "-c", PROBE, *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    said, _, modules = ran.stderr.rpartition("LOADED ")
    return ran.returncode, ran.stdout, said, set(modules.split())


@pytest.mark.parametrize("program", [NEMOTRON, SMOLLM2], ids=lambda path: path.stem)
def test_check_is_light_and_warns_of_missing_texts_alone(program: Path) -> None:
    code, out, err, loaded = process("check", program)
    assert code == 0 and out.endswith("no errors\n")
    assert set(re.findall(r"^\w+\[(.*)\]", err, re.MULTILINE)) <= {"W1209"}
    assert not loaded & (FOR_LATER_STAGES | PRETTY)
    assert {name for name in loaded if name.startswith("puzzledsl.cli.commands.")} == {
        "puzzledsl.cli.commands.check"
    }
    assert not {f"puzzledsl.{part}" for part in ("pieces", "plan", "search", "export", "server", "costs")} & (
        loaded
    )


def test_other_commands_of_the_front_end_are_light() -> None:
    code, out, err, loaded = process("fmt", "--check", NEMOTRON, SMOLLM2)
    assert code == 0, out + err
    assert not loaded & (FOR_LATER_STAGES | PRETTY)
    assert not process("--help")[3] & (FOR_LATER_STAGES | {"puzzledsl.checker"})


def test_compile_is_light_and_repeatable(tmp_path: Path) -> None:
    for build in ("one", "two"):
        code, _, err, loaded = process("compile", NEMOTRON, "-o", tmp_path / build)
        assert code == 0, err
        assert not loaded & HEAVY
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file())
    assert Path("ir.json") in files
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes(), path


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["check"], 2, "FILE"),
        (["check", "nowhere.pzl"], 1, "E0016"),
        (["--version"], 0, ""),
        (["check", str(NEMOTRON), "--set", "headroom"], 2, "--set"),
        (["check", str(NEMOTRON), "--set", "hedroom=90%"], 1, "headroom"),
    ],
)
def test_exit_codes(arguments: list[str], code: int, said: str, pzl: Pzl) -> None:
    assert said in pzl(*arguments, code=code).err


@pytest.mark.parametrize(
    ("command", "place"),
    [("compile", "/proc/x"), ("compile", "/dev/null/x"), ("run", "/proc/x"), ("run", "file")],
)
def test_a_place_that_takes_no_build_is_told(command: str, place: str, tmp_path: Path, pzl: Pzl) -> None:
    (tmp_path / "file").write_text("here already")
    said = pzl(command, SMOLLM2, "-o", tmp_path / place, code=1).err
    assert f"error[E0608]: cannot write `{tmp_path / place}" in said
    assert (tmp_path / "file").read_text() == "here already"


@pytest.mark.parametrize(
    ("text", "arguments", "code", "out"),
    [
        ("let   a=3\r\n", [], 0, "let a = 3\r\n"),
        ("\ufefflet   a=3\n", [], 0, "\ufefflet a = 3\n"),
        ("let a = 3\n", ["--check"], 0, ""),
        ("let   a=3\n", ["--check"], 1, "would reformat -\n"),
        ("let a =\n", [], 1, ""),
    ],
)
def test_fmt_reads_stdin(
    text: str,
    arguments: list[str],
    code: int,
    out: str,
    monkeypatch: pytest.MonkeyPatch,
    pzl: Pzl,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    said = pzl("fmt", "-", *arguments, code=code)
    assert said.out == out
    assert ("error[E0001]: unexpected end of line\n --> -:1:8" in said.err) == text.endswith("=\n")
