"""Measured children along a frontier, from the program to the report: planned, measured once, and made again when it should."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from puzzledsl.child.healing.children import HealedChildren
from puzzledsl.child.healing.run import blocks_read
from puzzledsl.cli import loading
from puzzledsl.ir.references import refine_of
from puzzledsl.ir.tables import FrontierResult, LayerAssignment, RefinedFrontier, Refinement
from puzzledsl.pipeline.tasks.searching import Frontier, Refine
from puzzledsl.report.sections.refined import ORIGINS
from tests.pipeline.test_run import contents, events
from tests.pipeline.test_status import done_by_a_run, said, told, told_states
from tests.pipeline.tiny_program import run_with, write_tiny_program

MEASURED = """
search refined of best { require params >= 0.6x, refine = measured(4, healed: 64, samples: 64) }
frontier curve of refined = sweep(chat.throughput, 1.2x..2.8x, points: 3, children: 3)
frontier plain of best = sweep(chat.throughput, 1.2x..1.6x, points: 2)
"""
"""The first point's bound is the search's; no child meets the last one's."""
UNREFINED = "frontier curve of best = sweep(chat.throughput, 1.2x..1.6x, points: 2, children: 2)\n"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `.pzl` file of a program that was run to its end. Not to be changed."""
    folder = tmp_path_factory.mktemp("measured")
    run_with(folder, MEASURED)
    return folder / "tiny.pzl"


@pytest.fixture
def copied_measured(measured: Path, tmp_path: Path) -> Callable[[], Path]:
    """A copy of it, to do anything with."""

    def copy() -> Path:
        shutil.copytree(measured.parent, tmp_path / "copy")
        return tmp_path / "copy" / measured.name

    return copy


def along(program: Path, name: str = "curve") -> RefinedFrontier:
    return RefinedFrontier.from_json((program.parent / "build" / "refined" / f"{name}.json").read_bytes())


def refinements(found: RefinedFrontier) -> list[Refinement]:
    return [point.refinement for point in found.points if point.refinement is not None]


@pytest.mark.states("frontier.children")
def test_children_are_measured_at_every_point_that_has_a_solution(measured: Path) -> None:
    build, found = measured.parent / "build", along(measured)
    solved = FrontierResult.from_json((build / "search" / "curve.json").read_bytes())
    assert [point.ratio for point in found.points] == [1.2, 2.0, 2.8]
    assert [point.target for point in found.points] == [point.target for point in solved.points]
    assert [point.refinement is not None for point in found.points] == [True, True, False]
    for point, answer in zip(found.points, solved.points, strict=True):
        if (here := point.refinement) is None:
            assert not answer.result.solutions
            continue
        assert len(here.here) == 3 and (here.healed, here.samples) == (64, 64)
        assert here.children[0].origin == "optimum" and here.proven == answer.result.objective
        assert here.children[0].layers == answer.result.solutions[0].layers
        assert here.best.measured == min(child.measured for child in here.children)
        assert here.solution.metrics["chat.throughput"] >= point.target
    assert not (build / "refined" / "plain.json").exists()


def test_a_child_is_measured_once(
    copied_measured: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the search first: at the point with the same bound nothing is measured again, and figures are the same."""
    program = copied_measured()
    build, before = program.parent / "build", along(program)
    shutil.rmtree(build / "refined")
    for file in (build / "scores" / "figures").glob("children-*"):
        file.unlink()
    measured_now: list[int] = []
    measure = HealedChildren.measured

    def counted(self: HealedChildren, models: list[object]) -> object:
        measured_now.append(len(models))
        return measure(self, models)  # type: ignore[arg-type]

    monkeypatch.setattr(HealedChildren, "measured", counted)
    assert said("refine", program, "refined")[0] == 0
    search = Refinement.from_json((build / "refined" / "refined.json").read_bytes())
    known = {child.layers for child in search.children}
    assert sum(measured_now) == len(known) == len(search.children) > 1
    measured_now.clear()
    assert said("refine", program, "curve")[0] == 0
    first, second = refinements(along(program))
    assert {child.layers for child in first.here} <= known
    new = {child.layers for child in second.here} - known
    assert sum(measured_now) == len(new) > 0
    assert along(program) == before
    losses: dict[tuple[LayerAssignment, ...], float] = {c.layers: c.measured for c in search.children}
    losses |= {child.layers: child.measured for child in second.here}
    assert all(child.measured == losses[child.layers] for child in first.children)


