"""Memory that this process may still allocate: the least of free memory, cgroup limits and rlimits (Linux)."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

_UNLIMITED = 1 << 60
"""Limits from this size on mean "no limit" (cgroup v1 writes a number near 2^63)."""
_CACHED = ("inactive_file", "active_file")
_UNWRITTEN = {"": ("file_dirty", "file_writeback"), "total_": ("dirty", "writeback")}


def room_bytes() -> int:
    """Return the bytes this process may still allocate: the least that the machine, its cgroups and its rlimits allow."""
    return max(0, min(_rooms()))


def whole_bytes() -> int:
    """Return the bytes that this process could allocate if nothing else used memory: the same from one moment to the next."""
    return max(0, min(_rooms(unused=True)))


def _rooms(*, unused: bool = False) -> Iterator[int]:
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    yield machine if unused else _table(Path("/proc/meminfo")).get("MemAvailable", machine // 2)
    yield from _left_in_control_groups(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"), unused=unused)
    used = {} if unused else _used_by_this_process()
    for limit, name in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        soft, _ = resource.getrlimit(limit)
        if soft != resource.RLIM_INFINITY:
            yield soft - used.get(name, 0)


def _used_by_this_process() -> dict[str, int]:
    return _table(Path("/proc/self/status"))


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
    """Yield the bytes left under each memory limit of the process's cgroup and its ancestors; all of them if `unused`.

    File cache does not count as used: the kernel drops it when memory is needed, but what is not yet written to its file.
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
