"""Times of whole models -> one time per alternative and kind of layer: regularised least squares. Numbers in, numbers out.

A model's time is the fixed part plus the sum of its sub-blocks' times. What slows the machine slows a model and the parent that
is timed in turn with it, so a model's time here is the ratio of the two, times the parent's usual time. All models have equally
many sub-blocks, so these times cannot tell a constant in all sub-blocks from one in the fixed part. A Gaussian prior settles this
and all else that is left open: a time is proportional to the work (Rasmussen & Williams 2006, section 2.1). Errors of the prior
are correlated: all attentions, or all FFNs, or those in one storage type, may together take longer than their work says. A model
with a large residual has a small weight (iteratively reweighted). A time that the fit makes negative is held at zero.

A search picks what the noise in a table makes look fast, so its children are slower than the sums of their times say. Children
that a search would choose by the fit so far are therefore timed and fitted, too, beside the mixtures: with a noise of 3 % of each
model this halves the error of other searched children, and as many more mixtures do not (docs/costs.md).

Shapes: M models, K unknown times.
"""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from puzzledsl.alternatives.alternative import SUB_BLOCKS, SubBlock
from puzzledsl.measure.estimate import FIXED, Check, Estimate
from puzzledsl.measure.host import Arrangement, Key, kind_of, storage_type
from puzzledsl.measure.stopwatch import undisturbed

NOISE = (0.01, 0.05)
"""Least and greatest standard deviation of a model's time, as shares of the parent's; the fit's residuals say where between."""
OF_SUB_BLOCK, OF_TYPE, OF_ITSELF = 0.4, 0.3, 0.15
"""Standard deviations of a prior's time, as shares of it: of an error that all alternatives of a sub-block have in common, of one
that those of one storage type among them have in common, and of one of the alternative alone."""
OVERHEAD = 0.1
"""Standard deviation of the time that a pass takes besides its bytes and FLOP, such as its start, as a share of the parent's. The
fixed part (or the ends) alone has it."""
USUAL_ERROR = 1.5
"""Residual, in standard deviations, up to which a model has the weight 1; beyond, the weight falls with the square of it."""
NORMAL = 1.4826
"""Standard deviation of normal errors / the median of their absolute values."""
SWEEPS = 10
CHANGED, ROUNDED = (0.4, 0.75), (0.6, 1.0)
"""Least and greatest share of layers that `mixture` changes: to an alternative in the parent's type, and to one in another."""

Array = NDArray[np.float64]


