"""Python processes forked from one that has loaded PyTorch: processes of their own, without the seconds of imports.

`run` and `start` take what `subprocess.run` and `subprocess.Popen` take after `sys.executable`; `pzl` takes what the command
takes. A server of each environment imports what commands import (`loaded.py`), once a test process, and forks itself for each of
them. What such a process does not show, tests leave to `subprocess`: which modules a command imports, how it starts, and what
depends on the seed of hashes, which all processes of one server share.
"""

import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from multiprocessing import forkserver, get_context
from pathlib import Path
from types import ModuleType
from unittest import mock

from puzzledsl.base import process

ROOT = Path(__file__).parents[2]
CHANGING = "PYTEST_CURRENT_TEST"
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
"""The usual environment. The bits of sums depend on the number of threads, and a process with threads cannot be forked."""


_servers: dict[frozenset[tuple[str, str]], forkserver.ForkServer] = {}


def _server(environment: Mapping[str, str]) -> forkserver.ForkServer:
    """Return the server of an environment, which is started when it is first asked for."""
    kept = {name: value for name, value in environment.items() if name != CHANGING}
    key = frozenset(kept.items())
    if key not in _servers:
        _servers[key] = server = forkserver.ForkServer()
        server.set_forkserver_preload(["tests.forked.loaded"])
        paths = os.pathsep.join([str(ROOT), *filter(None, [environment.get("PYTHONPATH")])])
        with mock.patch.dict(os.environ, {**kept, "PYTHONPATH": paths}, clear=True):
            server.ensure_running()
    return _servers[key]


class Forked:
    """A process, with what tests use of `subprocess.Popen`. Both outputs go to files, so that nothing waits for a reader."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str], cwd: Path) -> None:
        self.arguments = arguments
        self._outputs = [tempfile.NamedTemporaryFile() for _ in range(2)]  # noqa: SIM115
        given = arguments, cwd, [file.name for file in self._outputs]
        self._process = get_context("forkserver").Process(target=_become, args=given)
        connect = _server(environment).connect_to_new_process
        with mock.patch.object(forkserver, "connect_to_new_process", connect):
            self._process.start()
        self.pid, self.kill = self._process.pid or 0, self._process.kill

    def poll(self) -> int | None:
        """The exit code, negative after a signal; None while it runs."""
        return self._process.exitcode

    returncode = property(poll)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; return stdout and stderr."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.arguments, timeout or 0)
        out, err = (file.read().decode("utf-8") for file in self._outputs)
        return out, err


def _become(arguments: list[str], cwd: Path, outputs: list[str]) -> None:
    """Do as `python ARGUMENTS` would, in a process of its own."""
    from tests.forked.loaded import PATHS

    for standard, name in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND), standard)
    os.chdir(cwd)
    option, what, *more = arguments
    sys.path[:], sys.argv = [os.getcwd() if option == "-m" else "", *PATHS], [what, *more]
    code: int | str | None = 0
    try:
        if option == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            sys.argv[0], sys.modules["__main__"] = "-c", (main := ModuleType("__main__"))
            exec(compile(what, "<string>", "exec"), main.__dict__)
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    process.leave(code or 0)


def start(arguments: list[str], *, env: Mapping[str, str], cwd: Path | None = None) -> Forked:
    """Start `python ARGUMENTS`, where the first is `-m` or `-c`."""
    return Forked(arguments, env, cwd or Path.cwd())


def run(
    arguments: list[str], *, env: Mapping[str, str], cwd: Path | None = None, timeout: float = 250
) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS` to its end; one that takes longer than `timeout` seconds is killed."""
    started = start(arguments, env=env, cwd=cwd)
    try:
        out, err = started.communicate(timeout)
    finally:
        started.kill()
    return subprocess.CompletedProcess([sys.executable, *arguments], started.poll() or 0, out, err)


def pzl(*arguments: str | Path, timeout: float = 250) -> subprocess.CompletedProcess[str]:
    """Run `pzl ARGUMENTS` to its end, on one thread."""
    command = ["-m", "puzzledsl.cli.main", *map(str, arguments)]
    return run(command, env=ONE_THREAD, timeout=timeout)
