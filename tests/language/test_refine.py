"""Frontiers, and searches that are refined by measured children."""

from pathlib import Path

import pytest

from puzzledsl.changes.compare import refine_text
from puzzledsl.ir import nodes
from puzzledsl.ir.references import refined_text
from tests.language.rules import WEIGHTS, codes, program, refined

# ---------------------------------------------------------------- refine


@pytest.mark.states("refine.choice", "refine.goal")
def test_refine_says_how_children_are_measured(tmp_path: Path) -> None:
    def of(body: str, goal: str = "minimize loss") -> nodes.Refine | None:
        return program(tmp_path, refined(body, goal)).searches["s"].refine

    found = of("refine = measured(24, healed: 0, samples: 1Ki, data: questions)")
    assert found is not None
    assert (found.children, found.healed, found.samples, found.data) == (24, 0, 1024, "questions")
    assert refine_text(found) == "measured(24, healed: 0, samples: 1024, data: questions)"
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
def test_a_search_of_a_refined_one_is_refined(tmp_path: Path) -> None:
    others = """
search b of s { require params <= 0.8x }
search c of b { solver = cpsat(time: 5s) }
search f of s { refine = none, solutions 3 }
search g of s { refine = measured(7) }
"""
    searches = program(tmp_path, refined("refine = measured(3)") + others).searches
    children = {name: None if (found := s.refine) is None else found.children for name, s in searches.items()}
    assert children == {"s": 3, "b": 3, "c": 3, "f": None, "g": 7}


# ---------------------------------------------------------------- searches for looking


@pytest.mark.states("realise.choice")
def test_a_search_for_looking_has_no_later_stage(tmp_path: Path) -> None:
    text = WEIGHTS + "search s of v { minimize loss, require params <= 0.9x, realise = false }\n"
    assert not program(tmp_path, text).searches["s"].realise
    assert program(tmp_path, text + 'search t of s { }\nexport e of t = hf("out")').searches["t"].realise
    for later in (
        "uptrain u of s { loss = 1 * kld, tokens = 1k, data = words }",
        "eval e of s { data = questions }",
        'export e of s = hf("out")',
        "search t of s { }\neval e of t { data = questions, full = t + s }",
    ):
        assert codes(tmp_path, text + later) == "E0435", later
