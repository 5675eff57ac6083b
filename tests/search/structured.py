"""Integer problems that mix rows with structural formulas, small enough to try every model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise, product
from typing import assert_never

import numpy as np

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.ir.nodes import And, Implies, Is, Logic, Not, Or
from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.search.problem.columns import Columns, Ints, Mask
from puzzledsl.search.problem.instance import Goal, Problem, Row
from puzzledsl.search.problem.normal_form import Formula
from tests.search.instances import counted
from tests.search.random_problems import every_answer

Rng = np.random.Generator
FIGURES = ("unrelated", "correlated", "alike", "tied", "negative")
MOST_MODELS = 20_000
HEADS = {"parent": 8, "gqa4": 4, "gqa2": 2, "linear": 0, "noop": 0}
WIDTHS = {"parent": 16, "mlp12": 12, "mlp8": 8, "mlp4": 4, "noop": 0}


@dataclass(frozen=True, slots=True)
class Menu:
    """The alternatives of every layer: KV heads by attention and width by FFN. `noop` and `linear` have 0."""

    layers: int
    heads: Mapping[str, int]
    widths: Mapping[str, int]

    def part(self, sub_block: SubBlock) -> Mapping[str, int]:
        """The alternatives of a sub-block, each with its number."""
        return self.heads if sub_block == "attention" else self.widths


@dataclass(frozen=True, slots=True)
class Count:
    """Exactly so many layers have one of these alternatives: a row, not a formula."""

    sub_block: SubBlock
    names: tuple[str, ...]
    exactly: int


def structured_problem(figures: str, seed: int) -> Problem:
    """Three to seven layers of two to six columns, up to three rows, up to two kinds of structure and two random formulas.

    A seed always gives the same one. `correlated`: the goal is what a row saves, almost; `alike`: all layers have the same
    columns and figures; `tied`: few different figures, so that many answers are equally good; `negative`: figures of both signs.
    """
    rng = np.random.default_rng([FIGURES.index(figures), seed, 7])
    menu = _menu(rng)
    columns = _columns(menu, rng, alike=figures == "alike")
    matrix, goal = _figures(figures, columns, int(rng.integers(0, 4)), rng)
    least, most = columns.least(matrix).sum(axis=1), columns.most(matrix).sum(axis=1)
    limits = (least + rng.uniform(0.2, 0.8, len(matrix)) * (most - least)).astype(np.int64)
    rows = [Row(f"row {i}", r, int(b)) for i, (r, b) in enumerate(zip(matrix, limits, strict=True))]
    formulas = []
    for number, part in enumerate(_structure(menu, rng)):
        if isinstance(part, Count):
            rows += _exactly(columns, part)
        else:
            formulas.append(Formula(f"formula {number}", part))
    return Problem(
        name=figures,
        columns=columns,
        goal=Goal(goal, Fraction(1), Fraction(0), 1, False, True),
        rows=tuple(rows),
        formulas=tuple(formulas),
        batches={},
    )


def answers_of(problem: Problem) -> Ints:
    """All models that meet every row and formula, [model][layer], in the order of the space."""
    models = every_answer(problem)
    for formula in problem.formulas:
        models = models[truth(problem.columns, models, formula.logic)]
    return models


def truth(columns: Columns, models: Ints, logic: Logic) -> Mask:
    """The truth of a formula in each of many models."""
    match logic:
        case Is(layer=layer, sub_block=sub_block, alternatives=names):
            chosen = [getattr(choice, sub_block) in names for choice in columns.choices]
            is_one = np.array(chosen, dtype=np.bool_)
            return np.asarray(is_one[models[:, layer]], dtype=np.bool_)
        case Not(operand=operand):
            return ~truth(columns, models, operand)
        case And(operands=operands):
            return np.equal(_number_true(columns, models, operands), len(operands))
        case Or(operands=operands):
            return _number_true(columns, models, operands) > 0
        case Implies(condition=condition, consequence=consequence):
            return np.logical_or(~truth(columns, models, condition), truth(columns, models, consequence))
        case _:
            assert_never(logic)


def _number_true(columns: Columns, models: Ints, operands: tuple[Logic, ...]) -> Ints:
    number = np.zeros(len(models), dtype=np.int64)
    for operand in operands:
        number += truth(columns, models, operand)
    return number


# ---------------------------------------------------------------- how they are drawn


def _menu(rng: Rng) -> Menu:
    """The parent and one to four other alternatives a sub-block, no-op and linear often among them."""

    def some(every: dict[str, int]) -> dict[str, int]:
        others = [name for name in every if name != "parent"]
        count = int(rng.integers(1, len(others) + 1))
        kept = {others[i] for i in rng.permutation(len(others))[:count].tolist()} | {"parent", "noop"}
        return {name: value for name, value in every.items() if name in kept}

    return Menu(int(rng.integers(3, 8)), some(HEADS), some(WIDTHS))


def _columns(menu: Menu, rng: Rng, *, alike: bool) -> Columns:
    """Two to six pairs a layer, few enough that all models can be tried. The parent is always among them."""
    every = [LayerAssignment(attention=a, ffn=f) for a, f in product(menu.heads, menu.widths)]
    most = min(6, len(every), int(MOST_MODELS ** (1 / menu.layers)))

    def drawn() -> tuple[LayerAssignment, ...]:
        count = int(rng.integers(2, most + 1))
        places = {0, *(1 + rng.permutation(len(every) - 1)[: count - 1]).tolist()}
        return tuple(every[i] for i in sorted(places))

    first = drawn()
    return Columns.of(tuple(first if alike or rng.random() < 0.3 else drawn() for _ in range(menu.layers)))


def _figures(figures: str, columns: Columns, rows: int, rng: Rng) -> tuple[Ints, Ints]:
    """The rows' coefficients and the goal's values."""
    count = len(columns)
    matrix, goal = rng.integers(0, 1000, (rows, count)), rng.integers(0, 1000, count)
    if figures == "correlated" and rows:
        goal = 1000 - matrix[0] + rng.integers(0, 20, count)
    if figures == "alike":
        size = int(columns.sizes[0])
        matrix, goal = (np.tile(v[..., :size], columns.layers) for v in (matrix, goal))
    if figures == "tied":
        matrix, goal = matrix % 3, goal % 3
    if figures == "negative":
        matrix, goal = matrix - 500, goal - 500
    return matrix.astype(np.int64), goal.astype(np.int64)


def _structure(menu: Menu, rng: Rng) -> Iterator[Logic | Count]:
    """The parts of up to two kinds, and sometimes random formulas."""
    gone = [Is(layer=i, sub_block="attention", alternatives=("noop",)) for i in range(menu.layers)]
    neighbours, half = [*pairwise(range(menu.layers))], menu.layers // 2
    far = [(i, i + half) for i in range(menu.layers - half)]
    kinds: list[list[Logic | Count]] = [
        [_tied(menu, "attention", a, b) for a, b in neighbours],
        [_tied(menu, "ffn", a, b) for a, b in neighbours if a % 2 == 0],
        [_never_grow(menu, a, b) for a, b in neighbours],
        [_never_grow(menu, a, b) for a, b in far],
        [_tied(menu, part, a, b) for a, b in far for part in ("attention", "ffn")],
        [Not(operand=And(operands=(gone[a], gone[b]))) for a, b in neighbours],
        [And(operands=(_iff(gone[a], Not(operand=gone[b])),)) for a, b in neighbours],
        [counted(gone, at_least=1, at_most=menu.layers // 2)],
        [Count("attention", ("noop",), 1), Count("ffn", ("parent",), 1)],
    ]
    kinds.append([random_formula(menu, rng, depth=2) for _ in neighbours])
    for place in rng.permutation(len(kinds))[: int(rng.integers(0, 3))].tolist():
        yield from kinds[place]
    for _ in range(int(rng.integers(0, 3))):
        yield random_formula(menu, rng, depth=3)


def _iff(first: Logic, second: Logic) -> Logic:
    one, other = (Implies(condition=a, consequence=b) for a, b in ((first, second), (second, first)))
    return And(operands=(one, other))


def _tied(menu: Menu, part: SubBlock, first: int, second: int) -> Logic:
    names = menu.part(part)
    sides = (tuple(Is(layer=i, sub_block=part, alternatives=(n,)) for i in (first, second)) for n in names)
    return And(operands=tuple(_iff(a, b) for a, b in sides))


def _never_grow(menu: Menu, first: int, second: int) -> Logic:
    """The second layer's width is at most the first's."""
    steps = []
    for most in sorted({*menu.widths.values()}):
        names = tuple(name for name, width in menu.widths.items() if width <= most)
        one, other = (Is(layer=i, sub_block="ffn", alternatives=names) for i in (first, second))
        steps.append(Implies(condition=one, consequence=other))
    return And(operands=tuple(steps))


def random_formula(menu: Menu, rng: Rng, depth: int) -> Logic:
    """Nested statements about random layers, of every kind of node."""
    shape = int(rng.integers(0, 6)) if depth else 0
    parts = tuple(
        random_formula(menu, rng, depth - 1) for _ in range(int(rng.integers(1, 4)) if shape else 0)
    )
    match shape:
        case 0:
            return _leaf(menu, rng)
        case 1:
            return Not(operand=parts[0])
        case 2:
            return And(operands=parts)
        case 3:
            return Or(operands=parts)
        case 4:
            return Implies(condition=parts[0], consequence=parts[-1])
        case _:
            least = int(rng.integers(0, len(parts) + 1))
            most = None if rng.random() < 0.3 else int(rng.integers(least, len(parts) + 1))
            return counted(parts, at_least=least, at_most=most)


def _leaf(menu: Menu, rng: Rng) -> Logic:
    sub_block: SubBlock = "attention" if rng.random() < 0.5 else "ffn"
    names = list(menu.part(sub_block))
    chosen = sorted(rng.permutation(len(names))[: int(rng.integers(1, len(names) + 1))].tolist())
    layer = int(rng.integers(0, menu.layers))
    return Is(layer=layer, sub_block=sub_block, alternatives=tuple(names[i] for i in chosen))


def _exactly(columns: Columns, count: Count) -> list[Row]:
    """A count that must be exact, as two rows."""
    counted = [getattr(choice, count.sub_block) in count.names for choice in columns.choices]
    coefficients = np.array(counted, dtype=np.int64)
    return [Row("at most", coefficients, count.exactly), Row("at least", -coefficients, -count.exactly)]
