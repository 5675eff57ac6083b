"""The server: `python -m tests.forked DESCRIPTOR` imports, then forks itself for each request on the socket DESCRIPTOR.

A request is JSON, {"arguments": […], "cwd": …}, with three descriptors: a socket, to which the process's number is written and,
when it has ended, its exit code, four bytes each; then its stdout and its stderr.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import sys
import traceback
from pkgutil import walk_packages
from types import ModuleType

import puzzledsl
from puzzledsl.base import process

STAGES = "api child data evaluate export measure models pieces pipeline refining report scoring search uptrain".split()
LEFT_OUT = ("puzzledsl.child.checkpoint.remote", "puzzledsl.export.engines")
"""Files that travel with a checkpoint; what is imported in an engine's own process."""
NUMBER = struct.Struct(">i")
OTHERS = ("tests.tiny", "transformers.models.llama.modeling_llama", "puzzledsl.cli.app")


def load() -> None:
    """Import what commands that run stages import, all but their entry point."""
    for module in walk_packages(puzzledsl.__path__, "puzzledsl."):
        if module.name.split(".")[1] in STAGES and not module.name.startswith(LEFT_OUT):
            importlib.import_module(module.name)
    for name in OTHERS:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # pages of what is imported stay shared


def become(arguments: list[str]) -> int:
    """Do as `python ARGUMENTS` would; return the exit code."""
    option, what, *more = arguments
    try:
        if option == "-m":
            sys.argv, sys.path[0] = [what, *more], os.getcwd()
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            assert option == "-c"
            sys.argv, sys.path[0] = ["-c", *more], ""
            sys.modules["__main__"] = main = ModuleType("__main__")
            exec(compile(what, "<string>", "exec"), main.__dict__)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def serve(control: socket.socket) -> None:
    """Fork a process for each request until the other side is gone."""
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno())
    replies: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([control, woken], [], [])
        if woken in ready:
            woken.recv(1024)
            for pid in list(replies):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    with replies.pop(pid) as reply:
                        reply.sendall(NUMBER.pack(os.waitstatus_to_exitcode(status)))
        if control not in ready:
            continue
        request, descriptors, _, _ = socket.recv_fds(control, 1 << 20, 3)
        if not request:
            return
        status_fd, *outputs = descriptors
        given = json.loads(request)
        pid = os.fork()
        if not pid:
            signal.set_wakeup_fd(-1)
            for standard, descriptor in zip((1, 2), outputs, strict=True):
                os.dup2(descriptor, standard)
            for descriptor in descriptors:
                os.close(descriptor)
            for other in (control, wake, woken, *replies.values()):
                other.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.chdir(given["cwd"])
            process.leave(become(given["arguments"]))
        for descriptor in outputs:
            os.close(descriptor)
        replies[pid] = socket.socket(fileno=status_fd)
        replies[pid].sendall(NUMBER.pack(pid))


if __name__ == "__main__":
    load()
    serve(socket.socket(fileno=int(sys.argv[1])))
