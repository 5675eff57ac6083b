"""Epsilon-constraint method (Haimes et al. 1971): a search solved at several bounds of one metric, for the Pareto front.

A solved frontier is written as CSV (for spreadsheets) and as an SVG plot (for browsers), with the standard library only.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from html import escape
from typing import Literal

from puzzledsl.base.progress import Progress, Silent
from puzzledsl.base.units import BYTES, COUNT, FLOPS, TIME, TOK_PER_S, Dimension, format_quantity
from puzzledsl.ir import nodes
from puzzledsl.ir.metric_records import METRICS, metric_named
from puzzledsl.ir.tables import CostTable, FrontierPoint, FrontierResult, ScoreTable
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.problem.problem import Builder
from puzzledsl.search.solve import solve_built
from puzzledsl.search.tables import tables_of

UNITS: dict[Dimension, str] = {BYTES: "bytes", TIME: "s", TOK_PER_S: "tok/s", FLOPS: "FLOP"}
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 440, 92, 696, 44, 380  # pixels of the picture and of its axes
TICKS = 5
Rows = list[list[float | str | None]]


def solve_frontier(
    program: nodes.Program,
    frontier: str,
    costs: CostTable,
    scores: Mapping[str, ScoreTable],
    progress: Progress | None = None,
) -> FrontierResult:
    """Solve a frontier's search at each bound, in place of its own ones. Raises DiagnosticError if a table is missing."""
    here, progress = program.frontiers[frontier], progress or Silent()
    search = program.searches[here.search]
    swept = [point_search(search, here, target) for target in targets(here)]
    program = program.model_copy(update={"searches": {**program.searches, search.name: swept[0]}})
    builder = Builder(tables_of(program, search.name, costs, scores))
    progress.start(f"frontier {frontier}", here.points)
    points, ratio = list[FrontierPoint](), None
    for target, at_point in zip(targets(here), swept, strict=True):
        result = solve_built(builder.for_search(at_point), Silent(), explain=False)
        absolute = target
        if here.times_parent:  # at the solution's batches, or at the smallest without a solution
            batches = next(builder.tables.batch_choices())
            if result.solutions:
                batches = {name: result.solutions[0].batches[name] for name in batches}
            parent = Child(builder.tables, builder.tables.parent, batches)
            absolute, ratio = target * parent.linear(alone(here.term)), float(target)
        points.append(FrontierPoint(target=float(absolute), ratio=ratio, result=result))
        progress.advance(1, status=result.status)
    return FrontierResult(frontier=frontier, search=here.search, points=tuple(points))


def targets(frontier: nodes.Frontier) -> list[Fraction]:
    """Return the frontier's bounds, evenly spaced from low to high inclusive."""
    steps = max(1, frontier.points - 1)
    return [frontier.low + (frontier.high - frontier.low) * i / steps for i in range(frontier.points)]


def point_search(search: nodes.Search, frontier: nodes.Frontier, target: Fraction) -> nodes.Search:
    """Return the search with the swept metric bounded by `target`, and a single solution."""
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
    """Return the table of `rows_of` as CSV text; missing values are empty."""
    head, rows = rows_of(program, result)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    return text.getvalue()


def rows_of(program: nodes.Program, result: FrontierResult) -> tuple[list[str], Rows]:
    """Return column names and one row per point: bound, status, proof, and its solution's metrics in base units."""
    names = sorted({n for p in result.points for s in p.result.solutions[:1] for n in s.metrics})
    swept = swept_name(program.frontiers[result.frontier].term)
    head = [f"bound:{with_unit(swept)}", "times_parent", "status", "objective", "proven_bound", "gap"]
    rows: Rows = []
    for point in result.points:
        answer = point.result
        metrics = answer.solutions[0].metrics if answer.solutions else {}
        figures = [point.target, point.ratio, answer.status, answer.objective, answer.bound, answer.gap]
        rows.append([*figures, *map(metrics.get, names)])
    return [*head, *map(with_unit, names)], rows


def with_unit(metric: str) -> str:
    """Append a metric's base unit to its name, such as `chat.memory[bytes]`; counts and scores have none."""
    unit = UNITS.get(dimension_of(metric))
    return f"{metric}[{unit}]" if unit else metric


def dimension_of(metric: str) -> Dimension:
    """Return the dimension of a metric such as `chat.memory`; COUNT for a score or a count."""
    found = metric_named(metric)
    return found.dimension if found else COUNT


