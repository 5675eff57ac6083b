"""A run as a process: the lock of its build directory, diagnostics of the disk, and progress.

The lock is the operating system's (`flock`): it ends with its process, however that ends. The owner is written to a
file beside it, which only serves messages: one left by a killed process blocks nobody.

Progress is for people (a rich bar on stderr, or plain lines without a terminal) and for machines (JSON lines).
"""

import errno
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from puzzledsl.base import process
from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.base.files import make_directory, write_text
from puzzledsl.base.frozen import Frozen
from puzzledsl.base.phrases import duration
from puzzledsl.base.progress import Progress
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
    def ourselves(cls) -> Self:
        """Return this process."""
        command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
        since = datetime.now().isoformat(" ", "seconds")
        return cls(pid=os.getpid(), host=socket.gethostname(), command=f"pzl {command}".strip(), since=since)

    def __str__(self) -> str:
        elsewhere = "" if self.host == socket.gethostname() else f" on {self.host}"
        return f"`{self.command}`, process {self.pid}{elsewhere}, since {self.since}"


@contextmanager
def locked(ctx: Context, *, needed: bool = True) -> Iterator[bool]:
    """Lock the build directory for this process and yield True.

    If another process has locked it: with `needed`, raise DiagnosticError; without, yield False: the caller may only read.
    Raises DiagnosticError, too, if the disk is full or the path is refused.
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
    """Return the process that works here now, or None. One on another host counts as alive. Does not take the lock."""
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
    """Turn any library's I/O error that `refusal` finds into a DiagnosticError. It names `root` if the error names no file."""
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
    """Return CannotList for an unreadable directory, else DiskFull. `found`: by `refusal`; `otherwise`: stands for no file."""
    path, reason = found
    if path is not None and os.path.isdir(path) and not os.access(path, os.R_OK | os.X_OK):
        return CannotList(None, path=path, reason=reason)
    return DiskFull(None, path=path or otherwise, reason=reason)


def refusal(error: BaseException) -> tuple[str | None, str] | None:
    """Return file (None if unknown) and reason of an I/O error: a full disk, or a path refused or unusable. None for others."""
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


PLAIN_INTERVAL_S = 10.0
"""Seconds between two lines where there is no terminal, and between two lines of the log about one bar."""
WARMED_UP = 4
"""The first unit, in which caches fill, no longer counts for the pace once the others have this many times its work."""


@dataclass
class _Count:
    """Units of one bar, with an estimate of the time left. `made`: work done since `since_s`; `left`: work still to do.

    `first`, `first_s`: work of the first unit, and the time at which it was done. Times are of the monotonic clock.
    """

    title: str
    total: int
    began_s: float
    done: int = 0
    made: float = 0.0
    first: float = 0.0
    first_s: float = 0.0
    last_s: float = 0.0
    waiting: int = 1
    """Units that must end before the pace is known: of several that run side by side, the first ones end together."""

    def __post_init__(self) -> None:
        """Assume that all units take the same work, until `ready` is given the work."""
        self.since_s, self.left, self._alike, self.cold = self.began_s, float(self.total), True, 0

    def ready(self, work: float | None, at_once: int, cold: int) -> None:
        if work is None and self.made:  # the pace so far holds, without the time of this set-up
            idle = time.monotonic() - self.last_s
            self.since_s += idle
            self.first_s += idle
            self.last_s += idle
            return
        self.cold = cold
        self.since_s, self.made, self.first, self.waiting = time.monotonic(), 0.0, 0.0, at_once
        if work is not None:
            self._alike, self.left = False, work

    def add(self, amount: int, *, kept: bool, work: float | None) -> None:
        self.done += amount
        size = amount if work is None or self._alike else work
        if kept:
            self.left -= amount if self._alike else work or 0.0
        elif self.cold > 0:
            self.cold, self.left, self.since_s = self.cold - amount, self.left - size, time.monotonic()
        elif size:
            self.made, self.left, self.last_s = self.made + size, self.left - size, time.monotonic()
            self.waiting -= amount
            if not self.first:
                self.first_s, self.first = self.last_s, size

    @property
    def left_s(self) -> float | None:
        """Estimated seconds left at the pace so far, less the time since the last unit; None until the pace is known."""
        if not self.made or self.waiting > 0:
            return None
        made, since_s, left = self.made, self.since_s, max(self.left, 0.0) if self.done < self.total else 0.0
        if made - self.first >= WARMED_UP * self.first:
            made, since_s = made - self.first, self.first_s
        present_s = time.monotonic() - self.last_s if left else 0.0
        return max(0.0, (self.last_s - since_s) / made * left - present_s)

    def __str__(self) -> str:
        left = f", {duration(time.monotonic() - self.began_s)}"
        if self.left_s is not None:
            left = f", about {duration(self.left_s)} left" if self.left_s else ""
        return f"{self.title}: {self.done}/{self.total}{left}"


