"""Picture of a frontier: the best child at every value of one metric, and the other searches of the same space.

Places for the names of marks in a picture: the first side of a mark on which its name covers the least.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import groupby
from typing import Literal, get_args

from puzzledsl.ir.nodes import LinearRequirement, MetricTerm, Requirement, Search, Term
from puzzledsl.ir.search_nodes import describe, describe_term, written
from puzzledsl.ir.tables import FrontierResult, Refinement, SearchResult
from puzzledsl.report import numbers
from puzzledsl.report.numbers import METRIC_UNITS, Number
from puzzledsl.report.sections.requirements import value_of
from puzzledsl.report.subject import Subject

Side = Literal["right", "left", "below", "above"]
Place = tuple[float, float]  # 0 to 1 in both directions, y upwards.
Box = tuple[float, float, float, float]  # Left, bottom, right and top, in pixels.
WIDTH_PX, HEIGHT_PX = 754.0, 300.0  # Size of the picture on the page.
LETTER_PX, LINE_PX, GAP_PX, MARK_PX = 6.8, 16.0, 12.0, 6.0
"""Width of a name's letter, height of its line, its distance from the mark, and half the width of a mark."""


def side_of(name: str, mark: Place, others: Sequence[Place], names: Sequence[Box] = ()) -> Side:
    """Return the side of `mark` where `name` covers the fewest marks (`others`) and `names`; inside the picture if possible."""
    marks = [(x * WIDTH_PX, y * HEIGHT_PX) for x, y in others]
    taken = [*names, *((x - MARK_PX, y - MARK_PX, x + MARK_PX, y + MARK_PX) for x, y in marks)]
    sides: tuple[Side, ...] = get_args(Side)

    def badness(side: Side) -> tuple[bool, int]:
        left, bottom, right, top = _box(name, mark, side)
        outside = left < 0 or bottom < -MARK_PX or right > WIDTH_PX or top > HEIGHT_PX + MARK_PX
        return outside, sum(left < x1 and x0 < right and bottom < y1 and y0 < top for x0, y0, x1, y1 in taken)

    return min(sides, key=badness)


def _box(name: str, mark: Place, side: Side) -> Box:
    """Left, bottom, right and top of a name, in pixels."""
    x, y, width = mark[0] * WIDTH_PX, mark[1] * HEIGHT_PX, LETTER_PX * len(name)
    left = {"right": x + GAP_PX, "left": x - GAP_PX - width}.get(side, x - width / 2)
    bottom = {"above": y + GAP_PX, "below": y - GAP_PX - LINE_PX}.get(side, y - LINE_PX / 2)
    return left, bottom, left + width, bottom + LINE_PX


TICKS = 5
MOST_TICKS = 10  # Most ticks of a logarithmic axis.
LOGARITHMIC = 10.0
"""The y axis is logarithmic if the largest loss is more than this many times the smallest: on a linear axis, one large loss would
leave the other points on one line."""


@dataclass(frozen=True)
class Point:
    """Point of a picture: position (0 to 1, y upwards) and figures.

    `name`: of a search, file or model; empty for a point without one. `side`: the side of the point on which the name stands.
    """

    x: float
    y: float
    target: Number
    objective: Number
    name: str = ""
    is_main: bool = False
    side: Side = "right"

    @property
    def place(self) -> Place:
        """Position, 0 to 1 in both directions."""
        return self.x, self.y

    @property
    def title(self) -> str:
        """Text under the mouse."""
        return f"{self.name + ': ' if self.name else ''}{self.target.text}, {self.objective.text}"


@dataclass(frozen=True)
class Series:
    """Further points beside a curve, measured or simulated. `kind`: a word for the style."""

    label: str
    kind: Literal["best", "optimum", "rule"]
    points: tuple[Point, ...]


Tick = tuple[float, str]  # a mark of an axis: 0 to 1, and its text


