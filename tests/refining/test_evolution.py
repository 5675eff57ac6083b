"""Evolution: every child meets the requirements, none comes twice, and selection finds better ones than the sum's optimum."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings

from puzzledsl.ir.nodes import ReplaceOne
from puzzledsl.ir.tables import LayerAssignment
from puzzledsl.refining.candidates import Candidates
from puzzledsl.refining.evolution import OFFSPRING, Evolution
from puzzledsl.refining.mutation import MOST_SWITCHES, Mutation
from puzzledsl.refining.proposals import Proposal
from puzzledsl.search.answer import batches_of
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.solve import solve_search
from tests.oracles import violations
from tests.refining.cases import instance, loss
from tests.search.auto_instances import auto_searches
from tests.search.instances import KL, Instance, alone, chat, problems, require

Told = list[tuple[Proposal, float]]


def evolved(
    made: Instance, number: int, seed: int = 0, offspring: int = OFFSPRING
) -> tuple[Candidates, Told]:
    """Candidates, and the first children with their losses."""
    candidates = Candidates(*made.args)
    evolution = Evolution(candidates, solve_search(*made.args).solutions[0], seed, offspring)
    found: Told = []
    while len(found) < number and (proposal := evolution.next()) is not None:
        solution = proposal.solution
        measured = loss(candidates.predicted(solution), solution.layers)
        evolution.tell(solution.layers, measured)
        found.append((proposal, measured))
    return candidates, found


def refinable(made: Instance) -> Instance:
    """The same search with a goal that can be refined: a measured score, minimised."""
    score = made.program.scores["kl"].model_copy(update={"method": ReplaceOne(metric="kl_divergence")})
    program = made.program.model_copy(update={"scores": {"kl": score}})
    changes = {"objective": alone(KL), "sense": "minimize", "preferences": ()}
    return Instance(program, made.costs, made.scores).with_search(**changes)


def check_all(made: Instance) -> None:
    """Every proposal against the verifier; no child twice."""
    if not solve_search(*made.args).solutions:
        return
    _, found = evolved(made, 8)
    children = [proposal.solution.layers for proposal, _ in found]
    assert len(set(children)) == len(children) >= 1
    for proposal, _ in found:
        assert not violations(*made.args, proposal.solution)


@settings(max_examples=40, deadline=None)
@given(problems())
def test_every_proposal_is_a_verified_answer_and_none_comes_twice(made: Instance) -> None:
    check_all(refinable(made))


@settings(max_examples=8, deadline=None)
@given(auto_searches())
def test_batches_are_the_largest_that_fit(made: Instance) -> None:
    """A mutant has other batches than its parent, in scenarios that run at any."""
    check_all(refinable(made))


def test_the_optimum_comes_first_and_mutants_follow() -> None:
    candidates, found = evolved(instance(1), 9)
    assert [proposal.origin for proposal, _ in found] == ["optimum", *["mutated"] * 8]
    for proposal, _ in found:
        assert (proposal.predicted, proposal.stderr) == (candidates.predicted(proposal.solution), 0.0)


@pytest.mark.parametrize("offspring", [1, 4])
def test_a_generation_descends_from_the_best_before_it(offspring: int) -> None:
    """Each child is at most so many switches from the best that was measured before its generation began."""
    _, found = evolved(instance(3), 25, offspring=offspring)
    for place, (proposal, _) in enumerate(found[1:], 1):
        generation = 1 + (place - 1) // offspring * offspring
        best = min(measured for _, measured in found[:generation])
        parents = [p.solution.layers for p, measured in found[:generation] if measured == best]
        child = proposal.solution.layers
        assert min(distance(child, parent) for parent in parents) <= 2 * MOST_SWITCHES


def distance(one: tuple[LayerAssignment, ...], other: tuple[LayerAssignment, ...]) -> int:
    """Layers that differ."""
    return sum(a != b for a, b in zip(one, other, strict=True))


def test_it_finds_better_children_than_the_proven_optimum_of_the_sum() -> None:
    """Wherever the optimum suffers from interactions; never worse, since the optimum is measured too."""
    suffering = []
    for seed in range(10):
        candidates, found = evolved(instance(seed), 40)
        best, (optimum, measured) = min(measured for _, measured in found), found[0]
        assert best <= measured
        if measured > candidates.predicted(optimum.solution):
            suffering.append(best / measured)
    assert len(suffering) >= 3 and sorted(suffering)[len(suffering) // 2] < 0.97


def test_same_figures_same_children() -> None:
    """And another seed draws others."""
    first, second, other = (
        [proposal.solution.layers for proposal, _ in evolved(instance(2), 12, seed)[1]] for seed in (0, 0, 1)
    )
    assert first == second != other


def test_it_ends_when_there_is_nothing_new() -> None:
    """One child alone meets the requirements, or all that do were measured."""
    made = instance(4)
    fastest = made.with_search(requirements=(), objective=alone(chat("latency")))
    least = solve_search(*fastest.args).solutions[0].metrics["chat.latency"]
    limit = require(chat("latency"), "<=", Fraction(least) * Fraction(100_001, 100_000))
    one = made.with_search(requirements=(limit,))
    _, found = evolved(one, 60)
    meeting = {c for c in neighbours(found[0][0].solution.layers) if meets(one, c)}
    assert {proposal.solution.layers for proposal, _ in found} >= meeting and len(found) < 60


def neighbours(child: tuple[LayerAssignment, ...]) -> list[tuple[LayerAssignment, ...]]:
    """All children that are an exchange of two layers away."""
    found = [child]
    for i, j in product(range(len(child)), repeat=2):
        layers = list(child)
        layers[i], layers[j] = layers[j], layers[i]
        found.append(tuple(layers))
    return found


def meets(made: Instance, layers: tuple[LayerAssignment, ...]) -> bool:
    """Requirements at the only batch."""
    child = Child(Candidates(*made.args).tables, layers, {"chat": 2})
    return all(map(child.meets, made.search.requirements))


def test_a_switch_goes_one_level_down_and_another_up() -> None:
    """Or exchanges two layers; levels are ordered by parameters."""
    made = instance(0)
    tables = Candidates(*made.args).tables
    mutation, generator = Mutation(tables.layers, tables.costs), np.random.default_rng(0)
    levels = [["parent", "gqa2", "noop"], ["parent", "mlp16", "noop"]]
    start = tuple(
        LayerAssignment(attention=Random(i).choice(levels[0]), ffn=Random(-i).choice(levels[1]))
        for i in range(8)
    )
    exchanged = 0
    for _ in range(200):
        child = mutation._switched(start, generator)
        steps = [
            levels[part].index(getattr(after, name)) - levels[part].index(getattr(before, name))
            for before, after in zip(start, child, strict=True)
            for part, name in enumerate(("attention", "ffn"))
        ]
        assert sorted(step for step in steps if step) in ([-1, 1], [])
        child = mutation._exchanged(start, generator)
        exchanged += child != start
        assert sorted(map(repr, child)) == sorted(map(repr, start)) and distance(child, start) in (0, 2)
    assert exchanged > 100


def test_batches_begin_with_the_parents() -> None:
    made = instance(0)
    tables = Candidates(*made.args).tables
    layers = (LayerAssignment(attention="noop", ffn="noop"),) * 8
    assert list(batches_of(tables, layers, {"chat": 2})) == [{"chat": 2}]
