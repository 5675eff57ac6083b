"""The pretended GPU in processes that a test starts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.pretended_gpu.gpu import GIB, Gpu, pretended_gpu

VARIABLE = "PZL_TESTS_PRETENDED_GPU"
"""Bytes of the GPU that a child process pretends to have (`site/sitecustomize.py`)."""
_KEPT: list[AbstractContextManager[Gpu]] = []  # a context that nothing refers to ends
ROOT = Path(__file__).resolve().parents[2]


def environment(memory_bytes: int = 80 * GIB) -> dict[str, str]:
    """Return variables with which a Python process, and its children, have a pretended GPU."""
    paths = [str(Path(__file__).parent / "site"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths)), VARIABLE: str(memory_bytes)}


def switch_on() -> None:
    """Pretend until the process ends, if the environment says so."""
    size = os.environ.get(VARIABLE)
    if size:
        kept = pretended_gpu(int(size))
        kept.__enter__()
        _KEPT.append(kept)


@contextmanager
def reported(path: Path | None, memory_bytes: int) -> Iterator[Gpu]:
    """Pretend, and write peak, waits and attention calls to a JSON file at the end, however it comes."""
    with pretended_gpu(memory_bytes) as gpu:
        try:
            yield gpu
        finally:
            if path is not None:
                calls = {" ".join(map(str, call)): count for call, count in gpu.attention.items()}
                found = {"peak_bytes": gpu.peak_bytes, "waits": gpu.waits, "attention": calls}
                path.write_text(json.dumps(found, indent=1))
