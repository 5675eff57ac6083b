"""All mistakes of a file in one run, each where it is, and no others."""

import pytest

from puzzledsl.base.diagnostics import Sink
from puzzledsl.syntax import tree
from puzzledsl.syntax.parse import parse
from tests.syntax.unparse import unparse


def lines_of_mistakes(text: str) -> list[int]:
    sink = Sink()
    parse(text, "a.pzl", sink)
    return [d.span.line for d in sink if d.span is not None]


def test_the_last_mistake_may_stand_anywhere() -> None:
    """Reading ends where the parser may end, not in the midst of the statement with the mistake too many."""
    for count in range(98, 102):
        assert lines_of_mistakes("search s of w {\n minimize kl\n}x\n }\n" * count + "a.b")


def test_a_declaration_keeps_what_could_be_read() -> None:
    (item,) = parse("search s of w = = 3 {\n  minimize kl\n  require <= 2\n}", "a.pzl", Sink()).items
    assert isinstance(item, tree.Decl) and isinstance(item.value, tree.Literal_)  # a doubled `=` is one
    assert [type(statement) for statement in item.body or ()] == [tree.Objective, tree.Require]


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("serch s of w { minimize kl }", "search s of w { minimize kl }"),
        ("bld b of w { tokens 1B }", "bld b of w { tokens = 1B }"),
        ("bld b of w { lr <= 1e-4 }", "bld b of w { lr = 1e-4 }"),
        ("bld b form w { tokens = 1B }", "bld b of w { tokens = 1B }"),
        ("search s of w {{ minimize kl }", "search s of w { minimize kl }"),
        ("search search s of w { minimize kl }", "search s of w { minimize kl }"),
        ("param n Ratio = 2", "param n: Ratio = 2"),
        ("assert a => b", "assert a implies b"),
        ("let x = f(a b)", "let x = f(a, b)"),
        ("let x = [1, 2, 2 2]", "let x = [1, 2, 2]"),
        ("bld b of w { tokens { = 1B }", "bld b of w { tokens = 1B }"),
    ],
)
def test_a_slip_of_one_token_loses_nothing(slip: str, meant: str) -> None:
    module = parse(slip, "a.pzl", sink := Sink())
    assert len(sink.items) == 1 and module.broken
    assert unparse(module) == unparse(parse(meant, "a.pzl", Sink()))


def test_statements_behind_an_early_brace_come_home() -> None:
    (item,) = parse("search s of w {\n  minimize kl\n}\n  solutions 3\n}", "a.pzl", Sink()).items
    assert isinstance(item, tree.Decl)
    assert [type(statement) for statement in item.body or ()] == [tree.Objective, tree.Solutions]