def mixture(
    labels: Mapping[SubBlock, Sequence[str]], kinds: Sequence[int], seed: int, ends: Sequence[str] = ()
) -> Arrangement:
    """Return the parent with changes: in each kind of layer a random share gets one other attention, another share one other FFN.

    `labels`: alternatives by sub-block, of each kind of layer the parent's first. `kinds`: each layer's kind. `ends`: choices of
    both ends. Consecutive seeds take each of a sub-block's alternatives in turn, with varying ones beside it, and each of `ends`.

    Many layers change, so that noise is small beside the difference from the parent. Not all do: a much smaller model would fit
    a processor's cache, where weights are read faster. Another storage type shrinks a model less, so more layers take it.
    """
    dice = random.Random(seed)

    def one(sub_block: SubBlock) -> tuple[str, ...]:
        found = [""] * len(kinds)
        for kind in dict.fromkeys(kinds):
            alike = [layer for layer, other in enumerate(kinds) if other == kind]
            own, *others = (name for name in labels[sub_block] if kind_of(name) == kind)
            dice.shuffle(alike)
            turn = seed + (seed // len(others) if sub_block == "ffn" and others else 0)
            other = others[turn % len(others)] if others else own
            changed = round(dice.uniform(*(ROUNDED if storage_type(other) else CHANGED)) * len(alike))
            for place, layer in enumerate(alike):
                found[layer] = other if place < changed else own
        return tuple(found)

    found: Arrangement = {sub_block: one(sub_block) for sub_block in SUB_BLOCKS}
    if ends:
        found["ends"] = (ends[seed % len(ends)],)
    return found


def models_needed(labels: Mapping[SubBlock, Sequence[str]], ends: Sequence[str] = ()) -> int:
    """Return how many mixtures to time: at least 12, at least six more than labels and ends, and each of `ends` twice or more."""
    return max(12, 6 + sum(map(len, labels.values())) + len(ends), 2 * len(ends))


def fit_whole(
    checks: Sequence[Check], phase: str, prior: Mapping[Key, float], parent: Sequence[Key]
) -> Estimate:
    """Return the seconds of each key of `prior` in one phase, `prefill` or `decode`, fitted to models timed beside the parent.

    `prior`: the expected time of each alternative, and of the fixed part or, if ends are a choice, of each choice of them; up to
    a common factor. `parent`: the keys of the parent, one for each sub-block of each layer, and one for its ends if a choice.
    """
    keys = list(prior)
    timed = [(getattr(c, f"parent_{phase}_s"), getattr(c, f"child_{phase}_s")) for c in checks]
    usual = undisturbed([of_parent for of_parent, _ in timed])
    own = _counts(keys, parent)
    expected = np.array([prior[key] for key in keys])
    expected *= usual / float(own @ expected)
    rows = np.array([_counts(keys, _keys_of(check)) for check in checks])
    times = np.array([usual * of_child / of_parent for of_parent, of_child in timed])
    noise, weights = NOISE[0] * usual, np.ones(len(checks))
    prior_rows = _prior_rows(keys, expected, noise / max(1, len(parent)), OVERHEAD * usual)
    seconds, spread = expected, expected
    for _ in range(SWEEPS):
        seconds, spread, free = _solved(rows, times, weights, own, noise, expected, prior_rows)
        off = np.abs(rows @ seconds - times)
        usually_off = NORMAL * float(np.median(off)) / max(free, 1 / len(checks)) ** 0.5
        noise = min(max(usually_off, NOISE[0] * usual), NOISE[1] * usual)
        weights = np.minimum(1.0, USUAL_ERROR * noise / np.maximum(off, 1e-12)) ** 2
    scale = usual / float(own @ seconds)
    return Estimate(
        {key: float(value * scale) for key, value in zip(keys, seconds, strict=True)},
        {key: float(value * scale) for key, value in zip(keys, spread, strict=True)},
        usual,
        scale,
    )


def _prior_rows(keys: Sequence[Key], expected_K: Array, least: float, overhead: float) -> Array:
    """Return the prior's least-squares rows (K, K). Deviations in seconds: `least` of each time, `overhead` of the fixed part."""
    groups = [(sub_block, storage_type(name)) for sub_block, name in keys]
    covariance = np.diag((OF_ITSELF * expected_K) ** 2 + least**2)
    for i, (sub_block, dtype) in enumerate(groups):
        for j, (other, its_dtype) in enumerate(groups):
            if sub_block == other:
                shared = OF_SUB_BLOCK**2 + (OF_TYPE**2 if dtype == its_dtype else 0.0)
                covariance[i, j] += shared * expected_K[i] * expected_K[j]
    fixed = np.array([key == FIXED or key[0] == "ends" for key in keys], dtype=float)
    covariance += overhead**2 * np.outer(fixed, fixed)
    found: Array = np.linalg.inv(np.linalg.cholesky(covariance))
    return found


def _solved(
    rows_MK: Array,
    times_M: Array,
    weights_M: Array,
    own_K: Array,
    noise: float,
    expected_K: Array,
    prior_KK: Array,
) -> tuple[Array, Array, float]:
    """Solve weighted least squares of models, parent (`own_K`: its count of each key) and prior; hold negative times at zero.

    Return the times [K], their standard errors [K], and the residual degrees of freedom as a share of M.
    """
    sure = np.sqrt(weights_M) / noise
    a = np.vstack([rows_MK * sure[:, None], own_K[None] / (noise / 10), prior_KK])
    b = np.concatenate([times_M * sure, [own_K @ expected_K / (noise / 10)], prior_KK @ expected_K])
    free = np.ones(len(own_K), dtype=bool)
    while True:
        normal = a[:, free].T @ a[:, free]
        seconds, spread = np.zeros(len(own_K)), np.zeros(len(own_K))
        seconds[free] = np.linalg.solve(normal, a[:, free].T @ b)
        spread[free] = np.sqrt(np.diag(np.linalg.inv(normal)))
        if seconds.min() >= 0:
            of_models = rows_MK[:, free] * sure[:, None]
            taken = np.trace(of_models @ np.linalg.solve(normal, of_models.T))
            return seconds, spread, 1 - taken / len(times_M)
        free[seconds.argmin()] = False


def _keys_of(check: Check) -> Iterator[Key]:
    yield from (("attention", name) for name in check.attention)
    yield from (("ffn", name) for name in check.ffn)
    if check.ends:
        yield "ends", check.ends


def _counts(keys: Sequence[Key], chosen: Sequence[Key] | Iterator[Key]) -> Array:
    found = Counter(chosen)
    return np.array([1.0 if key == FIXED else float(found[key]) for key in keys])
