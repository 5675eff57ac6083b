"""Workers take consecutive layers, all of them, with about equal work."""

from __future__ import annotations

from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.plan.bld import spans


def largest(work: list[float], cuts: tuple[int, ...]) -> float:
    edges = (0, *cuts, len(work))
    return max(sum(work[a:b]) for a, b in pairwise(edges))


@given(st.lists(st.integers(1, 50).map(float), min_size=1, max_size=9), st.integers(1, 12))
def test_spans_are_whole_and_the_busiest_worker_has_least(work: list[float], workers: int) -> None:
    found = spans(work, workers)
    count = min(workers, len(work))
    assert len(found) == count and all(first < end for first, end in found)
    assert [first for first, _ in found] == [0, *(end for _, end in found[:-1])] and found[-1][1] == len(work)
    best = min(largest(work, cuts) for cuts in combinations(range(1, len(work)), count - 1))
    assert max(sum(work[first:end]) for first, end in found) <= best * (1 + 1e-9)
