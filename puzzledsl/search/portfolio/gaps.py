"""Relative gaps between the sum of an answer and a bound, measured in the objective's own units."""

from __future__ import annotations

from bisect import bisect_left
from fractions import Fraction

from puzzledsl.search.problem.instance import Goal


def within_gap(goal: Goal, value: int, bound: int, gap: float) -> bool:
    """True if |value - bound| <= gap * |value| in the objective's units. `value` and `bound` are given as sums."""
    reached, proven = goal.in_units(value), goal.in_units(bound)
    if reached is None or proven is None:
        return value == bound
    return abs(reached - proven) <= Fraction(gap) * abs(reached)


def good_enough(goal: Goal, bound: int, top: int, gap: float) -> int:
    """Return the largest sum up to `top` such that it and all smaller sums are within the gap of `bound`."""
    sums = range(bound + 1, top + 1)
    return bound + bisect_left(sums, True, key=lambda value: not within_gap(goal, value, bound, gap))


def bound_enough(goal: Goal, value: int, bound: int, gap: float) -> int:
    """Return the least bound, from the known `bound` on, that brings `value` within the gap."""
    bounds = range(bound, value)
    return bound + bisect_left(bounds, True, key=lambda better: within_gap(goal, value, better, gap))
