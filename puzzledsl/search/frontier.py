"""Epsilon-constraint method (Haimes et al. 1971): a search solved at several bounds of one metric, for the Pareto front.

A solved frontier is written as CSV (for spreadsheets) and as an SVG plot (for browsers), with the standard library only.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 440, 92, 24, 44, 60
TICKS = 6


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


def rows_of(
    program: nodes.Program, result: FrontierResult
) -> tuple[list[str], list[list[float | str | None]]]:
    """Return column names and one row per point: bound, status, proof, and its solution's metrics in base units."""
    names = sorted({n for p in result.points for s in p.result.solutions[:1] for n in s.metrics})
    swept = swept_name(program.frontiers[result.frontier].term)
    head = [f"bound:{with_unit(swept)}", "times_parent", "status", "objective", "proven_bound", "gap"]
    rows: list[list[float | str | None]] = []
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


@dataclass(frozen=True, slots=True)
class _Axis:
    """Linear map from values in `low` to `high` to pixels in `start` to `stop`. `dimension`: unit of the tick labels."""

    low: float
    high: float
    start: float
    stop: float
    dimension: Dimension

    def at(self, value: float) -> float:
        """Return the pixel of a value."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.stop - self.start), 2)

    def ticks(self) -> list[float]:
        """Return about TICKS round values within the axis."""
        base = 1024.0 if self.dimension == BYTES else 10.0
        rough = (self.high - self.low) / TICKS
        power = base ** math.floor(math.log(rough, base))
        steps = (1, 2, 5, 10) if base == 10 else (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
        step = next(power * s for s in steps if power * s >= rough * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def as_svg(program: nodes.Program, result: FrontierResult) -> str:
    """Plot the objective over the swept metric as SVG: proven points filled, found ones hollow, no solution a cross."""
    frontier, search = program.frontiers[result.frontier], program.searches[result.search]
    goal, x_name, y_name = search.objective, swept_name(frontier.term), "objective"
    if len(goal.terms) == 1 and goal.terms[0].coefficient == 1:
        y_name = swept_name(goal.terms[0].term)
    solved = [(p, value) for p in result.points if (value := p.result.objective) is not None]
    relative = frontier.times_parent
    xs = [place_of(p) for p in result.points]
    x = _axis(xs, LEFT, WIDTH - RIGHT, COUNT if relative else dimension_of(x_name))
    y = _axis([value for _, value in solved], HEIGHT - BOTTOM, TOP, dimension_of(y_name))
    sense = "at least" if direction(search, frontier.term) == ">=" else "at most"
    title = f"{result.frontier}: {search.sense} {y_name}, {x_name} {sense} the bound"
    parts = _frame(x, y, f"{x_name}, times the parent's" if relative else x_name, y_name, title)
    line = " ".join(f"{x.at(place_of(p))},{y.at(v)}" for p, v in solved)
    parts.append(f'<polyline class="line" points="{line}"/>')
    parts += [_point(p, x, y, x_name) for p in result.points]
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">\n{_STYLE}\n{body}\n</svg>\n'


def place_of(point: FrontierPoint) -> float:
    """Return a point's x value: the ratio to the parent if the frontier sweeps ratios, else the bound."""
    return point.target if point.ratio is None else point.ratio


_STYLE = (
    "<style>svg{background:#fff;font:12px system-ui,sans-serif;fill:#222}.grid{stroke:#e4e4e4}.axis{stroke:#444}"
    ".line{fill:none;stroke:#2563ad;stroke-width:1.5}.proven{fill:#2563ad;stroke:#2563ad}.found{fill:#fff;stroke:#2563ad}"
    ".none{stroke:#b3261e;stroke-width:1.5}.title{font-weight:600;font-size:13px}</style>"
)


def _axis(values: Sequence[float], start: float, stop: float, dimension: Dimension) -> _Axis:
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    return _Axis(low - margin, high + margin, start, stop, dimension)


def _frame(x: _Axis, y: _Axis, x_name: str, y_name: str, title: str) -> list[str]:
    bottom = HEIGHT - BOTTOM
    parts = [f'<text class="title" x="{LEFT}" y="24">{escape(title)}</text>']
    for value in x.ticks():
        at, text = x.at(value), escape(format_quantity(value, x.dimension, 4))
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text x="{at}" y="{bottom + 18}" text-anchor="middle">{text}</text>')
    for value in y.ticks():
        at, text = y.at(value), escape(format_quantity(value, y.dimension, 4))
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4}" text-anchor="end">{text}</text>')
    middle = (LEFT + WIDTH - RIGHT) // 2
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{LEFT}" y1="{TOP}" y2="{bottom}"/>')
    parts.append(f'<text x="{middle}" y="{HEIGHT - 14}" text-anchor="middle">{escape(x_name)}</text>')
    turned = f'transform="translate(18 {(TOP + bottom) // 2}) rotate(-90)"'
    parts.append(f'<text {turned} text-anchor="middle">{escape(y_name)}</text>')
    return parts


def _point(point: FrontierPoint, x: _Axis, y: _Axis, x_name: str) -> str:
    answer = point.result
    bound = format_quantity(point.target, dimension_of(x_name), 4)
    bound = bound if point.ratio is None else f"{point.ratio:.4g}x = {bound}"
    hint = f"<title>{escape(x_name)} {escape(bound)}: {answer.status}"
    at = x.at(place_of(point))
    if answer.objective is None:
        base = HEIGHT - BOTTOM
        cross = f"M{at - 4} {base - 4}L{at + 4} {base + 4}M{at - 4} {base + 4}L{at + 4} {base - 4}"
        return f'<path class="none" d="{cross}">{hint}</title></path>'
    kind = "proven" if answer.status == "optimal" else "found"
    objective = format_quantity(answer.objective, y.dimension, 6)
    return f'<circle class="{kind}" cx="{at}" cy="{y.at(answer.objective)}" r="3.5">{hint}, {escape(objective)}</title></circle>'
