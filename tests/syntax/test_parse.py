from pathlib import Path

import pytest

from puzzledsl.base.diagnostics import Sink, Span
from puzzledsl.syntax import tree
from puzzledsl.syntax.parse import parse, read_source

NEMOTRON = Path(__file__).parents[2] / "examples" / "nemotron51b.pzl"


def good(text: str) -> tree.Module:
    module = parse(text, "a.pzl", sink := Sink())
    assert not sink.items and not module.broken
    return module


def value(text: str) -> tree.Expr:
    (item,) = good(f"let x = {text}").items
    assert isinstance(item, tree.Let)
    return item.value


def test_same_as_is_one_operator_and_same_a_name() -> None:
    found = value("not same same as b.ffn and c")
    assert isinstance(found, tree.Binary) and isinstance(found.left, tree.Unary)
    same = found.left.operand
    assert isinstance(same, tree.SameAs)
    assert isinstance(same.left, tree.Name) and same.left.text == "same"
    assert isinstance(value("same"), tree.Name)
    assert value("a\n same as b") == value("a same as\n b") == value("(a) same \t as (b)")
    (item,) = good('use "f.pzl" as same').items
    assert isinstance(item, tree.Use) and item.alias is not None and item.alias.text == "same"


@pytest.mark.states("text.doc")
def test_doc_comments_belong_to_the_next_declaration() -> None:
    module = good(
        '## About\n## this.\nuse "a.pzl"\n## A\n##\n## b\n\n# c\nlet y = 1\n## P.\nparam p: Ratio\n'
        "data d = 3  ## no\nsearch s of w {\n  ## inner\n  minimize kl\n}\n##  T\nfn f() = 1"
    )
    docs = [getattr(item, "doc", None) for item in module.items]
    assert docs == [None, None, "P.", "", "", " T"]


def test_spans() -> None:
    text = "search s of w {\n  require (a + b) * 2 <= 78GiB\n}\n"
    (item,) = good(text).items
    assert item.span == Span("a.pzl", 1, 1, 3, 2)
    assert isinstance(item, tree.Decl) and item.body is not None
    (require,) = item.body
    assert isinstance(require, tree.Require) and isinstance(require.condition, tree.Compare)
    left, right = require.condition.operands
    assert left.span == Span("a.pzl", 2, 11, 2, 22)
    assert right.span == Span("a.pzl", 2, 26, 2, 31)
    assert require.condition.op_spans == (Span("a.pzl", 2, 23, 2, 25),)


def test_line_ends_marks_and_tabs_are_no_matter(tmp_path: Path) -> None:
    text = NEMOTRON.read_text("utf-8")
    assert len(good(text).items) == 22
    assert good("\ufeff" + text.replace("\n", "\r\n").replace("  require", "\trequire")) == good(text)
    path = tmp_path / "a.pzl"
    path.write_bytes(b"\xef\xbb\xbflet a = 1\r\nlet b = 2\r")
    assert read_source(path, Sink()) == "let a = 1\nlet b = 2\n"


@pytest.mark.parametrize("text", ["", "\n", "# only a comment", "## only a doc comment\n\n", "\ufeff", "\t"])
def test_empty_files(text: str) -> None:
    assert good(text).items == ()
