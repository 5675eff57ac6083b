"""Killed at ten random moments, a run loses nothing: the library stays whole, and it ends in the same bytes."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from puzzledsl.library.keeping import faults, pieces_of
from tests.runs.test_run import COMMAND, ENVIRONMENT, contents, events, pzl
from tests.runs.tiny_program import write_tiny_program

KILLS = 10
AMID = 2
"""Of the kills, so many at least come when some pieces are there and others are not."""


def killed_after(program: Path, build: Path, delay_s: float) -> bool:
    """Start a run and SIGKILL it `delay_s` after its first task began; False when it ended before."""
    before = len(events(build))
    process = subprocess.Popen(
        [*COMMAND, "run", str(program), "-o", str(build)],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not any(e["event"] == "start" for e in events(build)[before:]):
        time.sleep(0.01)
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def seconds_of_work(build: Path) -> float:
    """How long the tasks of an unbroken run took together."""
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
        if killed_after(program, build, rng.uniform(0, whole_s / 2)):
            kills += 1
            assert faults(build / "library") == ()
            amid += 0 < len(pieces_of(build / "library")) < 12
        else:
            assert contents(build) == expected
            builds += 1
            build = tmp_path / f"killed-{builds}"
    assert pzl("run", program, "-o", build).returncode == 0
    assert pzl("library", "verify", program, "-o", build).returncode == 0
    assert contents(build) == expected
