"""Measured children along a frontier on the page and in its figure: a row and a line for each series, beside the proven curve."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from puzzledsl.base.files import write_text
from puzzledsl.ir.tables import (
    FrontierResult,
    MeasuredChild,
    RefinedFrontier,
    RefinedPoint,
    Refinement,
    SearchResult,
)
from puzzledsl.report.artefacts import Artefacts, load_artefacts
from puzzledsl.report.pictures.curves import Curve, Point, curves
from puzzledsl.report.pictures.figures import write_figures
from puzzledsl.report.subject import Subject
from puzzledsl.report.write import render
from tests.report.conftest import child_of, solved
from tests.report.test_report import Page

POINTS, WITH_RULES, REFINED = 6, 3, 5
"""Points with a solution, those at which a rule's child meets the bound, and those at which children were measured."""
BEST, OPTIMUM, RULE = (
    "best measured",
    "optimum of the scores, measured",
    "layers dropped by block influence, measured",
)


def losses_at(place: int) -> dict[str, float]:
    """A point's measured losses by origin. The model's child is the best one, but at the first point the optimum is."""
    losses = {"optimum": 0.2 + 0.1 * place, "model": 0.21 + 0.08 * place}
    return losses | ({"block_influence": 0.37 + 0.11 * place} if place < WITH_RULES else {})


def refinement(built: Any, point: Any, place: int) -> Refinement:
    optimum = point.result.solutions[0]
    losses = losses_at(place)
    layers = [optimum.layers, child_of(0.9), child_of(0.95)]
    children = tuple(
        MeasuredChild.model_validate(
            {"layers": each, "origin": origin, "predicted": loss, "predicted_stderr": 0.01, "measured": loss}
        )
        for each, (origin, loss) in zip(layers, losses.items(), strict=False)
    )
    best = min(children, key=lambda child: child.measured)
    return Refinement(
        search="fast",
        score="kl",
        metric="kl_divergence",
        healed=4096,
        samples=2048,
        children=children,
        solution=solved(built.program, built.costs, built.scores, best.layers),
        model_optimum=layers[1],
        model_prediction=0.4,
        proven=optimum.objective,
    )


@pytest.fixture
def along(copied: Callable[..., Any]) -> tuple[Any, Artefacts, RefinedFrontier]:
    """A build with children measured at all but the last solved point of its frontier."""
    built = copied()
    result = FrontierResult.from_json(built.build.frontier("curve").read_bytes())
    points = tuple(
        RefinedPoint(
            target=point.target,
            refinement=refinement(built, point, place) if place < REFINED else None,
        )
        for place, point in enumerate(result.points)
    )
    found = RefinedFrontier(frontier="curve", search="fast", points=points)
    write_text(built.build.refinement("curve"), found.canonical_json())
    declared = built.program.frontiers["curve"].model_copy(update={"children": 3})
    program = built.program.model_copy(update={"frontiers": {"curve": declared}})
    return built, load_artefacts(program, built.build), found


Along = tuple[Any, Artefacts, RefinedFrontier]


def the_curve(artefacts: Artefacts) -> Curve:
    (curve,) = curves(Subject(artefacts, "fast"))
    return curve


def test_series_are_the_best_the_optima_and_each_rule(along: Along) -> None:
    _, artefacts, found = along
    curve = the_curve(artefacts)
    assert [(s.label, s.kind, len(s.points)) for s in curve.measured] == [
        (BEST, "best", REFINED),
        (OPTIMUM, "optimum", REFINED),
        (RULE, "rule", WITH_RULES),
    ]
    best, optimum, rule = curve.measured
    lists = [losses_at(place) for place in range(REFINED)]
    assert [p.objective.value for p in best.points] == [min(losses.values()) for losses in lists]
    assert [p.objective.value for p in optimum.points] == [losses["optimum"] for losses in lists]
    assert [p.objective.value for p in rule.points] == [
        losses_at(i)["block_influence"] for i in range(WITH_RULES)
    ]
    for series in curve.measured:
        targets = [point.target for point in found.points]
        assert [p.target.value for p in series.points] == targets[: len(series.points)]
        assert [p.x for p in series.points] == [p.x for p in curve.points[: len(series.points)]]
        assert all(0 < p.x < 1 and 0 < p.y < 1 for p in series.points)
    assert curve.how == "up to 3 children a bound, healed on 4,096 tokens, measured on 2,048 positions"


