"""Columns of dropped layers, the best model of equal keys, and sums on a rank's side."""

from fractions import Fraction

import numpy as np

from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.search.label_setting.labels import best_of_each
from puzzledsl.search.problem.columns import Columns
from puzzledsl.search.problem.residuals import TRUE, Residuals
from tests.search.integer_problems import every_model, random_problem

WHOLE, GONE = (LayerAssignment(attention=name, ffn=name) for name in ("parent", "noop"))


def test_two_neighbours_that_may_be_dropped_have_positions() -> None:
    made = Columns.of(((WHOLE, GONE),) * 2)
    assert made.with_positions(4, (GONE, GONE)).position.tolist() == [0, 1, 0, 1, 2]
    assert made.with_positions(1, (GONE, GONE)) is made
    apart = Columns.of(((WHOLE, GONE), (WHOLE,), (WHOLE, GONE)))
    assert apart.with_positions(4, (GONE,) * 3) is apart


def test_the_best_model_of_each_key_is_the_cheapest_then_the_first() -> None:
    keys, goal, places = np.array([[1, 1, 2, 2]]), np.array([5, 3, 4, 4]), np.array([[0, 1, 1, 0]])
    assert best_of_each(keys, goal, places).tolist() == [1, 3]
    assert best_of_each(np.array([[4, 1, 2, 3]]), goal, places).tolist() == [0, 1, 2, 3]


def test_the_largest_sum_below_a_rank() -> None:
    """Beside all sums from the least possible one to the largest."""
    for seed in range(8):
        problem = random_problem("unrelated", seed)
        least = int(problem.columns.least(problem.goal.values).sum())
        sums = range(least, problem.largest_sum + 1)
        assert problem.largest_below(None) == sums[-1]
        for total in (least, int(problem.goal.values[every_model(problem.columns)[-1]].sum())):
            rank = problem.goal.rank(total)
            for ties in (False, True):
                below = [
                    s for s in sums if problem.goal.rank(s) < rank or (ties and problem.goal.rank(s) == rank)
                ]
                assert problem.largest_below(Fraction(rank), ties=ties) == max(below, default=least - 1), seed


def test_counts_and_sums_and_their_opposites_hold_where_they_should() -> None:
    """Formulas of layers that may be dropped; the sum has more numbers than are compared by what they leave."""
    pool = Residuals(Columns.of(((WHOLE, GONE),) * 12))
    gone = [pool.atom(layer, 0b10) for layer in range(12)]
    powers = pool.sum_within({layer: (0, 2**layer) for layer in range(12)}, 3, 5)
    one = pool.count(gone[:3], 1, 1)
    for bits in range(16):
        found = [pool.every(gone[:2]), pool.count(gone[:2], 2, 2), one, pool.opposite(one), powers]
        for layer in range(12):
            found = [pool.assign(formula, layer, bits >> layer & 1) for formula in found]
        both, single = bits & 3 == 3, (bits & 7).bit_count() == 1
        assert [each == TRUE for each in found] == [both, both, single, not single, 3 <= bits <= 5]
