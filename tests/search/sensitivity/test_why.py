"""Regrets and margins are what solving the search again gives: with the alternative fixed, with the bound moved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.structure_checks import Loaded
from benchmarks.structure_forms import FORMS
from benchmarks.structure_runs import texts_of
from benchmarks.structure_text import SMALL
from benchmarks.structure_text import Child as TextChild
from puzzledsl.base.progress import Progress
from puzzledsl.ir.nodes import CountTerm, CpSat, Is, LayerChoice, LogicRequirement, ParamsTerm, Requirement
from puzzledsl.ir.tables import Margin, Regret, SearchResult, WhyResult
from puzzledsl.search.answer import best_meeting_all
from puzzledsl.search.problem.instance import Effort
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.problem.problem import Builder, Problems
from puzzledsl.search.sensitivity import why
from puzzledsl.search.sensitivity.part import Pin, pins_of
from puzzledsl.search.sensitivity.why import Pinned, Standing, why_search
from puzzledsl.search.sensitivity.why import pinned as with_pin
from puzzledsl.search.solve import solve_built
from puzzledsl.search.tables import tables_of
from tests.cases import cases
from tests.oracles import objective
from tests.search.instances import ATTENTION, FFN, Instance, chat, plain_instance, problems, require
from tests.search.integer_problems import FAMILIES, answers_of, random_problem, values_of

LAYER = LayerChoice(attention=ATTENTION[:3], ffn=FFN[:3])


def without_preferences(builder: Builder) -> Problems:
    """The problems of a search without its preferences."""
    return builder.all().changed(lambda problem, _: replace(problem, preferences=()))


def optimum(instance: Instance, pin: Pin | None = None) -> Fraction | None:
    """The search's, less being better, whatever it prefers; None where no child has the pin."""
    tables = tables_of(*instance.args)
    asked = without_preferences(Builder(tables))
    found = best_meeting_all(asked if pin is None else with_pin(asked, pin), Effort.of(60))
    assert found.proven
    if found.layers is None:
        return None
    value = objective(Child(tables, found.layers, found.batches))
    return -value if instance.search.sense == "maximize" else value


def pinned(instance: Instance) -> Iterator[tuple[Pin, Fraction | None]]:
    """Every pin, and the optimum with it."""
    for pin in pins_of(Builder(tables_of(*instance.args)).columns):
        yield pin, optimum(instance, pin)


def said(result: WhyResult) -> dict[tuple[int, str, str], Regret]:
    """Each alternative's regret, by its place and name."""
    return {(s.layer, s.sub_block, r.alternative): r for s in result.sub_blocks for r in s.regrets}


@given(problems())
def test_a_regret_is_what_solving_with_the_alternative_fixed_costs(instance: Instance) -> None:
    """Both senses, formulas, several batches, preferences, any rows: as the strategy draws them."""
    best, result = optimum(instance), why_search(*instance.args)
    if best is None:
        assert isinstance(result, SearchResult) and result.status == "infeasible"
        return
    assert isinstance(result, WhyResult) and result.proven
    left = said(result)
    for pin, value in pinned(instance):
        regret = left.pop((pin.layer, pin.sub_block, pin.alternative))
        expected = None if value is None else float(value - best)
        assert (regret.at_least, regret.at_most) == (expected, expected), pin
    assert not left


@pytest.mark.slow
@given(problems(exact=False))
def test_also_where_integers_are_rounded(instance: Instance) -> None:
    best, result = optimum(instance), why_search(*instance.args)
    assert isinstance(result, WhyResult) == (best is not None)
    if best is None or not isinstance(result, WhyResult):
        return
    found = said(result)
    for pin, value in pinned(instance):
        regret = found[pin.layer, pin.sub_block, pin.alternative]
        assert (regret.at_most is None) == (value is None)
        if value is not None and regret.at_least is not None and regret.at_most is not None:
            assert regret.at_least <= float(value - best) + 1e-9
            assert regret.at_most >= float(value - best) - 1e-9


