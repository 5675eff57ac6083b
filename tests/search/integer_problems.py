"""Integer problems of many families, of rows alone or with structural formulas, small enough to try every model."""

from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from random import Random
from typing import assert_never

import numpy as np

from puzzledsl.alternatives.alternative import SUB_BLOCKS, SubBlock
from puzzledsl.ir.nodes import And, Implies, Is, Logic, Not, Or
from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.search.problem.columns import Columns, Ints, Mask
from puzzledsl.search.problem.instance import Goal, Outcome, Problem, Row
from puzzledsl.search.problem.normal_form import Formula
from tests.search.instances import counted, random_formula

Rng = np.random.Generator
FAMILIES = ("unrelated", "correlated", "subset-sum", "alike", "tied", "roomy", "negative")
FIGURES = ("unrelated", "correlated", "alike", "tied", "negative")
MOST_MODELS = 20_000
HEADS = ("parent", "gqa4", "gqa2", "linear", "noop")
WIDTHS = ("parent", "mlp12", "mlp8", "mlp4", "noop")
NAMES: dict[SubBlock, tuple[str, ...]] = {"attention": HEADS, "ffn": WIDTHS}


def random_problem(family: str, seed: int) -> Problem:
    """Three to six layers of one to five columns, one to four rows; a seed always gives the same one."""
    rng = np.random.default_rng([FAMILIES.index(family), seed])
    layers = int(rng.integers(3, 7))
    sizes = [int(rng.integers(1, 6)) for _ in range(layers)]
    if family == "alike":
        sizes = [sizes[0]] * layers
    pairs = tuple(tuple(LayerAssignment(attention=f"a{i}", ffn="f") for i in range(size)) for size in sizes)
    columns = Columns.of(pairs)
    matrix, goal = _figures(family, columns, int(rng.integers(1, 5)), rng)
    share = np.ones(len(matrix)) if family == "roomy" else rng.uniform(0.05, 0.7, len(matrix))
    return _problem(family, columns, matrix, goal, share)


def structured_problem(figures: str, seed: int) -> Problem:
    """Three to seven layers of two to six columns, up to three rows, up to two kinds of structure and two random formulas.

    A seed always gives the same one.
    """
    rng = np.random.default_rng([FIGURES.index(figures), seed, 7])
    layers = int(rng.integers(3, 8))
    columns = _columns(layers, rng, alike=figures == "alike")
    matrix, goal = _figures(figures, columns, int(rng.integers(0, 4)), rng)
    formulas = [Formula(f"formula {i}", part) for i, part in enumerate(_structure(layers, rng))]
    return _problem(figures, columns, matrix, goal, rng.uniform(0.2, 0.8, len(matrix)), formulas)


def _figures(family: str, columns: Columns, rows: int, rng: Rng) -> tuple[Ints, Ints]:
    """The rows' coefficients and the goal's values.

    `correlated`: the goal is what a row saves, almost; `subset-sum`: exactly, so that only sums that fill the row are good;
    `alike`: all layers have the same figures; `tied`: few different figures, so that many answers are equally good.
    """
    count = len(columns)
    matrix, goal = rng.integers(0, 1000, (rows, count)), rng.integers(0, 1000, count)
    if family == "correlated" and rows:
        goal = 1000 - matrix[0] + rng.integers(0, 20, count)
    if family == "subset-sum":
        matrix[1:], goal = matrix[0], 2000 - matrix[0]
    if family == "alike":
        size = int(columns.sizes[0])
        matrix, goal = (np.tile(v[..., :size], columns.layers) for v in (matrix, goal))
    if family == "tied":
        matrix, goal = matrix % 3, goal % 3
    if family == "negative":
        matrix, goal = matrix - 500, goal - 500
    return matrix.astype(np.int64), goal.astype(np.int64)


def _problem(
    name: str,
    columns: Columns,
    matrix: Ints,
    goal: Ints,
    share: np.ndarray,
    formulas: Sequence[Formula] = (),
) -> Problem:
    """A problem whose rows' limits are shares of what their sums may be."""
    least, most = columns.least(matrix).sum(axis=1), columns.most(matrix).sum(axis=1)
    limits = (least + share * (most - least)).astype(np.int64)
    rows = [Row(f"row {i}", r, int(b)) for i, (r, b) in enumerate(zip(matrix, limits, strict=True))]
    return Problem(
        name=name,
        columns=columns,
        goal=Goal(goal),
        rows=tuple(rows),
        formulas=tuple(formulas),
        batches={},
    )


# ---------------------------------------------------------------- every model


def every_model(columns: Columns) -> Ints:
    """All models, [model][layer], in the order of the space."""
    return np.array([*product(*(range(b, e) for b, e in pairwise(columns.start.tolist())))], dtype=np.int64)


def answers_of(problem: Problem) -> Ints:
    """All models that meet every row and formula, [model][layer], in the order of the space."""
    models = every_model(problem.columns)
    models = models[(problem.matrix[:, models].sum(axis=2) <= problem.limits[:, None]).all(axis=0)]
    for formula in problem.formulas:
        models = models[truth(problem.columns, models, formula.logic)]
    return models