def test_the_table_has_a_row_a_series_with_gaps(along: Along) -> None:
    built, artefacts, _ = along
    html = render(artefacts, built.source)
    rows = {row[0].strip(): row[1:] for row in Page(html).table("chat.throughput") if row[1:]}
    assert [len(row) for row in rows.values()] == [POINTS] * 5
    assert list(rows)[1].endswith("sum of scores") and list(rows)[2:] == [BEST, OPTIMUM, RULE]
    for label, origin in ((OPTIMUM, "optimum"), (RULE, "block_influence")):
        values = [losses_at(place).get(origin) for place in range(REFINED)]
        assert rows[label] == ["" if value is None else f"{value:.4g}" for value in values] + [""]
    assert rows[BEST][0] == rows[OPTIMUM][0] and rows[BEST][4] != rows[OPTIMUM][4]
    assert "up to 3 children a bound" in html and "a measured loss is proven of nothing" in html
    assert (
        html.count('<svg class="best"')
        == html.count('<svg class="optimum"')
        == html.count('<svg class="rule"')
        == 1
    )


def scaled(found: RefinedFrontier, origin: str, times: float) -> RefinedFrontier:
    """All measured losses of children of an origin so many times as large."""
    points = []
    for point in found.points:
        here = point.refinement
        if here is not None:
            losses = [c.measured * (times if c.origin == origin else 1) for c in here.children]
            children = [
                c.model_copy(update={"measured": m}) for c, m in zip(here.children, losses, strict=True)
            ]
            here = here.model_copy(update={"children": tuple(children)})
        points.append(point.model_copy(update={"refinement": here}))
    return found.model_copy(update={"points": tuple(points)})


def drawn(curve: Curve) -> list[Point]:
    """Every mark."""
    return [*curve.points, *curve.searches, *(p for series in curve.measured for p in series.points)]


def test_a_rule_far_off_makes_the_axis_logarithmic(along: Along) -> None:
    """Places, lines and marks alike."""
    built, artefacts, found = along
    artefacts.measured_frontiers["curve"] = scaled(found, "block_influence", 30)
    curve = the_curve(artefacts)
    assert curve.is_log
    marks = [(math.log(float(tick.text)), tick.at) for tick in curve.y_ticks]
    (v0, at0), (v1, at1) = marks[0], marks[-1]
    for value, at in [*marks, *((math.log(p.objective.value), p.y) for p in drawn(curve))]:
        assert at == pytest.approx(at0 + (value - v0) / (v1 - v0) * (at1 - at0))
    html = render(artefacts, built.source)
    assert html.count(", logarithmic</div>") == 1
    best = curve.measured[0].points[0]
    line = html[html.index('<svg class="best"') :]
    assert f'points="{round(best.x * 100, 2)},{round(100 - best.y * 100, 2)} ' in line[: line.index("</svg>")]


def raised(result: SearchResult) -> SearchResult:
    """Answers with objectives greater by 1."""
    solutions = [s.model_copy(update={"objective": s.objective + 1}) for s in result.solutions]
    return result.model_copy(update={"solutions": tuple(solutions)})


