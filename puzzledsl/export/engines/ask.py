"""Run an engine in a separate process, which answers what it is asked (`worker.py`)."""

import hashlib
import json
import os
import re
import select
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from puzzledsl.base.files import scratch, sha256_of
from puzzledsl.base.frozen import Record

MODULES = {"transformers": "transformers", "llama_cpp": "llama_cpp_py_sync", "mlx": "mlx_lm"}
VLLM_VENV = ".venv-vllm"
LLAMA_FOLDER = ".llama"
TIMEOUT_S = 1800
GIB = 1 << 30
FEW_SMALL_BYTES, FEW_SMALL_SHARE = 28 << 20, 0.1
"""Bytes, and share of a process's memory, that may lie in small pages without slowing weights: 21 MiB hold other things."""


class Answer(Record):
    """`logits[m][p]` [S, V] (or log-probabilities) and `greedy[m][p]` for model m and prompt p."""

    version: str
    logprobs: bool
    logits: list[list[NDArray[Any]]]
    greedy: list[list[list[int]]]


class Crash(Record):
    """The engine's process ended, answered with an error, or not in time; `reason` is a phrase that says so."""

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
    """Return a digest of the user's build of llama.cpp; empty for other engines, and if the wheel's library is used."""
    library = llama_library() if engine == "llama_cpp" else None
    if library is None or not library.is_file():  # its process says that
        return ""
    parts = [library, *sorted(library.parent.glob("libggml-cpu*"))]
    return hashlib.sha256("".join(map(sha256_of, parts)).encode()).hexdigest()[:8]


HUGE_PAGES = "glibc.malloc.hugetlb=1"
"""glibc's setting for weights in huge pages. In small ones a process may decode 12 % slower than another with the same file
(SmolLM2 in llama.cpp), for as long as it lives: it depends on which pages were free when it began."""


def environment(engine: str, threads: int, folder: str) -> dict[str, str]:
    """Return the variables of an engine's process, whose own files are in `folder`."""
    found = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_MODULES_CACHE": f"{folder}/modules"}
    # it ends with this process, also where that is gone before it begins
    found["PZL_STARTED_BY"] = str(os.getpid())
    found["GLIBC_TUNABLES"] = ":".join(filter(None, (HUGE_PAGES, os.environ.get("GLIBC_TUNABLES"))))
    found.pop("PYTHONPATH", None)  # vLLM's environment has packages of its own
    if engine == "llama_cpp" and (library := llama_library()) is not None:
        found |= {"PZL_LLAMA_LIBRARY": str(library), "PZL_LLAMA_BUILD": build_of(engine)}
    return found


class SessionFailed(Exception):
    """The process ended, did not answer in time, or answered with an error. The message is the reason."""


class Session:
    """An engine's process. Use as a context manager: its end ends the process."""

    def __init__(self, engine: str, path: Path | None, request: dict[str, Any], cache_bytes: int = 0) -> None:
        """Start the process; load the model at `path`, if any, by `request` (see `worker.py`). Raises SessionFailed.

        `cache_bytes`: size of the model's KV cache, for engines that reserve it.
        """
        python = python_of(engine)
        assert python is not None, "the caller asks first"
        self._held = ExitStack()
        folder = self._held.enter_context(scratch("session"))
        self._errors = self._held.enter_context((folder / "stderr").open("w+b"))
        variables = environment(engine, request["threads"], str(folder))
        variables["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, -(-2 * cache_bytes // GIB)))
        worker = str(resources.files("puzzledsl.export.engines") / "worker.py")
        self._process = subprocess.Popen(
            [str(python), worker, engine],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=variables,
            cwd=folder,
            start_new_session=True,  # Ctrl-C is for us; its end of input ends it
        )
        if path is None:
            return
        try:
            self.version = str(self.ask({"op": "open", "path": str(path.absolute()), "request": request}))
        except BaseException:
            self.close()
            raise

    @property
    def is_in_huge_pages(self) -> bool:
        """False if much of the process's memory lies in small pages; True also if the system does not say."""
        try:
            told = Path(f"/proc/{self._process.pid}/smaps_rollup").read_text("ascii")
        except OSError:
            return True
        sizes = dict(re.findall(r"^(\w+): +(\d+) kB$", told, re.MULTILINE))
        anonymous, huge = (int(sizes.get(name, 0)) << 10 for name in ("Anonymous", "AnonHugePages"))
        return anonymous - huge <= max(FEW_SMALL_BYTES, FEW_SMALL_SHARE * anonymous)

    def prefill(self, prompt: int) -> float:
        """Return the seconds in which every sequence reads a prompt of `prompt` tokens. Raises SessionFailed."""
        return float(self.ask({"op": "prefill", "prompt": prompt}))

    def fill(self, context: int) -> None:
        """Give every sequence `context` tokens. Raises SessionFailed."""
        self.ask({"op": "fill", "context": context})

    def steps(self, steps: int) -> list[float]:
        """Return the seconds of each of `steps` decode steps after `fill`. Raises SessionFailed."""
        return [float(seconds) for seconds in self.ask({"op": "steps", "steps": steps})]

    def close(self) -> None:
        """End the process."""
        for pipe in filter(None, (self._process.stdin, self._process.stdout)):
            with suppress(BrokenPipeError):  # a question that a process did not live to read
                pipe.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, question: dict[str, Any], hear: Callable[[str], None] | None = None) -> Any:
        """Return the answer of `worker.py` to a question; `hear` gets log lines that come before it. Raises SessionFailed."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise SessionFailed(self._last_words()) from None
        if hear is None and not select.select([self._process.stdout], [], [], TIMEOUT_S)[0]:
            raise SessionFailed(f"no answer within {TIMEOUT_S} s")
        answer: dict[str, Any] = {"said": ""}
        while "said" in answer:
            if not (line := self._process.stdout.readline()):
                raise SessionFailed(self._last_words())
            answer = json.loads(line)
            if hear is not None and "said" in answer:
                hear(answer["said"])
        if "error" in answer:
            raise SessionFailed(answer["error"])
        return answer["ok"]

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().decode(errors="replace").splitlines()]
        told = next((f": {line[-300:]}" for line in reversed(lines) if line), "")
        return (f"it ended by signal {-code}" if code < 0 else f"it ended with exit code {code}") + told


def ask(
    engine: str,
    models: Sequence[Path],
    prompts: Sequence[Sequence[int]],
    *,
    steps: int = 32,
    context: int = 512,
    dtype: str = "float32",
    caches: Mapping[str, object] | None = None,
) -> Answer | Crash:
    """Run models on disk in an installed engine; return Crash if its process fails. `worker.py` explains the arguments."""
    request: dict[str, Any] = {
        "models": [str(path.absolute()) for path in models],
        "prompts": [list(prompt) for prompt in prompts],
        "steps": steps,
        "context": context,
        "threads": 1,
        "dtype": dtype,
        **(caches or {}),
    }
    with scratch("engine") as folder:
        path = folder / "result.npz"
        try:
            with Session(engine, None, request) as session:
                facts = session.ask({"op": "run", "request": request, "path": str(path)})
        except SessionFailed as error:
            reason = str(error)
            is_told = reason.startswith(("it ended", "no answer"))
            return Crash(reason.removeprefix("it ") if is_told else f"failed: {reason}")
        with np.load(path, allow_pickle=False) as file:
            logits, greedy = (
                [[file[f"{kind}.{m}.{p}"] for p in range(len(prompts))] for m in range(len(models))]
                for kind in ("logits", "greedy")
            )
    return Answer(logits=logits, greedy=[[own.tolist() for own in each] for each in greedy], **facts)