@pytest.mark.drawn
@pytest.mark.parametrize("family", FAMILIES)
def test_the_optimum_with_a_pin_is_the_best_of_all_models_that_have_it(family: str) -> None:
    for seed in range(cases(12)):
        problem = random_problem(family, seed)
        answers = answers_of(problem)
        if not len(answers):
            continue
        values, pins = values_of(problem, answers), pins_of(problem.columns)
        best = answers[int(np.argmin(values))]
        least = problem.goal.rank(problem.goal.of(best))
        root = Standing(least, least, problem.choice(best), problem.batches)
        for pin, found in zip(pins, Pinned([problem], pins, root, Effort.of(60)).run(), strict=True):
            own = values[np.isin(answers[:, pin.layer], pin.own(problem.columns))]
            expected = problem.goal.rank(int(own.min())) if len(own) else None
            assert found.least == found.most == expected
            if found.layers is not None:
                assert getattr(found.layers[pin.layer], pin.sub_block) == pin.alternative


@given(problems(), st.sampled_from([0.0, 0.02]))
def test_what_is_known_when_time_is_up_is_right(instance: Instance, time_s: float) -> None:
    result = why_search(*instance.args, time_s=time_s)
    if not isinstance(result, WhyResult):
        return
    best, found = optimum(instance), said(result)
    assert best is not None
    for pin, value in pinned(instance):
        regret = found[pin.layer, pin.sub_block, pin.alternative]
        if value is None:
            assert regret.at_most is None
            continue
        true = float(value - best)
        assert regret.at_least is not None and regret.at_least <= true + 1e-12
        assert regret.at_most is None or regret.at_most >= true - 1e-12


def test_without_a_solution_the_explanation_has_only_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    instance = plain_instance((LAYER,) * 2, requirements=(require(ParamsTerm(), "<=", 1),))
    assert isinstance(instance.search.solver, CpSat) and instance.search.solver.time_s > 5
    given: list[Fraction] = []

    def solved(builder: Builder, progress: Progress) -> SearchResult:
        assert isinstance(builder.tables.search.solver, CpSat)
        given.append(builder.tables.search.solver.time_s)
        return solve_built(builder, progress)

    monkeypatch.setattr(why, "solve_built", solved)
    result = why_search(*instance.args, time_s=5)
    assert isinstance(result, SearchResult) and result.status == "infeasible" and result.conflict
    assert len(given) == 1 and given[0] <= 5


def test_one_layer_alone_is_what_the_whole_search_says_of_it() -> None:
    instance = plain_instance((LAYER,) * 3, requirements=(require(chat("latency"), "<=", ratio="3/4"),))
    whole, one = why_search(*instance.args), why_search(*instance.args, layers=[1])
    assert isinstance(whole, WhyResult) and isinstance(one, WhyResult)
    assert one.sub_blocks == tuple(s for s in whole.sub_blocks if s.layer == 1)
    assert one.margins == () and whole.margins


# ---------------------------------------------------------------- margins


def margin_of(instance: Instance) -> Margin:
    """The margin of the one requirement."""
    result = why_search(*instance.args)
    assert isinstance(result, WhyResult)
    (margin,) = result.margins
    return margin


def cost_of(instance: Instance, *requirements: Requirement) -> float | None:
    """Loss of the optimum with these requirements instead; None without one."""
    best, after = optimum(instance), optimum(instance.with_search(requirements=requirements))
    assert best is not None
    return None if after is None else float(after - best)


@given(problems())
def test_a_margin_is_what_solving_with_the_bound_moved_costs(instance: Instance) -> None:
    result = why_search(*instance.args)
    if not isinstance(result, WhyResult):
        return
    for place, margin in enumerate(result.margins):  # each on a line of its own
        others = list(instance.search.requirements)
        dropped = cost_of(instance, *others[:place], *others[place + 1 :])
        (without,) = [m for m in margin.moves if m.kind == "without"]
        assert without.at_least == without.at_most == dropped
        for move in margin.moves:
            own = others[place]
            if move.kind == "without" or isinstance(own, LogicRequirement):
                continue
            field = "bound" if own.parent_ratio is None else "parent_ratio"
            old = own.bound if own.parent_ratio is None else own.parent_ratio
            assert old is not None
            up = move.kind == "up" or (move.kind == "looser") == (own.op in ("<=", "<"))
            step = (1 if up and move.kind != "down" else -1) * (1 if move.by == "1" else abs(old) / 100)
            moved = own.model_copy(update={field: old + step})
            cost = cost_of(instance, *others[:place], moved, *others[place + 1 :])
            assert move.at_least == move.at_most == cost
            assert move.bound == float(old + step)


