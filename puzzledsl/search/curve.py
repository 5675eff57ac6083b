"""Write a solved frontier as CSV (for spreadsheets) and as an SVG plot (for browsers), with the standard library only."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from puzzledsl.base.units import BYTES, COUNT, FLOPS, TIME, TOK_PER_S, Dimension, format_quantity
from puzzledsl.ir.metric_records import metric_named
from puzzledsl.ir.nodes import Linear, MetricTerm, Program, ScoreTerm, Term
from puzzledsl.ir.tables import FrontierPoint, FrontierResult
from puzzledsl.search.frontier import direction

UNITS: dict[Dimension, str] = {BYTES: "bytes", TIME: "s", TOK_PER_S: "tok/s", FLOPS: "FLOP"}
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 440, 92, 24, 44, 60
TICKS = 6


def as_csv(program: Program, result: FrontierResult) -> str:
    """Return the table of `rows_of` as CSV text; missing values are empty."""
    head, rows = rows_of(program, result)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(["" if value is None else value for value in row] for row in rows)
    return text.getvalue()


def rows_of(program: Program, result: FrontierResult) -> tuple[list[str], list[list[float | str | None]]]:
    """Return column names and one row per point: its bound, its status and proof, and every metric of its solution.

    Metrics are in base units (`chat.memory[bytes]`).
    """
    names = sorted({n for p in result.points for s in p.result.solutions[:1] for n in s.metrics})
    swept = swept_name(program.frontiers[result.frontier].term)
    head = [f"bound:{with_unit(swept)}", "times_parent", "status", "objective", "proven_bound", "gap"]
    rows: list[list[float | str | None]] = []
    for point in result.points:
        answer = point.result
        metrics = answer.solutions[0].metrics if answer.solutions else {}
        row = [point.target, point.ratio, answer.status, answer.objective, answer.bound, answer.gap]
        rows.append([*row, *(metrics.get(name) for name in names)])
    return [*head, *map(with_unit, names)], rows


def with_unit(metric: str) -> str:
    """Append a metric's base unit to its name, such as `chat.memory[bytes]`; counts and scores have none."""
    unit = UNITS.get(dimension_of(metric))
    return f"{metric}[{unit}]" if unit else metric


def dimension_of(metric: str) -> Dimension:
    """Return the dimension of a metric such as `chat.memory`; COUNT for a score or a count."""
    found = metric_named(metric)
    return found.dimension if found else COUNT


def swept_name(term: Term) -> str:
    """Return a short name of a frontier's swept term: `scenario.metric`, the score's name, or the kind of term."""
    match term:
        case MetricTerm(scenario=scenario, metric=metric):
            return f"{scenario}.{metric}"
        case ScoreTerm(score=score):
            return score
        case _:
            return term.kind


def goal_name(objective: Linear) -> str:
    """Return the name of an objective that is a single term; else "objective"."""
    terms = objective.terms
    return swept_name(terms[0].term) if len(terms) == 1 and terms[0].coefficient == 1 else "objective"


# ---------------------------------------------------------------- the plot


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


def as_svg(program: Program, result: FrontierResult) -> str:
    """Plot the objective over the swept metric, as SVG text.

    Filled points are proven optimal, hollow ones are only found. Crosses on the axis are bounds without a solution.
    """
    frontier, search = program.frontiers[result.frontier], program.searches[result.search]
    x_name, y_name = swept_name(frontier.term), goal_name(search.objective)
    solved = [p for p in result.points if p.result.objective is not None]
    xs = [place_of(p) for p in result.points]
    ys = [p.result.objective for p in solved if p.result.objective is not None]
    relative = frontier.times_parent
    x = _axis(xs, LEFT, WIDTH - RIGHT, COUNT if relative else dimension_of(x_name))
    y = _axis(ys, HEIGHT - BOTTOM, TOP, dimension_of(y_name))
    sense = "at least" if direction(search, frontier.term) == ">=" else "at most"
    title = f"{result.frontier}: {search.sense} {y_name}, {x_name} {sense} the bound"
    parts = _frame(x, y, f"{x_name}, times the parent's" if relative else x_name, y_name, title)
    line = " ".join(f"{x.at(place_of(p))},{y.at(v)}" for p, v in zip(solved, ys, strict=True))
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
