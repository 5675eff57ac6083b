"""Repetition of answers: the share of runs of 4 tokens that were said before (seq-rep-4, Welleck et al. 2020)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from puzzledsl.ir.tables import Answer, Repetition

RUN = 4
"""Tokens of a run."""
MORE = 0.2
"""A child repeats itself if the mean repetition of its answers is this much above its parent's: three answers tell no less."""


def repetition_of(ids: Sequence[int]) -> float:
    """Return 1 - distinct / all runs of 4 tokens; 0 for fewer than 5 tokens."""
    runs = [tuple(ids[i : i + RUN]) for i in range(len(ids) - RUN + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def repetition(parent: Sequence[Answer], child: Sequence[Answer]) -> Repetition | None:
    """Compare answers to the same prompts; None without any."""
    if not parent or len(parent) != len(child):
        return None
    before, after = (statistics.fmean(answer.repetition for answer in each) for each in (parent, child))
    return Repetition(parent=before, child=after, remarkable=after > before + MORE)
