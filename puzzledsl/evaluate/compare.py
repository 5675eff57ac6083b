"""Ratios between a child and its parent on the same items and blocks, with 95 % confidence intervals.

Pairing matters: most of the noise of an accuracy comes from the draw of questions, which both models share. The interval of the
ratio of perplexities is by Student's t. That of the accuracy kept beyond chance, (child - chance) / (parent - chance), is by a
paired bootstrap (Efron & Tibshirani 1993, chapter 13): it draws items of each task anew, each with both models' answers and its
chance. A task's chance is the mean over its items of 1 / choices. The pooled figure is the sum over tasks of the child's excess
over chance, divided by the sum of the parent's: tasks have equal weights; one on which the parent is at chance is left out.

Two warnings: texts disagree if the KL to the parent on one is more than RATIO times that on another, and more than NATS above
it. Repetition of an answer is the share of its runs of 4 tokens that occurred before (seq-rep-4, Welleck et al. 2020).
"""

import math
import statistics
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from puzzledsl.base.frozen import Record
from puzzledsl.ir.tables import Answer, Figure, Interval, Kept, ModelComparison, Repetition, TextGap

POOLED = "pooled"
NORMALISED = "_norm"
RESAMPLES = 10_000
SEED = 0
TAIL = 0.025

Floats = NDArray[np.float64]
Samples = Mapping[str, Sequence[float]]


class Task(Record):
    """One task's mean accuracies, and each model's mean excess over chance in every bootstrap resample: [RESAMPLES]."""

    name: str
    figure: str
    items: int
    child: float
    parent: float
    chance: float
    child_excesses: Floats
    parent_excesses: Floats

    @property
    def parent_at_chance(self) -> bool:
        """True if the parent's interval reaches down to chance, or there are fewer than two items."""
        return self.items < 2 or _low(self.parent_excesses) <= 0


def counted(samples: Samples) -> dict[str, str]:
    """Return by task the name of the accuracy to compare: NAME_norm, by length, if every item of the task has it, else NAME."""
    twins = {name: f"{name}{NORMALISED}" for name in samples if f"{name}{NORMALISED}" in samples}
    whole = {name: twin for name, twin in twins.items() if len(samples[twin]) == len(samples[name])}
    return {name: whole.get(name, name) for name in samples if name not in twins.values()}


def kept(child: Samples, parent: Samples, chances: Samples) -> dict[str, Kept]:
    """Return the accuracy kept beyond chance, by task and `pooled`. Items are 1 (right) or 0; `chances`: 1 / choices, or 0."""
    tasks = [
        _resampled(name, figure, child[figure], parent[figure], chances[figure])
        for name, figure in counted(chances).items()
        if figure in child and figure in parent
    ]
    found = {task.name: _of([task]) for task in tasks}
    if tasks:
        found[POOLED] = _of([task for task in tasks if not task.parent_at_chance] or tasks)
    return found


def _resampled(
    name: str, figure: str, child: Sequence[float], parent: Sequence[float], chances: Sequence[float]
) -> Task:
    """Return a task with its bootstrap resamples: multinomial draws of how often each distinct (child, parent, chance) occurs."""
    rows = np.array([child, parent, chances], dtype=np.float64).T
    outcomes, counts = np.unique(rows, axis=0, return_counts=True)
    dice = np.random.default_rng([SEED, zlib.crc32(name.encode())])
    means = dice.multinomial(len(rows), counts / len(rows), RESAMPLES) @ outcomes / len(rows)
    child_mean, parent_mean, chance = (float(mean) for mean in counts @ outcomes / len(rows))
    excesses = means[:, :2] - means[:, 2:]
    return Task(name, figure, len(rows), child_mean, parent_mean, chance, excesses[:, 0], excesses[:, 1])


