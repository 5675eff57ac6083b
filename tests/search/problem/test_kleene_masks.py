"""What formulas say of columns at once is what they say of each."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np

from puzzledsl.ir.nodes import And, Implies, Is, Logic, Not, Or
from puzzledsl.search.problem.formulas import Formula, holds, layers_of
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.problem.kleene_masks import harmless_columns, open_columns
from tests.search.random_problems import random_problem

PROBLEMS = 300


def ruled(seed: int) -> Problem:
    """A problem with one to three random formulas, on some of its columns for odd seeds."""
    rng = random.Random(seed)
    problem = random_problem("unrelated", seed)
    logics = [_logic(rng, problem.columns.layers, 3) for _ in range(rng.randint(1, 3))]
    problem = replace(
        problem, formulas=tuple(Formula(f"formula {i}", logic) for i, logic in enumerate(logics))
    )
    keep = np.array([seed % 2 == 0 or rng.random() < 0.7 for _ in range(len(problem.columns))])
    return problem.only(keep) if problem.columns.covers(keep) else problem


def _logic(rng: random.Random, layers: int, depth: int) -> Logic:
    if depth == 0 or rng.random() < 0.2:
        some = tuple(f"a{i}" for i in range(5) if rng.random() < 0.5)
        return Is(layer=rng.randrange(layers), sub_block="attention", alternatives=some)
    parts = tuple(_logic(rng, layers, depth - 1) for _ in range(rng.randint(0, 3)))
    kind = rng.randrange(4)
    if kind == 0 and parts:
        return Not(operand=parts[0])
    if kind == 1 and len(parts) > 1:
        return Implies(condition=parts[0], consequence=parts[1])
    return And(operands=parts) if kind == 2 else Or(operands=parts)


def test_columns_are_open_where_no_formula_fails_with_them_alone() -> None:
    closed = 0
    for seed in range(PROBLEMS):
        problem = ruled(seed)
        columns = problem.columns
        never = any(holds(f.logic, {}) is False for f in problem.formulas)
        fine = np.array(
            [
                all(holds(f.logic, {layer: choice}) is not False for f in problem.formulas)
                for layer, choice in zip(columns.layer_of.tolist(), columns.choices, strict=True)
            ]
        )
        opened = open_columns(problem)
        assert (opened is None) == (never or not columns.covers(fine)), seed
        assert opened is None or opened.tolist() == fine.tolist(), seed
        closed += opened is not None and not opened.all()
    assert closed > PROBLEMS // 10


def test_with_harmless_columns_every_formula_holds_whatever_the_other_layers_are() -> None:
    harmless = 0
    for seed in range(PROBLEMS):
        problem = ruled(seed)
        keep = harmless_columns(problem)
        if keep is None:
            continue
        assert problem.columns.covers(keep)
        inner = problem.only(keep).columns
        for formula in problem.formulas:
            assert any(
                all(holds(formula.logic, {layer: choice}) is True for choice in inner.of_layer(layer))
                for layer in layers_of(formula.logic)
            ), seed
        harmless += not keep.all()
    assert harmless > PROBLEMS // 10
