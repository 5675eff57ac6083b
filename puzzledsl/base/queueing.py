"""Erlang's C formula (1917), the share of requests that find all m servers busy, in exact integers; and Poisson quantiles.

Sequences of continuous batching share an engine. With k sequences running it ends k / C(k) requests a second (C: seconds, see
docs/language.md), for k up to m at least as many as k of m servers that together end m / C(m). So the number of running sequences
is at most that of an M/M/m queue in distribution, also if lengths are not exponential (Kelly 1979, symmetric queues).
"""

import json
from bisect import bisect_left
from fractions import Fraction
from functools import cache
from math import exp
from pathlib import Path

PER_LOAD = 1000  # Offered loads (arrival rate * service time) are in thousandths, rounded up.
LATE = 40
"""One request of 40 may find more sequences than a 95th percentile assumes, and one more prompts: together 5 %."""


@cache
def most_load(servers: int) -> Fraction:
    """Return the largest offered load, a multiple of 1/1000, at which at most one request of LATE finds all servers busy."""
    loads = range(1, PER_LOAD * servers)
    return Fraction(bisect_left(loads, True, key=lambda load: _is_late(servers, load)), PER_LOAD)


def _is_late(servers: int, load: int) -> bool:
    """Return True if at `load` thousandths more than one request of LATE waits: C from 1 / B(k) = 1 + k / load / B(k - 1)."""
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
    """Return (prompt, output) tokens of each line of a JSONL file: `{"prompt": 256, "output": 128}`.

    Raises ValueError, with a message for the user, if the file cannot be read, has no lines, or has other values.
    """
    try:
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
        found = tuple((line["prompt"], line["output"]) for line in lines)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"`{path.name}`: {getattr(error, 'strerror', None) or error}") from None
    if not found or not all(type(number) is int and number > 0 for pair in found for number in pair):
        raise ValueError(f"`{path.name}`: {'tokens are whole numbers above 0' if found else 'no lines'}")
    return found
