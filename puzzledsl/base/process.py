"""This process: the name of its processor, and Python's cyclic garbage collector tuned for short commands.

A short command creates about a hundred thousand objects, which nearly all live to its end; collection passes over
them would take a tenth of its time. Long-running work and work with arrays use the default collector.
"""

from __future__ import annotations

import gc
import platform

RARELY = 100_000  # objects more than at the last time
_USUAL = gc.get_threshold()


def rest() -> None:
    """Collect rarely from now on: objects made while the process starts live to its end."""
    gc.set_threshold(RARELY, *_USUAL[1:])


def work() -> bool:
    """Collect as usual from now on, except the objects made so far. Return False in a process that `rest` did not start."""
    if gc.get_threshold()[0] != RARELY:
        return False
    gc.freeze()
    gc.set_threshold(*_USUAL)
    return True


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
