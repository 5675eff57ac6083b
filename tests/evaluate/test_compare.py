"""Intervals cover what they promise to; what is kept beyond chance is exact by hand, and said to be at chance where it is."""

import itertools
import math

import numpy as np
import pytest

from puzzledsl.evaluate import compare as module
from puzzledsl.evaluate.compare import compare, kept, student, text_gap
from puzzledsl.ir.tables import Figure, Interval, TextGap


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.7062), (2, 4.3027), (5, 2.5706), (199, 1.9720)])
def test_students_quantile_is_the_tables(freedom, quantile):
    assert student(freedom) == pytest.approx(quantile, rel=1e-2)


def test_perplexity_intervals_cover_the_truth():
    """Cross-entropies of eight blocks that differ much from each other, and less from model to model."""
    dice, covered = np.random.default_rng(1), 0
    for _ in range(1000):
        theirs = dice.normal(3, 0.4, 8)
        ours = theirs + 0.2 + dice.normal(0, 0.05, 8)
        ratio = compare("c", {"perplexity": ours}, {"perplexity": theirs}).perplexity_ratio
        assert ratio.value == pytest.approx(math.exp(ours.mean() - theirs.mean()))
        covered += ratio.low <= math.exp(0.2) <= ratio.high
    assert 925 <= covered <= 975
    same = {"perplexity": tuple(3 + dice.random(30))}
    assert compare("c", same, same).perplexity_ratio == Interval(value=1, low=1, high=1)


def test_a_text_gap_is_between_the_nearest_and_the_farthest_of_many():
    texts = {name: {"kl": Figure(value=kl)} for name, kl in (("a", 0.3), ("b", 0.2), ("c", 0.9), ("d", 0.8))}
    assert text_gap(texts) == TextGap(near="b", far="c", near_kl=0.2, far_kl=0.9)


def answers(dice, items: int, parent: float, keeps: float, gains: float) -> tuple[list[float], list[float]]:
    """Child and parent: the child keeps this share of the parent's right answers and gains some of its wrong."""
    theirs = dice.random(items) < parent
    ours = np.where(theirs, dice.random(items) < keeps, dice.random(items) < gains)
    return ours.astype(float).tolist(), theirs.astype(float).tolist()


def kept_of_one(child, parent, chance: float = 0.25):
    return kept({"q": child}, {"q": parent}, {"q": [chance] * len(parent)})["q"]


@pytest.mark.states("eval.kept")
def test_the_formula_by_hand():
    """Choices may differ in number from item to item: chance is their mean of 1 / number."""
    child = {"a": [1.0, 1, 1, 0, 0, 1], "b": [1.0] * 7 + [0.0] * 3}
    parent = {"a": [1.0] * 6, "b": [1.0] * 9 + [0.0]}
    chances = {"a": [0.5, 0.5, 0.25, 0.25, 0.25, 0.25], "b": [0.25] * 10}
    found = kept(child, parent, chances)
    assert list(found) == ["a", "b", "pooled"]
    a, b, pooled = found.values()
    assert a.chance_corrected == pytest.approx((4 / 6 - 1 / 3) / (1 - 1 / 3))
    assert a.plain == pytest.approx(4 / 6)
    assert b.chance_corrected == pytest.approx((0.7 - 0.25) / (0.9 - 0.25)) and b.chance == 0.25
    excesses = (4 / 6 - 1 / 3) + (0.7 - 0.25), (1 - 1 / 3) + (0.9 - 0.25)
    assert pooled.chance_corrected == pytest.approx(excesses[0] / excesses[1])
    assert (pooled.items, pooled.figures) == (16, ("a", "b"))
    assert pooled.plain == pytest.approx((4 / 6 + 0.7) / 1.9)
    free = kept_of_one([1.0, 0, 0, 1] * 20, [1.0, 1, 0, 1] * 20, chance=0.0)
    assert free.chance_corrected == free.plain == pytest.approx(2 / 3), "a free answer has no chance"


