"""Changed statements as a program has them, and pages of files that change on disk."""

from pathlib import Path

import pytest

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import write_text
from puzzledsl.explore.desk import FileChanged
from puzzledsl.explore.sheet import Choice, Question, Sheet
from puzzledsl.explore.views import changed_lines
from tests.explore.programs import VARIED, desk_of, sheet_of

PIN = Choice(1, "ffn", "pin", ("mlp2048",))
FORBID = Choice(2, "attention", "forbid", ("gqa2", "noop"))
LINES = {
    "a bound": (Question({0: "1.25x"}), ['require chat.throughput >= 1.25x because "half the fleet"']),
    "one of two": (Question({2: "0.3x"}), ["require 0.3x <= params <= 100% * llama.params"]),
    "one over two lines": (Question(off=frozenset({7})), ["# require chat.memory <= 200 * chat.weights"]),
    "one in a for": (Question(off=frozenset({8})), ["# require layers[i].ffn.width <= 4096"]),
    "choices and a statement": (
        Question({}, frozenset({1}), (PIN, FORBID)),
        [
            "# require 80GiB >= chat.memory",
            "require layers[1].ffn is mlp(width: 2048)",
            "require layers[2].attention is not (gqa(kv_heads: 2) | noop)",
        ],
    ),
}


@pytest.fixture(scope="module")
def sheet(tmp_path_factory: pytest.TempPathFactory) -> Sheet:
    return sheet_of(tmp_path_factory.mktemp("program"))


@pytest.mark.parametrize(("question", "lines"), LINES.values(), ids=LINES)
def test_changed_statements_are_those_of_the_program(
    sheet: Sheet, question: Question, lines: list[str]
) -> None:
    assert changed_lines(sheet, question) == lines


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
    sheet.answer(Question({0: "1.2x"}, frozenset({5}), (PIN, FORBID)), 10)
    sheet.answer(Question({0: "4x"}), 10, with_conflict=True)
    sheet.why(Question(), 2, 10)
    changed_lines(sheet, Question(choices=(PIN,)))
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
