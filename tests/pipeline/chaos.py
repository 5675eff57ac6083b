"""Ways to hurt a build: kill at a random moment, fill its disk, flip a bit in a file."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from puzzledsl.pipeline.stamps import Stamps
from puzzledsl.pipeline.tasks import TASKS
from tests.pipeline.tiny_program import COMMAND, ENVIRONMENT

CLEAR = 1  # the exit code of a mistake that is told


def start(program: Path, build: Path, limit_bytes: int | None = None) -> subprocess.Popen[str]:
    """`pzl run`, with at most `limit_bytes` in any file it writes."""

    def limited() -> None:
        if limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [*COMMAND, "run", str(program), "-o", str(build)]
    return subprocess.Popen(command, env=ENVIRONMENT, text=True, preexec_fn=limited, **pipes)  # type: ignore[call-overload, no-any-return]


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


def forget_after(build: Path, stage: str | None) -> None:
    """Leave of a build what was there when `stage` had just ended (None: nothing but tokenised text)."""
    first = 0 if stage is None else list(TASKS).index(stage) + 1
    for stamp in list(Stamps(build).all()):
        if stamp.stage not in TASKS or list(TASKS).index(stamp.stage) < first:
            continue
        for path in stamp.outputs:
            (build / path).unlink(missing_ok=True)
        Stamps(build).path(stamp.stage, stamp.name).unlink()
    if stage is None:
        shutil.rmtree(build / "library")


@contextmanager
def small_disk(place: Path, size_bytes: int) -> Iterator[Callable[[int], None]]:
    """A disk of its own at `place`. Yields what makes it larger. Raises PermissionError where nothing may be mounted."""

    def mount(*arguments: str) -> None:
        if os.geteuid() != 0 or shutil.which("mount") is None:
            raise PermissionError("mounting a disk needs root")
        result = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
        if result.returncode:
            raise PermissionError(result.stderr.strip())

    place.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(place))
    try:
        yield lambda size: mount("-o", f"remount,size={size}", str(place))
    finally:
        subprocess.run(["umount", str(place)], check=True)


def wait_for(found: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 250) -> bool:
    """Until it is so. False when the process has ended before."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if found():
            return True
        time.sleep(0.002)
    return found() and process.poll() is None
