"""Solve a search from its tables, with a proof and an independent verification; a frontier of it; or export its CP-SAT model.

A frontier is the epsilon-constraint method (Haimes et al. 1971): a search solved at several bounds of one metric, for the Pareto
front. It is written as CSV, for spreadsheets; `report.pictures.curves` draws it.
"""

import csv
import io
import tempfile
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Literal

from puzzledsl.base.progress import Progress, Silent
from puzzledsl.base.units import BYTES, FLOPS, REQ_PER_S, TIME, TOK_PER_S
from puzzledsl.ir import nodes
from puzzledsl.ir.metric_records import METRICS, metric_named
from puzzledsl.ir.nodes import Program
from puzzledsl.ir.search_nodes import describe_term
from puzzledsl.ir.tables import CostTable, FrontierPoint, FrontierResult, ScoreTable, SearchResult
from puzzledsl.search.answer import result_of, several
from puzzledsl.search.batches import best_of
from puzzledsl.search.cpsat.solve import model_of
from puzzledsl.search.problem.instance import Effort
from puzzledsl.search.problem.metrics import Box, Child
from puzzledsl.search.problem.problem import Builder
from puzzledsl.search.tables import tables_of

# Share of a search's time that is reserved for its last step and the verification, and its limit in seconds.
FOR_VERIFYING, FOR_VERIFYING_S = 0.1, 0.5


def solve_search(
    program: Program,
    search: str,
    costs: CostTable,
    scores: Mapping[str, ScoreTable],
    progress: Progress | None = None,
    *,
    workers: int = 1,
) -> SearchResult:
    """Choose an alternative for every sub-block of every layer. Every solution is verified before it is returned.

    `status` is "optimal" only if that is proven (within the search's gap); "infeasible" comes with a conflict. With gap 0
    the answer does not depend on the seed or on `workers`, CP-SAT's number of threads. Raises DiagnosticError if a table is
    missing or incomplete.
    """
    return solve_built(Builder(tables_of(program, search, costs, scores)), progress, workers=workers)


def solve_built(
    builder: Builder, progress: Progress | None = None, *, workers: int = 1, explain: bool = True
) -> SearchResult:
    """Solve the search of a builder, whose inputs are checked already. `explain`: name the conflict if it is infeasible."""
    tables, progress = builder.tables, progress or Silent()
    search, problems = tables.search, builder.all()
    progress.start(f"solving {search.name}", 1)
    time_s, gap = float(search.solver.time_s), float(search.solver.gap)
    own_s = time_s - min(FOR_VERIFYING_S, FOR_VERIFYING * time_s)
    effort = Effort.of(own_s, gap, search.solver.seed, workers)
    found = several(problems, search.solutions, search.apart, effort)
    result = result_of(tables, found, gap)
    if result.status == "infeasible" and explain:
        from puzzledsl.search.infeasible.explain import explained

        result = explained(problems, result, effort)
    progress.advance(1, status=result.status)
    progress.log(
        "solved", search=search.name, status=result.status, objective=result.objective, bound=result.bound
    )
    return result


def cpsat_model(program: Program, search: str, costs: CostTable, scores: Mapping[str, ScoreTable]) -> bytes:
    """Return the whole CP-SAT model of a search as a serialised `CpModelProto`. The same inputs give the same bytes.

    It has one Boolean for every column, named `layer/attention/ffn`. If a score has runs of dropped layers, `layer/noop/noop#k`
    is the k-th layer of its run. The objective is in integers and minimised; one that is maximised is negated.

    If the search chooses batches, the model is that of the best answer's batches, or of the smallest if none is found.
    Preferences and distances between several solutions are not in it. Raises DiagnosticError if a table is missing.
    """
    from ortools.sat.python.cp_model_helper import CpSatHelper

    problems = Builder(tables_of(program, search, costs, scores)).all()
    box = problems.boxes[0]
    if len(problems.boxes) > 1 or not box.is_single:
        found = best_of(problems, Effort.of(float(problems.tables.search.solver.time_s)))
        box = Box.at(box.lows if found.layers is None else found.batches)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.pb"  # any other suffix would write text
        if not CpSatHelper.write_model_to_file(model_of(problems.at(box)), str(path)):
            raise OSError(f"cannot write {path}")
        return path.read_bytes()


UNITS = {BYTES: "bytes", TIME: "s", TOK_PER_S: "tok/s", REQ_PER_S: "req/s", FLOPS: "FLOP"}


