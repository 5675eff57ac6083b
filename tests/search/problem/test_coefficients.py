"""Sums of products of whole numbers that int64 cannot hold."""

from __future__ import annotations

import numpy as np
import pytest

from puzzledsl.search.problem.metrics import combined


@pytest.mark.parametrize("factor", [1, -7, 2**62, 10**19, -(10**25)])
@pytest.mark.parametrize("values", [[], [0, 0, 0], [0, 3, -5], [2**40, -(2**40)]])
def test_sums_of_products_are_exact(values: list[int], factor: int) -> None:
    found = combined([(factor, np.array(values, dtype=np.int64)), (3, np.array(values, dtype=object))])
    assert [int(value) for value in found] == [value * (factor + 3) for value in values]