def test_children_measured_elsewhere_count_where_they_meet_the_bound(measured: Path) -> None:
    """Those of the search, whose bound is the first point's, then those of the other point; none is measured for it."""
    build = measured.parent / "build"
    search = Refinement.from_json((build / "refined" / "refined.json").read_bytes())
    first, second = refinements(along(measured))
    own = {child.layers for child in first.here}
    others = [child for child in (*search.children, *second.here) if child.layers not in own]
    meeting = dict.fromkeys(child.layers for child in others)
    assert first.here + tuple(c for c in first.children if c.origin == "elsewhere") == first.children
    assert [child.layers for child in first.children[len(first.here) :]] == list(meeting)
    assert first.best.measured <= min(child.measured for child in search.children)
    assert first.best.measured <= second.best.measured


def test_children_of_a_search_refined_with_other_settings_do_not_count(
    copied_measured: Callable[[], Path],
) -> None:
    """Their losses do not compare. Once the search is refined as it says they do, and what follows is as before."""
    program = copied_measured()
    build, before = program.parent / "build", along(program)
    stale = program.read_text().replace("refine = measured(4, healed: 64", "refine = measured(4, healed: 0")
    text = program.read_text()
    program.write_text(stale)
    code, _, err = said("refine", program, "curve")
    assert code == 0, err
    search = Refinement.from_json((build / "refined" / "refined.json").read_bytes())
    old = {child.measured for child in search.children}
    assert all(child.measured not in old for each in refinements(along(program)) for child in each.children)
    program.write_text(text)
    assert told_states(program)["refine curve"][0] == "stale"
    assert done_by_a_run(program) == ["refine curve"]
    assert along(program) == before


def test_it_is_done_once_and_again_only_when_its_inputs_change(copied_measured: Callable[[], Path]) -> None:
    program = copied_measured()
    text = program.read_text()
    assert {state for state, _ in told_states(program).values()} == {"done"}
    assert done_by_a_run(program) == []
    program.write_text(text.replace("points: 3, children: 3", "points: 3,\n  children: 3"))
    assert told_states(program)["refine curve"][0] == "done"
    program.write_text(text.replace("children: 3", "children: 2"))
    states = told_states(program)
    assert states["refine curve"] == ("stale", "how children are measured changed")
    assert {key for key, (state, _) in states.items() if state != "done"} == {"refine curve", "report"}
    assert done_by_a_run(program) == ["refine curve", "report"]
    assert [len(each.here) for each in refinements(along(program))] == [2, 2]
    program.write_text(text.replace("1.2x..2.8x", "1.2x..1.6x"))
    states = told_states(program)
    assert states["frontier curve"] == ("stale", "the declaration changed")
    assert states["refine curve"] == ("stale", "after frontier curve")
    assert states["refine refined"][0] == states["realise refined"][0] == "done"
    program.write_text(text.replace(", children: 3", ""))
    states = told_states(program)
    assert "refine curve" not in states and states["frontier curve"][0] == "done"


def test_it_reads_solutions_tables_and_pieces(measured: Path) -> None:
    ctx = loading.context(measured, None, None)
    tables = ("score", "kl"), ("bld", "pieces")
    assert Refine(ctx, "curve").needs() == (("frontier", "curve"), ("refine", "refined"), *tables)
    assert Refine(ctx, "refined").needs() == (("solve", "refined"), *tables)
    assert Frontier(ctx, "curve").needs() == (("score", "kl"),)


def test_a_damaged_file_is_made_again_and_the_same(copied_measured: Callable[[], Path]) -> None:
    program = copied_measured()
    build = program.parent / "build"
    before, seen = contents(build), len(events(build))
    (build / "refined" / "curve.json").write_text("{}")
    assert told_states(program)["refine curve"][0] == "stale"
    code, _, err = said("refine", program)
    assert code == 0, err
    assert contents(build) == before
    assert [e["name"] for e in events(build)[seen:] if e["event"] == "end"] == ["curve"]


def test_the_command_tells_a_line_a_point(measured: Path) -> None:
    found = along(measured)
    code, out, err = said("refine", measured, "curve")
    assert code == 0 and "refine curve: up to date" in err, err
    head, columns, *rows = out.splitlines()
    assert head == "frontier curve: kl of children healed on 64 tokens, measured on 64 positions"
    assert columns.split()[0] == "chat.throughput"
    for row, ratio, here in zip(rows, ("1.2x", "2x"), refinements(found), strict=False):
        assert here.optimum is not None
        figures = f"{here.best.measured:.4g}", f"{here.optimum.measured:.4g}"
        counts = "3", str(len(here.children) - 3)
        assert row.split()[:5] == [ratio, *counts, *figures] and row.endswith(ORIGINS[here.best.origin])
    assert len(rows) == 3 and rows[2].split(maxsplit=3) == ["2.8x", "0", "0", "no child meets the bound"]
    assert told("refine", measured, "curve") == [found.model_dump(mode="json")]
    assert ["points" in each for each in told("refine", measured)] == [False, True]
    code, _, err = said("refine", measured, "plain")
    assert code == 1 and "E0604" in err and "declared: refined, curve" in err