def test_losses_close_together_are_on_a_linear_axis(along: Along) -> None:
    built, artefacts, _ = along
    artefacts.measured_frontiers.clear()
    artefacts.results = {"fast": raised(artefacts.results["fast"])}
    points = [p.model_copy(update={"result": raised(p.result)}) for p in artefacts.frontiers["curve"].points]
    artefacts.frontiers["curve"] = artefacts.frontiers["curve"].model_copy(update={"points": tuple(points)})
    curve = the_curve(artefacts)
    values = [point.objective.value for point in drawn(curve)]
    assert max(values) < 10 * min(values) and not curve.is_log
    marks = [(float(tick.text), tick.at) for tick in curve.y_ticks]
    (v0, at0), (v1, at1) = marks[0], marks[-1]
    for value, at in [*marks, *((p.objective.value, p.y) for p in drawn(curve))]:
        assert at == pytest.approx(at0 + (value - v0) / (v1 - v0) * (at1 - at0))
    assert ", logarithmic" not in render(artefacts, built.source)


def test_children_measured_elsewhere_count_for_the_best_and_for_no_other_series(along: Along) -> None:
    built, artefacts, found = along
    before = the_curve(artefacts)
    first, second, *others = found.points
    assert first.refinement is not None and second.refinement is not None
    lent = first.refinement.best.model_copy(
        update={"origin": "elsewhere", "measured": 0.15, "layers": child_of(0.8)}
    )
    refinement = Refinement.model_validate(
        {
            **dict(second.refinement),
            "children": (*second.refinement.children, lent),
            "solution": solved(built.program, built.costs, built.scores, lent.layers),
        }
    )
    second = second.model_copy(update={"refinement": refinement})
    artefacts.measured_frontiers["curve"] = found.model_copy(update={"points": (first, second, *others)})
    curve = the_curve(artefacts)
    best, optimum, rule = ([p.objective.value for p in series.points] for series in curve.measured)
    was, *rest = ([p.objective.value for p in series.points] for series in before.measured)
    assert [optimum, rule] == rest and best == [was[0], 0.15, *was[2:]]
    assert curve.how == (
        "up to 3 children a bound and those measured elsewhere that meet it, "
        "healed on 4,096 tokens, measured on 2,048 positions"
    )
    assert curve.how in render(artefacts, built.source)
    assert len(refinement.here) == 3 and refinement.best == lent


def test_without_children_the_page_is_as_before(along: Along) -> None:
    built, artefacts, _ = along
    plain = load_artefacts(built.program, built.build)
    assert not plain.measured_frontiers
    curve = the_curve(plain)
    assert (curve.measured, curve.how) == ((), "")
    built.build.refinement("curve").unlink()
    html = render(plain, built.source)
    assert html == render(load_artefacts(artefacts.program, built.build), built.source)
    assert "measured loss" not in html and BEST not in html


def test_children_of_another_sweep_are_left_out(along: Along) -> None:
    """They were measured at other bounds, which the curve no longer has."""
    _, artefacts, found = along
    first, *others = found.points
    moved = [point.model_copy(update={"target": point.target * 1.01}) for point in others]
    artefacts.measured_frontiers["curve"] = found.model_copy(update={"points": (first, *moved)})
    assert [len(series.points) for series in the_curve(artefacts).measured] == [1, 1, 1]
    artefacts.measured_frontiers["curve"] = found.model_copy(update={"points": tuple(moved)})
    curve = the_curve(artefacts)
    assert (curve.measured, curve.how) == ((), "")


def test_a_damaged_file_is_named(along: Along) -> None:
    built, artefacts, _ = along
    write_text(built.build.refinement("curve"), "{}")
    again = load_artefacts(artefacts.program, built.build)
    assert again.unreadable == ["refined/curve.json"] and the_curve(again).measured == ()


def test_the_figure_has_the_series(along: Along, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    built, artefacts, _ = along

    def text(found: Artefacts, folder: str) -> str:
        paths = {path.name: path for path in write_figures(found, tmp_path / folder)}
        return paths["frontier-curve.svg"].read_text()

    measured = text(artefacts, "measured")
    assert (
        the_curve(artefacts).is_log and ">kl, logarithmic</text>" in measured and ">0.05</text>" in measured
    )
    assert all(f">{label}</text>" in measured for label in (BEST, OPTIMUM, RULE, "sum of scores, proven"))
    plain = text(load_artefacts(built.program, built.build), "plain")
    assert ">frontier, proven</text>" in plain and BEST not in plain
