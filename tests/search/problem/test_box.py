"""`batch(auto, …)` on a profile: the largest batch that fits, of each child its own, found without trying every one."""

from collections.abc import Callable
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.synthetic import at_any_batch, synthetic
from puzzledsl.costs.roofline import AnyBatch
from puzzledsl.ir.nodes import Preference, Requirement
from puzzledsl.search.problem.metrics import Box, latency_each
from puzzledsl.search.problem.problem import Builder
from puzzledsl.search.solve import solve_search
from puzzledsl.search.tables import tables_of
from tests.cases import cases
from tests.oracles import best_of, children_at_own_batches, objective
from tests.profiles import any_batch, mixed_any_batch
from tests.search.auto_instances import auto_searches
from tests.search.instances import HERE, KL, Instance, alone, chat, quick, require


@quick(40)
@given(auto_searches())
def test_the_answer_is_the_best_over_every_batch(instance: Instance) -> None:
    tables = tables_of(*instance.args)
    result, best = solve_search(*instance.args), best_of(tables, children_at_own_batches(tables))
    if not best:
        assert result.status == "infeasible"
        return
    assert result.status == "optimal"
    (solution,) = result.solutions
    problem = Builder(tables).at(best[0].batches)
    if not all(goal.exact for goal in (problem.goal, *problem.preferences)):
        return  # equal integers are not equal goals then
    assert {name: solution.batches[name] for name in best[0].batches} == best[0].batches
    assert solution.layers == best[0].layers
    assert solution.objective == float(objective(best[0]))


@quick(100)
@given(auto_searches(), st.randoms(use_true_random=False))
def test_a_box_is_a_relaxation_of_every_batch_inside(instance: Instance, rng: Random) -> None:
    """Each model that meets the requirements, at its own batches, meets the rows of any box around, and its goal is no better
    than the box's."""
    tables = tables_of(*instance.args)
    builder = Builder(tables)
    for child in [*children_at_own_batches(tables)][:40]:
        if not all(child.meets(r) for r in tables.search.requirements):
            continue
        low = {n: rng.randint(1, b) for n, b in child.batches.items()}
        high = {n: rng.randint(b, tables.costs.auto[n]) for n, b in child.batches.items()}
        box = Box(tuple(low), tuple(low.values()), tuple(high.values()))
        problem = builder.at(box)
        chosen = problem.indices(child.layers)
        assert chosen is not None
        use = problem.matrix[:, chosen].sum(axis=1)
        assert (use <= problem.limits).all(), [
            r.name for r, u in zip(problem.rows, use, strict=True) if u > r.limit
        ]
        rank = objective(child) if tables.search.sense == "minimize" else -objective(child)
        assert problem.goal.rank(problem.goal.of(chosen)) <= rank


@pytest.mark.drawn
@pytest.mark.parametrize("kind", [any_batch, mixed_any_batch], ids=["alike", "mixed"])
@pytest.mark.parametrize("seed", range(cases(40)))
def test_latency_is_within_its_bounds_at_every_batch(
    seed: int, kind: Callable[[Random, int], AnyBatch]
) -> None:
    made, rng = kind(Random(seed), 60), Random(seed)
    low = rng.randint(1, 30)
    high = rng.randint(low, 60)
    for batch in range(low, high + 1):
        for lines in made.lines.values():
            for line in lines.values():
                at_low, cost, at_high = (line.at(each) for each in (low, batch, high))
                least, most = latency_each(made.scenario.output, at_low, at_high)
                exact = Fraction(cost.prefill_ns + made.scenario.output * cost.decode_ns, batch)
                assert Fraction(least, high) <= exact <= Fraction(most, low)


# ---------------------------------------------------------------- a large one


def large(*more: Requirement, **changes: object) -> Instance:
    """80 layers of 54 alternatives, `chat` at any batch up to 1,024; the requirements of the benchmark and some more."""
    program, costs, scores = at_any_batch(synthetic(seed=0))
    instance = Instance(program, costs, scores)
    return instance.with_search(requirements=(*program.searches["best"].requirements, *more), **changes)


def test_the_batch_can_be_bounded_and_aimed_at() -> None:
    free = solve_search(*large().args).solutions[0]
    wanted = free.batches["chat"] + 100
    more = solve_search(*large(require(chat("batch"), ">=", wanted)).args)
    assert more.status == "optimal"
    assert more.solutions[0].batches["chat"] >= wanted and more.solutions[0].objective > free.objective
    fewer = solve_search(*large(require(chat("batch"), "<=", free.batches["chat"])).args)
    assert fewer.objective == free.objective
    low_loss = Preference(goal=alone(KL), sense="minimize", where=HERE)
    aimed = large(objective=alone(chat("batch")), sense="maximize", preferences=(low_loss,))
    top = solve_search(*aimed.args)
    assert top.status == "optimal" and top.objective == top.solutions[0].batches["chat"] >= wanted