class Reporter(Progress):
    """A Progress that shows one bar at a time and appends every event to `log`. Use as a context manager.

    Without a terminal, a thread writes a line whenever nothing has been written for PLAIN_INTERVAL_S. A `log` of None is no log.
    """

    def __init__(self, log: Path | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        self._console = Console(stderr=True)
        self._bar = Bar(
            TextColumn("{task.description:<34}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._log = log
        self._task: object | None = None
        self._stage: dict[str, object] = {}
        self._count: _Count | None = None
        self._figures = ""
        self._said = self._logged = self._stage_began = time.monotonic()
        self._ended = threading.Event()
        self._pulse = threading.Thread(target=self._break_silence, daemon=True)

    def __enter__(self) -> Self:
        self._bar.start()
        if not self._console.is_terminal:
            self._pulse.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._ended.set()
        self._finish()
        self._bar.stop()

    def start(self, task: str, total: int) -> None:
        """Begin a bar and finish the one before."""
        process.raise_if_interrupted()
        self._finish()
        self._count, self._figures = _Count(task, total, time.monotonic()), ""
        self._logged = time.monotonic()
        if self._console.is_terminal:
            self._task = self._bar.add_task(task, total=total, figures="")
        else:
            self._print(f"{task}: 0/{total}")

    def ready(self, work: float | None = None, at_once: int = 1, cold: int = 0) -> None:
        """Begin to measure the pace."""
        if self._count is not None:
            self._count.ready(work, at_once, cold)

    def advance(
        self, amount: int = 1, *, kept: bool = False, work: float | None = None, **figures: float | str
    ) -> None:
        """Advance the bar."""
        process.raise_if_interrupted()
        if (count := self._count) is None:
            return
        before = count.left_s
        count.add(amount, kept=kept, work=work)
        texts = {k: v if isinstance(v, str) else f"{v:.4g}" for k, v in figures.items()}
        self._figures = "  ".join(f"{name} {text}" for name, text in texts.items())
        if before is None or time.monotonic() - self._logged > PLAIN_INTERVAL_S:
            self._log_count(count)
        if self._task is not None:
            left = "" if count.left_s is None else f"{duration(count.left_s)} left"
            self._bar.update(self._task, advance=amount, figures=f"{left}  {self._figures}")  # type: ignore[arg-type]
        elif time.monotonic() - self._said > PLAIN_INTERVAL_S:
            self._print(f"{count}  {self._figures}".rstrip())

    def log(self, event: str, **fields: object) -> None:
        """Append one JSON line. A field `text` is also shown on stderr."""
        process.raise_if_interrupted()
        if event in ("start", "end", "failed"):
            self._finish()
            self._stage = {key: fields.get(key) for key in ("stage", "name")} if event == "start" else {}
            self._stage_began = time.monotonic()
        if "text" in fields:
            self._said = time.monotonic()
            self._console.print(f"  {fields['text']}", highlight=False, markup=False, soft_wrap=True)
        self._append(event, fields)

    def say(self, text: str) -> None:
        """Finish the bar, and print a line on stderr."""
        self._finish()
        self._said = time.monotonic()
        self._console.print(text, highlight=False, soft_wrap=True)

    def _append(self, event: str, fields: dict[str, object]) -> None:
        if self._log is None:
            return
        self._log.parent.mkdir(parents=True, exist_ok=True)
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str) + "\n")

    def _log_count(self, count: _Count) -> None:
        """Log a bar's units done and seconds left, from which a dry run estimates the rest of an interrupted task."""
        self._logged = time.monotonic()
        if self._stage and count.left_s is not None:
            left = {"done": count.done, "total": count.total, "seconds_left": round(count.left_s, 3)}
            self._append("progress", {**self._stage, "task": count.title, **left})

    def _print(self, text: str) -> None:
        self._said = time.monotonic()
        print(f"  {text}", file=sys.stderr, flush=True)

    def _break_silence(self) -> None:
        while not self._ended.wait(PLAIN_INTERVAL_S / 10):
            now, count = time.monotonic(), self._count
            if now - self._said < PLAIN_INTERVAL_S:
                continue
            if count is not None:
                self._print(f"{count}  {self._figures}".rstrip())
            elif self._stage:
                title = " ".join(str(value) for value in self._stage.values() if value)
                self._print(f"{title}: {duration(now - self._stage_began)}")

    def _finish(self) -> None:
        count, self._count = self._count, None
        if count is not None and count.done:
            self._log_count(count)
        if self._task is not None:
            self._bar.stop_task(self._task)  # type: ignore[arg-type]
            self._task = None
        elif count is not None and count.done:
            took_s = time.monotonic() - count.began_s
            self._print(f"{count.title}: {count.done}/{count.total} in {took_s:.0f} s")
