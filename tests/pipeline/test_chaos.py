"""Whatever happens to a build, `pzl run` ends in the right result or in a clear error that names the file; never in a wrong one.

`PZL_CHAOS_SEED=7` tries other moments and other bits.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from puzzledsl.pipeline.stamps import Stamps
from tests.pipeline.chaos import CLEAR, finish, flip, forget_after, kill_after, small_disk, start, wait_for
from tests.pipeline.test_run import contents

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SEED = int(os.environ.get("PZL_CHAOS_SEED", "1"))
KILLS, BATCHES = 30, 6

ARTEFACTS: dict[str, str | None] = {
    # what is hit -> the last stage of which a build has everything when the run goes on
    "ir.json": "report",
    "bld/pieces.jsonl": "report",
    "costs/wide.json": "score",
    "search/best.pb": "report",
    "library/*.safetensors": "bld",
    "library/index.jsonl": "bld",
    "scores/kl.json": "score",
    "scores/figures/*.jsonl": "bld",
    "solutions/best.json": "solve",
    "solutions/greedy.json": "solve",
    "models/best/model.safetensors": "realise",
    "models/best/config.json": "realise",
    "models/greedy/model.safetensors": "realise",
    "models/final/model.safetensors": "uptrain",
    "models/final/uptrain.json": "uptrain",
    "evals/quality.json": "eval",
    "tokens/*.npy": None,
    "report.html": "report",
    "stamps/bld-pieces.json": "score",
    "stamps/score-kl.json": "score",
    "stamps/solve-best.json": "solve",
    "stamps/realise-best.json": "realise",
    "stamps/uptrain-final.json": "uptrain",
    "stamps/eval-quality.json": "eval",
    "stamps/export-ship.json": "export",
    "stamps/compile-.json": "report",
    "../out/model.safetensors": "export",
    "../out/config.json": "export",
    "log.jsonl": "score",
}
UNFINISHED = ("bld", "score", "uptrain", "eval")


def right(program: Path, build: Path, finished: Path) -> None:
    """The build and the export are, byte for byte, those of a run that nothing happened to."""
    assert contents(build) == contents(finished.parent / "build")
    assert contents(program.parent / "out") == contents(finished.parent / "out")


def right_or_clear(program: Path, build: Path, finished: Path, what: str, names: set[str]) -> str:
    """Run: the right result, or exit code 1 and one of the names in what is said. Returns which."""
    code, said = finish(program, build)
    if code == 0:
        right(program, build, finished)
        return "right"
    assert code == CLEAR and "Traceback" not in said and "error[E" in said, (what, code, said)
    assert any(name in said for name in names), (what, said)
    return "clear"


@pytest.mark.parametrize("batch", range(BATCHES))
def test_killed_at_random_moments(finished: Path, copied: Callable[[], Path], batch: int) -> None:
    """Thirty kills in all: a build goes on after each, and one that has ended is compared and another begun."""
    dice, program = random.Random(f"{SEED} {batch}"), copied()
    shutil.rmtree(program.parent / "out")
    began = time.monotonic()
    assert finish(program, program.parent / "build-0")[0] == 0
    usual = time.monotonic() - began
    builds, killed = [program.parent / "build-1"], 0
    while killed < KILLS // BATCHES:
        if not kill_after(program, builds[-1], dice.uniform(0.02, usual)):
            right(program, builds[-1], finished)
            builds.append(program.parent / f"build-{len(builds) + 1}")
            continue
        killed += 1
        stamps = Stamps(builds[-1])
        assert {s.title: stamps.damaged(s) for s in stamps.all() if s.stage not in ("export", "compile")} == {
            s.title: [] for s in stamps.all() if s.stage not in ("export", "compile")
        }, f"after kill {killed} of batch {batch}, seed {SEED}"
    assert finish(program, builds[-1])[0] == 0
    right(program, builds[-1], finished)


@pytest.mark.parametrize("attempt", range(2))
def test_a_full_disk(finished: Path, copied: Callable[[], Path], attempt: int) -> None:
    """A disk of a random size; then, with room, the same command goes on and ends in the right result."""
    dice, program = random.Random(f"{SEED} {attempt}"), copied()
    whole = sum(p.stat().st_size for p in (finished.parent / "build").rglob("*") if p.is_file())
    size = round(whole * dice.uniform(0.05, 0.9)) // 4096 * 4096
    place = program.parent / "disk"
    try:
        with small_disk(place, size) as enlarge:
            code, said = finish(program, place)
            assert code == CLEAR and "Traceback" not in said, (size, code, said)
            assert "error[E0608]" in said or "error[E1402]" in said, (size, said)
            assert str(place) in said and "No space left" in said.replace("E1402", "No space left"), said
            enlarge(64 << 20)
            code, said = finish(program, place)
            assert code == 0, said
            right(program, place, finished)
    except PermissionError as error:
        pytest.skip(f"no disk can be mounted here ({error}); a limit on file sizes is tested all the same")


@pytest.mark.parametrize("attempt", range(2))
def test_files_that_may_not_grow(finished: Path, copied: Callable[[], Path], attempt: int) -> None:
    """The same without mounting: the operating system refuses to write beyond a random size."""
    dice, program = random.Random(f"{SEED} limit {attempt}"), copied()
    build = program.parent / "limited"
    largest = max(p.stat().st_size for p in (finished.parent / "build").rglob("*") if p.is_file())
    limit = round(largest * dice.uniform(0.02, 0.9))
    code, said = finish(program, build, limit)
    assert code == CLEAR and "Traceback" not in said, (limit, code, said)
    assert "error[E0608]" in said and "File too large" in said and str(build) in said, (limit, said)
    code, said = finish(program, build)
    assert code == 0, said
    right(program, build, finished)


@pytest.mark.parametrize("artefact", ARTEFACTS)
def test_a_flipped_bit_in_an_artefact(finished: Path, copied: Callable[[], Path], artefact: str) -> None:
    dice, program = random.Random(f"{SEED} {artefact}"), copied()
    build = program.parent / "build"
    forget_after(program, build, ARTEFACTS[artefact])
    path = dice.choice(sorted(build.glob(artefact)))
    what = flip(path, dice)
    right_or_clear(program, build, finished, what, {path.name})


@pytest.mark.parametrize("stage", UNFINISHED)
def test_a_flipped_bit_in_unfinished_work(finished: Path, copied: Callable[[], Path], stage: str) -> None:
    """Killed in the middle of a stage; then a bit flips in each file it had kept to go on from."""
    dice, program = random.Random(f"{SEED} {stage}"), copied()
    build = program.parent / "build"
    before = {"bld": None, "score": "bld", "uptrain": "realise", "eval": "uptrain"}[stage]
    for _ in range(20):
        forget_after(program, build, before)
        work = build / ("scores/figures" if stage == "score" else f"work/{stage}")
        shutil.rmtree(work, ignore_errors=True)
        process = start(program, build)

        def kept(work: Path = work) -> bool:
            return any(p.is_file() and p.stat().st_size > 100 and p.suffix != ".tmp" for p in work.rglob("*"))

        caught = wait_for(kept, process)
        time.sleep(dice.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        files = [
            p for p in sorted(work.rglob("*")) if p.is_file() and p.stat().st_size and p.suffix != ".tmp"
        ]
        ended = any((build / "stamps").glob(f"{stage}-*.json"))  # it reads none of these files again
        if caught and files and not ended:
            break
    else:
        pytest.fail(f"{stage} ended every time before it could be killed")
    hits = [flip(path, dice) for path in files]
    right_or_clear(program, build, finished, "; ".join(hits), {path.name for path in files})
