"""One model in an engine's process of its own, which times what it is asked (`export/engines/worker.py --serve`)."""

from __future__ import annotations

import json
import re
import select
import subprocess
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from puzzledsl.base.files import scratch
from puzzledsl.export.engines.ask import environment, python_of

TIMEOUT_S = 1800
GIB = 1 << 30
FEW_SMALL_BYTES, FEW_SMALL_SHARE = 28 << 20, 0.1
"""Memory in small pages that slows no weights: 21 MiB are Python's and llama.cpp's own, and of much memory it is a part."""


class SessionFailed(Exception):
    """The process ended, did not answer in time, or answered with an error. The message is the reason."""


class Session:
    """A loaded model. Use as a context manager: its end ends the process."""

    def __init__(self, engine: str, path: Path, request: dict[str, Any], cache_bytes: int = 0) -> None:
        """Load the model as the `request` says; some engines reserve the `cache_bytes` of its KV cache. Raises SessionFailed."""
        python = python_of(engine)
        assert python is not None, "the caller asks first"
        self._held = ExitStack()
        folder = self._held.enter_context(scratch("session"))
        self._errors = self._held.enter_context((folder / "stderr").open("w+b"))
        variables = environment(engine, request["threads"], str(folder))
        variables["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, -(-2 * cache_bytes // GIB)))
        worker = str(resources.files("puzzledsl.export.engines") / "worker.py")
        self._process = subprocess.Popen(
            [str(python), worker, engine, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=variables,
            cwd=folder,
            start_new_session=True,  # Ctrl-C is for us; its end of input ends it
        )
        try:
            self.version = str(self._ask({"op": "open", "path": str(path.absolute()), "request": request}))
        except BaseException:
            self.close()
            raise

    @property
    def is_in_huge_pages(self) -> bool:
        """False of a process whose weights lie in small pages, since the system had no others; True where it does not say."""
        try:
            told = Path(f"/proc/{self._process.pid}/smaps_rollup").read_text("ascii")
        except OSError:
            return True
        sizes = dict(re.findall(r"^(\w+): +(\d+) kB$", told, re.MULTILINE))
        anonymous, huge = (int(sizes.get(name, 0)) << 10 for name in ("Anonymous", "AnonHugePages"))
        return anonymous - huge <= max(FEW_SMALL_BYTES, FEW_SMALL_SHARE * anonymous)

    def prefill(self, prompt: int) -> float:
        """Return the seconds of one prompt of every sequence. Raises SessionFailed."""
        return float(self._ask({"op": "prefill", "prompt": prompt}))

    def fill(self, context: int) -> None:
        """Give every sequence `context` tokens. Raises SessionFailed."""
        self._ask({"op": "fill", "context": context})

    def steps(self, steps: int) -> list[float]:
        """Return the seconds of decode steps after `fill`. Raises SessionFailed."""
        return [float(seconds) for seconds in self._ask({"op": "steps", "steps": steps})]

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._process.stdout is not None:
            self._process.stdout.close()
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

    def _ask(self, question: dict[str, Any]) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise SessionFailed(self._last_words()) from None
        ready, _, _ = select.select([self._process.stdout], [], [], TIMEOUT_S)
        line = self._process.stdout.readline() if ready else b""
        if not ready:
            raise SessionFailed(f"no answer within {TIMEOUT_S} s")
        if not line:
            raise SessionFailed(self._last_words())
        answer = json.loads(line)
        if "error" in answer:
            raise SessionFailed(answer["error"])
        return answer["ok"]

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().decode(errors="replace").splitlines()]
        told = next((f": {line[-300:]}" for line in reversed(lines) if line), "")
        return (f"it ended by signal {-code}" if code < 0 else f"it ended with exit code {code}") + told
