"""Run an engine in a separate process. Any failure of that process is returned as an answer, not raised."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puzzledsl.base.files import scratch, sha256_of

ENGINES = ("transformers", "llama_cpp", "mlx", "vllm")
MODULES = {"transformers": "transformers", "llama_cpp": "llama_cpp_py_sync", "mlx": "mlx_lm"}
VLLM_VENV = ".venv-vllm"
LLAMA_FOLDER = ".llama"
TIMEOUT_S = 1800


@dataclass(frozen=True, slots=True)
class Answer:
    """`logits[m][p]` [S, V] (or log-probabilities) and `greedy[m][p]` for model m and prompt p."""

    version: str
    logprobs: bool
    logits: list[list[NDArray[Any]]]
    greedy: list[list[list[int]]]


@dataclass(frozen=True, slots=True)
class Crash:
    """The engine's process failed; `reason` is its last line of output."""

    reason: str


def python_of(engine: str) -> Path | None:
    """Return the interpreter that has an engine (vLLM's: $PZL_VLLM_VENV, or a `.venv-vllm` nearby); None without one."""
    if engine != "vllm":
        return Path(sys.executable) if find_spec(MODULES[engine]) is not None else None
    given = os.environ.get("PZL_VLLM_VENV")
    places = [Path(given)] if given else [Path(VLLM_VENV), Path(sys.prefix).parent / VLLM_VENV]
    found = (place / "bin" / "python" for place in places)
    return next((path.absolute() for path in found if path.is_file()), None)


def llama_library() -> Path | None:
    """Return the library of llama.cpp that takes the place of the wheel's; None if there is none.

    It is $PZL_LLAMA_LIBRARY, which may be empty for none, or that of `make llama` in the working directory or beside our own
    environment.
    """
    if (given := os.environ.get("PZL_LLAMA_LIBRARY")) is not None:
        return Path(given).absolute() if given else None
    places = (Path(LLAMA_FOLDER), Path(sys.prefix).parent / LLAMA_FOLDER)
    found = (place / "lib" / f"libllama.{suffix}" for place in places for suffix in ("so", "dylib"))
    return next((path.absolute() for path in found if path.is_file()), None)


def build_of(engine: str) -> str:
    """Return a digest of the user's build of llama.cpp, where one is used; empty for an engine of a package."""
    library = llama_library() if engine == "llama_cpp" else None
    if library is None or not library.is_file():  # its process says that
        return ""
    parts = [library, *sorted(library.parent.glob("libggml-cpu*"))]
    return hashlib.sha256("".join(map(sha256_of, parts)).encode()).hexdigest()[:8]


HUGE_PAGES = "glibc.malloc.hugetlb=1"
"""Weights in huge pages. In small ones a process may decode 12 % slower than another with the same file (SmolLM2 in llama.cpp),
for as long as it lives: it depends on which pages were free when it began."""


def environment(engine: str, threads: int, folder: str) -> dict[str, str]:
    """Return the variables of an engine's process, whose own files are in `folder`."""
    found = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_MODULES_CACHE": f"{folder}/modules"}
    found["PZL_STARTED_BY"] = str(
        os.getpid()
    )  # it ends with this process, also where that is gone before it begins
    found["GLIBC_TUNABLES"] = ":".join(filter(None, (HUGE_PAGES, os.environ.get("GLIBC_TUNABLES"))))
    found.pop("PYTHONPATH", None)  # vLLM's environment has packages of its own
    if engine == "llama_cpp" and (library := llama_library()) is not None:
        found |= {"PZL_LLAMA_LIBRARY": str(library), "PZL_LLAMA_BUILD": build_of(engine)}
    return found


def ask(
    engine: str,
    models: Sequence[Path],
    prompts: Sequence[Sequence[int]],
    *,
    steps: int = 32,
    context: int = 512,
    threads: int = 1,
    dtype: str = "float32",
    caches: Mapping[str, object] | None = None,
) -> Answer | Crash:
    """Run models on disk in an installed engine. See `worker.py` for the request."""
    request: dict[str, Any] = {
        "models": [str(path.absolute()) for path in models],
        "prompts": [list(prompt) for prompt in prompts],
        "steps": steps,
        "context": context,
        "threads": threads,
        "dtype": dtype,
        **(caches or {}),
    }
    python = python_of(engine)
    assert python is not None
    with scratch("engine") as folder:
        asked, answered = folder / "request.json", folder / "result.npz"
        asked.write_text(json.dumps(request), encoding="utf-8")
        worker = str(resources.files("puzzledsl.export.engines") / "worker.py")
        try:
            done = subprocess.run(
                [str(python), worker, engine, str(asked), str(answered)],
                env=environment(engine, threads, str(folder)),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT_S,
                cwd=folder,
            )
        except subprocess.TimeoutExpired:
            return Crash(f"no answer within {TIMEOUT_S} s")
        if done.returncode != 0 or not answered.is_file():
            return Crash(_last_words(done))
        return _read(answered, len(models), len(prompts))


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
    told = f": {lines[-1][-300:]}" if lines else ""
    return (f"ended by signal {-done.returncode}" if done.returncode < 0 else "failed") + told


def _read(path: Path, models: int, prompts: int) -> Answer:
    with np.load(path, allow_pickle=False) as file:
        facts = json.loads(str(file["facts"]))
        logits = [[file[f"logits.{m}.{p}"] for p in range(prompts)] for m in range(models)]
        greedy = [
            [[int(token) for token in file[f"greedy.{m}.{p}"]] for p in range(prompts)] for m in range(models)
        ]
    return Answer(facts["version"], facts["logprobs"], logits, greedy)
