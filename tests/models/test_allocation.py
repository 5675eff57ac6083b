"""Freed memory is taken again without the system's help."""

from __future__ import annotations

import subprocess
import sys

import pytest

from puzzledsl.models.kernels import products as allocation
from puzzledsl.models.kernels.products import keep_freed_memory

FAULTS = """
import ctypes, resource
from puzzledsl.models.kernels.products import keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
assert keep_freed_memory()
size = 30 << 20
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    pieces = [libc.malloc(size) for _ in range(4)]
    for piece in pieces:
        ctypes.memset(piece, 1, size)
    for piece in pieces:
        libc.free(piece)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not keep_freed_memory(), reason="not glibc, or less than 2 GiB free")
def test_freed_memory_is_taken_again() -> None:
    ran = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    first, *later = map(int, ran.stdout.split())
    assert all(faults < first / 10 for faults in later), ran.stdout


def test_without_glibc_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocation.ctypes, "CDLL", lambda _: object())
    assert not keep_freed_memory.__wrapped__()


def test_where_memory_is_short_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocation, "room_bytes", lambda: 1 << 30)
    monkeypatch.setattr(allocation.ctypes, "CDLL", lambda _: pytest.fail("the C library is told"))
    assert not keep_freed_memory.__wrapped__()
