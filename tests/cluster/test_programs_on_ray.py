"""Whole programs give the same bytes on Ray workers as in one process, whichever processes are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from puzzledsl.cli.main import run
from tests.cluster.ray_here import MARKS, descendants, ray_with, workers
from tests.pipeline.tiny_program import write_tiny_program

pytestmark = MARKS


EXACT = ("scores/*.json", "models/*/*.safetensors", "library/*", "solutions/*.json")


def outputs(build: Path) -> dict[str, bytes]:
    found = {
        str(path.relative_to(build)): path.read_bytes()
        for pattern in EXACT
        for path in build.glob(pattern)
        if not path.name.startswith(".")
    }
    for path in build.glob("evals/*.json"):
        found[path.name] = json.dumps(json.loads(path.read_text())["models"]).encode()
    return found


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = write_tiny_program(tmp_path_factory.mktemp("program"))
    assert run(["run", str(file), "-o", str(file.parent / "here"), "--until", "eval"]) == 0
    return file


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_a_whole_program_is_the_same_with_any_number_of_workers(count: int, program: Path) -> None:
    one, there = program.parent / "here", program.parent / f"with-{count}"
    torch.set_num_threads(1)
    with ray_with(count):
        assert run(["run", str(program), "-o", str(there), "--until", "eval", "--on", "local"]) == 0
    expected = outputs(one)
    assert {name.split("/")[0] for name in expected} >= {"scores", "models", "library", "quality.json"}
    assert outputs(there) == expected


STAGES = ("bld", "score", "realise", "eval")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_driver_and_a_worker_that_are_killed_in_each_stage_lose_nothing(program: Path) -> None:
    """In each stage the command is killed with SIGKILL and started again, and then one of its workers is killed."""
    build = program.parent / "killed"
    seen: list[str] = []
    for _ in range(3 * len(STAGES)):
        driver = begun(program, build)
        while driver.poll() is None:
            stage = at_work(build)
            if stage in STAGES and seen.count(stage) < 2 and (found := workers(driver.pid)):
                time.sleep(1.0)
                seen.append(stage)
                if seen.count(stage) == 1:
                    ended(driver)
                else:
                    os.kill(found[0], signal.SIGKILL)
            time.sleep(0.2)
        if driver.returncode == 0:
            break
    assert {stage: seen.count(stage) for stage in STAGES} == dict.fromkeys(STAGES, 2)
    assert outputs(build) == outputs(program.parent / "here")


def begun(program: Path, build: Path) -> subprocess.Popen[bytes]:
    command = ["run", str(program), "-o", str(build), "--until", "eval", "--on", "local"]
    return subprocess.Popen(
        [sys.executable, "-m", "puzzledsl.cli.main", *command], env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def ended(driver: subprocess.Popen[bytes]) -> None:
    """Kill the driver, and then what is left of its cluster."""
    started = [pid for pid, _ in descendants(driver.pid)]
    driver.kill()
    driver.wait()
    for pid in started:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def at_work(build: Path) -> str | None:
    """The stage that has begun last and not ended."""
    log = build / "log.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    events = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
    last = [event for event in events if event["event"] in ("start", "end", "fresh")][-1:]
    return last[0]["stage"] if last and last[0]["event"] == "start" else None
