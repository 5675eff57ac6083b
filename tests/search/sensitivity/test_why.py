"""Regrets and margins are what solving the search again gives: with the alternative fixed, with the bound moved."""

from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.structure_checks import Loaded
from benchmarks.structure_forms import FORMS
from benchmarks.structure_runs import texts_of
from benchmarks.structure_text import SMALL
from benchmarks.structure_text import Child as TextChild
from puzzledsl.ir.nodes import LogicRequirement, Requirement
from puzzledsl.ir.tables import Regret, SearchResult, WhyResult
from puzzledsl.search.answer import best_meeting_all
from puzzledsl.search.problem.instance import Effort
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.problem.problem import Builder
from puzzledsl.search.sensitivity.why import why_search
from puzzledsl.search.tables import tables_of
from tests.oracles import acceptable, all_children, objective
from tests.search.auto_instances import auto_searches
from tests.search.instances import Instance, problems
from tests.search.run_instances import run_instance


def optimum(instance: Instance) -> Fraction | None:
    """The search's, less being better, whatever it prefers; None where no child is acceptable."""
    tables = tables_of(*instance.args)
    asked = Builder(tables).all().changed(lambda problem, _: replace(problem, preferences=()))
    found = best_meeting_all(asked, Effort.of(60))
    assert found.proven
    if found.layers is None:
        return None
    value = objective(Child(tables, found.layers, found.batches))
    return -value if instance.search.sense == "maximize" else value


Place = tuple[int, str, str]


def pinned(instance: Instance) -> dict[Place, Fraction]:
    """The least objective of all children with each alternative."""
    tables, best = tables_of(*instance.args), dict[Place, Fraction]()
    sign = -1 if instance.search.sense == "maximize" else 1
    for child in filter(acceptable, all_children(tables)):
        value = sign * objective(child)
        for layer, (attention, ffn) in enumerate((c.attention, c.ffn) for c in child.layers):
            for place in ((layer, "attention", attention), (layer, "ffn", ffn)):
                best[place] = min(value, best.get(place, value))
    return best


def one_answer(seed: int) -> Instance:
    """A search with scores of runs."""
    return run_instance(seed).with_search(solutions=1)


def said(result: WhyResult) -> dict[Place, Regret]:
    """Each alternative's regret, by its place and name."""
    return {(s.layer, s.sub_block, r.alternative): r for s in result.sub_blocks for r in s.regrets}


@given(problems() | st.builds(one_answer, st.integers(0, 10**6)) | auto_searches())
def test_a_regret_is_what_solving_with_the_alternative_fixed_costs(instance: Instance) -> None:
    """Both senses, formulas, several batches, preferences, any rows, runs: as the strategies draw them."""
    best, result = optimum(instance), why_search(*instance.args)
    if best is None:
        assert isinstance(result, SearchResult) and result.status == "infeasible"
        return
    assert isinstance(result, WhyResult) and result.proven
    least, regrets = pinned(instance), said(result)
    assert least.keys() <= regrets.keys()
    for place, regret in regrets.items():
        expected = float(least[place] - best) if place in least else None
        assert (regret.at_least, regret.at_most) == (expected, expected), place


@pytest.mark.slow
@given(problems(exact=False))
def test_also_where_integers_are_rounded(instance: Instance) -> None:
    best, result = optimum(instance), why_search(*instance.args)
    assert isinstance(result, WhyResult) == (best is not None)
    if best is None or not isinstance(result, WhyResult):
        return
    least = pinned(instance)
    for place, regret in said(result).items():
        assert (regret.at_most is None) == (place not in least)
        if regret.at_least is not None and regret.at_most is not None:
            loss = float(least[place] - best)
            assert regret.at_least - 1e-9 <= loss <= regret.at_most + 1e-9


@given(problems(), st.sampled_from([0.0, 0.02]))
def test_what_is_known_when_time_is_up_is_right(instance: Instance, time_s: float) -> None:
    result = why_search(*instance.args, time_s=time_s)
    if not isinstance(result, WhyResult):
        return
    best, least = optimum(instance), pinned(instance)
    assert best is not None
    for place, regret in said(result).items():
        if place not in least:
            assert regret.at_most is None
            continue
        loss = float(least[place] - best)
        assert regret.at_least is not None and regret.at_least <= loss + 1e-12
        assert regret.at_most is None or regret.at_most >= loss - 1e-12


# ---------------------------------------------------------------- margins


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


# ---------------------------------------------------------------- searches as text


STRUCTURE = "heads_tied tied_in_groups heads_never_grow few_gaps_in_four two_gaps gaps_counted".split()


def best_with_each(loaded: Loaded) -> dict[Place, Fraction]:
    """The least score of a child with each alternative, by trying all children."""
    tables, meaning, best = loaded.tables, loaded.text.meaning, dict[Place, Fraction]()
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
