"""How much memory this process may still take, and whether a parent fits into it."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

_UNLIMITED = 1 << 60
"""Larger limits mean none (cgroup v1 writes a number near 2^63)."""


def room_bytes() -> int:
    """Bytes this process may still allocate: the least that the machine, its control group and its own limits allow."""
    return max(0, min(_rooms()))


def _rooms() -> Iterator[int]:
    yield _free_on_the_machine()
    yield from _left_in_control_groups(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))
    used = _used_by_this_process()
    for limit, name in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        soft, _ = resource.getrlimit(limit)
        if soft != resource.RLIM_INFINITY:
            yield soft - used.get(name, 0)


def _free_on_the_machine() -> int:
    free = _table(Path("/proc/meminfo")).get("MemAvailable")
    return free if free is not None else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _used_by_this_process() -> dict[str, int]:
    return _table(Path("/proc/self/status"))


def _table(path: Path) -> dict[str, int]:
    """`Name:  123 kB` lines, in bytes."""
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


def _left_in_control_groups(root: Path, membership: Path) -> Iterator[int]:
    """What is left of each memory limit above this process; caches of files that can be dropped are not counted as used."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            yield from _left(root, group, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _left(root / "memory", group, *names)


def _left(root: Path, group: str, limit: str, usage: str, droppable: str) -> Iterator[int]:
    here = root / group.lstrip("/")
    while here.is_relative_to(root):
        try:
            allowed = int((here / limit).read_text())
            used = int((here / usage).read_text())
            cache = dict(line.split() for line in (here / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # no such group in this container, or the limit is the word "max"
            allowed = _UNLIMITED
        if allowed < _UNLIMITED:
            yield allowed - used + int(cache.get(droppable, 0))
        here = here.parent
