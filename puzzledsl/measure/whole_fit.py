"""Times of whole models -> one time an alternative and kind of layer: regularised least squares. Numbers in, numbers out.

A model's time is the fixed part plus the sum of its sub-blocks' times. Each model was timed in turn with the parent, so its time
is the ratio of the two, times the parent's usual time: what slows the machine slows both. The counts of a model's sub-blocks add
up to its layers, which leaves a constant between sub-blocks and the fixed part open. A weak prior fills it, and whatever else is
left open: times in proportion to the work (ridge regression towards a prior, Hoerl & Kennard 1970). A model that is far off
counts little (iteratively reweighted). No time is negative: an alternative that the fit makes negative takes none.

Shapes: M models, K unknown times.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.measure.estimate import FIXED, Estimate, Key
from puzzledsl.measure.host import SUB_BLOCKS, Arrangement, kind_of, parent_beside
from puzzledsl.measure.rounds import Check
from puzzledsl.measure.stopwatch import undisturbed

NOISE = 0.01
"""Standard deviation of a model's time, as a share of the parent's."""
DOUBT = 0.5
"""Standard deviation of the prior's times, as a share of each."""
OVERHEAD = 0.1
"""Standard deviation of what a pass takes besides bytes and FLOP, such as its start, as a share of the parent's time: the fixed
part's alone."""
USUAL_ERROR = 1.5
"""Error of a model, in standard deviations, up to which it counts fully; beyond, in inverse proportion to the square."""
SWEEPS = 10
CHANGED = (0.25, 0.75)
"""Least and greatest share of a mixture's layers whose sub-block is not the parent's."""
SHARES = 0.5
"""Concentration of the Dirichlet distribution that the shares of the other alternatives are drawn from."""

Array = NDArray[np.float64]


def mixture(labels: Mapping[SubBlock, Sequence[str]], kinds: Sequence[int], seed: int) -> Arrangement:
    """Return the parent with a random share of its layers changed; consecutive seeds favour each alternative in turn.

    Mixtures are about as large as children are. A much smaller model fits a processor's cache, where its weights are read faster
    than any child's.
    """
    dice = random.Random(seed)
    changed = dice.uniform(*CHANGED)

    def one(labels: Sequence[str]) -> tuple[str, ...]:
        found = [""] * len(kinds)
        for kind in dict.fromkeys(kinds):
            alike = [layer for layer, other in enumerate(kinds) if other == kind]
            own, *others = (name for name in labels if kind_of(name) == kind)
            count = round(changed * len(alike)) if others else 0
            shares = [dice.gammavariate(SHARES, 1) for _ in others]
            if others:
                shares[seed % len(others)] += sum(shares)
            picked = [own] * (len(alike) - count) + (dice.choices(others, shares, k=count) if count else [])
            dice.shuffle(picked)
            for layer, name in zip(alike, picked, strict=True):
                found[layer] = name
        return tuple(found)

    return {sub_block: one(labels[sub_block]) for sub_block in SUB_BLOCKS}


def models_needed(labels: Mapping[SubBlock, Sequence[str]]) -> int:
    """Return the number of mixtures: eight more than there are alternatives, at least 14."""
    return max(14, 8 + sum(map(len, labels.values())))


def fit_whole(
    checks: Sequence[Check], phase: str, prior: Mapping[Key, float], parent: Sequence[Key]
) -> Estimate:
    """The times of one phase, `prefill` or `decode`, from mixtures that were timed beside the parent.

    `prior`: the expected time of each alternative and of the fixed part, up to a common factor. `parent`: the parent's
    sub-blocks, one entry a layer.
    """
    keys = list(prior)
    usual = undisturbed([_parent(check, phase) for check in checks])
    own = _counts(keys, parent)
    expected = np.array([prior[key] for key in keys])
    expected *= usual / float(own @ expected)
    rows = np.array([_counts(keys, _keys_of(check)) for check in checks])
    times = np.array([usual * _child(check, phase) / _parent(check, phase) for check in checks])
    doubt = DOUBT * expected + NOISE * usual / max(1, len(parent))
    doubt[keys.index(FIXED)] += OVERHEAD * usual
    weights = np.ones(len(checks))
    seconds, spread = expected, doubt
    for _ in range(SWEEPS):
        seconds, spread = _at_least_zero(rows, times, weights, own, usual, expected, doubt)
        off = np.abs(rows @ seconds - times) / (NOISE * usual)
        weights = np.minimum(1.0, USUAL_ERROR / np.maximum(off, 1e-9)) ** 2
    scale = usual / float(own @ seconds)
    return Estimate(
        {key: float(value * scale) for key, value in zip(keys, seconds, strict=True)},
        {key: float(value * scale) for key, value in zip(keys, spread, strict=True)},
        usual,
        scale,
    )


def _at_least_zero(
    rows_MK: Array,
    times_M: Array,
    weights_M: Array,
    own_K: Array,
    usual: float,
    expected_K: Array,
    doubt_K: Array,
) -> tuple[Array, Array]:
    """Weighted least squares, and standard errors; times that would be negative are held at zero, one after the other."""
    held = np.zeros(len(own_K), dtype=bool)
    while True:
        seconds, spread = _solved(rows_MK, times_M, weights_M, own_K, usual, expected_K, doubt_K, held)
        if seconds.min() >= 0:
            return seconds, spread
        held[seconds.argmin()] = True


def _solved(
    rows_MK: Array,
    times_M: Array,
    weights_M: Array,
    own_K: Array,
    usual: float,
    expected_K: Array,
    doubt_K: Array,
    held_K: NDArray[np.bool_],
) -> tuple[Array, Array]:
    """Weighted least squares of models, parent and prior, those `held` at zero; and their standard errors."""
    sure = np.sqrt(weights_M) / (NOISE * usual)
    a = np.vstack([rows_MK * sure[:, None], own_K[None] / (NOISE * usual / 10), np.diag(1 / doubt_K)])
    b = np.concatenate([times_M * sure, [10 / NOISE], expected_K / doubt_K])
    free = ~held_K
    normal = a[:, free].T @ a[:, free]
    seconds, spread = np.zeros(len(own_K)), np.zeros(len(own_K))
    seconds[free] = np.linalg.solve(normal, a[:, free].T @ b)
    spread[free] = np.sqrt(np.diag(np.linalg.inv(normal)))
    return seconds, spread


def _keys_of(check: Check) -> Iterator[Key]:
    yield from (("attention", name) for name in check.attention)
    yield from (("ffn", name) for name in check.ffn)


def _counts(keys: Sequence[Key], chosen: Sequence[Key] | Iterator[Key]) -> Array:
    found = Counter(chosen)
    return np.array([1.0 if key == FIXED else float(found[key]) for key in keys])


def _parent(check: Check, phase: str) -> float:
    return float(getattr(check, f"parent_{phase}_s"))


def _child(check: Check, phase: str) -> float:
    return float(getattr(check, f"child_{phase}_s"))


def parent_keys(rows: Arrangement) -> list[Key]:
    """Return the parent's sub-blocks in each kind of layer of an arrangement."""
    return [(sub_block, parent_beside(name)) for sub_block in SUB_BLOCKS for name in rows[sub_block]]
