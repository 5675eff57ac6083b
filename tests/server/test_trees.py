"""A parser that remembers says what the parser says."""

from __future__ import annotations

import pytest

from puzzledsl.base.diagnostics import Sink
from puzzledsl.server import trees
from puzzledsl.syntax.parse import parse
from tests.server.texts import PROGRAM

BROKEN = "let a = (1\nlet b = = 2\n"


@pytest.mark.parametrize("text", [PROGRAM, BROKEN, ""])
def test_a_second_time_is_as_the_first(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, first, second = Sink(), Sink(), Sink()
    known = trees.Trees()
    module = parse(text, "x.pzl", plain)
    assert known.parse(text, "x.pzl", first) == module
    monkeypatch.setattr(trees.Parts, "parse", lambda *_: pytest.fail("it was parsed before"))
    assert known.parse(text, "x.pzl", second) == module
    assert [repr(d) for d in plain] == [repr(d) for d in first] == [repr(d) for d in second]


def test_only_the_last_text_of_a_file_is_kept() -> None:
    known = trees.Trees()
    for text in ("let a = 1\n", "let a = 2\n", "let a = 1\n"):
        assert known.parse(text, "x.pzl", Sink()) == parse(text, "x.pzl", Sink())
    assert [k.text for k in known._known.values()] == ["let a = 1\n"]


def test_the_files_read_longest_ago_are_forgotten() -> None:
    known = trees.Trees()
    for number in range(trees.MOST + 5):
        known.parse("let a = 1\n", f"{number}.pzl", Sink())
        known.parse("let a = 1\n", "always.pzl", Sink())
    assert len(known._known) == trees.MOST
    assert "0.pzl" not in known._known
    assert {"always.pzl", f"{trees.MOST + 4}.pzl"} <= known._known.keys()
