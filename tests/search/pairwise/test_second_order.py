"""Scores with pairwise terms: the best model on small cases, an honest gap on large ones."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from benchmarks.problems import build_problems
from benchmarks.second_order import gram_scores, paired
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.ir.nodes import CpSat, Preference, ScoreTerm
from puzzledsl.ir.tables import PairwiseTerm, ScoreTable
from puzzledsl.search.pairwise.quadratic import convex_part, quadratic_of, tangent_at
from puzzledsl.search.pairwise.second_order import improved, simplex_minimum
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.solve import solve_search
from puzzledsl.search.tables import tables_of
from tests.oracles import all_children, brute_force, violations
from tests.search.instances import HERE, KL, Instance, alone, chat, problems, require

quick: Any = settings(
    deadline=None,
    max_examples=12,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


@st.composite
def second_order(draw: st.DrawFn, exact: bool = True) -> Instance:
    """A search that minimises a score with pairwise terms: covariances (convex), or any numbers."""
    instance = draw(problems(max_layers=3, exact=exact)).with_search(
        objective=alone(KL), sense="minimize", preferences=()
    )
    instance = instance.with_search(
        requirements=tuple(
            r
            for r in instance.search.requirements
            if r.kind == "logic" or all(not isinstance(w.term, ScoreTerm) for w in r.left.terms)
        )
    )
    table = instance.scores["kl"]
    places = list(places_of(table))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    vectors = rng.normal(0, 0.5, (len(places), 3))
    covariances = draw(st.booleans())
    share = draw(st.sampled_from([0.3, 1.0]))
    terms = []
    for i, j in combinations(range(len(places)), 2):
        one, other = sorted([places[i], places[j]])
        same = one[:2] == other[:2] or (one[0] == other[0] and "block" in (one[1], other[1]))
        if same or rng.random() > share:
            continue
        value = float(vectors[i] @ vectors[j]) if covariances else float(np.round(rng.normal(0, 1), 3))
        terms.append(
            PairwiseTerm.model_validate(
                {
                    "layer": one[0], "sub_block": one[1], "name": one[2],
                    "other_layer": other[0], "other_sub_block": other[1], "other_name": other[2], "value": value,
                }
            )
        )  # fmt: skip
    table = table.model_copy(update={"pairwise": tuple(terms), "offset": draw(st.sampled_from([0.0, 0.25]))})
    return Instance(instance.program, instance.costs, {"kl": table})


def places_of(table: ScoreTable) -> Any:
    for part, tables in (("attention", table.attention), ("ffn", table.ffn), ("block", table.pairs)):
        for layer, names in enumerate(tables):
            for name in names:
                if name not in ("parent", "parent/parent"):
                    yield layer, part, name


@quick
@given(second_order())
def test_the_best_model_is_brute_forces(instance: Instance) -> None:
    result, best = solve_search(*instance.args), brute_force(*instance.args)
    assert (best is None) == (result.status == "infeasible")
    if best is not None:
        assert result.status == "optimal"
        assert result.objective == pytest.approx(float(best.objective), abs=1e-9)
        assert result.bound is not None and result.bound <= float(best.objective) + 1e-12
        assert violations(*instance.args, result.solutions[0]) == []


@quick
@given(second_order(exact=False))
def test_no_model_meets_a_requirement_only_by_rounding(instance: Instance) -> None:
    result, best = solve_search(*instance.args), brute_force(*instance.args)
    if best is None:
        assert not result.solutions
    elif result.status == "optimal":
        assert result.objective == pytest.approx(float(best.objective), rel=1e-6, abs=1e-9)
        assert violations(*instance.args, result.solutions[0]) == []


@quick
@given(second_order())
def test_the_integers_are_just_below_the_exact_goal(instance: Instance) -> None:
    tables = tables_of(*instance.args)
    at = {tuple(sorted(p.batches.items())): quadratic_of(tables, p) for p in build_problems(*instance.args)}
    for child in all_children(tables):
        quadratic = at[tuple(sorted(child.batches.items()))]
        chosen = quadratic.problem.indices(child.layers)
        assert chosen is not None
        exact = child.linear(tables.search.objective)
        integer = quadratic.problem.goal.in_units(quadratic.of(chosen))
        assert integer is not None
        assert integer <= exact
        assert float(exact - integer) <= 1e-9 * (1 + abs(float(exact)))


@quick
@given(second_order(), st.integers(0, 10**6))
def test_a_tangent_is_nowhere_above_the_goal(instance: Instance, seed: int) -> None:
    tables = tables_of(*instance.args)
    problem = build_problems(*instance.args)[0]
    quadratic = quadratic_of(tables, problem)
    point = np.random.default_rng(seed).integers(0, 1025, quadratic.count)
    tangent = tangent_at(quadratic, convex_part(quadratic), point)
    for child in all_children(tables):
        chosen = problem.indices(child.layers)
        if child.batches != problem.batches or chosen is None:
            continue
        assert tangent.problem.goal.of(chosen) - tangent.constant <= quadratic.of(chosen)


def test_the_exact_score_of_a_child_has_its_pairs_once() -> None:
    program, costs, scores = paired(layers=3, seed=1)
    tables = tables_of(program, "best", costs, scores)
    child = next(all_children(tables))
    assert isinstance(child, Child)
    table = scores["kl"]
    has = {(i, part, getattr(c, part)) for i, c in enumerate(child.layers) for part in ("attention", "ffn")}
    expected = sum(
        (
            Fraction(repr(t.value))
            for t in table.pairwise
            if {(t.layer, t.sub_block, t.name), (t.other_layer, t.other_sub_block, t.other_name)} <= has
        ),
        sum((tables.score("kl", i, c) for i, c in enumerate(child.layers)), Fraction(0)),
    )
    assert child.term(KL) == expected


@pytest.mark.slow
def test_a_large_search_states_a_gap_that_holds() -> None:
    """At 24 layers of 54: the bound is below, the answer is at least as good as that of the sum alone, and swaps do not help."""
    program, costs, scores = paired(layers=24, seed=3)
    result = solve_search(program, "best", costs, scores)
    assert result.objective is not None and result.bound is not None and result.gap is not None
    assert result.bound <= result.objective and result.gap < 0.25
    plain = {"kl": scores["kl"].model_copy(update={"pairwise": ()})}
    first_order = solve_search(program, "best", costs, plain).solutions[0]
    tables = tables_of(program, "best", costs, scores)
    assert result.objective <= float(Child(tables, first_order.layers, {"chat": 256, "rag": 32}).term(KL))
    problem = build_problems(program, "best", costs, scores)[0]
    chosen = problem.indices(result.solutions[0].layers)
    assert chosen is not None
    quadratic = quadratic_of(tables, problem)
    assert quadratic.of(improved(quadratic, chosen)) == quadratic.of(chosen)


def test_solutions_are_apart_and_in_order() -> None:
    program, costs, scores = paired(layers=8, seed=2)
    search = program.searches["best"].model_copy(
        update={"solutions": 3, "apart": 2, "solver": CpSat(time_s=Fraction(20))}
    )
    result = solve_search(program.model_copy(update={"searches": {"best": search}}), "best", costs, scores)
    assert len(result.solutions) == 3
    for one, other in combinations(result.solutions, 2):
        assert sum(a != b for a, b in zip(one.layers, other.layers, strict=True)) >= 2


def test_pairwise_scores_are_goals_only() -> None:
    program, costs, scores = paired(layers=3, seed=1)
    instance = Instance(program, costs, scores)
    capped = instance.with_search(requirements=(require(KL, "<=", 1, line=7),))
    wish = Preference.model_validate({"goal": alone(chat("latency")), "sense": "minimize", "where": HERE})
    for wrong in (capped, instance.with_search(preferences=(wish,))):
        with pytest.raises(DiagnosticError) as caught:
            solve_search(*wrong.args)
        assert [d.code for d in caught.value.diagnostics] == ["E0509"]


def test_the_mixture_with_the_least_value() -> None:
    rng = np.random.default_rng(5)
    root = rng.normal(size=(6, 4))
    matrix, linear = root @ root.T, rng.normal(size=6)
    weights = simplex_minimum(matrix, linear)
    value = linear @ weights + weights @ matrix @ weights / 2
    assert weights.min() >= 0 and weights.sum() == pytest.approx(1)
    for other in rng.dirichlet(np.ones(6) * 0.3, 500):
        assert value <= linear @ other + other @ matrix @ other / 2 + 1e-9


def test_gram_scores_are_half_variances() -> None:
    single, pairs = gram_scores(np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert single.tolist() == [2.5, 12.5]
    assert pairs[0, 1] == 11.0
