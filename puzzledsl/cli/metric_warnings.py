"""Warn of bounds on metrics that no child meets or, where they are multiples of the parent's or lower bounds, that all do.

Layers are chosen independently, so a child of extreme layers is extreme. An upper bound in absolute units that all children meet
is a guard, and so is a lower one on throughput. Only scenarios whose costs are known before measuring count: those of a profile
or a table, at batches that the program lists.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError, Span
from puzzledsl.base.units import format_quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics.lints import AlwaysHolds, NeverHolds
from puzzledsl.ir import nodes
from puzzledsl.ir.logic import compared
from puzzledsl.ir.metric_records import METRICS
from puzzledsl.ir.metrics import costs_of_layer, linear_metrics, metrics_of
from puzzledsl.ir.source_location import span_of
from puzzledsl.ir.tables import CostTable, LayerAssignment, ScenarioCosts


def metric_warnings(
    ctx: Context, program: nodes.Program, told: Container[Span | None]
) -> Iterator[Diagnostic]:
    """Yield a warning for each bound on metrics that excludes no child of the space, or every child.

    Bounds at the places `told` have a warning already.
    """
    files, base = {file.shown: file.file for file in ctx.loader.files.values()}, ctx.root.path.parent
    tables: dict[str, CostTable | None] = {}
    judged: set[tuple[nodes.Where, str]] = set()
    for search in program.searches.values():
        for requirement in search.requirements:
            if not isinstance(requirement, nodes.LinearRequirement) or not _is_of_metrics(requirement.left):
                continue
            if not _is_known(program, program.scenarios[_scenario_of(requirement.left)]):
                continue
            if (key := (requirement.bound_where, search.space)) in judged:  # a search of another has the same
                continue
            judged.add(key)
            if search.space not in tables:
                tables[search.space] = _costs(program, search.space, base)
            table = tables[search.space]
            found = None if table is None else _judged(program.spaces[search.space], table, requirement)
            if found is not None:
                span = span_of(requirement.bound_where, files.get(requirement.bound_where.file))
                yield from [] if span in told else [found(span)]


def _is_of_metrics(left: nodes.Linear) -> bool:
    terms = [weighted.term for weighted in left.terms]
    metrics = [t for t in terms if isinstance(t, nodes.MetricTerm) and t.metric != "batch"]
    return len(metrics) == len(terms) and len({t.scenario for t in metrics}) == 1


def _is_known(program: nodes.Program, scenario: nodes.Scenario) -> bool:
    """Return True for a scenario whose costs are known before measuring, at the batches that the program lists."""
    match program.hardware[scenario.hardware].spec:
        case nodes.RooflineHardware():
            return bool(scenario.batches)
        case nodes.TableHardware():
            return True
        case nodes.MeasuredHardware():
            return False


def _costs(program: nodes.Program, space: str, base: Path) -> CostTable | None:
    """Return the costs of a space; None where a table is not there or wrong, which other commands report."""
    from puzzledsl.costs.table import cost_table  # which most programs do without

    try:
        return cost_table(program, space, base)
    except DiagnosticError:
        return None


def _judged(
    space: nodes.Space, table: CostTable, requirement: nodes.LinearRequirement
) -> Callable[[Span], Diagnostic] | None:
    """Return the warning that a bound deserves at every batch of its scenario; None for a bound that some children meet."""
    scenario, ratio = _scenario_of(requirement.left), requirement.parent_ratio
    found: set[bool | None] = set()
    ends: list[Fraction] = []
    parent = LayerAssignment(attention="parent", ffn="parent")
    for costs in table.scenarios.get(scenario, ()):
        if {metric for _, metric in _terms(requirement.left)} & {*costs.unknown}:
            return None
        children = _extremes(costs, space, requirement.left)
        values = sorted(_value(costs, child, requirement.left) for child in children)
        one = 1 if ratio is None else _value(costs, [parent] * len(space.layers), requirement.left)
        bound = requirement.bound if ratio is None else ratio * one
        assert bound is not None
        found.add(compared((values[0], values[1]), requirement.op, bound))
        ends += [value / one for value in values]
    if found != {False} and (found != {True} or _is_guard(requirement)):
        return None
    low, high = min(ends), max(ends)
    first, last = (_written(end, requirement) for end in (low, high))
    limit = requirement.bound if ratio is None else ratio
    assert limit is not None
    bound_words = f"`{requirement.where.text}` is " + (
        f"at most {last}" if limit >= high else f"at least {first}"
    )
    kind = AlwaysHolds if found == {True} else NeverHolds
    return lambda span: kind(
        span, space=space.name, bound=bound_words, help=f"it goes from {first} to {last}"
    )


def _is_guard(requirement: nodes.LinearRequirement) -> bool:
    """Return True for a bound in absolute units on the worse side: it costs nothing, and another space may need it."""
    upper = METRICS[_terms(requirement.left)[0][1]].better != "more"
    return requirement.parent_ratio is None and requirement.op.startswith("<" if upper else ">")


def _written(value: Fraction, requirement: nodes.LinearRequirement) -> str:
    """Return an end as the requirement writes its bound: a quantity, or a multiple of the parent's."""
    if requirement.parent_ratio is not None:
        return f"{float(value):.4g}x"
    return format_quantity(value, METRICS[_terms(requirement.left)[0][1]].dimension)


def _terms(left: nodes.Linear) -> list[tuple[Fraction, str]]:
    return [(w.coefficient, w.term.metric) for w in left.terms if isinstance(w.term, nodes.MetricTerm)]


def _scenario_of(left: nodes.Linear) -> str:
    return next(w.term.scenario for w in left.terms if isinstance(w.term, nodes.MetricTerm))


def _value(costs: ScenarioCosts, child: Sequence[LayerAssignment], left: nodes.Linear) -> Fraction:
    metrics = metrics_of(costs, child)
    return left.constant + sum(coefficient * metrics[name] for coefficient, name in _terms(left))


def _extremes(
    costs: ScenarioCosts, space: nodes.Space, left: nodes.Linear
) -> tuple[list[LayerAssignment], list[LayerAssignment]]:
    """Return the children with the least and the most of a sum; of throughput, with the least and the most latency."""
    linear = linear_metrics(costs)
    parts = [(c, linear["latency" if name == "throughput" else name]) for c, name in _terms(left)]

    def use(layer: int, choice: LayerAssignment) -> Fraction:
        here = costs_of_layer(costs, layer, choice)
        return sum((c * m.unit * m.of(cost) for c, m in parts for cost in here), Fraction(0))

    uses = [
        {pair: use(i, pair) for pair in (LayerAssignment(attention=a.name, ffn=f.name) for a in own.attention for f in own.ffn)}
        for i, own in enumerate(space.layers)
    ]  # fmt: skip
    return [min(each, key=each.__getitem__) for each in uses], [
        max(each, key=each.__getitem__) for each in uses
    ]
