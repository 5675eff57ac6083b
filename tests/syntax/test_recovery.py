"""All mistakes of a file in one run, each where it is, and no others."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puzzledsl.base.diagnostics import Sink
from puzzledsl.syntax import tree
from puzzledsl.syntax.format import format_source
from puzzledsl.syntax.parse import parse
from tests.cases import cases
from tests.generated.mistakes import Mistake, mistake, with_mistakes
from tests.syntax.unparse import unparse

NEMOTRON = (Path(__file__).parents[2] / "examples" / "nemotron51b.pzl").read_text("utf-8")
WORDS = (
    "use param fn let assert of on for in where require minimize solutions because if then else implies and not is mod "
    '( ) [ ] { } = |= -= &= . .. -> + * / , : | \n \n \n foo search space 3 4GiB "s" " $ ; ## # && <= =='
).split(" ")


def lines_of_mistakes(text: str) -> list[int]:
    sink = Sink()
    parse(text, "a.pzl", sink)
    return [d.span.line for d in sink if d.span is not None]


def planted_mistakes(count: int, chance: random.Random) -> list[Mistake]:
    """Mistakes that the parser can see, each at least three lines from the others."""
    found: list[Mistake] = []
    while len(found) < count:
        avoid = {line for other in found for line in range(other.line - 2, other.line + 3)}
        made = mistake(NEMOTRON, chance, avoid)
        if made is not None and lines_of_mistakes(with_mistakes(NEMOTRON, [made])):
            found.append(made)
    return found


@pytest.mark.drawn
def test_planted_mistakes_are_found_where_they_are() -> None:
    planted = located = reported = 0
    for seed in range(cases(50)):
        chance = random.Random(seed)
        mistakes = planted_mistakes(chance.randint(1, 6), chance)
        found = lines_of_mistakes(with_mistakes(NEMOTRON, mistakes))
        planted += len(mistakes)
        located += sum(any(abs(made.line - at) <= 1 for at in found) for made in mistakes)
        reported += len(found)
    assert located >= 0.95 * planted
    assert reported - located < 0.2 * planted


@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=60))
@settings(max_examples=cases(150), deadline=None)
def test_no_text_is_too_strange(words: list[str]) -> None:
    text = " ".join(words)
    sink = Sink()
    module = parse(text, "a.pzl", sink)
    assert module.broken == sink.has_errors
    format_source(text)


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
