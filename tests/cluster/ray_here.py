"""A Ray cluster in this process's care, and the processes that it starts."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


def workers() -> Iterator[int]:
    """Yield the process ids of the workers that this process has started, directly or not: Ray names them after what they do."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_worker = (entry / "cmdline").read_bytes().startswith(b"ray::Member")
            if is_worker and os.getpid() in _ancestors(int(entry.name)):
                yield int(entry.name)


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
            self.killed.append(max(workers()))
            os.kill(self.killed[-1], signal.SIGKILL)

    def log(self, event: str, **fields: object) -> None:
        self.lost += event == "worker_lost"
