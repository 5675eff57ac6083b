"""Reliable Ctrl-C: record the signal, because libraries swallow KeyboardInterrupt or convert it to their own errors."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

EXIT_INTERRUPTED = 130

_asked = False


def listen() -> None:
    """Record Ctrl-C in addition to raising KeyboardInterrupt. Call it only from the main thread."""
    global _asked
    _asked = False
    signal.signal(signal.SIGINT, _note)
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _tell_unless_interrupt


def finish() -> None:
    """Ignore Ctrl-C after the work is done: during shutdown it would only change the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def asked() -> bool:
    """Return True if the user has pressed Ctrl-C."""
    return _asked


def check() -> None:
    """Raise KeyboardInterrupt if Ctrl-C was pressed and the exception was lost (in the import of a C extension, say)."""
    if _asked:
        raise KeyboardInterrupt


def leave(code: int) -> NoReturn:
    """End the process at once with an exit code. Destroying all objects would take a tenth of a short command's time.

    After an interrupt, `sys.exit` would also give the wrong exit code: an interrupt inside `exec` of a string
    (dataclasses and torch use it) makes `python -m` end itself with SIGINT at the end, even though the interrupt was
    handled.
    """
    for thread in threading.enumerate():
        if code != EXIT_INTERRUPTED and thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if not stream.closed:
                stream.flush()
        except BrokenPipeError:
            pass  # whoever read it has had enough
        except OSError as error:
            os.write(2, f"error: cannot write the output: {error.strerror}\n".encode())
            code = code or 1
    os._exit(code)


def _tell_unless_interrupt(unraisable: sys.UnraisableHookArgs) -> None:
    """Say nothing of an interrupt inside a `__del__`, which is lost there: `check` raises it again."""
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)


def _note(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = True
    signal.default_int_handler(number, frame)
