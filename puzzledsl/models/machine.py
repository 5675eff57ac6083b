"""The machine's memory and threads: what this process may still allocate, and several forwards at once on a CPU.

A matrix product of a few hundred tokens is only 1.4x as fast on two cores as on one, and splitting it changes the last digits.
With one thread per forward pass, results have the same bits for any number of threads.
"""

import os
import resource
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import torch

S = TypeVar("S")
T = TypeVar("T")


class Workers:
    """Pool of as many threads as PyTorch may use (`OMP_NUM_THREADS`), or fewer.

    On an accelerator, which has a single queue, the caller does all work itself. It also does for a paged model, where one worker
    would drop weights that another is about to use. On a CPU, the caller's own products use as many threads as one worker's.
    """

    def __init__(self, device: torch.device, *, shared: bool = True, most: int | None = None) -> None:
        """`shared`: several threads may run the model at once. `most`: limit of workers, which then divide PyTorch's threads."""
        self._on_cpu, self._threads = device.type == "cpu", torch.get_num_threads()
        self.count = min(self._threads, most or self._threads) if self._on_cpu and shared else 1
        self._own = self._threads // self.count if most else 1
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        if self._on_cpu:
            torch.set_num_threads(self._own)
        if self.count > 1:
            start = torch.set_num_threads
            self._pool = ThreadPoolExecutor(self.count, initializer=start, initargs=(self._own,))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        if self._on_cpu:
            torch.set_num_threads(self._threads)

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run `work` in a worker, without gradients. Without a pool, the caller runs it before this returns."""

        @torch.inference_mode()
        def without_gradients() -> T:
            return work()

        if self._pool is not None:
            return self._pool.submit(without_gradients)
        done: Future[T] = Future()
        done.set_result(without_gradients())
        return done

    def each(self, work: Callable[[S], T], items: Iterable[S]) -> Iterator[tuple[S, T]]:
        """Yield each item with its result, in order. At most one item more than there are workers is taken ahead."""
        begun: deque[tuple[S, Future[T]]] = deque()
        for item in items:
            begun.append((item, self.submit(partial(work, item))))
            if len(begun) > self.count:
                first, future = begun.popleft()
                yield first, future.result()
        for item, future in begun:
            yield item, future.result()


_UNLIMITED = 1 << 60  # limits from this size on mean "no limit" (cgroup v1 writes a number near 2^63)
_CACHED = ("inactive_file", "active_file")
_UNWRITTEN = {"": ("file_dirty", "file_writeback"), "total_": ("dirty", "writeback")}


def room_bytes() -> int:
    """Return the bytes this process may still allocate: the smallest of what machine, cgroups and rlimits leave, at least 0."""
    return max(0, min(_rooms()))


def whole_bytes() -> int:
    """Return the bytes that this process could allocate if nothing else used memory: the same from one moment to the next."""
    return max(0, min(_rooms(unused=True)))


def _rooms(*, unused: bool = False) -> Iterator[int]:
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    yield machine if unused else _table(Path("/proc/meminfo")).get("MemAvailable", machine // 2)
    yield from _left_in_control_groups(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"), unused=unused)
    used = {} if unused else _table(Path("/proc/self/status"))
    for limit, name in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        soft, _ = resource.getrlimit(limit)
        if soft != resource.RLIM_INFINITY:
            yield soft - used.get(name, 0)


def _table(path: Path) -> dict[str, int]:
    """Parse the `Name:  123 kB` lines of a /proc file into bytes by name; empty where there is no such file."""
    try:
        lines = path.read_text().splitlines()
    except OSError:  # not Linux
        return {}
    found = {}
    for line in lines:
        name, _, value = line.partition(":")
        parts = value.split()
        if len(parts) == 2 and parts[1] == "kB":
            found[name] = int(parts[0]) * 1024
    return found


def _left_in_control_groups(root: Path, membership: Path, *, unused: bool = False) -> Iterator[int]:
    """Yield the bytes left under each memory limit of the process's cgroup and its ancestors; the whole limit if `unused`.

    File cache does not count as used, since the kernel drops it when memory is needed; the part not yet written to disk does.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            yield from _left(root, group, "memory.max", "memory.current", "", unused=unused)
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
            yield from _left(root / "memory", group, *names, "total_", unused=unused)


def _left(root: Path, group: str, limit: str, usage: str, prefix: str, *, unused: bool) -> Iterator[int]:
    here = root / group.lstrip("/")
    while here.is_relative_to(root):
        try:
            allowed = int((here / limit).read_text())
            used = int((here / usage).read_text())
            lines = (here / "memory.stat").read_text().splitlines()
            counts = {name: int(value) for name, value in map(str.split, lines)}
        except (OSError, ValueError):  # the group is not in this container, or the limit is the word "max"
            allowed = _UNLIMITED
        if allowed < _UNLIMITED:
            cached = sum(counts.get(prefix + name, 0) for name in _CACHED)
            unwritten = sum(counts.get(prefix + name, 0) for name in _UNWRITTEN[prefix])
            yield allowed if unused else allowed - used + max(0, cached - unwritten)
        here = here.parent