def test_intervals_cover_the_truth_nineteen_times_in_twenty(monkeypatch):
    monkeypatch.setattr(module, "RESAMPLES", 1000)
    dice, covered, chance = np.random.default_rng(0), {"task": 0, "pooled": 0}, 0.25
    models = (0.6, 0.9, 0.1), (0.45, 0.8, 0.15)
    truths = [(p * keeps + (1 - p) * gains - chance, p - chance) for p, keeps, gains in models]
    pooled = sum(c for c, _ in truths) / sum(p for _, p in truths)
    for _ in range(600):
        one, two = answers(dice, 200, *models[0]), answers(dice, 300, *models[1])
        child, parent = {"task": one[0], "other": two[0]}, {"task": one[1], "other": two[1]}
        found = kept(child, parent, {"task": [chance] * 200, "other": [chance] * 300})
        for name, truth in (("task", truths[0][0] / truths[0][1]), ("pooled", pooled)):
            covered[name] += found[name].low <= truth <= found[name].high
    assert all(550 <= count <= 588 for count in covered.values()), covered


def test_pairing_narrows_the_interval():
    """The same accuracies, once from the same items and once with the child's answers in another order."""
    dice = np.random.default_rng(1)
    child, parent = answers(dice, 500, 0.6, 0.95, 0.05)
    paired, mixed = kept_of_one(child, parent), kept_of_one(dice.permutation(child).tolist(), parent)
    assert paired.chance_corrected == pytest.approx(mixed.chance_corrected)
    assert paired.high - paired.low < 0.6 * (mixed.high - mixed.low)


@pytest.mark.states("eval.kept")
def test_a_guessing_child_is_at_chance_and_its_parent_is_kept():
    dice = np.random.default_rng(2)
    child, parent = (dice.random(400) < 0.26).astype(float), (dice.random(400) < 0.6).astype(float)
    found = kept({"q": child}, {"q": parent}, {"q": [0.25] * 400})
    for one in (found["q"], found["pooled"]):
        assert one.verdict == "child_at_chance" and one.low <= 0 <= one.high and one.chance_corrected < 0.3
    same = kept_of_one(parent, parent)
    assert (same.verdict, same.chance_corrected, same.low, same.high) == ("above_chance", 1, 1, 1)
    worse = kept_of_one([0.0] * 50, [1.0] * 50)
    assert worse.verdict == "child_at_chance" and worse.high < 0, "worse than guessing is no better for it"
    assert kept_of_one([1.0], [1.0]).verdict == "parent_at_chance", "one item proves nothing"


@pytest.mark.states("eval.kept")
def test_a_parent_at_chance_has_nothing_to_keep_and_is_left_out_of_the_pool():
    dice = np.random.default_rng(3)
    guessing = (dice.random(300) < 0.25).astype(float)
    child, parent = answers(dice, 300, 0.7, 0.9, 0.1)
    chances = dict.fromkeys(("hard", "easy"), [0.25] * 300)
    found = kept({"hard": child, "easy": child}, {"hard": guessing, "easy": parent}, chances)
    assert found["hard"].verdict == "parent_at_chance"
    assert (found["hard"].chance_corrected, found["hard"].low, found["hard"].high) == (None, None, None)
    assert found["pooled"].figures == ("easy",)
    assert found["pooled"].model_dump(exclude={"figures"}) == found["easy"].model_dump(exclude={"figures"})
    alone = kept({"hard": child}, {"hard": guessing}, chances)["pooled"]
    assert alone.verdict == "parent_at_chance" and alone.chance_corrected is None


def test_the_same_answers_give_the_same_intervals_in_any_company():
    """Seeded by the task's name: another task beside it, or another order, changes nothing."""
    dice = np.random.default_rng(4)
    tasks = {name: answers(dice, 80, 0.6, 0.8, 0.2) for name in "abc"}
    alone = {name: kept({name: c}, {name: p}, {name: [0.25] * 80})[name] for name, (c, p) in tasks.items()}
    pools = set()
    for order in itertools.permutations("abc"):
        child, parent = ({name: tasks[name][i] for name in order} for i in (0, 1))
        found = kept(child, parent, {name: [0.25] * 80 for name in order})
        assert {name: found[name] for name in "abc"} == alone
        pools.add(round(found["pooled"].low, 12))
    assert len(pools) == 1
