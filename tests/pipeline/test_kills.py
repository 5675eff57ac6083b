"""Killed at ten random moments, a run loses nothing: the library stays whole, and it ends in the same bytes."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.interrupting import faults, pieces_of
from tests.pipeline.test_run import COMMAND, ENVIRONMENT, contents, events, pzl
from tests.pipeline.tiny_program import write_tiny_program

KILLS, PIECES = 10, 12
AMID = 2
"""Of the kills, so many at least come when some pieces are there and others are not."""


def killed_after(program: Path, build: Path, delay_s: float, *, amid: bool) -> bool:
    """Start a run and SIGKILL it `delay_s` after its first task began; False when it ended before.

    `amid`: after one more piece is there, if any is missing.
    """
    before = len(events(build))
    process = subprocess.Popen(
        [*COMMAND, "run", str(program), "-o", str(build)],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not any(e["event"] == "start" for e in events(build)[before:]):
        time.sleep(0.01)
    kept = pieces_there(build)
    while amid and kept < PIECES and pieces_there(build) <= kept and process.poll() is None:
        time.sleep(0.002)
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def pieces_there(build: Path) -> int:
    """Files of pieces, each of which appears whole."""
    return len(list((build / "library").glob("*.safetensors")))


def seconds_of_work(build: Path) -> float:
    """Return the seconds that the tasks of an unbroken run took together."""
    return sum(float(e["seconds"]) for e in events(build) if e["event"] == "end")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_ten_random_moments(tmp_path: Path) -> None:
    program = write_tiny_program(tmp_path)
    source = program.read_text().replace(
        "tokens = 512, context = 32, batch = 2", "tokens = 8Ki, context = 32, batch = 2"
    )
    program.write_text(source)
    assert pzl("run", program, "-o", tmp_path / "unbroken").returncode == 0
    expected, whole_s = contents(tmp_path / "unbroken"), seconds_of_work(tmp_path / "unbroken")
    rng, kills, builds, amid = random.Random(2411), 0, 0, 0
    build = tmp_path / "killed-0"
    while kills < KILLS or amid < AMID:
        assert kills < 5 * KILLS, "kills never come while pieces are made"
        amid_wanted = (kills + builds) % 2 == 1
        delay_s = rng.uniform(0, 0.05 if amid_wanted else whole_s / 2)
        if killed_after(program, build, delay_s, amid=amid_wanted):
            kills += 1
            assert faults(build / "library") == []
            amid += 0 < len(pieces_of(build / "library")) < PIECES
        else:
            assert contents(build) == expected
            builds += 1
            build = tmp_path / f"killed-{builds}"
    assert pzl("run", program, "-o", build).returncode == 0
    assert pzl("library", "verify", program, "-o", build).returncode == 0
    assert contents(build) == expected
