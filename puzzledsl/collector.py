"""Python's collector of reference cycles, kept away from what it cannot free.

A short command makes some hundred thousand objects, nearly all of which stay to its end; walking them again and again would be a
tenth of its time. What works for long, or holds arrays, wants the collector as it usually is.
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
