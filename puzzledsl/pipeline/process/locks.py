"""Lock of a build directory, and diagnostics of its disk.

The lock is the operating system's (`flock`): it ends with its process, however that ends. The owner is written to a
file beside it, which only serves messages: one left by a killed process blocks nobody.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.base.files import make_directory, write_text
from puzzledsl.base.frozen import Frozen
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.errors import BuildLocked, CannotList, DiskFull

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
    """Hold the build directory for one process.

    Unless it is `needed`, a directory that another process holds yields False: to be read alone.
    Raises DiagnosticError if another process holds it, or if the disk is full.
    """
    with disk_errors(ctx.build.root):
        make_directory(ctx.build.root)
        lock = FileLock(ctx.build.root / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if needed:
                who = holder_of(ctx.build.root)
                said = f": {who}" if who else ""
                raise DiagnosticError(BuildLocked(None, build=ctx.build.root, who=said)) from None
            yield False
            return
        try:
            if (before := holder_of(ctx.build.root)) is not None:
                ctx.progress.log("took_over", pid=before.pid, command=before.command, since=before.since)
            write_text(ctx.build.root / HOLDER, Holder.ourselves().canonical_json())
            yield True
        finally:
            (ctx.build.root / HOLDER).unlink(missing_ok=True)
            lock.release()


def holder_of(build: Path) -> Holder | None:
    """Return the process that works here, or worked here when it was killed; None if there is none."""
    return Holder.of_file(build / HOLDER)


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


REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
NO_PLACE = (errno.ENOTDIR, errno.EEXIST, errno.ELOOP)
_RUST = re.compile(r"\(os error (\d+)\)")  # safetensors, tokenizers: their I/O errors are no OSError
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")  # numpy: an OSError without a number


@contextmanager
def disk_errors(root: Path) -> Iterator[None]:
    """Turn any library's failed write into DiskFull. The message names `root` if the error names no file."""
    try:
        yield
    except DiagnosticError:
        raise
    except Exception as error:
        found = refusal(error)
        if found is None:
            raise
        raise DiagnosticError(problem_of(found, root)) from error


def problem_of(found: tuple[str | None, str], otherwise: object) -> Diagnostic:
    """Return the diagnostic of a `refusal`; `otherwise`: where to, if the error names no file."""
    path, reason = found
    if path is not None and os.path.isdir(path) and not os.access(path, os.R_OK | os.X_OK):
        return CannotList(None, path=path, reason=reason)
    return DiskFull(None, path=path or otherwise, reason=reason)


def refusal(error: BaseException) -> tuple[str | None, str] | None:
    """Return the file (None if unknown) and the operating system's reason of a failed write; None for another error."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (*REFUSALS, *NO_PLACE):
            return (str(seen.filename) if seen.filename else None), os.strerror(seen.errno)
        if isinstance(seen, OSError) and seen.errno is None and _SHORT_WRITE.search(str(seen)):
            return None, os.strerror(errno.ENOSPC)
        if (match := _RUST.search(str(seen))) and int(match[1]) in REFUSALS:
            return None, os.strerror(int(match[1]))
        seen = seen.__cause__ or seen.__context__
    return None
