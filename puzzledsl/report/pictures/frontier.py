"""Pictures as SVG with the standard library only: a frontier, the objective over the swept metric; and a plot of named points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from puzzledsl.base.units import COUNT, Dimension, format_quantity
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import FrontierPoint, FrontierResult
from puzzledsl.report.pictures.curves import Axis, Curve, Point
from puzzledsl.search.frontier import dimension_of, direction, swept_name

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 440, 92, 696, 44, 380  # pixels of the picture and of its axes
_STYLE = (
    "<style>svg{background:#fff;font:12px system-ui,sans-serif;fill:#222}.axis{fill:none;stroke:#444}"
    ".line{fill:none;stroke:#2563ad;stroke-width:1.5}.proven{fill:#2563ad;stroke:#2563ad}.found{fill:#fff;stroke:#2563ad}"
    ".main{fill:#b3261e;stroke:#b3261e}.none{stroke:#b3261e;stroke-width:1.5}.title{font-weight:600;font-size:13px}</style>"
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
    """Return the pixel of a value, linear from `start` to `stop`, and round values to mark: pixels and texts."""
    axis = Axis(values or (0.0, 1.0))

    def place(value: float) -> float:
        return round(start + axis.place(value) * (stop - start), 2)

    return place, [(place(tick), escape(format_quantity(tick, dimension, 4))) for tick in axis.ticks]


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


def points_as_svg(curve: Curve) -> str:
    """Draw the named points of a plot, the main one in another colour, with its axes and the names that it shows."""

    def x(at: float) -> float:
        return round(LEFT + at * (RIGHT - LEFT), 2)

    def y(at: float) -> float:
        return round(BOTTOM - at * (BOTTOM - TOP), 2)

    y_label = curve.y_label + (", logarithmic" if curve.is_log else "")
    labels = [
        f'x="{(LEFT + RIGHT) // 2}" y="{BOTTOM + 46}" text-anchor="middle">{escape(curve.x_label)}',
        f'transform="translate(18 {(TOP + BOTTOM) // 2}) rotate(-90)" text-anchor="middle">{escape(y_label)}',
        *(f'x="{x(t.at)}" y="{BOTTOM + 18}" text-anchor="middle">{escape(t.text)}' for t in curve.x_ticks),
        *(f'x="{LEFT - 8}" y="{y(t.at) + 4}" text-anchor="end">{escape(t.text)}' for t in curve.y_ticks),
        *(_named(point, x(point.x), y(point.y)) for point in curve.searches if point.name),
    ]
    marks = [
        f'<circle class="{"main" if point.is_main else "proven"}" cx="{x(point.x)}" cy="{y(point.y)}" r="4">'
        f"<title>{escape(point.title)}</title></circle>"
        for point in curve.searches
    ]
    axis = f'<path class="axis" d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
    return "\n".join(
        [head, _STYLE, axis, *(f"<text {label}</text>" for label in labels), *marks, "</svg>", ""]
    )


def _named(point: Point, x: float, y: float) -> str:
    """Return a name on its side of a mark."""
    anchor = {"right": "start", "left": "end"}.get(point.side, "middle")
    at = {"right": (x + 9, y + 4), "left": (x - 9, y + 4), "above": (x, y - 10), "below": (x, y + 19)}[
        point.side
    ]
    weight = ' class="title"' if point.is_main else ""
    return f'x="{at[0]:.2f}" y="{at[1]:.2f}" text-anchor="{anchor}"{weight}>{escape(point.name)}'
