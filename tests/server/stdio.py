"""A client of `pzl lsp` that speaks the protocol over its stdin and stdout, message by message."""

import json
import os
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "puzzledsl.cli.main", "lsp"]


class Server:
    """A running `pzl lsp`."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(COMMAND, stdin=pipe, stdout=pipe, stderr=pipe, env=environment)
        self.number = 0
        self.waiting: deque[dict[str, Any]] = deque()

    def send(self, method: str, params: Any = None, number: int | None = None) -> None:
        """Send a notification; a request if it has a number."""
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message["params"] = params
        if number is not None:
            message["id"] = number
        body = json.dumps(message).encode()
        assert self.process.stdin is not None
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """Return the next message of the server."""
        assert self.process.stdout is not None
        length = 0
        while line := self.process.stdout.readline().strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        found: dict[str, Any] = json.loads(self.process.stdout.read(length))
        return found

    def ask(self, method: str, params: Any = None) -> Any:
        """Send a request and return its result. Raises RuntimeError with the reason of a refusal.

        Messages that come before the answer are kept for `published`.
        """
        self.number += 1
        self.send(method, params, self.number)
        while True:
            message = self.receive()
            if message.get("id") == self.number and "method" not in message:
                if "error" in message:
                    raise RuntimeError(message["error"]["message"])
                return message["result"]
            self.waiting.append(message)

    def published(self, version: int | None, uri: str = "") -> list[dict[str, Any]]:
        """Return the diagnostics of a version of a text (of the only one by default), once they come."""
        while True:
            message = self.waiting.popleft() if self.waiting else self.receive()
            if message.get("method") != "textDocument/publishDiagnostics":
                continue
            params = message["params"]
            if params.get("version") == version and uri in ("", params["uri"]):
                found: list[dict[str, Any]] = params["diagnostics"]
                return found

    def initialize(self, **more: Any) -> None:
        """Begin the session as an editor does."""
        self.ask("initialize", {"processId": None, "rootUri": None, "capabilities": {}, **more})
        self.send("initialized", {})

    def end(self) -> tuple[int, str]:
        """Wait for the end of the server; return its exit code and what it wrote on stderr."""
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors.decode()

    def cpu_s(self) -> float:
        """Return the CPU seconds that the server's threads have used (Linux)."""
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text("ascii").split()[0]) for thread in threads) / 1e9