OR_NOOP = LAYER.model_copy(update={"ffn": (FFN[0], FFN[4])})


def three(*requirements: Requirement) -> Instance:
    return plain_instance((OR_NOOP,) * 3, requirements=requirements)


def noops(*layers: int) -> CountTerm:
    return CountTerm(sub_block="ffn", alternatives=("noop",), layers=layers)


def test_a_count_moves_by_one_and_a_bound_by_a_hundredth() -> None:
    counted = margin_of(three(require(noops(0, 1, 2), ">=", 2)))
    assert [(m.kind, m.by, m.bound) for m in counted.moves] == [
        ("tighter", "1", 3.0), ("looser", "1", 1.0), ("without", "", None)
    ]  # fmt: skip
    ratio = margin_of(three(require(ParamsTerm(), "<=", ratio="1/2")))
    assert [(m.kind, m.by, m.bound) for m in ratio.moves] == [
        ("tighter", "1 %", 0.495), ("looser", "1 %", 0.505), ("without", "", None)
    ]  # fmt: skip


def test_a_bound_that_cannot_be_tightened_says_so() -> None:
    tighter, looser, without = margin_of(three(require(noops(0, 1, 2), ">=", 3))).moves
    assert tighter.at_least is tighter.at_most is None
    assert looser.at_most is not None and without.at_most is not None and without.at_most < looser.at_most < 0


def test_a_statement_in_a_loop_is_moved_as_a_whole() -> None:
    instance = three(*(require(noops(layer), ">=", 1, line=7) for layer in (0, 1)))
    (tighter, looser, _) = margin_of(instance).moves
    assert tighter.at_least is None
    assert looser.at_most == cost_of(instance)


def test_a_formula_can_only_be_dropped() -> None:
    formula = Is(layer=0, sub_block="attention", alternatives=("gqa2",))
    rule = LogicRequirement(formula=formula, where=require(ParamsTerm(), "<=", 1).where)
    instance = plain_instance((LAYER,) * 2, requirements=(rule,))
    (without,) = margin_of(instance).moves
    assert (without.kind, without.at_most) == ("without", cost_of(instance))


# ---------------------------------------------------------------- searches as text


STRUCTURE = "heads_tied tied_in_groups heads_never_grow few_gaps_in_four two_gaps gaps_counted".split()


def best_with_each(loaded: Loaded) -> dict[tuple[int, str, str], Fraction]:
    """The least score of a child with each alternative, by trying all children."""
    tables, meaning, best = loaded.tables, loaded.text.meaning, dict[tuple[int, str, str], Fraction]()
    for layers in product(*tables.choices):
        child = TextChild(tables, layers, tables.first_batches)
        if meaning.holds(child):
            value = Fraction(meaning.value(child))
            for it in layers:
                for key in ((it.index, "attention", it.attention), (it.index, "ffn", it.ffn)):
                    best[key] = min(value, best.get(key, value))
    return best


@pytest.mark.parametrize("form", STRUCTURE)
def test_regrets_are_those_of_all_children(form: str, tmp_path: Path) -> None:
    loaded = Loaded(texts_of(FORMS[form], 4, 0, 60.0, SMALL)[0], tmp_path)
    result = why_search(loaded.ir, "best", loaded.costs, loaded.scores)
    assert isinstance(result, WhyResult)
    best = best_with_each(loaded)
    optimum, pins = min(best.values()), 0
    for site in result.sub_blocks:
        for regret in site.regrets:
            value = best.get((site.layer, site.sub_block, regret.alternative))
            expected = None if value is None else pytest.approx(float(value - optimum), abs=1e-12)
            assert regret.at_least == expected and regret.at_most == expected, (site.layer, regret)
            pins += 1
    assert pins >= len(best) > 4
