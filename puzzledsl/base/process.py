"""This process: its processor's name, its garbage collector tuned for short commands, and a reliable Ctrl-C.

A short command creates about a hundred thousand objects, nearly all of which live to its end; collection passes over
them would take a tenth of its time. Long-running work and work with arrays use the collector's usual settings.

An interrupt is also recorded, because libraries swallow KeyboardInterrupt or convert it to their own errors.
"""

from __future__ import annotations

import atexit
import gc
import os
import platform
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

RARELY = 100_000  # new objects between two collections
_USUAL = gc.get_threshold()


def rest() -> None:
    """Make garbage collection rare from now on: objects made while the process starts live to its end."""
    gc.set_threshold(RARELY, *_USUAL[1:])


def work() -> bool:
    """Undo `rest`, and exempt all objects made so far from collection. Return False, changing nothing, without `rest` before."""
    if gc.get_threshold()[0] != RARELY:
        return False
    gc.freeze()
    gc.set_threshold(*_USUAL)
    return True


def usable_cores() -> int:
    """Return the number of cores that this process may use; all cores of the machine if the system has no such limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """Return the processor's name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


EXIT_INTERRUPTED = 130

_asked = False


def listen_to_interrupts() -> None:
    """From now on record Ctrl-C for `was_interrupted`, and raise KeyboardInterrupt as usual. For the main thread alone."""
    global _asked
    _asked = False
    signal.signal(signal.SIGINT, _note)
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _tell_unless_interrupt


def ignore_interrupts() -> None:
    """Ignore Ctrl-C after the work is done: during shutdown it would only change the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def was_interrupted() -> bool:
    """Return True if Ctrl-C was pressed since `listen_to_interrupts`."""
    return _asked


def raise_if_interrupted() -> None:
    """Raise KeyboardInterrupt if Ctrl-C was pressed and the exception was lost (in the import of a C extension, say)."""
    if _asked:
        raise KeyboardInterrupt


def leave(code: int) -> NoReturn:
    """Run exit handlers, flush the output, and end the process at once: destroying all objects takes a tenth of a short run.

    After an interrupt, `sys.exit` would also give the wrong exit code: an interrupt inside `exec` of a string (dataclasses and
    torch use it) makes `python -m` end itself with SIGINT at the end, even though the interrupt was handled.
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
    """Report an exception that Python cannot raise (in a `__del__`), but no interrupt: `raise_if_interrupted` raises that."""
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)


def _note(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = True
    signal.default_int_handler(number, frame)
