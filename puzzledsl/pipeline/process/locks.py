"""Lock of a build directory: one process at a time; others get a diagnostic that names the owner.

The lock is the operating system's (`flock`): it ends with its process, however that ends. The owner is written to a
file beside it, which only serves messages: one left by a killed process blocks nobody.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import make_directory, write_text
from puzzledsl.base.frozen import Frozen
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.errors import BuildLocked
from puzzledsl.pipeline.process.disk import disk_errors

LOCK, HOLDER = ".lock", ".holder.json"


class Holder(Frozen):
    """The process that works, or worked, in a build directory. `since` is local time, to the second."""

    pid: int
    host: str
    command: str
    since: str

    @classmethod
    def ourselves(cls) -> Holder:
        """Return this process."""
        command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
        since = datetime.now().isoformat(" ", "seconds")
        return cls(pid=os.getpid(), host=socket.gethostname(), command=f"pzl {command}".strip(), since=since)

    def __str__(self) -> str:
        elsewhere = "" if self.host == socket.gethostname() else f" on {self.host}"
        return f"`{self.command}`, process {self.pid}{elsewhere}, since {self.since}"


@contextmanager
def locked(ctx: Context, *, needed: bool = True) -> Iterator[bool]:
    """Hold the build directory for one process, and remove what a killed one was writing.

    Unless it is `needed`, a directory that another process holds yields False: to be read alone.
    Raises DiagnosticError if another process holds it, or if the disk is full.
    """
    with disk_errors(ctx.build.root):
        make_directory(ctx.build.root)
        lock = FileLock(ctx.build.root / LOCK)
        if not acquired(lock):
            if needed:
                who = holder_of(ctx.build.root)
                raise DiagnosticError(BuildLocked(None, build=ctx.build.root, who=f": {who}" if who else ""))
            yield False
            return
        try:
            if (before := holder_of(ctx.build.root)) is not None:
                ctx.progress.log("took_over", pid=before.pid, command=before.command, since=before.since)
            sweep(ctx.build.root)
            write_text(ctx.build.root / HOLDER, Holder.ourselves().canonical_json())
            yield True
        finally:
            (ctx.build.root / HOLDER).unlink(missing_ok=True)
            lock.release()


def acquired(lock: FileLock) -> bool:
    """Take a lock if it is free, and return True."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def holder_of(build: Path) -> Holder | None:
    """Return the process that works here, or worked here when it was killed; None if there is none."""
    try:
        return Holder.from_json((build / HOLDER).read_bytes())
    except (OSError, ValueError):
        return None


def at_work(build: Path) -> Holder | None:
    """Return the process that works here now. Does not take the lock, so it never turns another process away."""
    holder = holder_of(build)
    if holder is None or holder.host != socket.gethostname():
        return holder
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # alive, and somebody else's
    return holder


def sweep(root: Path) -> None:
    """Remove the temporary files and directories of a killed run. Under the lock they belong to no other process."""
    for leftover in [*root.rglob(".*.tmp"), *root.rglob(".*.old")]:
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
