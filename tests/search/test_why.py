"""Regrets and margins are what solving the search again gives: with the alternative fixed, with the bound moved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.ir.nodes import CountTerm, Is, LinearRequirement, LogicRequirement, Not
from puzzledsl.ir.tables import Margin, Regret, SearchResult, WhyResult
from puzzledsl.search import pin_layout, regrets
from puzzledsl.search.cpsat import Effort
from puzzledsl.search.exact import best_meeting_all
from puzzledsl.search.metrics import Child
from puzzledsl.search.pins import Pin, pins_of
from puzzledsl.search.problem import Builder
from puzzledsl.search.solve import solve_search
from puzzledsl.search.tables import tables_of
from puzzledsl.search.why import why_search
from tests.search.instances import ATTENTION, FFN, Instance, alone, chat, plain_instance, problems, require
from puzzledsl.ir.nodes import LayerChoice

LAYER = LayerChoice(attention=ATTENTION[:3], ffn=FFN[:3])


def pinned(instance: Instance) -> Iterator[tuple[Pin, Fraction | None]]:
    """Every pin, and the optimum with it, less being better; None where no child has it."""
    tables = tables_of(*instance.args)
    builder = Builder(tables)
    for pin in pins_of(builder.columns):
        own = [replace(p, preferences=()).only(pin.keep(p.columns)) for p in builder.all()]
        found = best_meeting_all(tables, own, Effort.of(60))
        assert found.proven
        yield pin, None if found.layers is None else rank(instance, Child(tables, found.layers, found.batches))


def rank(instance: Instance, child: Child) -> Fraction:
    value = child.linear(instance.search.objective)
    return -value if instance.search.sense == "maximize" else value


def said(result: WhyResult) -> dict[tuple[int, str, str], Regret]:
    """Each alternative's regret, by its place and name."""
    return {(s.layer, s.sub_block, r.alternative): r for s in result.sub_blocks for r in s.regrets}


def optimum(instance: Instance) -> Fraction | None:
    tables = tables_of(*instance.args)
    problems = [replace(p, preferences=()) for p in Builder(tables).all()]
    found = best_meeting_all(tables, problems, Effort.of(60))
    return None if found.layers is None else rank(instance, Child(tables, found.layers, found.batches))


def agrees(instance: Instance) -> None:
    best, result = optimum(instance), why_search(*instance.args)
    if best is None:
        assert isinstance(result, SearchResult) and result.status == "infeasible"
        return
    assert isinstance(result, WhyResult) and result.proven
    regrets = said(result)
    for pin, value in pinned(instance):
        regret = regrets.pop((pin.layer, pin.sub_block, pin.alternative))
        expected = None if value is None else float(value - best)
        assert (regret.at_least, regret.at_most) == (expected, expected), pin
    assert not regrets


@given(problems())
def test_a_regret_is_what_solving_with_the_alternative_fixed_costs(instance: Instance) -> None:
    """Both senses, formulas, several batches, preferences, any rows: as the strategy draws them."""
    agrees(instance)


@given(problems(exact=False))
def test_also_where_integers_are_rounded(instance: Instance) -> None:
    best, result = optimum(instance), why_search(*instance.args)
    assert isinstance(result, WhyResult) == (best is not None)
    if best is None or not isinstance(result, WhyResult):
        return
    regrets = said(result)
    for pin, value in pinned(instance):
        regret = regrets[pin.layer, pin.sub_block, pin.alternative]
        assert (regret.at_most is None) == (value is None)
        if value is not None and regret.at_least is not None and regret.at_most is not None:
            assert regret.at_least <= float(value - best) + 1e-9 and regret.at_most >= float(value - best) - 1e-9


@given(problems(max_layers=5), st.sampled_from([1, 2]))
def test_endings_and_small_sweeps_change_nothing(
    instance: Instance, together: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pin_layout, "MANY_STAGES", 0)
        patch.setattr(regrets, "TOGETHER", together)
        agrees(instance)
