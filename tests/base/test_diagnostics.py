import json
from pathlib import Path
from typing import Any

import pytest

from puzzledsl.base.diagnostics import DiagnosticError, Label, Mistake, Sink, Span
from puzzledsl.base.render import clean, render, render_all, to_json
from tests.goldens import assert_text

Example = Mistake("X0001", "{what} is wrong", "try {other}")
Mild = Mistake("W0002", "hm")


def span(line: int, column: int, end_column: int, end_line: int = 0, file: str = "wide.pzl") -> Span:
    return Span(file, line, column, end_line or line, end_column)


def shown(source: str, at: Span, label: str = "", width: int = 120, **more: Any) -> str:
    diagnostic = Example(at, label, what="it", other="that", **more)
    return render(diagnostic, {"wide.pzl": source, "other.pzl": "b"}, color=False, width=width)


def test_renderings_are_those_of_the_golden() -> None:
    """Labels that hang from bars, another file, tabs, wide characters, a cut line, a place beyond the end, notes and counts."""
    three = [Label(span(1, 1, 3), "one"), Label(span(1, 5, 7), "two")]
    other = [Label(span(1, 1, 2, file="other.pzl"), "declared here")]
    long = "let a = " + "+".join(f"b{i}" for i in range(100))
    noted = Example(None, what="it", other="that", notes=["because", "two\nlines"])
    told = [
        shown("aa bb cc", span(1, 8, 9), "three", secondary=three),
        shown("a", span(1, 1, 2), secondary=other),
        shown('\t"日本" x', span(1, 7, 8)),
        shown(long, span(1, 200, 203), "here", width=60),
        shown("a", span(9, 9, 10)),
        render_all([noted, Mild(None), Mild(None)], {}, color=False),
    ]
    assert_text(Path(__file__).with_name("rendered.txt"), "\n\n".join(told))


def test_no_place_and_no_source() -> None:
    assert render(Mild(None), {}, color=True) == "\x1b[1;33mwarning[W0002]\x1b[0m\x1b[1m: hm\x1b[0m"
    assert render(Mild(span(2, 3, 4)), {}, color=False) == "warning[W0002]: hm\n --> wide.pzl:2:3"
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


def test_spans_join_and_have_text() -> None:
    assert span(2, 3, 9).to(span(1, 5, 6)) == Span("wide.pzl", 1, 5, 2, 9)
    assert span(1, 2, 3, 2).cut(["abc", "def"]) == "bc\nde" and span(3, 1, 2).cut(["abc"]) == ""
    drawn = "1 | first {\n  |       ^\n2 |   a\n3 |     é b\n  |     ^ to here\n"
    assert drawn in shown("first {\n  a\n    é b\n}", span(1, 7, 6, 3), "to here")
