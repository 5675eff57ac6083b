"""Multiplicative hashing of integer keys, many at once."""

from __future__ import annotations

import numpy as np

from puzzledsl.search.problem.columns import Ints

_ODD = np.array([0x1E3779B97F4A7C15, 0x27D4EB2F165667C5, 0x165667B19E3779F9, 0x3C6EF372FE94F82B], np.int64)


def mixed(keys: Ints) -> Ints:
    """Return a 64-bit hash of each column of `keys` [key][model]: equal for equal keys, and rarely equal for different ones."""
    numbers = np.zeros(keys.shape[1], dtype=np.int64)
    for place, key in enumerate(keys):
        numbers = (numbers ^ (numbers >> 29)) + key * _ODD[place % len(_ODD)]
    return numbers
