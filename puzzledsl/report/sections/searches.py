"""The searches of one space side by side, the proof of the main one, and conflicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from puzzledsl.ir import nodes
from puzzledsl.ir.tables import SearchResult
from puzzledsl.report import numbers
from puzzledsl.report.numbers import Number
from puzzledsl.report.sections.requirements import value_of
from puzzledsl.report.subject import PARENT, Subject

SOLVERS: dict[nodes.BaselineKind, str] = {
    "greedy": "greedy",
    "max_params": "most parameters that fit",
    "uniform": "best uniform layer",
    "random": "random",
    "noop_only": "no-ops only",
    "uniform_width": "best uniform width",
    "block_influence": "layers dropped by block influence",
    "angular_run": "one run of layers dropped by angular distance",
}


@dataclass(frozen=True)
class SearchRow:
    """One search. `objective` is the objective of the main search for the child of this one, so that rows compare."""

    name: str
    is_main: bool
    solver: str
    status: str
    objective: Number | None
    speed: Number | None
    params: Number | None
    kl: Number | None
    perplexity: Number | None


STATUS = {
    "optimal": "Proven: no child of the space does better by more than the gap",
    "feasible": "The best found in the time given; the bound says how much better another could be",
    "infeasible": "Proven: no child of the space meets every requirement",
    "unknown": "No child was found in the time given, and none was excluded",
}


def describe(linear: nodes.Linear) -> str:
    """An objective in words: `kl`, `2 * chat.latency + kl`."""
    parts = []
    for weighted in linear.terms:
        factor = "" if weighted.coefficient == 1 else f"{float(weighted.coefficient):.4g} * "
        parts.append(factor + describe_term(weighted.term))
    if linear.constant or not parts:
        parts.append(f"{float(linear.constant):.4g}")
    return " + ".join(parts)


def describe_term(term: nodes.Term) -> str:
    """A term as it would be written."""
    match term:
        case nodes.MetricTerm(scenario=scenario, metric=metric):
            return f"{scenario}.{metric}"
        case nodes.ScoreTerm(score=score):
            return score
        case nodes.ParamsTerm():
            return "params"
        case nodes.FactTerm(sub_block=sub_block, attribute=attribute):
            return f"sum({sub_block}.{attribute})"
        case nodes.CountTerm(sub_block=sub_block, alternatives=names):
            return f"count({sub_block} is {' | '.join(names)})"
        case nodes.TableTerm(layers=layers):
            return f"a table over {len(layers)} layer{'s' if len(layers) > 1 else ''}"
        case _:
            assert_never(term)


def objective_bars(rows: list[SearchRow]) -> dict[str, float]:
    """Bars that compare the searches' objectives: shares of the largest, where none is negative."""
    values = {row.name: row.objective.value for row in rows if row.objective}
    largest = max(values.values(), default=0.0)
    if len(values) < 2 or largest <= 0 or min(values.values()) < 0:
        return {}
    return {name: value / largest for name, value in values.items()}


def search_rows(subject: Subject) -> list[SearchRow]:
    """Every solved search of the main search's space, the main one first, then by its objective."""
    rows = [
        _search_row(subject, name, search, subject.found.results[name])
        for name, search in subject.program.searches.items()
        if search.space == subject.search.space and name in subject.found.results
    ]
    worst = float("inf") if subject.search.sense == "minimize" else float("-inf")
    sign = 1 if subject.search.sense == "minimize" else -1
    return sorted(
        rows, key=lambda r: (not r.is_main, sign * (r.objective.value if r.objective else worst), r.name)
    )


def _search_row(subject: Subject, name: str, search: nodes.Search, result: SearchResult) -> SearchRow:
    best = subject.child(name)
    objective = speed = params = None
    if best is not None:
        same = search.objective == subject.search.objective
        value = best.objective if same else value_of(subject, subject.search.objective, best)
        objective = None if value is None else numbers.plain(value)
        if "params" in best.metrics:
            params = numbers.count(best.metrics["params"])
        if subject.scenario:
            before = subject.predicted(subject.scenario, PARENT).get("throughput")
            after = subject.predicted(subject.scenario, "", best).get("throughput")
            speed = numbers.times(after / before) if before and after else None
    kl, perplexity = _held_out(subject, name)
    goal = (
        ""
        if search.objective == subject.search.objective
        else f", {search.sense} {describe(search.objective)}"
    )
    return SearchRow(
        name=name,
        is_main=name == subject.name,
        solver=_solver(search) + (", refined" if name in subject.found.refinements else "") + goal,
        status=result.status,
        objective=objective,
        speed=speed,
        params=params,
        kl=kl,
        perplexity=perplexity,
    )


def _solver(search: nodes.Search) -> str:
    match search.solver:
        case nodes.CpSat():
            return "exact"
        case nodes.Baseline(kind=kind):
            return SOLVERS[kind]
        case _:
            assert_never(search.solver)


def _held_out(subject: Subject, search: str) -> tuple[Number | None, Number | None]:
    """Measured KL and perplexity of a search's untrained child."""
    for _, evaluation in subject.evaluations:
        figures = subject.figures(evaluation, search)
        kl, perplexity = figures.get("kl"), figures.get("perplexity")
        if kl or perplexity:
            return (
                numbers.plain(kl.value, 3) if kl else None,
                numbers.plain(perplexity.value) if perplexity else None,
            )
    return None, None
