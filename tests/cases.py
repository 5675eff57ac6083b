"""The part of a long test that `make test` runs. `make test-slow` runs all of it, and so does whatever measures all tests.

A test that draws its cases draws `cases(count)` of them, and has the mark `drawn` unless it is hypothesis that draws.
What a test asks of more engines, seeds or sizes than `make test` needs has the mark `more`, or is a parameter from `more`.
"""

import os
from typing import Any

import pytest

ALL = not {"PZL_CASES", "PZL_WHOLE"}.isdisjoint(os.environ)
"""True where every case is wanted: in `make test-slow`, `coverage`, `mutants` and `strength`."""
SHARE, LEAST = 5, 8


def cases(count: int) -> int:
    """Return how many of `count` random cases a test draws: a fifth in `make test`, but eight at least."""
    return count if ALL else max(min(count, LEAST), count // SHARE)


def more(*values: Any) -> list[Any]:
    """Parameters of `make test-slow`; a tuple is the values of several arguments."""
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.more)
        for value in values
    ]
