"""How far an answer may be from a bound: relative gaps, in the goal's own units."""

from __future__ import annotations

from bisect import bisect_left
from fractions import Fraction

from puzzledsl.search.instance import Goal


def within_gap(goal: Goal, value: int, bound: int, gap: float) -> bool:
    """Whether |value - bound| <= gap * |value|, in the goal's own units; both are sums."""
    reached, proven = goal.in_units(value), goal.in_units(bound)
    if reached is None or proven is None:
        return value == bound
    return abs(reached - proven) <= Fraction(gap) * abs(reached)


def good_enough(goal: Goal, bound: int, top: int, gap: float) -> int:
    """The largest sum, up to `top`, that is within the gap of a bound and all of whose lesser ones are."""
    sums = range(bound + 1, top + 1)
    return bound + bisect_left(sums, True, key=lambda value: not within_gap(goal, value, bound, gap))


def bound_enough(goal: Goal, value: int, bound: int, gap: float) -> int:
    """The least bound, from one that is known, that a value is within the gap of."""
    bounds = range(bound, value)
    return bound + bisect_left(bounds, True, key=lambda better: within_gap(goal, value, better, gap))
