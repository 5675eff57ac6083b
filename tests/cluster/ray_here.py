"""A Ray cluster in this process's care, and the processes that it starts."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from puzzledsl.base.progress import Silent

MARKS = [
    pytest.mark.timeout(900),  # every worker loads torch, which takes a busy machine its time
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of Ray's own
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@contextmanager
def ray_with(workers: int) -> Iterator[None]:
    """A cluster on this machine with so many CPUs, whatever the machine has."""
    ray = pytest.importorskip("ray")
    ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def workers(pid: int | None = None) -> list[int]:
    """Process ids of a process's workers (default: this one's): Ray names a process after what it does."""
    return sorted(child for child, name in descendants(pid or os.getpid()) if name.startswith(b"ray::Member"))


def descendants(pid: int) -> Iterator[tuple[int, bytes]]:
    """Yield the ids and command lines of the processes that a process has started, directly or not."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int(entry.name) != pid and pid in _ancestors(int(entry.name)):
                yield int(entry.name), (entry / "cmdline").read_bytes()
        except OSError:
            continue


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        yield pid


class Killer(Silent):
    """Kills a worker with SIGKILL after some units, several times."""

    def __init__(self, *after: int) -> None:
        self.after, self.units = list(after), 0
        self.killed: list[int] = []
        self.lost = 0

    def advance(self, amount: int = 1, **figures: float | str) -> None:
        self.units += amount
        if self.after and self.units >= self.after[0]:
            self.after.pop(0)
            self.killed.append(workers()[-1])
            os.kill(self.killed[-1], signal.SIGKILL)

    def log(self, event: str, **fields: object) -> None:
        self.lost += event == "worker_lost"
