"""Children measured elsewhere count at every point whose requirements they meet, once, and at no other."""

from __future__ import annotations

from fractions import Fraction

import pytest

from puzzledsl.ir.tables import MeasuredChild, Refinement
from puzzledsl.refining.candidates import Candidates, Proposals
from puzzledsl.refining.run import with_elsewhere
from puzzledsl.search.solve import solve_search
from tests.oracles import violations
from tests.refining.cases import instance, loss
from tests.search.instances import Instance

RATIOS = (Fraction(1, 2), Fraction(3, 5), Fraction(7, 10))
"""Shares of the parent's latency that are left, the tightest bound first."""
Point = tuple[Candidates, Refinement]


def at(ratio: Fraction, seed: int) -> Instance:
    return instance(seed, ratio=ratio)


def measured(made: Instance, number: int) -> Point:
    """Children around one optimum, with a loss that is no sum."""
    candidates = Candidates(*made.args)
    optimum = solve_search(*made.args).solutions[0]
    proposals = Proposals(candidates, optimum, 0)
    children: list[MeasuredChild] = []
    best = optimum
    while len(children) < number and (proposal := proposals.next()) is not None:
        layers = proposal.solution.layers
        value = loss(candidates.predicted(proposal.solution), layers)
        proposals.add(proposal, value)
        if not children or value < min(child.measured for child in children):
            best = proposal.solution
        children.append(proposal.measured(value))
    refinement = Refinement(
        search="best",
        score="kl",
        metric="kl_divergence",
        healed=0,
        samples=1,
        children=tuple(children),
        solution=best,
        model_optimum=optimum.layers,
        model_prediction=0.0,
        proven=optimum.objective,
    )
    return candidates, refinement


def frontier(seed: int, number: int = 4) -> tuple[list[Instance], list[Point]]:
    made = [at(ratio, seed) for ratio in RATIOS]
    return made, [measured(each, number) for each in made]


def test_every_child_that_meets_a_bound_is_a_candidate_there_and_no_other_is() -> None:
    """By the verifier's word; the tightest point gets the least, and its own children stay first, as they are."""
    shared, kept_out = 0, 0
    for seed in range(4):
        made, points = frontier(seed)
        everything = {child.layers: child.measured for _, here in points for child in here.children}
        for case, (candidates, before), after in zip(made, points, with_elsewhere(points, None), strict=True):
            assert after is not None
            own, added = after.children[: len(before.children)], after.children[len(before.children) :]
            assert own == before.children == after.here
            assert {child.origin for child in added} <= {"elsewhere"}
            names = [child.layers for child in after.children]
            assert len(set(names)) == len(names)
            assert all(everything[child.layers] == child.measured for child in added)
            batches = before.solution.batches
            meeting = {layers for layers in everything if candidates.solution(layers, batches) is not None}
            assert set(names) == meeting
            assert not violations(*case.args, after.solution)
            assert after.best.measured == min(child.measured for child in after.children)
            assert after.solution == before.solution or after.best.measured < before.best.measured
            assert after.optimum == before.optimum
            shared += len(added)
            kept_out += len(everything.keys() - meeting)
    assert shared and kept_out


@pytest.mark.slow
def test_children_of_the_search_come_first_and_may_be_the_best() -> None:
    """Two children a point, sixteen for the search at the loosest bound; predictions are those of their own place."""
    better = 0
    for seed in range(8):
        _, points = frontier(seed, 2)
        _, search = measured(at(RATIOS[2], seed), 16)
        (_, middle), (_, before) = points[1:]
        found = with_elsewhere(points, search)[2]
        assert found is not None
        own = {child.layers for child in before.children}
        others = [c for each in (search, points[0][1], middle) for c in each.children if c.layers not in own]
        firsts = {child.layers: child for child in reversed(others)}
        expected = [firsts[layers] for layers in dict.fromkeys(child.layers for child in others)]
        assert [c.model_copy(update={"origin": "elsewhere"}) for c in expected] == list(found.children[2:])
        assert found.best.measured <= search.best.measured
        better += found.best.measured < before.best.measured
    assert better


def test_points_without_children_stay_so_and_one_point_alone_is_unchanged() -> None:
    _, points = frontier(1)
    assert with_elsewhere([None, None], None) == [None, None]
    assert with_elsewhere([None, points[0]], None) == [None, points[0][1]]
    _, search = measured(at(RATIOS[0], 1), 4)
    assert with_elsewhere([points[0]], search) == [points[0][1]]


def test_the_same_children_in_the_same_order() -> None:
    first, again = (with_elsewhere(frontier(2)[1], None) for _ in range(2))
    assert first == again
