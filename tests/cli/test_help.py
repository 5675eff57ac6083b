"""`--help` is true, and shells complete commands and options."""

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
from tests.cli.conftest import Pzl

ROOT = Path(__file__).parents[2]
COMMANDS = typer.main.get_command(application()).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_how(name: str, pzl: Pzl) -> None:
    said = pzl(name, "--help").out
    if not hasattr(COMMANDS[name], "commands"):
        assert re.search(rf"\bpzl {name}\b", said), "add a line to cli/app.py"


def test_panels_hold_what_exists() -> None:
    assert sorted(name for names in PANELS.values() for name in names) == sorted(COMMANDS)
    assert set(EXAMPLES) <= set(COMMANDS)


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_every_example_is_understood(line: str) -> None:
    """The options exist and take what is given; nothing is run."""
    program, name, *words = shlex.split(line.partition(" > ")[0])
    assert program == "pzl" and line in EXAMPLES[name]
    with COMMANDS[name].make_context(name, words) as context:
        assert isinstance(context, click.Context) or context.params is not None


def test_the_first_help_says_what_there_is(pzl: Pzl) -> None:
    said = pzl("--help").out
    places = [said.index(f"\n{panel}:\n") for panel in PANELS]
    assert places == sorted(places) and "Exit codes: 0 done" in said


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["chek", "x.pzl"], "check"),
        (["expain"], "explain"),
        (["check", "x.pzl", "--jsno"], "--json"),
        (["fmt", "a.pzl", "--chek"], "--check"),
        (["import", "run.csv"], "`pzl import` is gone: write a run's figures as CSV"),
    ],
)
def test_a_typo_is_a_did_you_mean(words: list[str], meant: str, pzl: Pzl) -> None:
    assert meant in pzl(*words, code=2).err


def test_a_file_without_its_ending_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pzl: Pzl
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wide.pzl").write_text("let a = 1\n")
    for word in ("wide", "wdie.pzl", "wide.pz"):
        assert pzl("check", word, code=1).err == (
            f"error[E0016]: cannot read `{word}`: no such file or directory\n"
            f" --> {word}:1:1\n  = help: did you mean `wide.pzl`?\n\n"
        )
    assert "cannot read `.`: is a directory" in pzl("check", ".", code=1).err


def test_bash_completes_what_a_user_installs(tmp_path: Path) -> None:
    def shell(*arguments: str, **environment: str) -> str:
        own = {"PYTHONPATH": str(ROOT), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", **environment}
        start = "import sys; sys.argv[0] = 'pzl'; from puzzledsl.cli.main import main; main()"
        command = [sys.executable, "-c", start, *arguments]
        ran = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    shell("--install-completion", "bash", HOME=str(tmp_path))
    (script,) = (tmp_path / ".bash_completions").iterdir()
    assert "_PZL_COMPLETE=complete_bash" in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()
    for line, word, offered in (("pzl ch", "1", "check"), ("pzl check --js", "2", "--json")):
        found = shell(_PZL_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=word)
        assert found.split() == [offered]
