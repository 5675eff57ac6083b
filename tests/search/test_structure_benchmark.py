"""The benchmark of searches as text covers the language, its programs mean what they say, and a slice of it is solved."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import structure
from benchmarks.structure import LAYERS, LIMIT_S, SEEDS, between_ways, plan
from benchmarks.structure_checks import CHECKS, Loaded, deadline, same_bytes
from benchmarks.structure_form import Form
from benchmarks.structure_forms import FORMS
from benchmarks.structure_runs import Judged, Said, Text, texts_of, time_faults
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
MOST = 600


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


def test_the_plan_is_a_pairwise_cover_of_at_most_600_programs() -> None:
    texts = plan([*FORMS], LAYERS, SEEDS, LIMIT_S)
    assert len({t.name for t in texts}) == len(texts) <= MOST
    for form in PLAIN:
        mine = [t for t in texts if t.form == form.name]
        for way in {t.way for t in mine}:
            worlds = [t.world for t in mine if t.way == way]
            assert {w.layers for w in worlds} == {*LAYERS} and {w.seed for w in worlds} == {*SEEDS}
    assert {(t.world.layers, t.world.seed) for t in texts} == {(n, s) for n in LAYERS for s in SEEDS}


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


@pytest.mark.more
def test_the_quick_run_goes_through_the_command_line_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--results", str(tmp_path / "results.jsonl"), "--folder", str(tmp_path / "programs")]
    monkeypatch.setattr(sys, "argv", ["structure", "--quick", "--only", "two_attentions", *places])
    monkeypatch.setattr(structure, "texts_of", lambda *form: texts_of(*form)[:1])  # one way of each
    said = []
    for _ in range(2):
        with pytest.raises(SystemExit):
            structure.main()
        said.append(capsys.readouterr().out)
        assert "1 of 1 programs" in said[-1] and "wrong: 0 (target: 0)" in said[-1]
    assert said[0].endswith(said[1])
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 1


def test_an_explanation_of_80_layers_ends_with_the_limit(tmp_path: Path) -> None:
    """One second: the search is infeasible at once, and each bound of its explanation takes a tenth."""
    assert deadline(291, tmp_path / "one") == {}


def test_the_same_bytes_for_any_seed_and_number_of_workers(tmp_path: Path) -> None:
    assert same_bytes(0, tmp_path) == {}


# ---------------------------------------------------------------- faults are told


@pytest.mark.parametrize("kind", ["", "wrong", "better or proven by CP-SAT alone"])
def test_a_check_goes_on_and_ends_with_1_where_something_is_wrong(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[int] = []

    def found(seed: int, folder: Path) -> dict[str, str]:
        asked.append(seed)
        return {kind: "two layers"} if kind and seed == 1 else {}

    monkeypatch.setitem(CHECKS, "random", found)
    for number in (2, 3):
        places = ["--random", str(number), "--results", str(tmp_path / "results.jsonl")]
        monkeypatch.setattr(sys, "argv", ["structure", *places])
        with pytest.raises(SystemExit) as ended:
            structure.main()
        assert ended.value.code == (kind == "wrong")
        assert f"wrong: {int(kind == 'wrong')} (target: 0) of {number}" in capsys.readouterr().out
    assert asked == [0, 1, 2]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """A right answer beside the same one."""
    folder = tmp_path_factory.mktemp("judged")
    loaded = Loaded(small(FORMS["heads_tied"])[0], folder)
    answer: dict[str, Any] = json.loads(loaded.solve().canonical_json())
    names = tuple((x["attention"], x["ffn"]) for x in answer["solutions"][0]["layers"])
    return Judged(loaded.text, loaded.tables, answer, Said(1.0, 0.5, "OPTIMAL", (names,)))


def changed(judged: Judged, **changes: Any) -> list[str]:
    """The mistakes of another answer."""
    return [*Judged(judged.text, judged.tables, {**judged.answer, **changes}, judged.said).mistakes()]


def test_wrong_answers_are_told(judged: Judged) -> None:
    assert changed(judged) == [] and judged.worse() == ""
    parent = [{"layers": [{"attention": "parent", "ffn": "parent"}] * 4, "batches": {}, "metrics": {}}]
    mixed = [{**parent[0], "layers": [*parent[0]["layers"][:3], {"attention": "noop", "ffn": "noop"}]}]
    assert "our answer breaks a requirement" in changed(judged, solutions=parent)  # the budget
    assert "our answer breaks a requirement" in changed(judged, solutions=mixed)  # the tie
    assert changed(judged, status="infeasible", solutions=[], objective=None, bound=None) == [
        "CP-SAT has an answer to what we call infeasible"
    ]
    worst = [{**parent[0], "layers": [{"attention": "noop", "ffn": "noop"}] * 4}]
    assert any("optimal, CP-SAT has" in m for m in changed(judged, solutions=worst))
    assert any("a bound of" in m for m in changed(judged, bound=judged.answer["objective"] * 2))
    assert any("we call" in m for m in changed(judged, objective=judged.answer["objective"] * 2))


@pytest.mark.parametrize(
    ("status", "ours_s", "kinds"),
    [
        ("optimal", 1.7, []),
        ("optimal", 1.9, ["slow"]),
        ("feasible", 10.4, ["unproven", "slow"]),
        ("unknown", 10.6, ["late", "unproven", "none", "slow"]),
    ],
)
def test_missed_times_are_told(status: str, ours_s: float, kinds: list[str]) -> None:
    assert [kind for kind, _ in time_faults(status, ours_s, Said(1.0, 0.5, "OPTIMAL", ()), 10.0)] == kinds


def test_ways_that_differ_are_told() -> None:
    def record(way: str, layers: str, seconds: float) -> dict[str, Any]:
        return {"name": f"tied.{way}.16.0", "status": "optimal", "layers": [layers], "ours_s": seconds}

    assert between_ways([record("a", "x", 0.1), record("b", "x", 0.4)]) == ([], [])
    assert between_ways([record("a", "x", 0.1), record("b", "y", 0.9)]) == (
        ["tied.b.16.0/a"],
        ["tied.b.16.0/a"],
    )
