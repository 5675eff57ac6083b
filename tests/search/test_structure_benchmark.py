"""The benchmark of searches as text covers the language, its programs mean what they say, and a slice of it is solved."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.structure import LIMIT_S, SEEDS
from benchmarks.structure_checks import Loaded, deadline, same_bytes
from benchmarks.structure_form import Form
from benchmarks.structure_forms import FORMS
from benchmarks.structure_runs import Judged, Said, Text, texts_of
from benchmarks.structure_text import SMALL

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "language.md").read_text("utf-8")
NAMED = {rule for form in FORMS.values() for rule in form.rules}
PLAIN = [form for form in FORMS.values() if not form.join]
# a tie, an order, a window, a count, runs, distinct values, weighted sums, preferences, several answers, ends
SLICE = (
    "widths_tied", "heads_never_grow", "few_gaps_in_four", "gaps_counted", "one_gap_or_short_ones", "two_attentions",
    "weighted_by_depth", "preferences", "several_answers", "full_embedding_or_full_middle",
)  # fmt: skip


def rows(anchor: str) -> list[str]:
    """The first cells of a table of docs/language.md, as the page writes them."""
    table = PAGE.split(f'<a id="{anchor}"></a>')[1].split("\n\n")[1]
    return re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)


def small(form: Form, seed: int = 0) -> list[Text]:
    """All ways of a form, of four layers with nine pairs each or few more."""
    return texts_of(form, 4, seed, LIMIT_S, SMALL)


# ---------------------------------------------------------------- what it covers


def test_every_rule_of_searches_has_a_form() -> None:
    anchors = re.findall(r'<a id="((?:require|prefer|solutions|types|search)\.[a-z-]+)"></a>', PAGE)
    assert len(anchors) > 30
    elsewhere = ("search.terms-table", "search.figures", "search.terms")  # by row, in the next test
    assert [a for a in anchors if a not in NAMED and a not in elsewhere] == []


def test_every_row_of_terms_and_figures_has_a_form() -> None:
    for anchor, name in (("search.terms-table", "search.terms"), ("search.figures", "search.figures")):
        found = rows(anchor)
        assert len(found) >= 8
        assert [row for row in found if f"{name}:{row}" not in NAMED] == []


def test_forms_name_rules_that_exist_and_programs_name_their_forms_rules() -> None:
    for rule in NAMED:
        anchor, _, row = rule.partition(":")
        assert f'<a id="{anchor}"></a>' in PAGE and f"`{row}`" in (PAGE if row else "``"), rule
    for form in PLAIN:
        for text in small(form):
            assert all(rule in text.text for rule in form.rules)
            for figure in (r.split(":")[1] for r in form.rules if r.startswith("search.figures:")):
                assert any(figure in each.text for each in small(form)), figure


# ---------------------------------------------------------------- a slice of it


@pytest.mark.parametrize("form", SLICE)
def test_all_ways_of_a_form_give_the_best_of_all_children(form: str, tmp_path: Path) -> None:
    check(FORMS[form], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("form", PLAIN, ids=lambda form: form.name)
@pytest.mark.parametrize("seed", SEEDS)
def test_all_ways_of_all_forms_do(form: Form, seed: int, tmp_path: Path) -> None:
    check(form, tmp_path, seed)


def check(form: Form, folder: Path, seed: int = 0) -> None:
    """Every way has the best answer of all, and CP-SAT has it too."""
    answers = []
    for text in small(form, seed):
        loaded = Loaded(text, folder / text.way)
        result = loaded.solve()
        assert answers or loaded.against_all(result) == "", text.text  # all ways give the answer of the first
        assert loaded.mistakes(result, LIMIT_S) == ([], False), text.text
        answers.append([s.layers for s in result.solutions])
    assert all(each == answers[0] for each in answers), answers


def test_an_explanation_of_80_layers_ends_with_the_limit(tmp_path: Path) -> None:
    """One second: the search is infeasible at once, and each bound of its explanation takes a tenth."""
    assert deadline(291, tmp_path / "one") == {}


def test_the_same_bytes_for_any_seed_and_number_of_workers(tmp_path: Path) -> None:
    assert same_bytes(0, tmp_path) == {}


def test_wrong_answers_are_told(tmp_path: Path) -> None:
    """A right answer beside the same one, and wrong ones."""
    loaded = Loaded(small(FORMS["heads_tied"])[0], tmp_path)
    answer: dict[str, Any] = json.loads(loaded.solve().canonical_json())
    names = tuple((x["attention"], x["ffn"]) for x in answer["solutions"][0]["layers"])

    def judged(**changes: Any) -> Judged:
        said = Said(1.0, 0.5, "OPTIMAL", (names,))
        return Judged(loaded.text, loaded.tables, {**answer, **changes}, said)

    def mistakes(**changes: Any) -> str:
        return "\n".join(judged(**changes).mistakes())

    assert mistakes() == judged().worse() == ""
    parent, noop = ({"attention": name, "ffn": name} for name in ("parent", "noop"))
    for layers in ([parent] * 4, [*[parent] * 3, noop]):  # the budget, and the tie
        wrong = [{"layers": layers, "batches": {}, "metrics": {}}]
        assert "our answer breaks a requirement" in mistakes(solutions=wrong)
    worst = [{"layers": [noop] * 4, "batches": {}, "metrics": {}}]
    assert "optimal, CP-SAT has" in mistakes(solutions=worst)
    nothing = mistakes(status="infeasible", solutions=[], objective=None, bound=None)
    assert nothing == "CP-SAT has an answer to what we call infeasible"
    assert "a bound of" in mistakes(bound=answer["objective"] * 2)
    assert "we call" in mistakes(objective=answer["objective"] * 2)
