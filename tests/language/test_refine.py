"""Frontiers, and searches that are refined by measured children."""

from __future__ import annotations

from pathlib import Path

import pytest

from puzzledsl.costs.table import cost_table
from puzzledsl.ir import nodes
from puzzledsl.ir.nodes import Program
from puzzledsl.ir.references import refine_of, refined_text
from puzzledsl.ir.tables import ScoreTable
from tests.language.rules import codes, program, refined, search

SCORES = {"gqa2": 0.2, "gqa1": 0.3, "linear": 0.5, "noop": 0.4}
FFN_SCORES = {"mlp96": 0.1, "noop": 0.9}


@pytest.mark.states("frontier.sweep", "frontier.ends")
def test_frontiers(tmp_path: Path) -> None:
    text = (
        search("")
        + "\nfrontier f of s = sweep(chat.throughput, 1x..3x, points: 20)\nfrontier g of s = sweep(chat.latency, 1s..3s)"
    )
    found = program(tmp_path, text).frontiers
    f, g = found["f"], found["g"]
    assert (f.low, f.high, f.times_parent, f.points) == (1, 3, True, 20)
    assert (g.low, g.high, g.times_parent, g.points) == (1, 3, False, 10)


@pytest.mark.states("frontier.sweep")
def test_a_frontier_is_evenly_spaced(tmp_path: Path) -> None:
    from puzzledsl.search.frontier import solve_frontier

    found: Program = program(tmp_path, search("") + "\nfrontier f of s = sweep(params, 0.6x..1x, points: 5)")
    scores = ScoreTable(score="kl", metric="table", samples=0, attention=(SCORES,) * 4, ffn=(FFN_SCORES,) * 4)
    points = solve_frontier(found, "f", cost_table(found, "w"), {"kl": scores}).points
    bounds = [point.target for point in points]
    assert len(bounds) == 5
    assert bounds == pytest.approx([bounds[0] + i * (bounds[4] - bounds[0]) / 4 for i in range(5)])
    assert bounds[0] / bounds[4] == pytest.approx(0.6)


# ---------------------------------------------------------------- refine


@pytest.mark.states("frontier.children")
def test_children_of_a_frontier_are_measured_as_its_search_says(tmp_path: Path) -> None:
    sweep = "\nfrontier f of s = sweep(params, 0.6x..1x, points: 3{})"
    found = program(tmp_path, refined("refine = measured(5, healed: 0)") + sweep.format(", children: 4"))
    refine = refine_of(found.frontiers["f"], found.searches["s"])
    assert (refine.children, refine.healed) == (4, 0)
    found = program(tmp_path, refined("") + sweep.format(", children: 4"))
    refine = refine_of(found.frontiers["f"], found.searches["s"])
    assert (refine.children, refine.healed, refine.samples) == (4, 4096, 2048)
    assert program(tmp_path, refined("") + sweep.format("")).frontiers["f"].children == 0


@pytest.mark.states("refine.choice", "refine.goal")
def test_refine_says_how_children_are_measured(tmp_path: Path) -> None:
    def of(body: str, goal: str = "minimize loss") -> nodes.Refine | None:
        return program(tmp_path, refined(body, goal)).searches["s"].refine

    found = of("refine = measured(24, healed: 0, samples: 1Ki, data: questions)")
    assert found is not None
    assert (found.children, found.healed, found.samples, found.data) == (
        24,
        0,
        1024,
        "questions",
    )
    found = of("refine = measured(300)", goal="minimize 2 * loss + 3")
    assert found is not None and (found.children, found.data) == (300, None)
    assert of("refine = none") is None and of("") is None
    found = of("let how = measured(5)\n refine = how")
    assert found is not None and found.children == 5


@pytest.mark.states("refine.healed")
def test_children_are_healed_to_be_measured_where_they_are_healed_to_be_built(tmp_path: Path) -> None:
    unhealed = refined("refine = measured(3)").replace("tokens = 0, data", "tokens = 0, heal = 0, data")
    assert codes(tmp_path, unhealed) == "W0425"
    assert codes(tmp_path, unhealed.replace("measured(3)", "measured(3, healed: 0)")) == ""


@pytest.mark.states("refine.settings-table")
def test_what_is_measured_on_is_the_scores_text_unless_said(tmp_path: Path) -> None:
    def text(body: str) -> str | None:
        found = program(tmp_path, refined(body))
        return refined_text(found, found.searches["s"])

    assert text("refine = measured(5)") == "words"
    assert text("refine = measured(5, data: questions)") == "questions"
    assert text("") is None


@pytest.mark.states("refine.inherits", "search.inherits")
def test_a_baseline_of_a_refined_search_stays_what_it_is(tmp_path: Path) -> None:
    others = """
search b of s { require params <= 0.8x }
search c of b { solver = cpsat(time: 5s) }
search d of s { solver = greedy }
search e of d { solver = cpsat }
search f of s { refine = none, solutions 3 }
search g of s { refine = measured(7) }
"""
    searches = program(tmp_path, refined("refine = measured(3)") + others).searches
    children = {name: None if (found := s.refine) is None else found.children for name, s in searches.items()}
    assert children == {"s": 3, "b": 3, "c": 3, "d": None, "e": None, "f": None, "g": 7}
