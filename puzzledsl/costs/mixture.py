"""Experts of a mixture that a forward pass reads: the expected number of different ones among those its tokens choose.

A token chooses k of E experts, and tokens are taken to choose independently and evenly, as routers are trained to. n
tokens leave an expert out with probability (1 - k / E)^n, so that E (1 - (1 - k / E)^n) are expected to be read.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import gcd

CERTAIN = 24
"""From n = CERTAIN * E / k tokens on, all experts count: e^-24 of them, less than 1e-10, would be left out."""
MANY = 128
"""Beyond MANY * k experts, (1 - k / E)^n has too many digits: see `_interpolated`."""
BITS = 24
"""Precision of what is interpolated."""


@lru_cache(maxsize=1 << 14)
def share_read(experts: int, top_k: int, tokens: int) -> tuple[int, int]:
    """Return the expected share of experts that `tokens` tokens read, exactly, as numerator and denominator.

    It does not decrease with the tokens, and divided by them it does not increase. Both hold for 1 - q^n (q = 1 - k / E).
    They hold at the step to 1, too: there 1 / (n + 1) <= (1 - q^n) / n if (n + 1) q^n <= 1, and q^n < e^-24 while n is below
    2^31.
    """
    if tokens * top_k >= CERTAIN * experts or top_k >= experts:
        return 1, 1
    common = gcd(experts, top_k)
    whole, left = experts // common, (experts - top_k) // common
    if experts > MANY * top_k:
        return _interpolated(whole, left, tokens, -(-experts // (MANY * top_k)))
    denominator = whole**tokens
    return denominator - left**tokens, denominator


def _interpolated(whole: int, left: int, tokens: int, step: int) -> tuple[int, int]:
    """Return 1 - r^(n / step) at multiples of `step`, and a line between. r is (left / whole)^step, rounded to BITS.

    r^m is convex in m for every r below 1, and so are the lines between: both properties of `share_read` hold. Rounding
    changes r^m by less than a thousandth up to the step to 1.
    """
    kept = round(Fraction(left, whole) ** step * 2**BITS)
    steps, rest = divmod(tokens, step)
    between = ((step - rest) << BITS) + kept * rest
    denominator = step << BITS * (steps + 1)
    return denominator - kept**steps * between, denominator
