"""Requirements of a search: bound, achieved value and slack."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import assert_never

from puzzledsl.alternatives.alternative import Alternative, SubBlock
from puzzledsl.ir import facts
from puzzledsl.ir.nodes import (
    CountTerm,
    FactTerm,
    Linear,
    LinearRequirement,
    LogicRequirement,
    MetricTerm,
    ParamsTerm,
    ScoreTerm,
    TableTerm,
    Term,
)
from puzzledsl.ir.statements import written
from puzzledsl.ir.tables import LayerAssignment, Solution
from puzzledsl.report.numbers import Number, change, of_unit
from puzzledsl.report.subject import PARENT, Subject
from puzzledsl.search.problem.formulas import holds


@dataclass(frozen=True)
class Line:
    """One `require`. `room` is the slack relative to the bound; `instances` counts those of a `for`."""

    line: int
    text: str
    because: str
    required: Number | None
    achieved: Number | None
    room: Number | None
    holds: bool | None
    instances: int = 1


def requirement_lines(subject: Subject) -> list[Line]:
    """Every requirement of the search, in order; the instances of one `for` are one line."""
    if subject.best is None:
        return []
    lines: list[Line] = []
    for requirement in subject.search.requirements:
        match requirement:
            case LinearRequirement():
                lines.append(_linear_line(subject, requirement, subject.best))
            case LogicRequirement():
                lines.append(_logic_line(requirement, subject.best))
            case _:
                assert_never(requirement)
    return _merged(lines)


def _linear_line(subject: Subject, requirement: LinearRequirement, best: Solution) -> Line:
    achieved = value_of(subject, requirement.left, best)
    required = None if requirement.bound is None else float(requirement.bound)
    if requirement.parent_ratio is not None:
        reference = value_of(subject, requirement.left, None)
        required = None if reference is None else float(requirement.parent_ratio) * reference
    room = kept = None
    if achieved is not None and required is not None:
        kept = _holds(achieved, requirement.op, required)
        slack = required - achieved if requirement.op in ("<=", "<") else achieved - required
        room = change(slack / abs(required)) if required and requirement.op != "==" else None
    return Line(
        line=requirement.where.line,
        text=written(requirement),
        because=requirement.because,
        required=None if required is None else of_unit(required, requirement.unit),
        achieved=None if achieved is None else of_unit(achieved, requirement.unit),
        room=room,
        holds=kept,
    )


def _holds(achieved: float, op: str, required: float) -> bool:
    """The comparison, with room for the rounding of floats: the search itself checked it exactly."""
    if math.isclose(achieved, required, rel_tol=1e-9, abs_tol=1e-9):
        return op in ("<=", ">=", "==")
    return {
        "<=": achieved < required,
        "<": achieved < required,
        ">=": achieved > required,
        ">": achieved > required,
    }.get(op, False)


def _logic_line(requirement: LogicRequirement, best: Solution) -> Line:
    return Line(
        line=requirement.where.line,
        text=written(requirement),
        because=requirement.because,
        required=None,
        achieved=None,
        room=None,
        holds=holds(requirement.formula, dict(enumerate(best.layers))),
    )


def _merged(lines: list[Line]) -> list[Line]:
    """Instances of one statement become one line, that of the least room."""
    merged: dict[tuple[int, str], list[Line]] = {}
    for line in lines:
        merged.setdefault((line.line, line.text), []).append(line)
    result = []
    for same in merged.values():
        tightest = min(same, key=lambda x: x.room.value if x.room else math.inf)
        known = [x.holds for x in same if x.holds is not None]
        result.append(
            Line(
                line=tightest.line,
                text=tightest.text,
                because=tightest.because,
                required=tightest.required,
                achieved=tightest.achieved,
                room=tightest.room,
                holds=all(known) if known else None,
                instances=len(same),
            )
        )
    return result


def value_of(subject: Subject, linear: Linear, solution: Solution | None) -> float | None:
    """Return the value of an expression for a solution, or for the parent (None).

    None if a table that it needs does not exist.
    """
    total = float(linear.constant)
    for weighted in linear.terms:
        value = _term(subject, weighted.term, solution)
        if value is None:
            return None
        total += float(weighted.coefficient) * value
    return total


def _term(subject: Subject, term: Term, solution: Solution | None) -> float | None:
    result = subject.result
    recorded = solution.metrics if solution else (result.parent_metrics if result else {})
    layers = solution.layers if solution else _parents(subject.shape.layers)
    match term:
        case MetricTerm(scenario=scenario, metric=metric):
            key = f"{scenario}.{metric}"
            model = "" if solution else PARENT
            return (
                recorded[key] if key in recorded else subject.predicted(scenario, model, solution).get(metric)
            )
        case ScoreTerm(score=score):
            return recorded.get(score, None if solution else 0.0)
        case ParamsTerm():
            return recorded["params"] if "params" in recorded else params_of(subject, layers)
        case FactTerm(sub_block=sub_block, attribute=attribute, layers=indices):
            chosen = ((i, alternative_of(subject, i, sub_block, layers[i])) for i in indices)
            return float(sum(facts.fact(a, attribute, subject.shape.at(i)) for i, a in chosen))
        case CountTerm(sub_block=sub_block, alternatives=names, layers=indices):
            return float(sum(_name(layers[i], sub_block) in names for i in indices))
        case TableTerm(layers=indices):
            return float(sum(term.value(layers[i].attention, layers[i].ffn) for i in indices))
        case _:
            assert_never(term)


def params_of(subject: Subject, layers: tuple[LayerAssignment, ...]) -> float:
    """A child's parameter count from the shape."""
    shape = subject.shape
    both: tuple[SubBlock, SubBlock] = ("attention", "ffn")
    chosen = ((i, alternative_of(subject, i, b, layer)) for i, layer in enumerate(layers) for b in both)
    return float(facts.fixed_params(shape) + sum(a.params(shape.at(i)) for i, a in chosen))


def alternative_of(subject: Subject, layer: int, sub_block: SubBlock, names: LayerAssignment) -> Alternative:
    """Return the alternative of a layer with a canonical name. `Subject.best` ensures that the space has it."""
    options: tuple[Alternative, ...] = getattr(subject.space.layers[layer].with_parent(), sub_block)
    return next(a for a in options if a.name == _name(names, sub_block))


def _name(layer: LayerAssignment, sub_block: SubBlock) -> str:
    return layer.attention if sub_block == "attention" else layer.ffn


def _parents(layers: int) -> tuple[LayerAssignment, ...]:
    return (LayerAssignment(attention=PARENT, ffn=PARENT),) * layers
