"""Edited text: what `pzl fmt` writes, and what was explored; everything else of the file stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import write_text
from puzzledsl.explore.desk import FileChanged, Stale
from puzzledsl.explore.sheet import Choice, Question, Sheet
from puzzledsl.syntax.format import format_source
from tests.explore.programs import VARIED, desk_of, sheet_of

PIN = Choice(1, "ffn", "pin", ("mlp2048",))
FORBID = Choice(2, "attention", "forbid", ("gqa2", "noop"))
QUESTIONS = {
    "a bound": Question({0: "1.25x"}),
    "a bound of layers": Question({6: "3"}),
    "every bound": Question(
        {0: "1.25x", 1: "79GiB", 2: "0.3x", 3: "150M", 4: "3", 5: "4 tok/s", 6: "1", 7: "4000"}
    ),
    "a statement on its line": Question(off=frozenset({1})),
    "statements that share a line": Question(off=frozenset({3, 4})),
    "one of them": Question(off=frozenset({3})),
    "one over two lines": Question(off=frozenset({7})),
    "one in a for": Question(off=frozenset({8})),
    "all statements": Question(off=frozenset(range(10))),
    "a pin": Question(choices=(PIN,)),
    "choices and bounds": Question({0: "1.2x"}, frozenset({5}), (PIN, FORBID)),
}


@pytest.fixture(scope="module")
def sheet(tmp_path_factory: pytest.TempPathFactory) -> Sheet:
    return sheet_of(tmp_path_factory.mktemp("program"))


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_edited_text_is_formatted_and_says_what_was_asked(sheet: Sheet, name: str) -> None:
    """`edited` itself compares the requirements of the text, read again, with those of the question."""
    found = sheet.edited(QUESTIONS[name])
    assert found.text == format_source(found.text) != format_source(sheet.source.file.text)
    assert found.lines or name in ("statements that share a line", "one in a for")
    assert "# the fleet is large" in found.text and 'because "half the fleet"' in found.text


def test_an_edit_is_as_small_as_it_can_be(sheet: Sheet) -> None:
    found = sheet.edited(Question({0: "1.25x"}, frozenset({1}), (PIN, FORBID)))
    assert [" ".join(line.split()) for line in found.lines] == [
        'require chat.throughput >= 1.25x because "half the fleet" # the fleet is large',
        "# require 80GiB >= chat.memory",
        "require layers[1].ffn is mlp(width: 2048)",
        "require layers[2].attention is not (gqa(kv_heads: 2) | noop)",
    ]


@pytest.mark.parametrize("search", ["inline", "heir"])
def test_choices_go_into_any_body(tmp_path: Path, search: str) -> None:
    sheet = sheet_of(tmp_path, search)
    text = sheet.edited(Question({0: "1.1x"}, choices=(PIN,))).text
    assert text.count("require layers[1].ffn is mlp(width: 2048)") == 1
    assert "require chat.throughput >= 1.1x" in text


def test_a_file_with_mistakes_is_not_shown_as_it_was(tmp_path: Path) -> None:
    desk = desk_of(tmp_path)
    sheet, _, digest = desk.opened("best")
    broken = desk.file.read_text() + "search draft of wide { minimise kl }\n"
    write_text(desk.file, broken)
    for _ in range(2):  # loaded again, it still has them
        with pytest.raises(DiagnosticError):
            desk.opened("best")
    assert desk.sheet_of_page("best", digest) is sheet  # an open page goes on


def test_a_page_of_an_earlier_reading_is_told(tmp_path: Path) -> None:
    """Its bound 1 would be another one now."""
    desk = desk_of(tmp_path)
    _, _, digest = desk.opened("best")
    write_text(desk.file, VARIED.replace("  require 80GiB >= chat.memory\n", ""))
    desk.opened("best")
    with pytest.raises(FileChanged, match="load the page again"):
        desk.sheet_of_page("best", digest)


def test_a_page_loaded_again_sees_a_used_file_and_a_table_that_changed(tmp_path: Path) -> None:
    write_text(tmp_path / "speeds.pzl", "let speed = 1.3x\n")
    desk = desk_of(tmp_path, 'use "speeds.pzl" (speed)\n' + VARIED.replace(">= speedup", ">= speed"))
    sheet, _, _ = desk.opened("best")
    assert desk.opened("best")[0] is sheet
    write_text(tmp_path / "speeds.pzl", "let speed = 1.25x\n")
    again, _, _ = desk.opened("best")
    assert (sheet.bounds[0].text, again.bounds[0].text) == ("1.3x", "1.25x")
    scores = tmp_path / "kl.csv"
    write_text(scores, scores.read_text().replace("0.0", "0.00"))
    with pytest.raises(FileChanged, match="costs or scores"):
        desk.sheet_of_page("best", None)
    assert desk.opened("best")[0] is not again


def test_exploring_writes_nothing(tmp_path: Path) -> None:
    desk = desk_of(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    sheet = desk.sheet("best")
    sheet.answer(QUESTIONS["choices and bounds"], 10)
    sheet.answer(Question({0: "4x"}), 10, with_conflict=True)
    sheet.why(Question(), 2, 10)
    sheet.edited(QUESTIONS["a pin"])
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_an_older_question_is_stale(tmp_path: Path) -> None:
    desk = desk_of(tmp_path)
    desk.newest("page", 3)
    desk.check("page", 3)
    desk.check("another page", 1)
    with pytest.raises(Stale):
        desk.check("page", 2)
