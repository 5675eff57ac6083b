"""Ctrl-C, so that it cannot get lost: libraries swallow a KeyboardInterrupt or make an error of their own of it."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from types import FrameType

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


def leave() -> None:
    """End the process with 130.

    `sys.exit` is not enough: an interrupt inside `exec` of a text (dataclasses and torch do that) leaves a mark for which
    `python -m` ends itself with SIGINT at the end, though the interrupt was handled.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_INTERRUPTED)


def _note(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = True
    signal.default_int_handler(number, frame)
