"""`--help` is true, and shells complete commands and options."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer.main

from puzzledsl.cli.app import EXAMPLES, PANELS, application
from puzzledsl.cli.main import run

ROOT = Path(__file__).parents[2]
COMMANDS = typer.main.get_command(application()).commands  # type: ignore[attr-defined]
PZL = "import sys; sys.argv[0] = 'pzl'; from puzzledsl.cli.main import main; main()"


def shell(arguments: list[str] = [], **environment: str) -> subprocess.CompletedProcess[str]:  # noqa: B006
    """`pzl` as a shell runs it."""
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
        **environment,
    }
    command = [sys.executable, "-c", PZL, *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_place_and_shows_how(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert name in [each for names in PANELS.values() for each in names]
    assert run([name, "--help"]) == 0
    said = capsys.readouterr().out
    if not hasattr(COMMANDS[name], "commands"):
        assert re.search(rf"\bpzl {name}\b", said), "add a line to cli/app.py"


def test_panels_hold_what_exists() -> None:
    named = [name for names in PANELS.values() for name in names]
    assert sorted(named) == sorted(COMMANDS)
    assert set(EXAMPLES) <= set(COMMANDS)


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_every_example_is_understood(line: str) -> None:
    """The options exist and take what is given; nothing is run."""
    program, name, *words = shlex.split(line.partition(" > ")[0])
    assert program == "pzl" and line in EXAMPLES[name]
    with COMMANDS[name].make_context(name, words) as context:
        assert isinstance(context, click.Context) or context.params is not None


def test_the_first_help_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    said = capsys.readouterr().out
    places = [said.index(f"\n{panel}:\n") for panel in PANELS]
    assert places == sorted(places) and "Exit codes: 0 done" in said


# ---------------------------------------------------------------- typos


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["chek", "x.pzl"], "check"),
        (["expain"], "explain"),
        (["check", "x.pzl", "--jsno"], "--json"),
        (["fmt", "a.pzl", "--chek"], "--check"),
        (["fmt", "a.pzl", "--diff"], "version control"),
        (["plan", "a", "b", "--detailed-exitcode"], "--json"),
        (["check", "x.pzl", "--format", "sarif"], "--json"),
        (["watch", "x.pzl"], "pzl explore"),
        (["schema", "costs"], "docs/artefacts.md"),
        (["import", "puzzletron", "run"], "table("),
        (["library", "gc", "x.pzl"], "pzl bld"),
        (["verify-export", "x", "--parent=y"], "measured("),
        (["calibrate", "h100_sxm"], "measured("),
        (["report", "x.pzl", "--figures", "out"], "as CSV"),
    ],
)
def test_a_typo_is_a_did_you_mean(words: list[str], meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 2
    assert meant in capsys.readouterr().err


def test_a_file_without_its_ending_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wide.pzl").write_text("let a = 1\n")
    for word in ("wide", "wdie.pzl", "wide.pz"):
        assert run(["check", word]) == 1
        assert capsys.readouterr().err == (
            f"error[E0016]: cannot read `{word}`: no such file or directory\n"
            f" --> {word}:1:1\n  = help: did you mean `wide.pzl`?\n\n"
        )
    assert run(["check", "."]) == 1
    assert "cannot read `.`: is a directory" in capsys.readouterr().err


# ---------------------------------------------------------------- completion


def completed(line: str) -> list[str]:
    """Return the words that bash offers behind a line."""
    words = line.split(" ")
    found = shell(_PZL_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1))
    assert found.returncode == 0, found.stderr
    return found.stdout.split()


def test_bash_completes_commands_and_options() -> None:
    assert completed("pzl ch") == ["check"]
    assert completed("pzl check --js") == ["--json"]


def test_completion_installs(tmp_path: Path) -> None:
    found = shell(["--install-completion", "bash"], HOME=str(tmp_path))
    assert found.returncode == 0, found.stderr
    (script,) = (tmp_path / ".bash_completions").iterdir()
    assert "_PZL_COMPLETE=complete_bash" in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()


def test_help_loads_nothing_but_typer() -> None:
    probe = (
        "import sys; from puzzledsl.cli.main import run; run(['--help']);"
        "sys.stderr.write(str(sorted({m.split('.')[0] for m in sys.modules}"
        " & {'lark', 'pydantic', 'numpy', 'ortools', 'torch', 'transformers', 'pygls'})))"
    )
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert found.stderr == "[]"
