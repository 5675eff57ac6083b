from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from puzzledsl.base.diagnostics import Sink
from puzzledsl.syntax import tree
from puzzledsl.syntax.parse import parse
from tests.cases import cases
from tests.strategies import AT, modules
from tests.syntax.unparse import unparse

NEMOTRON = Path(__file__).parents[2] / "examples" / "nemotron51b.pzl"


@given(modules)
@settings(max_examples=cases(120), deadline=None, suppress_health_check=list(HealthCheck))
def test_parse_undoes_unparse(module: tree.Module) -> None:
    sink = Sink()
    assert parse(unparse(module), "test.pzl", sink) == module
    assert not sink.items


def test_a_real_program_survives() -> None:
    module = parse(NEMOTRON.read_text("utf-8"), "a.pzl", Sink())
    assert parse(unparse(module), "a.pzl", Sink()) == module


def test_a_broken_tree_has_no_text() -> None:
    broken = tree.Let(span=AT, name=tree.Name(span=AT, text="x"), value=tree.BadExpr(span=AT))
    with pytest.raises(ValueError, match="no text"):
        unparse(tree.Module(span=AT, items=(broken,)))
