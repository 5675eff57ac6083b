"""One process at a time in a build directory: the others are told which; a dead one holds nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from puzzledsl.pipeline.process.locks import Holder, at_work
from tests.pipeline.test_run import COMMAND, ENVIRONMENT, contents, events, pzl

HOLD = """
import sys, time
from pathlib import Path

import pytest
from puzzledsl.cli import loading
from puzzledsl.pipeline.process.locks import locked
sys.argv = ["pzl", "run"]
with locked(loading.context(Path({program!r}), None, None)):
    print("held", flush=True)
    time.sleep(600)
"""


def holding(program: Path) -> subprocess.Popen[str]:
    """A process that holds the build directory."""
    code = HOLD.format(program=str(program))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_the_second_is_told_who_has_it(copied: Callable[[], Path]) -> None:
    program = copied()
    build = program.parent / "build"
    before = contents(build)
    process = holding(program)
    try:
        said = pzl("solve", program)
        assert said.returncode == 0, said.stderr
        assert "objective" in said.stdout
        assert f"`pzl run`, process {process.pid}, since 2" in said.stderr
        assert said.stderr.endswith("answers are not kept\n")
        assert {**contents(build), ".holder.json": ""} == {**before, ".holder.json": ""}
        said = pzl("why", program, "best")
        assert said.returncode == 0 and "regret" in said.stdout, said.stderr
        assert {**contents(build), ".holder.json": ""} == {**before, ".holder.json": ""}
        for command in ("run", "score", "bld"):
            result = pzl(command, program)
            assert result.returncode == 1 and "E0606" in result.stderr
            assert f"`pzl run`, process {process.pid}, since 2" in result.stderr
        said = pzl("status", program)
        assert said.returncode == 0 and said.stdout.startswith(
            f"at work here: `pzl run`, process {process.pid}"
        )
    finally:
        process.kill()
        process.communicate()
    assert at_work(build) is None
    result = pzl("run", program)
    assert result.returncode == 0, result.stderr
    assert f"an earlier run ended in the middle (`pzl run`, process {process.pid}" in result.stderr
    assert any(e["event"] == "took_over" for e in events(build))
    assert contents(build) == before


@pytest.mark.more
def test_two_at_once_end_in_one_whole_build(copied: Callable[[], Path]) -> None:
    """Started together, one works and the other is refused; the bytes are those of any other run.

    Each is a new Python with hashes of its own, so nothing depends on the order of a set.
    """
    program = copied()
    build = program.parent / "shared"
    command = [*COMMAND, "run", str(program), "-o", str(build)]
    both = [
        subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=250)[1] for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes in ([0, 1], [0, 0]), errors  # both: the second began when the first had ended
    assert codes == [0, 0] or sum("E0606" in text for text in errors) == 1
    assert contents(build) == contents(program.parent / "build")


def test_a_holder_is_at_work_while_it_lives(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    mine = Holder.ourselves().model_copy(update={"pid": process.pid})
    (tmp_path / ".holder.json").write_text(mine.canonical_json())
    assert at_work(tmp_path) == mine
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0)
    assert at_work(tmp_path) is None
    elsewhere = mine.model_copy(update={"host": "another"})
    (tmp_path / ".holder.json").write_text(elsewhere.canonical_json())
    assert at_work(tmp_path) == elsewhere and " on another, since" in str(elsewhere)
