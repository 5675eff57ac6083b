"""Differences and ratios between a child and its parent on the same items and blocks, with confidence intervals.

Pairing matters: most of the noise of an accuracy comes from the draw of questions, which both models share. All
intervals are 95 % intervals with Student's t, from the linearised statistic (the delta method).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from puzzledsl.evaluate.kept import counted, kept
from puzzledsl.evaluate.text_gap import text_gap
from puzzledsl.ir.tables import Figure, Interval, ModelComparison, Paired

PERPLEXITY = "perplexity"  # its samples are cross-entropies, all others right (1) or wrong (0)
Z = statistics.NormalDist().inv_cdf(0.975)
Samples = Mapping[str, Sequence[float]]


def compare(
    model: str,
    child: Samples,
    parent: Samples,
    chances: Samples | None = None,
    texts: Mapping[str, Mapping[str, Figure]] | None = None,
) -> ModelComparison:
    """`child` and `parent`: each figure's values, one an item or block, in the same order.

    `chances`: of accuracies, the share of right answers that guessing gives, one an item. `texts`: the child's figures by text.
    """
    both = [name for name in child if name in parent]
    paired = {
        name: (_perplexity if name == PERPLEXITY else _share)(child[name], parent[name]) for name in both
    }
    tasks = list(counted({name: child[name] for name in both if name != PERPLEXITY}).values())
    return ModelComparison(
        model=model,
        paired=paired,
        accuracy_preserved=preserved([child[n] for n in tasks], [parent[n] for n in tasks]),
        kept=kept(child, parent, chances or {}),
        text_gap=text_gap(texts or {}),
    )


def preserved(child: Sequence[Sequence[float]], parent: Sequence[Sequence[float]]) -> Interval | None:
    """The child's mean accuracy over tasks as a share of the parent's (Puzzle, table 2). None where the parent has none."""
    before = sum(statistics.fmean(task) for task in parent)
    if not before:
        return None
    ratio = sum(statistics.fmean(task) for task in child) / before
    variance = 0.0
    for ours, theirs in zip(child, parent, strict=True):
        if len(ours) < 2:
            return Interval(value=ratio)
        variance += statistics.variance([c - ratio * p for c, p in zip(ours, theirs, strict=True)]) / len(
            ours
        )
    freedom = min(len(task) for task in child) - 1
    return _around(ratio, math.sqrt(variance) / before, freedom)


def _share(child: Sequence[float], parent: Sequence[float]) -> Paired:
    """Means of 0s and 1s."""
    differences = [c - p for c, p in zip(child, parent, strict=True)]
    return Paired(difference=_mean(differences), ratio=preserved([child], [parent]))


def _perplexity(child: Sequence[float], parent: Sequence[float]) -> Paired:
    """From mean cross-entropies in nats: the ratio's interval is that of their mean difference, exponentiated."""
    differences = _mean([c - p for c, p in zip(child, parent, strict=True)])
    after, before = math.exp(statistics.fmean(child)), math.exp(statistics.fmean(parent))
    low, high = differences.low, differences.high
    ratio = Interval(
        value=after / before,
        low=None if low is None else math.exp(low),
        high=None if high is None else math.exp(high),
    )
    moved = [after * c - before * p for c, p in zip(child, parent, strict=True)]
    width = _mean(moved)
    if width.low is None:
        return Paired(difference=Interval(value=after - before), ratio=ratio)
    half = width.value - width.low
    return Paired(
        difference=Interval(value=after - before, low=after - before - half, high=after - before + half),
        ratio=ratio,
    )


def _mean(values: Sequence[float]) -> Interval:
    mean, count = statistics.fmean(values), len(values)
    if count < 2:
        return Interval(value=mean)
    return _around(mean, statistics.stdev(values) / math.sqrt(count), count - 1)


def _around(value: float, error: float, freedom: int) -> Interval:
    half = student(freedom) * error
    return Interval(value=value, low=value - half, high=value + half)


def student(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t distribution.

    Exact for 1 and 2 degrees of freedom, by the series of Cornish and Fisher (within 1 %) for more.
    """
    if freedom == 1:
        return math.tan(0.475 * math.pi)
    if freedom == 2:
        return 0.95 * math.sqrt(2 / (1 - 0.95**2))
    z = Z
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
