"""Requirements of a search: the bound, what the child was predicted and measured to reach, and the room that is left.

Measured values of what a requirement bounds, with their standard errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, assert_never

from puzzledsl.alternatives.alternative import Alternative, SubBlock
from puzzledsl.ir import nodes
from puzzledsl.ir.facts import fact
from puzzledsl.ir.logic import holds
from puzzledsl.ir.nodes import Linear, MetricTerm, ParamsTerm, Term
from puzzledsl.ir.search_nodes import written
from puzzledsl.ir.tables import PARENT as PARENT_LAYER
from puzzledsl.ir.tables import Figure, Solution
from puzzledsl.report.numbers import Number, change, of_unit, plain, share, times
from puzzledsl.report.subject import PARENT, Subject
from puzzledsl.search.problem.normal_form import as_tables, with_facts

TIMES = {"throughput": "throughput", "latency": "latency_s"}
"""Metrics of a scenario that an evaluation measures, and the keys of their figures."""
RATES = {"ttft": "prefill_tokens_per_s", "tpot": "decode_tokens_per_s"}
"""Metrics that are a number of tokens divided by a measured rate, and the keys of these rates."""


@dataclass(frozen=True)
class Reached:
    """A measured value and its standard error (0 where none was recorded)."""

    value: float
    stderr: float

    def over(self, other: Reached) -> Reached:
        """Return the ratio of two values with independent errors: the squares of their relative errors add up."""
        ratio = self.value / other.value
        return Reached(ratio, abs(ratio) * math.hypot(self.stderr / self.value, other.stderr / other.value))


def measured_pair(subject: Subject, linear: Linear) -> tuple[Reached, Reached] | None:
    """Return the value of a linear expression for the parent's and for the child's measured figures.

    None where a term was not measured. The first evaluation that measured every term decides; times are those of
    the architecture, so a child that was trained further stands for it.
    """
    for _, evaluation, _, figures in subject.finals:
        timings = [(f"{name}.", subject.timing(evaluation, name)) for name in subject.program.scenarios]
        timed = {key: found for head, own in timings for key, found in own.items() if key.startswith(head)}
        both = subject.figures(evaluation, PARENT), timed | figures
        values = _value(subject, linear, both[0]), _value(subject, linear, both[1])
        if values[0] is not None and values[1] is not None:
            return values[0], values[1]
    return None


def _value(subject: Subject, linear: Linear, figures: Mapping[str, Figure]) -> Reached | None:
    total, variance = float(linear.constant), 0.0
    for weighted in linear.terms:
        found = _reached_of_term(subject, weighted.term, figures)
        if found is None:
            return None
        factor = float(weighted.coefficient)
        total += factor * found.value
        variance += (factor * found.stderr) ** 2
    return Reached(total, math.sqrt(variance)) if linear.terms else None


def _reached_of_term(subject: Subject, term: Term, figures: Mapping[str, Figure]) -> Reached | None:
    match term:
        case MetricTerm(scenario=scenario, metric=metric) if metric in TIMES:
            return _figure(figures.get(f"{scenario}.{TIMES[metric]}"))
        case MetricTerm(scenario=scenario, metric=metric) if metric in RATES:
            rate, tokens = _figure(figures.get(f"{scenario}.{RATES[metric]}")), _tokens(subject, term)
            return None if rate is None or tokens is None else Reached(tokens, 0.0).over(rate)
        case ParamsTerm():
            return _figure(figures.get("params"))
        case _:
            return None


def _figure(figure: Figure | None) -> Reached | None:
    """Return a figure with its error; None if it is missing, not finite or not positive."""
    if figure is None or not math.isfinite(figure.value) or figure.value <= 0:
        return None
    return Reached(figure.value, figure.stderr or 0.0)


def _tokens(subject: Subject, term: MetricTerm) -> float | None:
    """Tokens of one prefill (the batch's prompts) or of one decode step (the batch); None if the batch is unknown."""
    scenario = subject.program.scenarios.get(term.scenario)
    batch = subject.batch(term.scenario)
    if scenario is None or batch is None:
        return None
    return float(batch * scenario.prompt) if term.metric == "ttft" else float(batch)


Mark = Literal["met", "missed", "unsure", "unknown"]
"""Verdict on one requirement: `unsure` is missed by less than the measurement can tell, `unknown` lacks a figure."""

SURE = 2.0  # Standard errors that a measured value must miss its bound by, to be called missed.
FAR_OFF = 0.1  # Relative error of a prediction that the page remarks on.


@dataclass(frozen=True)
class Line:
    """One `require`. The measured figure decides where there is one, else the predicted one.

    A bound that is a multiple of the parent's value is shown as a multiple, with absolute values in small print.
    `room` is the slack relative to the bound; `instances` counts those of a `for`; `off` is the error of a
    prediction that the measurement shows to be far off, predicted / measured - 1.
    """

    mark: Mark
    line: int = 0
    text: str = ""
    because: str = ""
    required: Number | None = None
    predicted: Number | None = None
    measured: Number | None = None
    room: Number | None = None
    off: Number | None = None
    instances: int = 1


def requirement_lines(subject: Subject) -> list[Line]:
    """Every requirement of the search, in order, or none without a child; the instances of one `for` are one line."""
    if subject.best is None:
        return []
    return lines_of(subject, subject.search.requirements, subject.best, measured=True)


def lines_of(
    subject: Subject, requirements: Iterable[nodes.Requirement], best: Solution, *, measured: bool = False
) -> list[Line]:
    """Requirements as a child meets them, in order; the instances of one `for` are one line.

    `measured`: with measurements. Leave them out for an answer that has just been solved: they are of an older child.
    """
    lines: list[Line] = []
    for requirement in requirements:
        match requirement:
            case nodes.LinearRequirement(judged=nodes.Judged() as judged):
                line = _judged_line(subject, requirement, judged)
            case nodes.LinearRequirement():
                line = _linear_line(subject, requirement, best, measured)
            case nodes.LogicRequirement(formula=formula):
                tabled = with_facts(_Facts(subject.space.layers, subject.shape), formula)
                line = Line(mark="met" if holds(tabled, dict(enumerate(best.layers))) else "missed")
            case _:
                assert_never(requirement)
        line_number, text = requirement.where.line, written(requirement)
        lines.append(replace(line, line=line_number, text=text, because=requirement.because))
    return _merged(lines)


def _linear_line(
    subject: Subject, requirement: nodes.LinearRequirement, best: Solution, with_measured: bool
) -> Line:
    ratio, unit = requirement.parent_ratio, requirement.unit
    required = None if requirement.bound is None else float(requirement.bound)
    pair = measured_pair(subject, requirement.left) if with_measured else None
    predicted, measured = value_of(subject, requirement.left, best), pair[1] if pair else None
    notes: tuple[str, ...] = ("", "")
    shown: Callable[[float], Number] = partial(of_unit, unit=unit)
    if ratio is not None:  # multiples of the parent's value: predicted by predicted, measured by measured
        required, shown = float(ratio), lambda value: Number(f"{value:.4g}×", value)
        reached = predicted, None if measured is None else measured.value
        notes = tuple("" if value is None else of_unit(value, unit).text for value in reached)
        reference = value_of(subject, requirement.left, None)
        predicted = predicted / reference if reference and predicted is not None else None
        measured = pair[1].over(pair[0]) if pair else None
    decisive = measured or (Reached(predicted, 0.0) if predicted is not None else None)
    room: Number | None = None
    mark: Mark = "unknown"
    if decisive is not None and required is not None:
        mark = _mark(decisive, requirement.op, required)
        slack = required - decisive.value if requirement.op in ("<=", "<") else decisive.value - required
        room = change(slack / abs(required)) if required and requirement.op != "==" else None
    off = predicted / measured.value - 1 if measured and predicted is not None else 0.0
    return Line(
        mark=mark,
        required=None if required is None else shown(required),
        predicted=None if predicted is None else replace(shown(predicted), note=notes[0]),
        measured=None if measured is None else replace(shown(measured.value), note=notes[1]),
        room=room,
        off=change(off) if abs(off) > FAR_OFF else None,
    )


def _judged_line(subject: Subject, requirement: nodes.LinearRequirement, judged: nodes.Judged) -> Line:
    """Return the line of a bound on a judge's figure, with what the judge measured of the best child before any uptraining."""
    found, record = subject.refinement, judged.record
    figure = None if found is None else found.best.judged.get(f"{judged.judge}.{judged.figure}")
    shown = share if record.better == "more" else times if record.of_parent else plain
    mark: Mark = "unknown" if figure is None or found is None else "met"
    if found is not None and written(requirement) in found.best.missed:
        mark = "missed"
    error = figure.stderr if figure is not None else None
    said = f"± {error * 100:.1f}" if error and shown is share else f"± {error:.2g}" if error else ""
    reached = None if figure is None else replace(shown(figure.value), note=said)
    return Line(mark=mark, required=shown(float(judged.bound)), measured=reached)


def _mark(reached: Reached, op: str, required: float) -> Mark:
    """Compare a value with its bound, up to the rounding of floats; the search itself has compared them exactly."""
    value = reached.value
    if math.isclose(value, required, rel_tol=1e-9, abs_tol=1e-9):
        return "met" if op in ("<=", ">=", "==") else "missed"
    holds = {"<=": value < required, "<": value < required, ">=": value > required, ">": value > required}
    if holds.get(op, False):
        return "met"
    return "unsure" if abs(value - required) <= SURE * reached.stderr else "missed"


@dataclass(frozen=True)
class _Facts:
    """Alternatives that a search chooses from, and their facts, as its tables have them."""

    layers: tuple[nodes.LayerChoice, ...]
    shape: nodes.Shape

    def fact(self, sub_block: SubBlock, attribute: str, layer: int, name: str) -> int:
        options: tuple[Alternative, ...] = getattr(self.layers[layer].with_parent(), sub_block)
        chosen = next(a for a in options if a.name == name)
        return fact(chosen, attribute, self.shape.at(layer))


WORST_FIRST: tuple[Mark, ...] = ("missed", "unsure", "met", "unknown")


def _merged(lines: list[Line]) -> list[Line]:
    """Instances of one statement become one line, that of the least room, with the worst mark."""
    merged: dict[tuple[int, str], list[Line]] = {}
    for line in lines:
        merged.setdefault((line.line, line.text), []).append(line)
    result = []
    for same in merged.values():
        tightest = min(same, key=lambda x: x.room.value if x.room else math.inf)
        worst = min((x.mark for x in same), key=WORST_FIRST.index)
        result.append(replace(tightest, mark=worst, instances=len(same)))
    return result


def value_of(subject: Subject, linear: nodes.Linear, solution: Solution | None) -> float | None:
    """Return the value of an expression for a solution, or the parent (None); None if a figure that it needs is not known."""
    total = float(linear.constant)
    for weighted in linear.terms:
        value = _term(subject, weighted.term, solution)
        if value is None:
            return None
        total += float(weighted.coefficient) * value
    return total


def _term(subject: Subject, term: nodes.Term, solution: Solution | None) -> float | None:
    result = subject.result
    recorded = solution.metrics if solution else (result.parent_metrics if result else {})
    layers = solution.of_layers if solution else (PARENT_LAYER,) * subject.shape.layers
    match term:
        case nodes.MetricTerm(scenario=scenario, metric=metric):
            if (known := recorded.get(f"{scenario}.{metric}")) is not None:
                return known
            return subject.predicted(scenario, "" if solution else PARENT, solution).get(metric)
        case nodes.ScoreTerm(score=score):
            return recorded.get(score, None if solution else 0.0)
        case nodes.ParamsTerm():
            return recorded.get("params")
        case nodes.FactTerm() | nodes.CountTerm() | nodes.TableTerm():
            listed = as_tables(_Facts(subject.space.layers, subject.shape), term)
            tables = [t for t in listed if isinstance(t, nodes.TableTerm)]
            return float(sum(t.value(layers[i].attention, layers[i].ffn) for t in tables for i in t.layers))
        case _:
            assert_never(term)
