from __future__ import annotations

import json
from typing import Any

import pytest

from puzzledsl.base.diagnostics import DiagnosticError, Label, Mistake, Sink, Span
from puzzledsl.base.render import clean, render, render_all, to_json

Example = Mistake("X0001", "{what} is wrong", "try {other}")
Mild = Mistake("W0002", "hm")


def span(line: int, column: int, end_column: int, end_line: int = 0, file: str = "wide.pzl") -> Span:
    return Span(file, line, column, end_line or line, end_column)


def shown(source: str, at: Span, label: str = "", width: int = 120, **more: Any) -> str:
    diagnostic = Example(at, label, what="it", other="that", **more)
    return render(diagnostic, {"wide.pzl": source}, color=False, width=width)


def test_three_labels_hang_from_bars() -> None:
    secondary = [Label(span(1, 1, 3), "one"), Label(span(1, 5, 7), "two")]
    rows = shown("aa bb cc", span(1, 8, 9), "three", secondary=secondary).split("\n")[4:7]
    assert rows == ["  | --  -- ^ three", "  | |   two", "  | one"]


def test_another_file() -> None:
    secondary = [Label(span(1, 1, 2, file="other.pzl"), "declared here")]
    diagnostic = Example(span(1, 1, 2), what="it", other="that", secondary=secondary)
    text = render(diagnostic, {"wide.pzl": "a", "other.pzl": "b"}, color=False)
    assert " ::: other.pzl:1:1\n  |\n1 | b\n  | - declared here" in text


def test_tabs_and_wide_characters() -> None:
    rows = shown('\t"日本" x', span(1, 7, 8)).split("\n")
    assert rows[3:5] == ['1 |     "日本" x', "  |            ^"]


def test_a_long_line_is_cut() -> None:
    source = "let a = " + "+".join(f"b{i}" for i in range(100))
    text = shown(source, span(1, 200, 203), "here", width=60)
    rows = text.split("\n")
    assert all(len(row) <= 60 for row in rows[2:5])
    at = rows[4].index("^^^")
    assert rows[3][at : at + 3] == source[199:202]
    assert rows[3].count("…") == 2


def test_no_place_and_no_source() -> None:
    assert render(Mild(None), {}, color=True) == "\x1b[1;33mwarning[W0002]\x1b[0m\x1b[1m: hm\x1b[0m"
    assert render(Mild(span(2, 3, 4)), {}, color=False) == "warning[W0002]: hm\n --> wide.pzl:2:3"
    assert "^" in shown("a", span(9, 9, 10)), "beyond the end of the file"


def test_notes_and_counts() -> None:
    first = Example(None, what="it", other="that", notes=["because", "two\nlines"])
    text = render_all([first, Mild(None), Mild(None)], {}, color=False)
    assert "  = note: because\n  = note: two\n          lines\n  = help: try that\n" in text
    assert text.endswith("1 error, 2 warnings\n")
    assert render_all([], {}, color=False) == ""


def test_a_source_cannot_steer_the_terminal() -> None:
    text = shown("a\x1b[31m\u202eb", span(1, 1, 2))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert clean("a\x07b") == "a\ufffdb"


def test_json() -> None:
    diagnostic = Example(
        span(2, 3, 4), "here", what="it", other="that", secondary=[Label(span(1, 1, 2), "there")]
    )
    document = json.loads(json.dumps(to_json([diagnostic, Mild(None)])))
    assert document["format_version"] == "1.0"
    first, second = document["diagnostics"]
    told = {"code": "X0001", "severity": "error", "message": "it is wrong", "help": "try that"}
    place = {"file": "wide.pzl", "start": {"line": 2, "column": 3}, "end": {"line": 2, "column": 4}}
    other = {"file": "wide.pzl", "start": {"line": 1, "column": 1}, "end": {"line": 1, "column": 2}}
    related = [{"message": "here", **place}, {"message": "there", **other}]
    assert first == {**told, **place, "related": related}
    assert second["file"] is None and second["start"] is None


def test_a_sink_sorts_and_drops_repeats() -> None:
    sink = Sink()
    sink.add(Mild(span(3, 1, 2)))
    assert [d.code for d in sink if d.severity == "error"] == []
    for _ in range(2):
        sink.add(Example(span(2, 1, 2), what="it", other="that"))
    assert sink.has_errors
    assert [d.code for d in sink] == ["X0001", "W0002"]
    assert str(DiagnosticError(*sink)) == "it is wrong; hm"


def test_two_mistakes_cannot_share_a_code() -> None:
    with pytest.raises(TypeError, match="X0001"):
        Mistake("X0001", "other")


def test_spans_join() -> None:
    assert span(2, 3, 9).to(span(1, 5, 6)) == Span("wide.pzl", 1, 5, 2, 9)
