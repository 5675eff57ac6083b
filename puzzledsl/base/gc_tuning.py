"""Tuning of Python's cyclic garbage collector for short commands.

A short command creates about a hundred thousand objects, which nearly all live to its end; collection passes over
them would take a tenth of its time. Long-running work and work with arrays use the default collector.
"""

from __future__ import annotations

import gc

RARELY = 100_000  # objects more than at the last time
_USUAL = gc.get_threshold()


def rest() -> None:
    """From now on collect rarely: the process starts, and what it makes stays."""
    gc.set_threshold(RARELY, *_USUAL[1:])


def work() -> None:
    """From now on collect as usual, and leave alone what the start has made."""
    if gc.get_threshold()[0] == RARELY:
        gc.freeze()
        gc.set_threshold(*_USUAL)
