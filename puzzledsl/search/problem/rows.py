"""Translate a search's objective and requirements to integer rows. `throughput >= X` becomes the linear `latency <= tokens / X`.

For a box of several batches everything is relaxed: a model that meets a requirement at some batch inside satisfies the box's row,
and its objective is not better than the box's. For a single batch, rows are exact up to the rounding of large integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Literal

import numpy as np

from puzzledsl.ir.logic import layers_of_term
from puzzledsl.ir.metric_records import TIMES
from puzzledsl.ir.nodes import (
    Compare,
    Linear,
    LinearRequirement,
    LogicRequirement,
    MetricTerm,
    Requirement,
    WeightedTerm,
)
from puzzledsl.search.problem.box import Box
from puzzledsl.search.problem.coefficients import Coefficients, Vector
from puzzledsl.search.problem.forms import Forms
from puzzledsl.search.problem.formulas import Formula, with_facts
from puzzledsl.search.problem.instance import Goal, Problem, Row, Tokens
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.problem.per_sequence import bounded, times_the_parents
from puzzledsl.search.tables import PARENT, Tables

FLIPPED = {"<=": ">=", ">=": "<=", "<": ">", ">": "<", "==": "=="}
Where = Box | Mapping[str, int]
FEW_LAYERS = 4  # requirements on so many layers are tables or automata, which rows would relax


def goal_of(forms: Forms, linear: Linear, sense: Literal["minimize", "maximize"], where: Where) -> Goal:
    """Return the objective to minimise. One that is maximised is negated; a throughput is maximised by minimising latency."""
    box, upwards = _box(where), sense == "maximize"
    throughput = _throughput(linear)
    if throughput is None:
        negate, tokens = upwards, None
        vector = forms.coefficients.most(linear, box) if negate else forms.coefficients.least(linear, box)
    else:
        factor, scenario = throughput
        negate = upwards != (factor > 0)
        batch, vector = _latency(forms.coefficients, scenario, box, most=negate)
        tokens = Tokens(factor, batch * forms.output_of(scenario), linear.constant)
    values, divisor = forms.scaled(-vector.values if negate else vector.values)
    sign = -1 if negate else 1
    return Goal(values, vector.unit * divisor, vector.constant, sign, upwards, divisor == 1, tokens)


def _box(where: Where) -> Box:
    return where if isinstance(where, Box) else Box.at(where)


def _throughput(linear: Linear) -> tuple[Fraction, str] | None:
    """Return (factor, scenario) of an expression `factor * throughput + constant`; None for any other."""
    match linear.terms:
        case [WeightedTerm(coefficient=factor, term=MetricTerm(scenario=scenario, metric="throughput"))]:
            return factor, scenario
        case _:
            return None


def _latency(coefficients: Coefficients, scenario: str, box: Box, *, most: bool) -> tuple[int, Vector]:
    """Return (batch, latency) such that latency / batch bounds that of every batch in a box, from below or (`most`) above."""
    low, high = ends = box.of(scenario)
    if low == high:
        return low, coefficients.metric(scenario, low, "latency")
    if most:
        return low, bounded(coefficients, scenario, "latency", ends, lambda t: t.most_each)
    return high, bounded(coefficients, scenario, "latency", ends, lambda t: t.least_each)


# ---------------------------------------------------------------- requirements


def requirement_rows(forms: Forms, index: int, requirement: Requirement, where: Where) -> Iterator[Row]:
    """Yield the rows of a linear requirement: one, or two for `==`; none if it always holds. Formulas have none."""
    if isinstance(requirement, LogicRequirement) or is_local(requirement):
        return
    box, name = _box(where), requirement.where.text or f"requirement {index + 1}"
    share = _share_of_the_parent(forms, requirement, box)
    if share is not None:
        yield forms.row(name, *share, requirement.op in ("<", ">"), index)
        return
    least, most = bounds_of(forms, requirement, box)
    if _throughput(requirement.left) is not None:
        yield from _throughput_rows(forms, index, requirement, box, (least, most))
    else:
        op, coefficients = requirement.op, forms.coefficients
        if op in ("<=", "<", "=="):
            yield forms.row(name, coefficients.least(requirement.left, box), most, op == "<", index)
        if op in (">=", ">", "=="):
            negated = coefficients.most(requirement.left, box).negated()
            yield forms.row(name, negated, -least, op == ">", index)


def _throughput_rows(
    forms: Forms, index: int, requirement: LinearRequirement, box: Box, bounds: tuple[Fraction, Fraction]
) -> Iterator[Row]:
    """Yield the rows of `factor * batch * output / latency + constant op bound`, as bounds on the latency."""
    found = _throughput(requirement.left)
    assert found is not None
    factor, scenario = found
    name = requirement.where.text or f"requirement {index + 1}"
    least, most = ((bound - requirement.left.constant) / factor for bound in bounds)
    op = str(requirement.op)
    if factor < 0:
        least, most, op = most, least, FLIPPED[op]
    if op in (">=", ">", "==") and least > 0:
        batch, latency = _latency(forms.coefficients, scenario, box, most=False)
        yield forms.row(name, latency, batch * forms.output_of(scenario) / least, op == ">", index)
    if op in ("<=", "<", "=="):
        batch, latency = _latency(forms.coefficients, scenario, box, most=True)
        if most <= 0:  # throughput is above 0
            yield forms.row(name, Vector(latency.values * 0), Fraction(-1), False, index)
            return
        limit = batch * forms.output_of(scenario) / most
        yield forms.row(name, latency.negated(), -limit, op == "<", index)


def _share_of_the_parent(
    forms: Forms, requirement: LinearRequirement, box: Box
) -> tuple[Vector, Fraction] | None:
    """Return (time relative to the parent's, limit) for `latency <= 0.8x` or `throughput >= 1.25x` over several batches.

    None if the requirement does not have this form or the batch is fixed.
    """
    match requirement.left:
        case Linear(
            terms=[WeightedTerm(coefficient=factor, term=MetricTerm(scenario=scenario, metric=metric))],
            constant=0,
        ) if factor > 0 and requirement.parent_ratio is not None and requirement.parent_ratio > 0:
            low, high = ends = box.of(scenario)
            upwards = requirement.op in (">=", ">")
            if low == high or requirement.op == "==" or upwards != (metric == "throughput"):
                return None
            if metric not in (*TIMES, "throughput"):
                return None
            ratio = 1 / requirement.parent_ratio if upwards else requirement.parent_ratio
            time = "latency" if upwards else metric
            return times_the_parents(forms.coefficients, forms.parent, scenario, time, ends), ratio
        case _:
            return None


def bounds_of(forms: Forms, requirement: LinearRequirement, box: Box) -> tuple[Fraction, Fraction]:
    """Return the least and the greatest right-hand side of a requirement over a box."""
    ratio = requirement.parent_ratio
    if ratio is None:
        assert requirement.bound is not None, "a requirement has a bound or a ratio"
        return requirement.bound, requirement.bound
    ends = [ratio * value for value in _parents_values(forms, requirement.left, box)]
    return min(ends), max(ends)


def _parents_values(forms: Forms, linear: Linear, box: Box) -> tuple[Fraction, Fraction]:
    """Return the least and the greatest value of an expression for the parent over a box; throughput at latency 0 counts as 0."""
    found = _throughput(linear)
    if found is None:
        return forms.parent.least(linear, box).total(), forms.parent.most(linear, box).total()
    factor, scenario = found

    def value(*, most: bool) -> Fraction:
        batch, latency = _latency(forms.parent, scenario, box, most=most)
        total = latency.total()
        tokens = batch * forms.output_of(scenario)
        return factor * tokens / total + linear.constant if total else linear.constant

    return value(most=True), value(most=False)


# ---------------------------------------------------------------- memory


BEYOND = "does not fit at batch"


def without_larger(problem: Problem) -> Problem:
    """Return the problem without the rows that exclude models which fit at larger batches."""
    return replace(
        problem, rows=tuple(r for r in problem.rows if r.requirement is not None or BEYOND not in r.name)
    )


def fitting_rows(forms: Forms, where: Where) -> Iterator[Row]:
    """Yield the rows of `auto` batches: the model fits at this batch and at no larger candidate."""
    box = _box(where)
    for name in forms.tables.scenarios:
        low, high = box.of(name)
        fitting = forms.coefficients.room(name, low)
        if fitting is None:
            continue
        vector, limit = fitting
        yield forms.row(f"{name} fits at batch {low}", vector, Fraction(limit), False, None)
        for batch in forms.tables.larger(name, high):
            beyond = forms.coefficients.room(name, batch)
            assert beyond is not None, "all batches of a scenario are auto, or none"
            vector, limit = beyond
            row = f"{name} {BEYOND} {batch}"
            yield forms.row(row, vector.negated(), -Fraction(limit), True, None)
        if name in forms.tables.profiles and not forms.tables.larger(name, high):
            # always satisfied; it keeps the rows equal for all boxes, so that prices carry over from one to another
            yield Row(f"{name} {BEYOND} any", np.zeros(len(forms.columns), dtype=np.int64), 0)


def formulas_of(tables: Tables) -> Iterator[Formula]:
    """Yield the requirements on few layers as formulas, however they are written."""
    for index, requirement in enumerate(tables.search.requirements):
        name = requirement.where.text or f"requirement {index + 1}"
        match requirement:
            case LogicRequirement(formula=formula):
                yield Formula(name, with_facts(tables, formula), index)
            case LinearRequirement(left=left, op=op, bound=bound, parent_ratio=ratio) if is_local(
                requirement
            ):
                if ratio is not None:
                    parent = Child(tables, (PARENT,) * len(tables.layers), {})
                    bound = ratio * parent.linear(left)
                assert bound is not None, "a requirement has a bound or a ratio"
                yield Formula(name, with_facts(tables, Compare(left=left, op=op, bound=bound)), index)


def is_local(requirement: Requirement) -> bool:
    """True for a comparison of numbers of at most FEW_LAYERS layers."""
    if not isinstance(requirement, LinearRequirement):
        return False
    layers = [layers_of_term(weighted.term) for weighted in requirement.left.terms]
    return all(layers) and len(frozenset().union(*layers)) <= FEW_LAYERS