def swept_name(term: nodes.Term) -> str:
    """Return a short name of a frontier's swept term: `scenario.metric`, the score's name, or the kind of term."""
    match term:
        case nodes.MetricTerm(scenario=scenario, metric=metric):
            return f"{scenario}.{metric}"
        case nodes.ScoreTerm(score=score):
            return score
        case _:
            return term.kind


_STYLE = (
    "<style>svg{background:#fff;font:12px system-ui,sans-serif;fill:#222}.axis{fill:none;stroke:#444}"
    ".line{fill:none;stroke:#2563ad;stroke-width:1.5}.proven{fill:#2563ad;stroke:#2563ad}.found{fill:#fff;stroke:#2563ad}"
    ".none{stroke:#b3261e;stroke-width:1.5}.title{font-weight:600;font-size:13px}</style>"
)
Places = Callable[[float], float]


def as_svg(program: nodes.Program, result: FrontierResult) -> str:
    """Plot the objective over the swept metric as SVG: proven points filled, found ones hollow, no solution a cross."""
    frontier, search = program.frontiers[result.frontier], program.searches[result.search]
    goal, x_name, y_name = search.objective, swept_name(frontier.term), "objective"
    if len(goal.terms) == 1 and goal.terms[0].coefficient == 1:
        y_name = swept_name(goal.terms[0].term)
    points = [(p.target if p.ratio is None else p.ratio, p) for p in result.points]
    solved = [(at, p.result.objective) for at, p in points if p.result.objective is not None]
    x_unit = COUNT if frontier.times_parent else dimension_of(x_name)
    x, x_ticks = _axis([at for at, _ in points], LEFT, RIGHT, x_unit)
    y, y_ticks = _axis([value for _, value in solved], BOTTOM, TOP, dimension_of(y_name))
    sense = "at least" if direction(search, frontier.term) == ">=" else "at most"
    title = f"{result.frontier}: {search.sense} {y_name}, {x_name} {sense} the bound"
    labels = [
        f'class="title" x="{LEFT}" y="24">{escape(title)}',
        f'x="{(LEFT + RIGHT) // 2}" y="{BOTTOM + 46}" text-anchor="middle">{escape(x_name)}'
        + (", times the parent's" if frontier.times_parent else ""),
        f'transform="translate(18 {(TOP + BOTTOM) // 2}) rotate(-90)" text-anchor="middle">{escape(y_name)}',
        *(f'x="{at}" y="{BOTTOM + 18}" text-anchor="middle">{text}' for at, text in x_ticks),
        *(f'x="{LEFT - 8}" y="{at + 4}" text-anchor="end">{text}' for at, text in y_ticks),
    ]
    parts = [
        f'<path class="axis" d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}"/>',
        *(f"<text {label}</text>" for label in labels),
        f'<polyline class="line" points="{" ".join(f"{x(at)},{y(value)}" for at, value in solved)}"/>',
        *(_point(point, x(at), y, x_name, y_name) for at, point in points),
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
    return "\n".join([head, _STYLE, *parts, "</svg>", ""])


def _axis(
    values: Sequence[float], start: float, stop: float, dimension: Dimension
) -> tuple[Places, list[tuple[float, str]]]:
    """Return the pixel of a value, linear from `start` to `stop`, and the ticks: pixels and texts."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    ticks = [low + (high - low) * i / TICKS for i in range(TICKS + 1)] if high > low else [low]

    def place(value: float) -> float:
        return round(start + (value - low + margin) / (high - low + 2 * margin) * (stop - start), 2)

    return place, [(place(tick), escape(format_quantity(tick, dimension, 4))) for tick in ticks]


def _point(point: FrontierPoint, at: float, y: Places, x_name: str, y_name: str) -> str:
    answer, bound = point.result, format_quantity(point.target, dimension_of(x_name), 4)
    bound = bound if point.ratio is None else f"{point.ratio:.4g}x = {bound}"
    hint = f"<title>{escape(x_name)} {escape(bound)}: {answer.status}"
    if answer.objective is None:
        cross = f"M{at - 4} {BOTTOM - 4}l8 8m-8 0l8 -8"
        return f'<path class="none" d="{cross}">{hint}</title></path>'
    kind = "proven" if answer.status == "optimal" else "found"
    objective = escape(format_quantity(answer.objective, dimension_of(y_name), 6))
    return f'<circle class="{kind}" cx="{at}" cy="{y(answer.objective)}" r="3.5">{hint}, {objective}</title></circle>'
