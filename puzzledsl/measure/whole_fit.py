"""Times of whole models -> one time an alternative and kind of layer: regularised least squares. Numbers in, numbers out.

A model's time is the fixed part plus the sum of its sub-blocks' times. Each model was timed in turn with the parent, so its time
is the ratio of the two, times the parent's usual time: what slows the machine slows both. The counts of a model's sub-blocks add
up to its layers, which leaves a constant between sub-blocks and the fixed part open. A prior fills it, and whatever else is left
open: times in proportion to the work (Gaussian prior; Rasmussen & Williams 2006, section 2.1). It is doubted as a whole more
than in its parts: all attentions, or all FFNs, may take longer than their work says, and so may all of one storage type. A model
that is far off counts little (iteratively reweighted). No time is negative: one that the fit makes negative is held at zero.

A search takes what seems fast, and so what the noise of a table makes fast: its children are slower than their sums say. So such
children are timed, too, as soon as there are times to choose them by, and fitted beside the mixtures: with a noise of 3 % of each
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
"""Least and greatest standard deviation of a model's time, as a share of the parent's: what is left of the fit says which."""
OF_SUB_BLOCK, OF_TYPE, OF_ITSELF = 0.4, 0.3, 0.15
"""Standard deviations of the prior's times, as shares of each: common to the alternatives of a sub-block, common to those of one
storage type, and of each alone."""
OVERHEAD = 0.1
"""Standard deviation of what a pass takes besides bytes and FLOP, such as its start, as a share of the parent's time: the fixed
part's alone."""
USUAL_ERROR = 1.5
"""Error of a model, in standard deviations, up to which it counts fully; beyond, in inverse proportion to the square."""
NORMAL = 1.4826
"""Standard deviation of normal errors / the median of their absolute values."""
SWEEPS = 10
CHANGED, ROUNDED = (0.4, 0.75), (0.6, 1.0)
"""Least and greatest share of a model's layers whose sub-block is not the parent's; of those that are stored in another type."""

Array = NDArray[np.float64]


def mixture(
    labels: Mapping[SubBlock, Sequence[str]], kinds: Sequence[int], seed: int, ends: Sequence[str] = ()
) -> Arrangement:
    """Return the parent with about half of its layers changed: to one other attention, and to one other FFN.

    `ends`: the names of both ends that the models take in turn.

    So many layers tell an alternative from the parent's that noise is small beside their difference. Consecutive seeds take each
    alternative in turn, beside others of the other sub-block. A much smaller model than a child would fit a processor's cache,
    where weights are read faster; one in another type is not, so that more of its layers are.
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
    """Return the number of mixtures: six more than there are alternatives, at least 12; each end twice or more."""
    return max(12, 6 + sum(map(len, labels.values())) + len(ends), 2 * len(ends))


def fit_whole(
    checks: Sequence[Check], phase: str, prior: Mapping[Key, float], parent: Sequence[Key]
) -> Estimate:
    """The times of one phase, `prefill` or `decode`, from mixtures that were timed beside the parent.

    `prior`: the expected time of each alternative and of the fixed part, up to a common factor. `parent`: the parent's
    sub-blocks, one entry a layer, and its ends where these have a choice, whose times then take the fixed part's place.
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
    """Return rows (K, K) of least squares for the prior: the inverse Cholesky factor of its covariance."""
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
    """Weighted least squares of models, parent and prior; negative times are held at zero, one by one.

    Return the times, their standard errors, and the share of the models that the times leave free.
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
