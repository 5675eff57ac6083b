"""Whatever happens to a build, `pzl run` ends in the right result or in a clear error that names the file; never in a wrong one.

`PZL_CHAOS_SEED=7` tries other moments and other bits.
"""

import os
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from puzzledsl.pipeline.context import Stamps
from tests.interrupting import faults
from tests.pipeline.tiny_program import COMMAND, ENVIRONMENT, contents, forget_after

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SEED = int(os.environ.get("PZL_CHAOS_SEED", "1"))
KILLS, BATCHES = 30, 6
AFTER: dict[str | None, str] = {
    None: "tokens/*.npy",
    "bld": "library/*.safetensors library/index.jsonl scores/figures/*.jsonl",
    "score": "costs/wide.json scores/kl.json stamps/bld-pieces.json stamps/score-kl.json log.jsonl",
    "solve": "solutions/best.json solutions/greedy.json stamps/solve-best.json",
    "realise": "models/best/model.safetensors models/best/config.json models/greedy/model.safetensors stamps/realise-best.json",
    "uptrain": "models/final/model.safetensors models/final/uptrain.json stamps/uptrain-final.json",
    "eval": "evals/quality.json stamps/eval-quality.json",
    "export": "stamps/export-ship.json ../out/model.safetensors ../out/config.json",
    "report": "ir.json bld/pieces.jsonl search/best.pb report.html stamps/compile-.json",
}
"""The last stage of which a build has everything when the run goes on -> what is hit then."""
CLEAR = 1  # the exit code of a mistake that is told


def start(program: Path, build: Path, limit_bytes: int | None = None) -> subprocess.Popen[str]:
    """`pzl run`, with at most `limit_bytes` in any file it writes."""

    def limited() -> None:
        if limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [*COMMAND, "run", str(program), "-o", str(build)]
    return subprocess.Popen(command, env=ENVIRONMENT, text=True, preexec_fn=limited, **pipes)


def finish(program: Path, build: Path, limit_bytes: int | None = None) -> tuple[int, str]:
    """A whole `pzl run`: its exit code and what it said on stderr."""
    process = start(program, build, limit_bytes)
    _, said = process.communicate(timeout=300)
    return process.returncode, said


def kill_after(program: Path, build: Path, seconds: float) -> bool:
    """Start a run and SIGKILL it after so long. False when it had ended by then, as it must: with 0."""
    process = start(program, build)
    try:
        _, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True
    assert process.returncode == 0, said
    return False


def flip(path: Path, dice: random.Random) -> str:
    """Flip one bit of one byte; says which."""
    content = bytearray(path.read_bytes())
    at, bit = dice.randrange(len(content)), dice.randrange(8)
    content[at] ^= 1 << bit
    path.write_bytes(bytes(content))
    return f"bit {bit} of byte {at} of {path.name}"


def right(program: Path, build: Path, finished: Path) -> None:
    """The build and the export are, byte for byte, those of a run that nothing happened to."""
    assert contents(build) == contents(finished.parent / "build")
    assert contents(program.parent / "out") == contents(finished.parent / "out")


def right_or_clear(program: Path, finished: Path, what: str, names: set[str]) -> None:
    """Run: the right result, or exit code 1 and one of the names in what is said."""
    build = program.parent / "build"
    code, said = finish(program, build)
    if code == 0:
        return right(program, build, finished)
    assert code == CLEAR and "Traceback" not in said and "error[E" in said, (what, code, said)
    assert any(name in said for name in names), (what, said)
    return None


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
        damaged = {s.title: stamps.damaged(s) for s in stamps.all() if s.stage not in ("export", "compile")}
        assert not any(damaged.values()), f"after kill {killed} of batch {batch}, seed {SEED}: {damaged}"
        assert faults(builds[-1] / "library") == []
    assert finish(program, builds[-1])[0] == 0
    right(program, builds[-1], finished)


@pytest.mark.parametrize("attempt", range(2))
def test_files_that_may_not_grow(finished: Path, copied: Callable[[], Path], attempt: int) -> None:
    """The operating system refuses to write beyond a random size; then the same command goes on and ends in the right result."""
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


@pytest.mark.parametrize(
    ("stage", "artefact"), [(stage, name) for stage, names in AFTER.items() for name in names.split()]
)
def test_a_flipped_bit_in_an_artefact(
    finished: Path, copied: Callable[[], Path], stage: str | None, artefact: str
) -> None:
    dice, program = random.Random(f"{SEED} {artefact}"), copied()
    build = program.parent / "build"
    forget_after(build, stage)
    path = dice.choice(sorted(build.glob(artefact)))
    right_or_clear(program, finished, flip(path, dice), {path.name})
