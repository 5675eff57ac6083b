"""Ctrl-C, so that it cannot get lost: libraries swallow a KeyboardInterrupt or make an error of their own of it."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import NoReturn

EXIT_INTERRUPTED = 130

_asked = False


def listen() -> None:
    """From now on Ctrl-C is noted as well as raised. Only the main thread may call this."""
    global _asked
    _asked = False
    signal.signal(signal.SIGINT, _note)


def finish() -> None:
    """The work is done: Ctrl-C while Python takes itself down would only hide the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def asked() -> bool:
    """Whether the user has pressed Ctrl-C."""
    return _asked


def check() -> None:
    """Raise KeyboardInterrupt if one was asked for and got lost on its way (in the import of a C extension, say)."""
    if _asked:
        raise KeyboardInterrupt


def leave(code: int) -> NoReturn:
    """End the process with an exit code, at once: taking every object apart would be a tenth of a short command's time.

    After an interrupt `sys.exit` would not even be right: one inside `exec` of a text (dataclasses and torch do that) leaves
    a mark for which `python -m` ends itself with SIGINT at the end, though the interrupt was handled.
    """
    for thread in threading.enumerate():
        if code != EXIT_INTERRUPTED and thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(BrokenPipeError):  # whoever read it has had enough
            stream.flush()
    os._exit(code)


def _note(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = True
    signal.default_int_handler(number, frame)
