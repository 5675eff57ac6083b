"""Tuning of Python's cyclic garbage collector for short commands.

A short command creates about a hundred thousand objects, which nearly all live to its end; collection passes over
them would take a tenth of its time. Long-running work and work with arrays use the default collector.
"""

from __future__ import annotations

import gc

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
