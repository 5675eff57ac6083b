"""Measured values of what a requirement bounds, with their standard errors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from puzzledsl.ir.nodes import Linear, MetricTerm, ParamsTerm, Term
from puzzledsl.ir.tables import Figure
from puzzledsl.report.subject import PARENT, Subject

TIMES = {"throughput": "throughput", "latency": "latency_s"}
"""Metrics of a scenario that an evaluation measures, and the keys of their figures."""
RATES = {"ttft": "prefill_tokens_per_s", "tpot": "decode_tokens_per_s"}
"""Metrics that are tokens over a measured rate."""


@dataclass(frozen=True)
class Reached:
    """A measured value and its standard error (0 where none was recorded)."""

    value: float
    stderr: float

    def over(self, other: Reached) -> Reached:
        """The ratio of two values that were measured apart: their relative errors add up in squares."""
        ratio = self.value / other.value
        return Reached(ratio, abs(ratio) * math.hypot(self.stderr / self.value, other.stderr / other.value))


def measured_pair(subject: Subject, linear: Linear) -> tuple[Reached, Reached] | None:
    """Return a linear expression of the parent's and of the child's measured figures.

    None where a term was not measured. The first evaluation that measured every term decides; times are those of
    the architecture, so a child that was trained further stands for it.
    """
    for declaration, evaluation in subject.evaluations:
        parent = subject.figures(evaluation, PARENT)
        final = subject.final(declaration, evaluation)
        child = subject.figures(evaluation, final) if final else {}
        for name in subject.program.scenarios:
            timed = subject.timing(evaluation, name)
            child = {k: f for k, f in timed.items() if k.startswith(f"{name}.")} | child
        values = _value(subject, linear, parent), _value(subject, linear, child)
        if values[0] is not None and values[1] is not None:
            return values[0], values[1]
    return None


def _value(subject: Subject, linear: Linear, figures: Mapping[str, Figure]) -> Reached | None:
    total, variance = float(linear.constant), 0.0
    for weighted in linear.terms:
        found = _term(subject, weighted.term, figures)
        if found is None:
            return None
        factor = float(weighted.coefficient)
        total += factor * found.value
        variance += (factor * found.stderr) ** 2
    return Reached(total, math.sqrt(variance)) if linear.terms else None


def _term(subject: Subject, term: Term, figures: Mapping[str, Figure]) -> Reached | None:
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
    """A figure that a ratio can be made of; None for one that is missing, zero or no number."""
    if figure is None or not math.isfinite(figure.value) or figure.value <= 0:
        return None
    return Reached(figure.value, figure.stderr or 0.0)


def _tokens(subject: Subject, term: MetricTerm) -> float | None:
    """Tokens that the rate counts in one prefill (the batch's prompts) or one step (the batch)."""
    scenario = subject.program.scenarios.get(term.scenario)
    batch = subject.batch(term.scenario)
    if scenario is None or batch is None:
        return None
    return float(batch * scenario.prompt) if term.metric == "ttft" else float(batch)
