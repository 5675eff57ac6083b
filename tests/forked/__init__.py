"""Python processes forked from one that has loaded PyTorch: processes of their own, without the seconds of imports.

`run` and `start` take what `subprocess.run` and `subprocess.Popen` take after `sys.executable`; `pzl` takes what the command
takes. A server (`__main__.py`) of each environment imports what commands import, once a test process, and forks itself for
each of them. What such a process does not show, tests leave to `subprocess`: which modules a command imports, how it starts,
and what depends on the seed of hashes, which all processes of one server share.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]
CHANGING = "PYTEST_CURRENT_TEST"
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
"""The usual environment. The bits of sums depend on the number of threads."""


_servers: dict[frozenset[tuple[str, str]], socket.socket] = {}


def _server(environment: Mapping[str, str]) -> socket.socket:
    """Return the connection to the server of an environment, which is started when it is first asked for."""
    if environment.get("OMP_NUM_THREADS") != "1":
        raise ValueError("a process with threads cannot be forked: set OMP_NUM_THREADS=1")
    kept = {name: value for name, value in environment.items() if name != CHANGING}
    key = frozenset(kept.items())
    if key not in _servers:
        _servers[key], theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        paths = [str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.forked", str(theirs.fileno())],
                env={**kept, "PYTHONPATH": os.pathsep.join(paths)},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        atexit.register(process.wait)
        atexit.register(_servers[key].close)  # before the wait: the last that is registered runs first
    return _servers[key]


class Forked:
    """A process, with what tests use of `subprocess.Popen`. Both outputs go to files, so that nothing waits for a reader."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str], cwd: Path) -> None:
        self.arguments = arguments
        self.returncode: int | None = None
        self._outputs: list[IO[bytes]] = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115
        self._status, status = socket.socketpair()
        request = json.dumps({"arguments": arguments, "cwd": str(cwd)}).encode()
        with status:
            descriptors = [status.fileno(), *(file.fileno() for file in self._outputs)]
            socket.send_fds(_server(environment), [request], descriptors)
        self.pid = self._reply(None)

    def _reply(self, timeout: float | None) -> int:
        """The next number that the server says of this process."""
        self._status.settimeout(timeout)
        if not (reply := self._status.recv(4)):
            raise EOFError(f"the server of `python {' '.join(self.arguments)}` is gone")
        return int.from_bytes(reply, "big", signed=True)

    def poll(self) -> int | None:
        """The exit code, negative after a signal; None while it runs."""
        try:
            return self.wait(timeout=0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            try:
                self.returncode = self._reply(timeout)
            except (TimeoutError, BlockingIOError) as late:
                raise subprocess.TimeoutExpired(self.arguments, timeout or 0) from late
            self._status.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; return stdout and stderr."""
        self.wait(timeout)
        texts = []
        for file in self._outputs:
            file.seek(0)
            texts.append(file.read().decode("utf-8"))
            file.close()
        return texts[0], texts[1]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(arguments: list[str], *, env: Mapping[str, str], cwd: Path | None = None) -> Forked:
    """Start `python ARGUMENTS`, where the first is `-m` or `-c`."""
    return Forked(arguments, env, cwd or Path.cwd())


def run(
    arguments: list[str], *, env: Mapping[str, str], cwd: Path | None = None, timeout: float = 250
) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS` to its end; one that takes longer than `timeout` seconds is killed."""
    process = start(arguments, env=env, cwd=cwd)
    try:
        out, err = process.communicate(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return subprocess.CompletedProcess([sys.executable, *arguments], process.wait(), out, err)


def pzl(*arguments: str | Path, timeout: float = 250) -> subprocess.CompletedProcess[str]:
    """Run `pzl ARGUMENTS` to its end, on one thread."""
    command = ["-m", "puzzledsl.cli.main", *map(str, arguments)]
    return run(command, env=ONE_THREAD, timeout=timeout)
