"""A refined search on the page: the child that is built comes first, and "proven" is said of the optimum alone."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from puzzledsl.base.files import write_text
from puzzledsl.ir.nodes import Refine, ReplaceOne
from puzzledsl.ir.tables import LayerAssignment, MeasuredChild, Refinement
from puzzledsl.report.artefacts import Artefacts, load_artefacts
from puzzledsl.report.headline import verdict
from puzzledsl.report.pictures import architecture
from puzzledsl.report.pictures.figures import write_figures
from puzzledsl.report.sections.refined import FAR, refined
from puzzledsl.report.sections.searches import search_rows
from puzzledsl.report.subject import Subject
from puzzledsl.report.write import render
from tests.report.conftest import child_of, solved
from tests.report.test_report import Page

MEASURED = {"optimum": 0.71, "block_influence": 0.64, "model": 0.52, "drawn": 0.58}


def refinement(built: Any, measured: dict[str, float]) -> Refinement:
    """Children of rising hurry, the optimum first; the best is the one of the least measured loss."""
    optimum = built.results["fast"].solutions[0]
    layers = [optimum.layers, *(child_of(0.44 + 0.02 * i) for i in range(len(measured) - 1))]
    children = tuple(
        MeasuredChild.model_validate(
            {
                "layers": each,
                "origin": origin,
                "predicted": loss * 0.9,
                "predicted_stderr": 0.03,
                "measured": loss,
            }
        )
        for each, (origin, loss) in zip(layers, measured.items(), strict=True)
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
        model_optimum=layers[2],
        model_prediction=0.4321,
        proven=optimum.objective,
    )


@pytest.fixture
def refine(copied: Callable[..., Any]) -> Callable[..., tuple[Any, Artefacts, Refinement]]:
    """A build whose main search was refined."""

    def make(measured: dict[str, float] = MEASURED) -> tuple[Any, Artefacts, Refinement]:
        built = copied()
        fast = built.program.searches["fast"]
        how = Refine(children=len(measured), where=fast.where)
        searches = {**built.program.searches, "fast": fast.model_copy(update={"refine": how})}
        program = built.program.model_copy(update={"searches": searches})
        found = refinement(built, measured)
        write_text(built.build.refinement("fast"), found.canonical_json())
        return built, load_artefacts(program, built.build), found

    return make


Made = Callable[..., tuple[Any, Artefacts, Refinement]]


def names_of(strip: architecture.Strip | None) -> list[LayerAssignment]:
    assert strip is not None
    return [LayerAssignment(attention=c.attention.name, ffn=c.ffn.name) for c in strip.columns]


def test_the_first_strip_is_the_child_that_is_built_and_the_optimum_is_beside_it(refine: Made) -> None:
    built, artefacts, found = refine()
    subject = Subject(artefacts, "fast")
    assert names_of(architecture.strip_of(subject)) == list(found.solution.layers)
    assert names_of(architecture.optimum_strip(subject)) == list(built.results["fast"].solutions[0].layers)
    html = render(artefacts, built.source)
    assert html.index('id="architecture"') < html.index("The optimum of the scores")
    assert html.index("The optimum of the scores") < html.index('id="proof"')


def test_the_table_has_the_built_child_the_optimum_and_rules(refine: Made) -> None:
    built, artefacts, found = refine()
    page = Page(render(artefacts, built.source))
    rows = {row[0]: row[1:] for row in page.table("Sum of scores")[1:]}
    best, optimum, rule = found.children[2], found.children[0], found.children[1]
    assert list(rows) == [
        "best measured an optimum of refitted scores",
        "proven optimum of the scores",
        "layers dropped by block influence",
    ]
    for row, child in zip(rows.values(), (best, optimum, rule), strict=True):
        assert row[2] == f"{child.measured:.4g}" and row[1].startswith(f"{child.predicted:.4g} ± 0.03")
        assert {child.measured, child.predicted} <= set(page.values)
    assert built.results["fast"].objective in page.values and found.solution.objective in page.values


def test_sums_are_those_of_the_scores(refine: Made) -> None:
    built, artefacts, found = refine()
    section = refined(Subject(artefacts, "fast"))
    assert section is not None and len(section.points) == len(found.children)
    for point, child in zip(section.points, found.children, strict=True):
        exact = solved(built.program, built.costs, built.scores, child.layers).metrics["kl"]
        assert point.target.value == pytest.approx(exact) and point.objective.value == child.measured
        above = point.objective.value > point.target.value
        assert (point.y > point.x) == above
    assert [p.is_main for p in section.points] == [False, False, True, False]


def test_a_child_that_is_far_off_is_in_the_table_alone(refine: Made) -> None:
    """It would squeeze the others into a corner of the picture."""
    least = MEASURED["model"]
    built, artefacts, found = refine(MEASURED | {"block_influence": 1.01 * FAR * least})
    section = refined(Subject(artefacts, "fast"))
    assert section is not None
    losses = [point.objective.value for point in section.points]
    assert losses == [child.measured for child in found.children if child.origin != "block_influence"]
    rows = {row[0]: row[1:] for row in Page(render(artefacts, built.source)).table("Sum of scores")[1:]}
    assert rows["layers dropped by block influence"][2] == f"{1.01 * FAR * least:.4g}"
    assert section.count == len(found.children)
    near = found.children[1].model_copy(update={"measured": 0.99 * FAR * least})
    children = (found.children[0], near, *found.children[2:])
    artefacts.refinements["fast"] = found.model_copy(update={"children": children})
    section = refined(Subject(artefacts, "fast"))
    assert section is not None and len(section.points) == len(children)


def test_the_model_s_optimum_is_listed_where_another_child_is_built(refine: Made) -> None:
    _, artefacts, found = refine(MEASURED | {"drawn": 0.41})
    section = refined(Subject(artefacts, "fast"))
    assert section is not None
    last = section.rows[-1]
    assert (
        last.label == "optimum of the refitted scores"
        and last.predicted is not None
        and last.measured is not None
    )
    assert (last.predicted.value, last.measured.value) == (found.model_prediction, 0.52)


def test_proven_is_said_of_the_optimum_alone(refine: Made) -> None:
    built, artefacts, found = refine()
    subject = Subject(artefacts, "fast")
    said = verdict(subject)
    assert (
        f"best of {len(found.children)} children that were measured" in said and "nothing proves it" in said
    )
    assert "than that optimum" in said and "Quality is measured, not proven." in said
    page = Page(render(artefacts, built.source))
    assert built.results["fast"].bound in page.values
    weak = built.results["fast"].model_copy(update={"status": "feasible"})
    artefacts.results["fast"] = weak
    assert "The search has no proof" in verdict(Subject(artefacts, "fast"))
    section = refined(Subject(artefacts, "fast"))
    assert section is not None and not any("proven optimum" in row.label for row in section.rows)


def test_the_optimum_may_be_the_best_measured_child(refine: Made) -> None:
    built, artefacts, _ = refine(MEASURED | {"optimum": 0.3})
    subject = Subject(artefacts, "fast")
    assert architecture.optimum_strip(subject) is None and subject.best == subject.optimum
    html = render(artefacts, built.source)
    assert "The best measured child is that optimum itself" in html and "nothing proves it" not in html


def test_the_figures_of_the_page_are_the_built_child_s(refine: Made) -> None:
    _, artefacts, found = refine()
    subject = Subject(artefacts, "fast")
    assert subject.best == found.solution != subject.optimum
    (row,) = [row for row in search_rows(subject) if row.is_main]
    assert row.objective is not None and row.objective.value == found.solution.objective
    assert row.solver == "exact, refined"
    assert Fraction(found.solution.objective) > Fraction(found.proven)


def test_a_child_of_another_space_and_a_damaged_file_are_left_out(refine: Made) -> None:
    built, artefacts, found = refine()
    few = found.solution.model_copy(update={"layers": found.solution.layers[:3]})
    child = found.children[0].model_copy(update={"layers": few.layers})
    artefacts.refinements["fast"] = found.model_copy(update={"solution": few, "children": (child,)})
    subject = Subject(artefacts, "fast")
    assert subject.refinement is None and subject.best == subject.optimum and refined(subject) is None
    write_text(built.build.refinement("fast"), "{}")
    again = load_artefacts(artefacts.program, built.build)
    assert again.unreadable == ["refined/fast.json"] and not again.refinements


def test_a_search_that_is_not_refined_has_no_section(built: Any) -> None:
    artefacts = load_artefacts(built.program, built.build)
    assert 'id="refined"' not in render(artefacts, built.source)
    method = built.program.scores["kl"].method
    assert isinstance(method, ReplaceOne) and refined(Subject(artefacts, "fast")) is None


def test_the_scatter_is_a_figure(refine: Made, tmp_path: Any) -> None:
    pytest.importorskip("matplotlib")
    _, artefacts, _ = refine()
    paths = {path.name: path for path in write_figures(artefacts, tmp_path)}
    text = paths["refined.svg"].read_text()
    assert ">best measured</text>" in text and ">kl, sum of scores</text>" in text