def values_of(problem: Problem, answers: Ints) -> Ints:
    """The sum of each answer."""
    return np.asarray(problem.goal.values[answers].sum(axis=1), dtype=np.int64)


def first_of_the_best(problem: Problem, answers: Ints) -> list[int]:
    """The first of the best answers."""
    best: list[int] = answers[int(np.argmin(values_of(problem, answers)))].tolist()
    return best


def check_minimum(problem: Problem, answers: Ints, found: Outcome, case: object) -> None:
    """The outcome is proven: the first of the best answers, or that there is none."""
    assert found.proven and (found.chosen is None) == (not len(answers)), case
    if found.chosen is not None:
        assert found.value == found.bound == values_of(problem, answers).min(), case
        assert found.chosen.tolist() == first_of_the_best(problem, answers), case


def truth(columns: Columns, models: Ints, logic: Logic) -> Mask:
    """The truth of a formula in each of many models."""

    def number_true(operands: tuple[Logic, ...]) -> Ints:
        return sum((truth(columns, models, each) for each in operands), np.zeros(len(models), dtype=np.int64))

    match logic:
        case Is(layer=layer, sub_block=sub_block, alternatives=names):
            is_one = np.array([getattr(choice, sub_block) in names for choice in columns.choices])
            return np.asarray(is_one[models[:, layer]], dtype=np.bool_)
        case Not(operand=operand):
            return ~truth(columns, models, operand)
        case And(operands=operands):
            return np.equal(number_true(operands), len(operands))
        case Or(operands=operands):
            return number_true(operands) > 0
        case Implies(condition=condition, consequence=consequence):
            return np.logical_or(~truth(columns, models, condition), truth(columns, models, consequence))
        case _:
            assert_never(logic)


# ---------------------------------------------------------------- structure


def _columns(layers: int, rng: Rng, *, alike: bool) -> Columns:
    """Two to six pairs a layer, few enough that all models can be tried. The parent is always among them."""
    every = [LayerAssignment(attention=a, ffn=f) for a, f in product(HEADS, WIDTHS)]
    most = min(6, int(MOST_MODELS ** (1 / layers)))

    def drawn() -> tuple[LayerAssignment, ...]:
        count = int(rng.integers(2, most + 1))
        places = {0, *(1 + rng.permutation(len(every) - 1)[: count - 1]).tolist()}
        return tuple(every[i] for i in sorted(places))

    first = drawn()
    return Columns.of(tuple(first if alike or rng.random() < 0.3 else drawn() for _ in range(layers)))


def _structure(layers: int, rng: Rng) -> Iterator[Logic]:
    """The parts of up to two kinds, and sometimes random formulas."""
    gone = [Is(layer=i, sub_block="attention", alternatives=("noop",)) for i in range(layers)]
    neighbours, half = [*pairwise(range(layers))], layers // 2
    far, dice = [(i, i + half) for i in range(layers - half)], Random(int(rng.integers(2**32)))

    def leaf() -> Logic:
        part = dice.choice(SUB_BLOCKS)
        names = dice.sample([*NAMES[part]], dice.randint(1, len(NAMES[part])))
        return Is(layer=dice.randrange(layers), sub_block=part, alternatives=tuple(names))

    kinds = [
        [_tied("attention", a, b) for a, b in neighbours],
        [_tied(part, a, b) for a, b in far for part in SUB_BLOCKS],
        [_never_grow(a, b) for a, b in neighbours],
        [Not(operand=And(operands=(gone[a], gone[b]))) for a, b in neighbours],
        [_iff(gone[a], Not(operand=gone[b])) for a, b in neighbours],
        [counted(gone, at_least=1, at_most=half)],
        [random_formula(dice, leaf, depth=2) for _ in neighbours],
    ]
    for place in rng.permutation(len(kinds))[: int(rng.integers(0, 3))].tolist():
        yield from kinds[place]
    for _ in range(int(rng.integers(0, 3))):
        yield random_formula(dice, leaf)


def _iff(first: Logic, second: Logic) -> Logic:
    one, other = (Implies(condition=a, consequence=b) for a, b in ((first, second), (second, first)))
    return And(operands=(one, other))


def _tied(part: SubBlock, first: int, second: int) -> Logic:
    sides = (
        tuple(Is(layer=i, sub_block=part, alternatives=(n,)) for i in (first, second)) for n in NAMES[part]
    )
    return And(operands=tuple(_iff(a, b) for a, b in sides))


def _never_grow(first: int, second: int) -> Logic:
    """The second layer's width is at most the first's; widths fall from name to name."""
    steps = []
    for place in range(len(WIDTHS)):
        one, other = (Is(layer=i, sub_block="ffn", alternatives=WIDTHS[place:]) for i in (first, second))
        steps.append(Implies(condition=one, consequence=other))
    return And(operands=tuple(steps))
