"""Erlang's C formula (1917), requests that find all of m servers at work, in exact integers; and quantiles of Poisson's law.

Sequences of continuous batching share an engine whose rate at k of them, k / C(k), is at least that of k servers at the
speed that m of them have, for every k up to m. So the number that runs is at most that of a queue M/M/m in distribution, also
where the lengths of requests are not exponential (Kelly 1979, symmetric queues).
"""

import json
from bisect import bisect_left
from fractions import Fraction
from functools import cache
from math import exp
from pathlib import Path

PER_LOAD = 1000  # Offered loads are rounded up to thousandths.
LATE = 40
"""One request of so many may find more sequences than a 95th percentile says, and another more prompts: 5 % together."""


@cache
def most_load(servers: int) -> Fraction:
    """Return the largest offered load, in thousandths, at which at most one request of LATE finds all servers at work."""
    loads = range(1, PER_LOAD * servers)
    return Fraction(bisect_left(loads, True, key=lambda load: _is_late(servers, load)), PER_LOAD)


def _is_late(servers: int, load: int) -> bool:
    """True if more than one request of LATE waits: by 1 / B(k) = 1 + k / load / B(k - 1), times load^k, of Erlang's B."""
    inverse, power = 1, 1
    for server in range(1, servers + 1):
        power *= load
        inverse = power + PER_LOAD * server * inverse
    idle = PER_LOAD * servers - load
    return (LATE * PER_LOAD * servers - load) * power > idle * inverse


@cache
def most_arrivals(mean: float) -> int:
    """Return the least number that a Poisson variable exceeds with a probability of at most one in LATE."""
    number, term, total = 0, exp(-mean), exp(-mean)
    while total < 1 - 1 / LATE:
        number += 1
        term *= mean / number
        total += term
    return number


def read_lengths(path: Path) -> tuple[tuple[int, int], ...]:
    """Return the prompt and output tokens of each line of a file: `{"prompt": 256, "output": 128}`.

    Raises ValueError, with a reason for people, for a file that is not there or has others.
    """
    try:
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
        found = tuple((line["prompt"], line["output"]) for line in lines)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"`{path.name}`: {getattr(error, 'strerror', None) or error}") from None
    if not found or not all(type(number) is int and number > 0 for pair in found for number in pair):
        raise ValueError(f"`{path.name}`: {'tokens are whole numbers above 0' if found else 'no lines'}")
    return found
