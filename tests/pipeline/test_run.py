"""`pzl run`: does everything once, goes on after a kill, ends in the same files."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from tests import forked
from tests.forked import pzl
from tests.pipeline.tiny_program import write_tiny_program

COMMAND = [sys.executable, "-m", "puzzledsl.cli.main"]
ENVIRONMENT = forked.ONE_THREAD
VOLATILE = {"log.jsonl", ".lock"}
KILL_AT = ("bld", "score", "realise", "uptrain", "eval")


def contents(build: Path) -> dict[str, str]:
    """Every file's digest, but for the log of what happened when."""
    return {
        str(path.relative_to(build)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(build.rglob("*"))
        if path.is_file() and path.name not in VOLATILE
    }


def events(build: Path) -> list[dict[str, str]]:
    log = build / "log.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []


def kill_during(program: Path, build: Path, stage: str) -> None:
    """Start a run and SIGKILL it as soon as `stage` has begun."""
    before = len(events(build))
    process = forked.start(
        ["-m", "puzzledsl.cli.main", "run", str(program), "-o", str(build)], env=ENVIRONMENT
    )
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        if any(e["event"] == "start" and e["stage"] == stage for e in events(build)[before:]):
            break
        time.sleep(0.01)
    assert process.poll() is None, f"the run ended before {stage} began"
    time.sleep(0.05)
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_program(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def unbroken(program: Path) -> Path:
    build = program.parent / "unbroken"
    result = pzl("run", program, "-o", build)
    assert result.returncode == 0, result.stderr
    return build


def test_a_second_run_does_nothing(program: Path, unbroken: Path) -> None:
    before, seen = contents(unbroken), len(events(unbroken))
    result = pzl("run", program, "-o", unbroken)
    assert result.returncode == 0, result.stderr
    assert [e for e in events(unbroken)[seen:] if e["event"] == "start"] == []
    assert contents(unbroken) == before


def test_an_evaluation_is_printed_and_stands_in_the_exported_card(program: Path, unbroken: Path) -> None:
    result = pzl("eval", program, "-o", unbroken)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    for model in ("best", "final"):
        start = next(i for i, line in enumerate(lines) if line.startswith(f"accuracy {model} keeps"))
        assert [line.split()[0] for line in lines[start + 2 : start + 4]] == ["items", "pooled"]
    card = (program.parent / "out" / "README.md").read_text()
    kl = json.loads((unbroken / "evals" / "quality.json").read_text())["models"][2]["figures"]["kl"]["value"]
    rows = [line.split() for line in card.splitlines()]
    assert card.count("## Quality") == 1 and ["kl", "0", f"{kl:.4g}"] in rows
    assert any(row[:1] == ["pooled"] for row in rows)


@pytest.mark.slow
@pytest.mark.timeout(900)  # seven whole runs
def test_killed_five_times_it_ends_in_the_same_files(program: Path, unbroken: Path) -> None:
    build = program.parent / "killed"
    for stage in KILL_AT:
        kill_during(program, build, stage)
    result = pzl("run", program, "-o", build)
    assert result.returncode == 0, result.stderr
    assert contents(build) == contents(unbroken)
    finished: set[tuple[str, str]] = set()
    for event in events(build):
        if event["event"] in ("start", "end"):
            task = (event["stage"], event["name"])
            assert task not in finished, f"{task} was done twice"
            if event["event"] == "end":
                finished.add(task)


@pytest.mark.parametrize("stage", ["score", "realise"])  # before CP-SAT has run in the process, and after
def test_an_interrupt_says_that_what_is_finished_is_kept(program: Path, stage: str) -> None:
    for attempt in range(10):
        code, said = interrupted_in(program, program.parent / f"interrupted-{stage}-{attempt}", stage)
        if code == 0:  # on a busy machine this test may wake up when the run has ended
            continue
        assert code == 130, said
        assert "what was finished is kept" in said and "Traceback" not in said
        return
    pytest.fail("every run ended before it could be interrupted")


def interrupted_in(program: Path, build: Path, stage: str) -> tuple[int, str]:
    """A run's exit code and what it said, interrupted as soon as `stage` has begun."""
    process = forked.start(
        ["-m", "puzzledsl.cli.main", "run", str(program), "-o", str(build)], env=ENVIRONMENT
    )
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not any(e["stage"] == stage for e in events(build) if "stage" in e):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=200)
    return process.returncode, said


def test_a_flipped_byte_is_made_again(program: Path, unbroken: Path) -> None:
    before = contents(unbroken)
    scores = unbroken / "scores" / "kl.json"
    scores.write_bytes(scores.read_bytes().replace(b"1", b"2", 1))
    result = pzl("run", program, "-o", unbroken)
    assert result.returncode == 0, result.stderr
    assert contents(unbroken) == before


def test_two_runs_at_once_are_refused(program: Path, unbroken: Path) -> None:
    from filelock import FileLock

    with FileLock(unbroken / ".lock"):
        result = pzl("run", program, "-o", unbroken)
    assert result.returncode == 1
    assert "E0606" in result.stderr and "another `pzl`" in result.stderr


def test_the_export_is_the_child_and_its_card_says_how_good_it_is(program: Path, unbroken: Path) -> None:
    child, exported = unbroken / "models" / "final", program.parent / "out"
    card = (child / "README.md").read_text("utf-8")
    told = (exported / "README.md").read_text("utf-8")
    assert told.startswith(card.rstrip()) and "## Quality" in told.removeprefix(card.rstrip())
    here, there = contents(child), contents(exported)
    assert here.pop("README.md") != there.pop("README.md")
    assert here == there and "model.safetensors" in here


def test_healing_is_on_unless_it_is_switched_off(program: Path, unbroken: Path) -> None:
    build = program.parent / "unhealed"
    shutil.copytree(unbroken, build)
    said = [e for e in events(unbroken) if e["event"] == "healed"]
    assert {e["search"] for e in said} == {"best", "greedy", "most"}
    result = pzl("realise", program, "best", "--no-heal", "-o", build)
    assert result.returncode == 0, result.stderr
    other = contents(build / "models" / "best").items() ^ contents(unbroken / "models" / "best").items()
    kept = {e["search"]: e["kept"] for e in said}["best"]
    assert {name for name, _ in other} == ({"model.safetensors"} if kept == "healed" else set())
    result = pzl("realise", program, "best", "-o", build)
    assert result.returncode == 0, result.stderr
    assert contents(build) == contents(unbroken)