@dataclass(frozen=True)
class Curve:
    """Picture of a frontier, of an engine's files or of traffic. `infeasible`: number of a frontier's points without a child.

    `searches`: named points, which stand beside the curve. `notes`: sentences below it. `is_log`: the y axis is logarithmic.
    """

    name: str
    x_label: str
    y_label: str
    points: tuple[Point, ...]
    searches: tuple[Point, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    infeasible: int
    is_log: bool = False
    measured: tuple[Series, ...] = ()
    notes: tuple[str, ...] = ()


def curves(subject: Subject) -> list[Curve]:
    """Return the curve of every frontier of the page's search that has at least two feasible points."""
    found = []
    for name, result in subject.found.frontiers.items():
        declaration = subject.program.frontiers[name]
        if declaration.search != subject.name:
            continue
        solved = [(p.target, p.result.solutions[0].objective) for p in result.points if p.result.solutions]
        if len(solved) < 2:
            continue
        metric = describe_term(declaration.term)
        others, goal = list(_others(subject, metric)), describe(subject.search.objective)
        missed = len(result.points) - len(solved)
        curve = curve_of(name, metric, goal, solved, others, main=subject.name, infeasible=missed)
        notes = one_child(subject.search, declaration.term, result)
        found.append(replace(curve, notes=tuple(notes)))
    return found


Losses = tuple[str, Literal["best", "optimum", "rule"], list[tuple[float, float]]]  # Label, style and points.


def curve_of(
    name: str,
    metric: str,
    objective: str,
    solved: Sequence[tuple[float, float]],
    others: Sequence[tuple[str, float, float]],
    *,
    main: str,
    losses: Sequence[Losses] = (),
    infeasible: int = 0,
    unit: str | None = None,
) -> Curve:
    """Place points on axes: `solved` on the curve, named `others` beside it. `main` is the name of the one that stands out.

    `losses`: further series. `unit`: IR unit of x; by default that of `metric`. `infeasible`: number of points without a child.
    """
    unit = METRIC_UNITS.get(metric.rpartition(".")[2], "") if unit is None else unit
    xs = Axis([x for x, _ in solved] + [x for _, x, _ in others])
    lost = [y for _, y in solved] + [y for _, _, y in others] + [y for *_, own in losses for _, y in own]
    ys = Axis(lost, is_log=0 < min(lost) * LOGARITHMIC < max(lost))

    def point(x: float, y: float, name: str = "") -> Point:
        target, value = numbers.of_unit(x, unit), numbers.plain(y)
        return Point(xs.place(x), ys.place(y), target, value, name, name == main)

    points = tuple(point(x, y) for x, y in solved)
    series = tuple(
        Series(label, kind, tuple(point(x, y, label) for x, y in values)) for label, kind, values in losses
    )
    searches = [point(x, y, name) for name, x, y in others]
    return Curve(
        name=name,
        x_label=metric,
        y_label=objective,
        points=points,
        searches=named_beside(searches, [*points, *(p for each in series for p in each.points)]),
        x_ticks=tuple((xs.place(x), numbers.of_unit(x, unit).text) for x in xs.ticks),
        y_ticks=tuple((ys.place(y), f"{y:.4g}") for y in ys.ticks),
        infeasible=infeasible,
        is_log=ys.is_log,
        measured=series,
    )


def named_beside(named: Sequence[Point], others: Sequence[Point]) -> tuple[Point, ...]:
    """Points with the sides of their names, chosen one after the other so that names cover few other marks and names."""
    places = [point.place for point in (*others, *named)]
    found, names = list[Point](), list[Box]()
    for point in named:
        side = side_of(point.name, point.place, [place for place in places if place != point.place], names)
        found.append(replace(point, side=side))
        names += [_box(point.name, point.place, side)] if point.name else []
    return tuple(found)


def how_measured(found: Refinement) -> str:
    """Healing and text of measured children: `healed on 4,096 tokens, measured on 2,048 positions`."""
    if found.best.judged:
        return f"judged as they are built, on {found.samples:,} tokens"
    healed = f"healed on {found.healed:,} tokens" if found.healed else "not healed"
    return f"{healed}, measured on {found.samples:,} positions"


def one_child(search: Search, swept: Term, result: FrontierResult) -> Iterator[str]:
    """Yield a sentence for each run of points that have the same child, with the requirement that leaves it least room."""
    points = [(n, point.result) for n, point in enumerate(result.points, 1) if point.result.solutions]
    for _, same in groupby(points, lambda point: point[1].solutions[0].layers):
        (first, answer), *others = list(same)
        if not others:
            continue
        room = {r: left for r in search.requirements if (left := _room(r, swept, answer)) is not None}
        held = min(room, key=lambda r: room[r], default=None)
        because = "no other metric is bounded"
        if held is not None:
            because = f"of the other bounds `{written(held)}` leaves least room, {room[held] * 100:.2g} %"
        yield f"points {first} to {others[-1][0]} are one child; {because}"


def _room(requirement: Requirement, swept: Term, answer: SearchResult) -> float | None:
    """Slack of a requirement on one metric, as a share of its bound; None for the swept metric and other requirements."""
    if not isinstance(requirement, LinearRequirement) or len(requirement.left.terms) != 1:
        return None
    term = requirement.left.terms[0].term
    if term == swept or not isinstance(term, MetricTerm):
        return None
    name = f"{term.scenario}.{term.metric}"
    value, parent = answer.metrics.get(name), answer.parent_metrics.get(name)
    bound = requirement.bound
    if requirement.parent_ratio is not None and parent is not None:
        bound = requirement.parent_ratio * Fraction(parent)
    return None if value is None or not bound else abs(value / float(bound) - 1)


def _others(subject: Subject, metric: str) -> Iterable[tuple[str, float, float]]:
    """Yield (name, metric, objective) for each search of the same space whose child has both figures."""
    for name, search in subject.program.searches.items():
        result = subject.found.results.get(name)
        if search.space != subject.search.space or result is None:
            continue
        best = subject.best_of(result)
        if best is None or metric not in best.metrics:
            continue
        same = search.objective == subject.search.objective
        objective = best.objective if same else value_of(subject, subject.search.objective, best)
        if objective is not None:
            yield name, best.metrics[metric], objective


class Axis:
    """Map from values (`is_log`: from their logarithms) to 0..1, with room at both ends. `ticks`: round values to mark."""

    def __init__(self, values: Sequence[float], *, is_log: bool = False) -> None:
        self.is_log, self._scale = is_log, math.log10 if is_log else float
        low, high = self._scale(min(values)), self._scale(max(values))
        room = (high - low) * 0.06 or (0.1 if is_log else abs(high) * 0.1 or 1.0)
        self._low, self._high = low - room, high + room
        self.ticks = (_round_values_of_decades if is_log else _round_values)(self._low, self._high)

    def place(self, value: float) -> float:
        """Return the position of a value, 0 to 1."""
        return (self._scale(value) - self._low) / (self._high - self._low)


def _round_values_of_decades(low: float, high: float) -> tuple[float, ...]:
    """Return 1, 2 and 5 times powers of ten from 10^low to 10^high; if over MOST_TICKS, powers alone, at equal distances."""
    decades = range(math.floor(low), math.ceil(high) + 1)
    found = [m * 10.0**decade for decade in decades for m in (1, 2, 5)]
    ticks = [tick for tick in found if low <= math.log10(tick) <= high]
    apart = 1
    while len(ticks) > MOST_TICKS:
        ticks = [10.0**decade for decade in decades if decade % apart == 0 and low <= decade <= high]
        apart += 1
    return tuple(ticks)


def _round_values(low: float, high: float) -> tuple[float, ...]:
    """Return about TICKS multiples, from low to high, of a step that is 1, 2 or 5 times a power of ten."""
    raw = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if raw <= power * m)
    first = math.ceil(low / step)
    return tuple(i * step for i in range(first, math.floor(high / step) + 1))
