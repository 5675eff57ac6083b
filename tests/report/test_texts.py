"""The report says what was read of each text, and what was left out."""

from __future__ import annotations

from puzzledsl.ir.tables import TextCounts
from puzzledsl.report.artefacts import Artefacts
from puzzledsl.report.sections.texts import text_rows
from puzzledsl.report.write import render
from tests.report.test_report import Page


def counts(name: str, **more: object) -> TextCounts:
    return TextCounts(name=name, source="{}", documents=12, tokens=3456, **({"learned_tokens": 3456} | more))


def test_rows_of_sources(built) -> None:
    chat = counts(
        'jsonl("chat.jsonl")',
        learned_tokens=99,
        duplicates=1200,
        copies_dropped=True,
        unanswered=2,
        stopped=True,
    )
    found = Artefacts(
        built.program, texts={"books": (counts("books", duplicates=3),), "mixed": (counts("books"), chat)}
    )
    books, of_mix, talk = text_rows(found)
    assert (books.data, books.source, books.counted, books.left_out) == ("books", "", None, "")
    assert (of_mix.data, of_mix.source) == ("mixed", "books")
    assert talk.counted is not None and talk.counted.value == 99
    left_out = "1,200 exact copies, 2 conversations without an answer, what follows these tokens"
    assert talk.left_out == left_out
    page = Page(render(found, ""))
    assert "texts" in page.ids and page.table("Counted by losses")[-1][1:] == ["12", "3456", "99", left_out]
    assert "texts" not in Page(render(Artefacts(built.program), "")).ids