def _of(tasks: Sequence[Task]) -> Kept:
    """Return the figure of one task, or of several pooled, on all of which the parent is above chance, or on none."""
    child, parent, chance = (
        float(np.mean([getattr(task, name) for task in tasks])) for name in ("child", "parent", "chance")
    )
    at_chance = Kept(
        verdict="parent_at_chance",
        plain=child / parent if parent else None,
        parent=parent,
        child=child,
        chance=chance,
        items=sum(task.items for task in tasks),
        figures=tuple(task.figure for task in tasks),
    )
    if tasks[0].parent_at_chance:
        return at_chance
    above = np.sum([task.child_excesses for task in tasks], axis=0)
    whole = np.sum([task.parent_excesses for task in tasks], axis=0)
    # a resample whose parent is not above chance counts for one end of the interval
    infinite = np.where(above > 0, np.inf, -np.inf)
    ratios = np.where(whole > 0, above / np.where(whole > 0, whole, 1.0), infinite)
    low, high = _low(ratios), float(np.quantile(ratios, 1 - TAIL, method="higher"))
    found = {
        "verdict": "child_at_chance" if low <= 0 else "above_chance",
        "chance_corrected": (child - chance) / (parent - chance),
        "low": low,
        "high": high,
    }
    return at_chance.model_copy(update=found)


def _low(values: Floats) -> float:
    return float(np.quantile(values, TAIL, method="lower"))


RATIO = 3.0
NATS = 0.2


def text_gap(texts: Mapping[str, Mapping[str, Figure]]) -> TextGap | None:
    """Return the texts of least and greatest `kl` if these are RATIO times and NATS apart; None if not, or for fewer than two."""
    kl = {name: figures["kl"].value for name, figures in texts.items() if "kl" in figures}
    if len(kl) < 2:
        return None
    near, far = min(kl, key=lambda name: kl[name]), max(kl, key=lambda name: kl[name])
    if kl[far] > RATIO * kl[near] and kl[far] > kl[near] + NATS:
        return TextGap(near=near, far=far, near_kl=kl[near], far_kl=kl[far])
    return None


RUN = 4
"""Tokens of a run."""
MORE = 0.2
"""A child repeats itself if its answers' mean repetition exceeds the parent's by this: of three answers, less shows nothing."""


def repetition_of(ids: Sequence[int]) -> float:
    """Return 1 - distinct / all runs of 4 tokens; 0 for fewer than 5 tokens."""
    runs = [tuple(ids[i : i + RUN]) for i in range(len(ids) - RUN + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def repetition(parent: Sequence[Answer], child: Sequence[Answer]) -> Repetition | None:
    """Compare the repetition in answers to the same prompts; None without answers, or if one model gave fewer."""
    if not parent or len(parent) != len(child):
        return None
    before, after = (statistics.fmean(answer.repetition for answer in each) for each in (parent, child))
    return Repetition(parent=before, child=after, remarkable=after > before + MORE)


PERPLEXITY = "perplexity"  # its samples are cross-entropies, all others right (1) or wrong (0)
Z = statistics.NormalDist().inv_cdf(0.975)


def compare(
    model: str,
    child: Samples,
    parent: Samples,
    chances: Samples | None = None,
    texts: Mapping[str, Mapping[str, Figure]] | None = None,
) -> ModelComparison:
    """Compare a child with its parent, by values of each figure, one an item or block, in the same order for both.

    `chances`: for accuracies, each item's chance to be guessed right (default: none are compared). `texts`: the child's figures.
    """
    return ModelComparison(
        model=model,
        perplexity_ratio=perplexity_ratio(child[PERPLEXITY], parent[PERPLEXITY])
        if PERPLEXITY in child
        else None,
        kept=kept(child, parent, chances or {}),
        text_gap=text_gap(texts or {}),
    )


def perplexity_ratio(child: Sequence[float], parent: Sequence[float]) -> Interval:
    """Return child / parent perplexity from cross-entropies (nats) of the same blocks, with an interval if there are several."""
    differences = [c - p for c, p in zip(child, parent, strict=True)]
    value = math.exp(statistics.fmean(child)) / math.exp(statistics.fmean(parent))
    mean, count = statistics.fmean(differences), len(differences)
    if count < 2:
        return Interval(value=value)
    half = student(count - 1) * (statistics.stdev(differences) / math.sqrt(count))
    return Interval(value=value, low=math.exp(mean - half), high=math.exp(mean + half))


def student(freedom: int) -> float:
    """97.5 % quantile of Student's t: exact for 1 and 2 degrees of freedom, else by Cornish and Fisher's series (within 1 %)."""
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
