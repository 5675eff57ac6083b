"""Bounds that sliders move: which there are, and how far."""

from fractions import Fraction
from pathlib import Path

import pytest

from puzzledsl.explore.sheet import BadQuestion, Question, Sheet
from puzzledsl.explore.views import changed_lines
from tests.explore.programs import VARIED, sheet_of


@pytest.fixture(scope="module")
def sheet(tmp_path_factory: pytest.TempPathFactory) -> Sheet:
    return sheet_of(tmp_path_factory.mktemp("program"))


def test_every_statement_is_there_once_with_its_bounds(sheet: Sheet) -> None:
    found = [(s.text, [(b.written, b.text) for b in s.bounds]) for s in sheet.statements]
    assert found == [
        ("chat.throughput >= speedup", [("speedup", "1.3x")]),
        ("80GiB >= chat.memory", [("80GiB", "80GiB")]),
        ("0.2x <= params <= 100% * llama.params", [("0.2x", "0.2x"), ("100% * llama.params", "160M")]),
        ("count(attention is noop) <= 4", [("4", "4")]),
        ("2 * chat.throughput >= 3 tok/s", [("3 tok/s", "3 tok/s")]),
        ("layers[0].attention is parent", []),
        ("distinct(ffn) <= 2", [("2", "2")]),
        ("chat.memory <= 200 * chat.weights", []),  # compares two metrics: no number is its bound
        ("layers[i].ffn.width <= 4096", [("4096", "4096")]),
        ("params + 1M <= 180M", [("180M", "180M")]),
    ]


def test_a_slider_goes_to_twice_its_bound(sheet: Sheet, tmp_path: Path) -> None:
    by_text = {b.written: b for b in sheet.bounds.values()}
    counts = by_text["4"].grid
    assert [counts.number(i) for i in range(counts.last + 1)] == [*map(str, range(9))]
    speed = by_text["speedup"].grid
    assert (speed.number(0), speed.number(speed.last)) == ("0.00", "2.60")
    assert speed.number(speed.nearest(Fraction(13, 10))) == "1.30"
    halves = sheet_of(tmp_path, text=VARIED.replace("count(attention", "0.5 * count(attention"))
    assert [b.grid.step < 1 for b in halves.bounds.values() if b.written == "4"] == [True]


@pytest.mark.parametrize("text", ["1.4", "1.4GiB", "fast", "", "-1x", "1..2x", "1" * 400 + "x"])
def test_a_bound_of_another_unit_is_refused(sheet: Sheet, text: str) -> None:
    with pytest.raises(BadQuestion):
        sheet.requirements(Question.read({"bounds": {"0": text}}))
    with pytest.raises(BadQuestion):
        changed_lines(sheet, Question({0: text}))


@pytest.mark.parametrize("value", [[], {"bounds": {"99": "1x"}}, {"off": [99]}, {"off": ["x"]}], ids=str)
def test_a_question_that_no_page_asks_is_refused(sheet: Sheet, value: object) -> None:
    with pytest.raises(BadQuestion):
        sheet.requirements(Question.read(value))


@pytest.mark.parametrize(
    "change",
    [{"layer": 6}, {"names": ["gqa2"]}, {"sub_block": "mlp"}, {"kind": "forbid", "names": []}],
    ids=str,
)
def test_a_choice_that_no_page_offers_is_refused(sheet: Sheet, change: dict[str, object]) -> None:
    choice = {"layer": 1, "sub_block": "ffn", "kind": "pin", "names": ["noop"]}
    assert sheet.requirements(Question.read({"choices": [choice]}))
    with pytest.raises(BadQuestion):
        sheet.requirements(Question.read({"choices": [choice | change]}))


def test_a_bound_that_is_a_mistake_is_told_in_the_checkers_words(sheet: Sheet) -> None:
    (bound,) = (b for b in sheet.bounds.values() if not b.is_clear)
    with pytest.raises(BadQuestion, match=r"must be a whole number, not 2\.5"):
        sheet.requirements(Question({bound.number: "2.5"}))


def test_a_statement_that_says_nothing_any_more_is_no_requirement(tmp_path: Path) -> None:
    """Every width is at least 0: the instances of this `for` are true."""
    text = VARIED.replace("layers[i].ffn.width <= 4096", "layers[i].ffn.width >= 1 or layers[0].ffn is noop")
    sheet = sheet_of(tmp_path, text=text)
    (bound,) = (b for b in sheet.bounds.values() if b.written == "1" and not b.is_clear)
    asked = Question({bound.number: "0"})
    assert changed_lines(sheet, asked) == ["require layers[i].ffn.width >= 0 or layers[0].ffn is noop"]
    assert sheet.answer(asked, 10).result.status == "optimal"


def test_requirements_of_a_used_file_are_not_taken_for_those_of_the_file(tmp_path: Path) -> None:
    used = VARIED.replace("distinct(ffn)", "distinct(attention)")
    (tmp_path / "used.pzl").write_text("\n" * 20 + used)  # its places are no places of the file
    text = 'use "used.pzl"\nsearch mine of best { require distinct(ffn) <= 2 }\n'
    sheet = sheet_of(tmp_path, "mine", text)
    (bound,) = sheet.bounds.values()
    assert not bound.is_clear
    assert len(sheet.requirements(Question({bound.number: "1"}))) == len(sheet.search.requirements)
