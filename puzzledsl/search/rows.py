"""From a search's goal and requirements to integers. `throughput >= X` is the linear `latency <= tokens / X`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from puzzledsl.ir.nodes import (
    Linear,
    LinearRequirement,
    LogicRequirement,
    MetricTerm,
    Requirement,
    WeightedTerm,
)
from puzzledsl.search.coefficients import Vector
from puzzledsl.search.instance import Formula, Goal, Row, Tokens

if TYPE_CHECKING:
    from puzzledsl.search.problem import Builder

FLIPPED = {"<=": ">=", ">=": "<=", "<": ">", ">": "<", "==": "=="}


def goal_of(
    builder: Builder,
    linear: Linear,
    sense: Literal["minimize", "maximize"],
    batches: Mapping[str, int],
) -> Goal:
    """What to minimise. A goal that is maximised is negated; a throughput is maximised by minimising its latency."""
    upwards = negate = sense == "maximize"
    tokens, linear = _as_latency(builder, linear, batches)
    if tokens is not None:
        negate = upwards != (tokens.factor > 0)
    vector = builder.coefficients.linear(linear, batches)
    values, divisor = builder.scaled(-vector.values if negate else vector.values)
    sign = -1 if negate else 1
    return Goal(values, vector.unit * divisor, vector.constant, sign, upwards, divisor == 1, tokens)


def requirement_rows(
    builder: Builder, index: int, requirement: Requirement, batches: Mapping[str, int]
) -> Iterator[Row]:
    """The rows of a linear requirement: one, two for `==`, none where it always holds or is a formula."""
    if isinstance(requirement, LogicRequirement):
        return
    bound, op = bound_of(builder, requirement, batches), str(requirement.op)
    name = requirement.where.text or f"requirement {index + 1}"
    tokens, linear = _as_latency(builder, requirement.left, batches)
    vector = builder.coefficients.linear(linear, batches)
    if tokens is not None:
        bound = (bound - tokens.constant) / tokens.factor
        op = FLIPPED[op] if tokens.factor < 0 else op
        if bound <= 0:  # throughput is above 0
            if op in ("<=", "==", "<"):
                yield builder.row(name, Vector(vector.values * 0), Fraction(-1), False, index)
            return
        bound, op = tokens.tokens / bound, FLIPPED[op]
    if op in ("<=", "<", "=="):
        yield builder.row(name, vector, bound, op == "<", index)
    if op in (">=", ">", "=="):
        yield builder.row(name, vector.negated(), -bound, op == ">", index)


def bound_of(builder: Builder, requirement: LinearRequirement, batches: Mapping[str, int]) -> Fraction:
    """What the left side is compared with: a number, or a ratio of the parent's value at the same batch."""
    if requirement.parent_ratio is None:
        assert requirement.bound is not None, "a requirement has a bound or a ratio"
        return requirement.bound
    tokens, linear = _as_latency(builder, requirement.left, batches)
    value = builder.parent.linear(linear, batches).total()
    if tokens is not None:
        value = tokens.factor * tokens.tokens / value + tokens.constant if value else tokens.constant
    return requirement.parent_ratio * value


def _as_latency(builder: Builder, linear: Linear, batches: Mapping[str, int]) -> tuple[Tokens | None, Linear]:
    """A throughput's tokens and the latency they are divided by; any other expression as it is."""
    match linear.terms:
        case [WeightedTerm(coefficient=factor, term=MetricTerm(scenario=scenario, metric="throughput"))]:
            costs = builder.tables.at(scenario, batches[scenario])
            term = MetricTerm(scenario=scenario, metric="latency")
            latency = Linear(terms=(WeightedTerm(coefficient=Fraction(1), term=term),))
            return Tokens(factor, costs.batch * costs.output, linear.constant), latency
        case _:
            return None, linear


def fitting_rows(builder: Builder, batches: Mapping[str, int]) -> Iterator[Row]:
    """Where a batch is `auto`, it is the largest that fits: this one does, and no larger candidate."""
    for name in builder.tables.scenarios:
        for costs in builder.tables.costs.scenarios[name]:
            if costs.capacity_bytes is None or costs.batch < batches[name]:
                continue
            memory = Linear(
                terms=(
                    WeightedTerm(coefficient=Fraction(1), term=MetricTerm(scenario=name, metric="memory")),
                )
            )
            vector = builder.coefficients.linear(memory, {name: costs.batch})
            if costs.batch == batches[name]:
                yield builder.row(
                    f"{name} fits at batch {costs.batch}",
                    vector,
                    Fraction(costs.capacity_bytes),
                    False,
                    None,
                )
            else:
                yield builder.row(
                    f"{name} does not fit at batch {costs.batch}",
                    vector.negated(),
                    -Fraction(costs.capacity_bytes),
                    True,
                    None,
                )


def formulas_of(requirements: Sequence[Requirement]) -> Iterator[Formula]:
    """The propositional requirements."""
    for index, requirement in enumerate(requirements):
        if isinstance(requirement, LogicRequirement):
            yield Formula(requirement.where.text or f"requirement {index + 1}", requirement.formula, index)
