"""Modules that a command loads, and growth of its work: the speed of `pzl`, tested without a clock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import FrameType

import pytest

from puzzledsl.checker.check import check
from tests.checker.programs import NEMOTRON, TINY

LOADED = """
import sys
sys.argv = ["pzl", *sys.argv[1:]]
from puzzledsl.cli.main import run
assert run(sys.argv[1:]) == 0
ours = {".".join(name.split(".")[:2]) for name in sys.modules if name.startswith("puzzledsl.")}
print(*sorted({name.split(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)), *sorted(ours), file=sys.stderr)
"""
HEAVY = {"torch", "transformers", "ortools", "numpy", "pandas", "safetensors", "jinja2", "pygls", "ray"}
PRETTY = {"rich", "pygments", "markdown_it"}


def loaded(*arguments: str, depth: int = 2) -> set[str]:
    """The packages a command has loaded when it ends: others' by name, ours as `puzzledsl.PART`, down to `depth`."""
    script = LOADED.replace("[:2]", f"[:{depth}]")
    ran = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True, timeout=120
    )
    return set(ran.stderr.split())


@pytest.mark.parametrize("command", [["check"], ["fmt", "--check"]], ids=" ".join)
def test_front_end_commands_load_the_front_end_alone(command: list[str]) -> None:
    found = loaded(*command, str(NEMOTRON))
    assert not found & (HEAVY | PRETTY)
    later = "cost plan search parents surgery modeling bld library scoring measure uptrain evaluate export report server"
    assert not found & {f"puzzledsl.{part}" for part in later.split()}


def test_checking_reads_and_writes_no_json() -> None:
    assert not loaded("check", str(NEMOTRON)) & {"pydantic", "pydantic_core", "lark"}


def test_a_command_imports_no_other_command() -> None:
    found = subprocess.run(
        [sys.executable, "-c", LOADED.replace('split(".")[:2]', 'split(".")[:4]'), "check", str(NEMOTRON)],
        capture_output=True, text=True, check=True, timeout=120,
    ).stderr.split()  # fmt: skip
    assert [name for name in found if name.count(".") == 3 and ".commands." in name] == [
        "puzzledsl.cli.commands.check"
    ]


def calls_of_check(path: Path) -> int:
    """Return the number of Python functions that checking a program calls."""
    count = 0

    def tally(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(tally)
    try:
        found = check(path, {})
    finally:
        sys.setprofile(None)
    assert not found.diagnostics
    return count


def test_work_grows_in_proportion_to_the_program(tmp_path: Path) -> None:
    path = tmp_path / "program.pzl"
    search = "search s{} of w {{\n  minimize kl\n  require chat.memory <= {}MiB\n  require count(ffn is noop) <= 2\n}}\n"
    counts = []
    for copies in (1, 40, 80, 160):  # the first loads the grammar
        path.write_text(TINY + "".join(search.format(i, i + 1) for i in range(copies)), "utf-8")
        counts.append(calls_of_check(path))
    first, second = counts[2] - counts[1], counts[3] - counts[2]
    assert second < 2.2 * first