def solve_frontier(
    program: nodes.Program, frontier: str, costs: CostTable, scores: Mapping[str, ScoreTable]
) -> FrontierResult:
    """Solve a frontier's search at each bound, in place of its own on the term. Raises DiagnosticError for missing tables."""
    here = program.frontiers[frontier]
    search = program.searches[here.search]
    swept = [point_search(search, here, target) for target in targets(here)]
    program = program.model_copy(update={"searches": {**program.searches, search.name: swept[0]}})
    builder = Builder(tables_of(program, search.name, costs, scores))
    points, ratio = list[FrontierPoint](), None
    for target, at_point in zip(targets(here), swept, strict=True):
        result = solve_built(builder.for_search(at_point), explain=False)
        absolute = target
        if here.times_parent:  # at the solution's batches, or at the smallest without a solution
            batches = next(builder.tables.batch_choices())
            if result.solutions:
                batches = {name: result.solutions[0].batches[name] for name in batches}
            parent = Child(builder.tables, builder.tables.parent, batches)
            absolute, ratio = target * parent.linear(alone(here.term)), float(target)
        points.append(FrontierPoint(target=float(absolute), ratio=ratio, result=result))
    return FrontierResult(frontier=frontier, search=here.search, points=tuple(points))


def targets(frontier: nodes.Frontier) -> list[Fraction]:
    """Return the frontier's bounds, evenly spaced from low to high inclusive."""
    steps = max(1, frontier.points - 1)
    return [frontier.low + (frontier.high - frontier.low) * i / steps for i in range(frontier.points)]


def point_search(search: nodes.Search, frontier: nodes.Frontier, target: Fraction) -> nodes.Search:
    """Return the search for one solution, with the swept term bounded by `target` in place of its own bounds on that side."""
    op, swept = direction(search, frontier.term), alone(frontier.term)
    bounded = nodes.LinearRequirement(
        left=swept,
        op=op,
        bound=None if frontier.times_parent else target,
        parent_ratio=target if frontier.times_parent else None,
        where=frontier.where,
        bound_where=frontier.where,
    )
    kept = tuple(
        r
        for r in search.requirements
        if not (isinstance(r, nodes.LinearRequirement) and r.left == swept and r.op in (op, op[0], "=="))
    )
    return search.model_copy(update={"requirements": (*kept, bounded), "solutions": 1})


def direction(search: nodes.Search, term: nodes.Term) -> Literal["<=", ">="]:
    """Return the operator that bounds the swept term: that of the search's own requirement on it, else the metric's usual one."""
    linear = [r for r in search.requirements if isinstance(r, nodes.LinearRequirement) and r.op != "=="]
    own = [r.op for r in linear if r.left == alone(term)]
    if own:
        return ">=" if own[0] in (">=", ">") else "<="
    return ">=" if isinstance(term, nodes.MetricTerm) and METRICS[term.metric].better != "less" else "<="


def alone(term: nodes.Term) -> nodes.Linear:
    """Return the expression that is one term."""
    return nodes.Linear(terms=(nodes.WeightedTerm(coefficient=Fraction(1), term=term),))


def as_csv(program: nodes.Program, result: FrontierResult) -> str:
    """Return a frontier as CSV, a row a point: bound, status, objective, proof, metrics in base units; a missing one is empty."""
    names = sorted({n for p in result.points for s in p.result.solutions[:1] for n in s.metrics})
    term = program.frontiers[result.frontier].term
    swept = describe_term(term) if isinstance(term, nodes.MetricTerm | nodes.ScoreTerm) else term.kind
    head = [f"bound:{_with_unit(swept)}", "times_parent", "status", "objective", "proven_bound", "gap"]
    rows: list[list[float | str | None]] = [[*head, *map(_with_unit, names)]]
    for point in result.points:
        answer = point.result
        metrics = answer.solutions[0].metrics if answer.solutions else {}
        figures = [point.target, point.ratio, answer.status, answer.objective, answer.bound, answer.gap]
        rows.append([*figures, *map(metrics.get, names)])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _with_unit(metric: str) -> str:
    """Append a metric's base unit to its name, such as `chat.memory[bytes]`; counts and scores have none."""
    found = metric_named(metric)
    unit = UNITS.get(found.dimension) if found else None
    return f"{metric}[{unit}]" if unit else metric