def test_the_solutions_must_be_there(measured: Path, tmp_path: Path) -> None:
    code, _, err = said("refine", measured, "curve", "-o", tmp_path / "none")
    assert code == 1 and "E0603" in err and "pzl frontier" in err


def test_a_run_says_what_it_found(measured: Path) -> None:
    code, out, err = said("run", measured, "--until", "refine")
    assert code == 0, err
    losses = [here.best.measured for here in refinements(along(measured))]
    line = f"best measured children at 2 of 3 points: kl {min(losses):.4g} to {max(losses):.4g}"
    assert f"refine curve: up to date, {line}" in err
    assert [row.split(maxsplit=2)[2] for row in out.splitlines() if row.startswith("curve ")] == [line]


@pytest.mark.usefixtures("known_rates")
def test_a_dry_run_counts_points_and_children(copied_measured: Callable[[], Path], tmp_path: Path) -> None:
    program, nowhere = copied_measured(), tmp_path / "none"

    def seconds() -> float:
        steps = told("run", program, "--dry-run", "-o", nowhere, "--until", "refine")["steps"]
        (found,) = [s["seconds"] for s in steps if (s["stage"], s["name"]) == ("refine", "curve")]
        return float(found)

    text, few = program.read_text(), seconds()
    assert few > 0
    many = text.replace("healed: 64", "healed: 6Ki").replace("children: 3", "children: 3000")
    program.write_text(many)
    more = seconds()
    program.write_text(many.replace("points: 3", "points: 9"))
    assert few < more < seconds()


def test_a_frontier_of_a_search_without_refine_has_the_defaults(tmp_path: Path) -> None:
    program = write_tiny_program(tmp_path)
    text = program.read_text()
    program.write_text(text[: text.index("search greedy")] + UNREFINED)
    ctx = loading.context(program, None, None)
    refine = refine_of(ctx.program.frontiers["curve"], ctx.program.searches["best"])
    assert (refine.children, refine.healed, refine.samples) == (2, 4096, 2048)
    assert Refine(ctx, "curve").needs() == (("frontier", "curve"), ("score", "kl"), ("bld", "pieces"))


def test_points_are_measured_where_the_search_has_no_solution(
    copied_measured: Callable[[], Path],
) -> None:
    """A frontier's bound stands in for the search's own, and may be met where that is not."""
    program = copied_measured()
    program.write_text(
        program.read_text().replace("require params >= 0.6x", "require chat.throughput >= 900x")
    )
    code, out, err = said("run", program, "--until", "refine")
    assert code == 0 and "refined      infeasible" in out, err
    assert "refine refined" not in told_states(program)
    assert len(refinements(along(program))) == 3


def test_children_are_healed_on_other_text_than_they_are_measured_on(tmp_path: Path) -> None:
    """Text that a frontier or a refined search measures on is kept from healing."""
    program = write_tiny_program(tmp_path)
    text = program.read_text()
    head = text[: text.index("search greedy")]
    sweep = "frontier curve of best = sweep(chat.throughput, 1.2x..1.6x, points: 2{})\n"

    def read(more: str) -> int:
        program.write_text(head + more)
        return blocks_read(loading.context(program, None, None).program, "corpus", 32, 0)

    plain, along_a_frontier = read(sweep.format("")), read(sweep.format(", children: 2"))
    around_the_search = read("search more of best { refine = measured(2) }\n")
    assert plain < along_a_frontier == around_the_search


def test_the_text_of_a_frontier_is_looked_for_before_any_work(tmp_path: Path) -> None:
    """The text is the score's own, which no other stage reads."""
    program = write_tiny_program(tmp_path)
    text = program.read_text()
    head = text[: text.index("search greedy")].replace(
        "samples: 128)", 'samples: 128, data: questions)\ndata questions = text("questions.txt")'
    )
    program.write_text(head + UNREFINED)
    code, _, err = said("run", program, "--only", "refine")
    assert code == 1 and "error[E1201]: data `questions`: no file matches `questions.txt`" in err
