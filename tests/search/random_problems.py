"""Integer problems of many families, small enough to try every model, and every model tried."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise, product

import numpy as np

from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.search.problem.columns import Columns, Ints
from puzzledsl.search.problem.instance import Goal, Problem, Row

FAMILIES = ("unrelated", "correlated", "subset-sum", "alike", "tied", "roomy", "negative")


def random_problem(family: str, seed: int) -> Problem:
    """Three to six layers of one to five columns, one to four rows; a seed always gives the same one.

    `correlated`: the goal is what a row saves, almost; `subset-sum`: exactly, so that only sums that fill the row are good;
    `alike`: all layers have the same figures; `tied`: few different figures, so that many answers are equally good.
    """
    rng = np.random.default_rng([FAMILIES.index(family), seed])
    layers = int(rng.integers(3, 7))
    sizes = [int(rng.integers(1, 6)) for _ in range(layers)]
    if family == "alike":
        sizes = [sizes[0]] * layers
    pairs = tuple(tuple(LayerAssignment(attention=f"a{i}", ffn="f") for i in range(size)) for size in sizes)
    columns = Columns.of(pairs)
    count, rows = len(columns), int(rng.integers(1, 5))
    matrix = rng.integers(0, 1000, (rows, count))
    goal = rng.integers(0, 1000, count)
    if family == "correlated":
        goal = 1000 - matrix[0] + rng.integers(0, 20, count)
    if family == "subset-sum":
        matrix[1:], goal = matrix[0], 2000 - matrix[0]
    if family == "alike":
        matrix, goal = (np.tile(v[..., : sizes[0]], layers) for v in (matrix, goal))
    if family == "tied":
        matrix, goal = matrix % 3, goal % 3
    if family == "negative":
        matrix, goal = matrix - 500, goal - 500
    least, most = columns.least(matrix).sum(axis=1), columns.most(matrix).sum(axis=1)
    share = 1.0 if family == "roomy" else rng.uniform(0.05, 0.7, rows)
    limits = (least + share * (most - least)).astype(np.int64)
    return Problem(
        name=family,
        columns=columns,
        goal=Goal(goal.astype(np.int64), Fraction(1), Fraction(0), 1, False, True),
        rows=tuple(Row(f"row {i}", r.astype(np.int64), int(b)) for i, (r, b) in enumerate(zip(matrix, limits, strict=True))),
        formulas=(),
        batches={},
    )  # fmt: skip


def every_answer(problem: Problem) -> Ints:
    """All models that meet every row, [model][layer], in the order of the space."""
    spans = [range(begin, end) for begin, end in pairwise(problem.columns.start.tolist())]
    models = np.array([*product(*spans)], dtype=np.int64)
    meets = (problem.matrix[:, models].sum(axis=2) <= problem.limits[:, None]).all(axis=0)
    return models[meets]
